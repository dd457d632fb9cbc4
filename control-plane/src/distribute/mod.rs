//! Which sidecar is told what, and when. A [`Session`] is one sidecar's stream without the stream: it takes what the
//! sidecar says and gives what it is to be told. Pure.

mod common;
mod parts;
mod session;

#[cfg(test)]
mod tests;

pub use self::{
    parts::{Parts, parts},
    session::{LONGEST_NAME, MOST_HELD, MOST_SERVICES, Refusal, Session, SessionError},
};
