//! Why the demo cannot go on: one sentence, with what was tried on what.

use std::fmt::Display;

pub(crate) type Result<T> = std::result::Result<T, Failure>;

#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl Failure {
    /// For `map_err`: `Failure::on("open", path)`.
    pub(crate) fn on<E: Display>(action: &str, what: impl Display) -> impl FnOnce(E) -> Self {
        move |error| Self(format!("cannot {action} {what}: {error}"))
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
