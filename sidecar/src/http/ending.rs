//! Why a downstream connection is cut, told to the requests that end with it.

use std::{cell::Cell, rc::Rc};

use crate::error::Reason;

/// Shared by a connection and its requests. Without a word the peer has closed.
#[derive(Clone, Debug, Default)]
pub struct Ending(Rc<Cell<Option<Reason>>>);

impl Ending {
    /// The connection is about to be cut, for this reason.
    pub fn cut(&self, reason: Reason) {
        self.0.set(Some(reason));
    }

    /// Why it was cut, if it was.
    pub fn reason(&self) -> Option<Reason> {
        self.0.get()
    }
}
