//! The answer to what never became a request, and the end of its connection.

use std::fmt::Display;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::Reason;
use crate::http::fields;

/// What is read and thrown away at most while the connection lingers.
const LINGER_BYTES: usize = 256 * 1024;

/// The whole answer, head and body; the body says what was wrong.
pub fn whole(reason: Reason, wrong: impl Display) -> Vec<u8> {
    let (status, field, name) = (reason.status(), fields::REASON, reason.name());
    let body = format!("{wrong}\n");
    format!(
        "HTTP/1.1 {} {}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n{field}: {name}\r\nconnection: close\r\n\r\n{body}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len(),
    )
    .into_bytes()
}

/// Answers, shuts the writing side, and reads on for at most `linger`: a socket closed with unread bytes is reset, and
/// the reset would take the answer with it (RFC 9112 section 9.6).
pub async fn refuse<IO>(mut io: IO, answer: &[u8], linger: Duration) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let conversation = async {
        io.write_all(answer).await?;
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
    use super::whole;
    use crate::http::guard::{Kind, Violation};

    #[test]
    fn the_answer_names_the_rule_and_closes() {
        let violation = Violation::from(Kind::HeadTooLarge);
        let answer = String::from_utf8(whole(violation.reason(), violation)).unwrap();
        let expected = "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\n\
            content-length: 38\r\ntrama-reason: headers_too_large\r\nconnection: close\r\n\r\nhead_too_large: the head is too large\n";
        assert_eq!(answer, expected);
    }
}
