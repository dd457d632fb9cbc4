//! The answer to a refused message, and the end of its connection.

use std::io;
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::violation::Violation;

/// What is read and thrown away at most while the connection lingers.
const LINGER_BYTES: usize = 256 * 1024;

/// The whole answer, head and body.
pub fn violation_response(violation: &Violation) -> Vec<u8> {
    let status = StatusCode::from_u16(violation.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let reason = status.canonical_reason().unwrap_or_default();
    let body = format!("{violation}\n");
    format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        status.as_u16(),
        body.len(),
    )
    .into_bytes()
}

/// Answers, shuts the writing side, and reads on for at most `linger`: a socket closed with unread bytes is reset, and
/// the reset would take the answer with it (RFC 9112 section 9.6).
pub async fn refuse<IO>(mut io: IO, violation: &Violation, linger: Duration) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let conversation = async {
        io.write_all(&violation_response(violation)).await?;
        io.shutdown().await?;
        let mut scrap = [0; 4096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match io.read(&mut scrap).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok(())
    };
    // A peer that takes longer is closed all the same.
    tokio::time::timeout(linger, conversation).await.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::violation_response;
    use crate::http::guard::{Kind, Violation};

    #[test]
    fn the_answer_names_the_rule_and_closes() {
        let answer = String::from_utf8(violation_response(&Violation::from(Kind::HeadTooLarge))).unwrap();
        let expected = "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\n\
            content-length: 38\r\nconnection: close\r\n\r\nhead_too_large: the head is too large\n";
        assert_eq!(answer, expected);
    }
}
