//! What a connection remembers of its connection phase.

use std::{
    cell::RefCell,
    ptr,
    sync::{Arc, Weak},
};

use crate::config::snapshot::FilterChain;

/// The chain that has let a connection through. It is asked again when policy has replaced the chain, or the connection
/// turns to another service; until it says yes, each request asks.
#[derive(Debug, Default)]
pub struct Admitted(RefCell<Weak<FilterChain>>);

impl Admitted {
    /// Whether it was this one.
    pub fn by(&self, chain: &Arc<FilterChain>) -> bool {
        // The weak handle keeps the address from being given to another chain meanwhile.
        ptr::eq(self.0.borrow().as_ptr(), Arc::as_ptr(chain))
    }

    /// It is this one.
    pub fn note(&self, chain: &Arc<FilterChain>) {
        *self.0.borrow_mut() = Arc::downgrade(chain);
    }
}
