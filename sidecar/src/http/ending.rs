//! Why a downstream connection is cut, told to the requests that end with it.

use std::{cell::Cell, rc::Rc};

use crate::error::Reason;

/// Why a connection or a request is cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cut {
    /// The named reason.
    pub reason: Reason,
    /// The rule that the peer has broken, where it is one of several.
    pub rule: Option<&'static str>,
}

impl From<Reason> for Cut {
    fn from(reason: Reason) -> Self {
        Self { reason, rule: None }
    }
}

/// Shared by a connection and its requests. Without a word the peer has closed.
#[derive(Clone, Debug, Default)]
pub struct Ending(Rc<Cell<Option<Cut>>>);

impl Ending {
    /// The connection is about to be cut, for this reason.
    pub fn cut(&self, cut: Cut) {
        self.0.set(Some(cut));
    }

    /// What `ends` drops, and nothing else on the connection, is cut for this reason. No other request can end meanwhile:
    /// nothing interrupts a drop.
    pub fn cut_one(&self, cut: Cut, ends: impl FnOnce()) {
        let of_all = self.0.replace(Some(cut));
        ends();
        self.0.set(of_all);
    }

    /// Why it was cut, if it was.
    pub fn why(&self) -> Option<Cut> {
        self.0.get()
    }
}
