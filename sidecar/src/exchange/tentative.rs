//! An exchange that may turn out not to happen.

use super::Exchange;

/// An exchange that has not happened unless it is taken out: its connection may still turn out to be another's.
pub struct Tentative(Option<Exchange>);

impl Tentative {
    /// It may happen.
    pub const fn new(exchange: Exchange) -> Self {
        Self(Some(exchange))
    }

    /// What is known so far.
    pub fn exchange(&mut self) -> &mut Exchange {
        self.0.as_mut().expect("it is there until it has happened")
    }

    /// It has happened.
    pub fn happened(mut self) -> Exchange {
        self.0.take().expect("it is there until it has happened")
    }
}

impl Drop for Tentative {
    fn drop(&mut self) {
        if let Some(exchange) = self.0.take() {
            exchange.forget();
        }
    }
}
