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

    /// What `ends` drops, and nothing else on the connection, is cut for this reason. No other request can end meanwhile:
    /// nothing interrupts a drop.
    pub fn cut_one(&self, reason: Reason, ends: impl FnOnce()) {
        let of_all = self.0.replace(Some(reason));
        ends();
        self.0.set(of_all);
    }

    /// Why it was cut, if it was.
    pub fn reason(&self) -> Option<Reason> {
        self.0.get()
    }
}
