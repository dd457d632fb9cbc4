//! The built-in filter that sets, adds and removes headers.

use http::{request, response};

use super::{Action, Context, Filter, Phases};
use crate::config::snapshot::HeaderModifier;

/// Changes to the headers of requests and answers.
#[derive(Debug, Default)]
pub struct Headers {
    request: Option<HeaderModifier>,
    response: Option<HeaderModifier>,
}

impl Headers {
    /// Changes these; `None`: nothing.
    pub const fn new(request: Option<HeaderModifier>, response: Option<HeaderModifier>) -> Self {
        Self { request, response }
    }
}

impl Filter for Headers {
    fn name(&self) -> &'static str {
        "headers"
    }

    fn phases(&self) -> Phases {
        let when = |there: bool, phase| if there { phase } else { Phases::NONE };
        when(self.request.is_some(), Phases::REQUEST_HEADERS)
            | when(self.response.is_some(), Phases::RESPONSE_HEADERS)
    }

    fn on_request_headers(&self, _: &Context, parts: &mut request::Parts) -> Action {
        if let Some(changes) = &self.request {
            changes.apply(&mut parts.headers);
        }
        Action::Continue
    }

    fn on_response_headers(&self, _: &Context, parts: &mut response::Parts) -> Action {
        if let Some(changes) = &self.response {
            changes.apply(&mut parts.headers);
        }
        Action::Continue
    }
}
