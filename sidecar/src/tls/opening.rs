//! How an opaque stream of the mesh begins (ALPN `trama-tcp/1`): the called sidecar says whether it has reached its
//! application, and the caller sends nothing before it has heard so.
//!
//! In TLS 1.3 the caller's handshake is over before the called side has looked at its certificate, and nothing in a stream
//! of bytes tells an application that is down from one that closes. So without this word nobody could know whether bytes
//! have been delivered; with it, what ends before has delivered none, and another endpoint may be tried.
//!
//! One byte tells the length of a reason's name, and the name follows. 0, no reason: all that follows is the application's.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::Reason;

/// What the called sidecar says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Opening {
    /// The application is there.
    Reached,
    /// It is not, or may not be reached. A later version may have names of its own.
    Refused(Result<Reason, String>),
}

impl Opening {
    /// The called side's word; `None`: the application is reached.
    pub async fn say(stream: &mut (impl AsyncWrite + Unpin), refused: Option<Reason>) -> io::Result<()> {
        let name = refused.map_or("", Reason::name);
        let mut word = vec![u8::try_from(name.len()).map_err(io::Error::other)?];
        word.extend_from_slice(name.as_bytes());
        stream.write_all(&word).await?;
        stream.flush().await
    }

    /// The calling side hears it.
    pub async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let length = stream.read_u8().await?;
        if length == 0 {
            return Ok(Self::Reached);
        }
        let mut name = vec![0; usize::from(length)];
        stream.read_exact(&mut name).await?;
        let name = String::from_utf8(name).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        Ok(Self::Refused(Reason::named(&name).ok_or(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn heard(word: &[u8]) -> io::Result<Opening> {
        let (mut far, mut near) = tokio::io::duplex(512);
        far.write_all(word).await?;
        drop(far);
        Opening::hear(&mut near).await
    }

    #[tokio::test]
    async fn what_is_said_is_heard_and_what_follows_is_left() {
        for refused in Reason::ALL.iter().copied().map(Some).chain([None]) {
            let (mut far, mut near) = tokio::io::duplex(512);
            Opening::say(&mut far, refused).await.unwrap();
            far.write_all(b"x").await.unwrap();
            let wanted = refused.map_or(Opening::Reached, |reason| Opening::Refused(Ok(reason)));
            assert_eq!(Opening::hear(&mut near).await.unwrap(), wanted);
            assert_eq!(near.read_u8().await.unwrap(), b'x');
        }
    }

    #[tokio::test]
    async fn what_is_unknown_is_a_refusal_and_what_is_cut_off_is_none() {
        assert_eq!(heard(b"\x05later").await.unwrap(), Opening::Refused(Err("later".to_owned())));
        for cut in [&b""[..], b"\x05late", b"\x02\xff\xff"] {
            assert!(heard(cut).await.is_err(), "{cut:?}");
        }
    }
}
