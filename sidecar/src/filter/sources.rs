//! The built-in filter that lets only some addresses connect.

use super::{Action, Context, Filter, Phases};
use crate::config::snapshot::SourceRanges;

/// Lets these addresses connect.
#[derive(Debug)]
pub struct Sources(SourceRanges);

impl Sources {
    /// Lets these connect.
    pub const fn new(ranges: SourceRanges) -> Self {
        Self(ranges)
    }
}

impl Filter for Sources {
    fn name(&self) -> &'static str {
        "sources"
    }

    fn phases(&self) -> Phases {
        Phases::CONNECTION
    }

    fn on_connection(&self, cx: &Context) -> Action {
        let permitted = cx.downstream.is_some_and(|peer| self.0.permits(peer.ip()));
        if permitted { Action::Continue } else { Action::Deny }
    }
}
