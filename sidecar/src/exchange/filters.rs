//! The filters that a request passes on its way in, and the answer on its way out.

use std::sync::Arc;

use http::{Response, request};

use super::Exchange;
use crate::{
    config::snapshot::{FilterChain, SpiffeId},
    error::{Failure, Reason},
    filter::{Admitted, Answered, Context, Run},
    http::body::Body,
    telemetry::Record,
};

impl Exchange {
    /// The filters of a chain see a connection begin, unless they have before; an error if it may not go on.
    pub async fn admit(
        &mut self,
        chain: Option<&Arc<FilterChain>>,
        caller: Option<&SpiffeId>,
        admitted: &Admitted,
    ) -> Result<(), Failure> {
        let Some(chain) = chain else { return Ok(()) };
        let run = self.enter(chain, caller);
        if admitted.by(chain) {
            run.pass();
        } else if run.connection().await?.is_some() {
            return Err(Failure::before(Reason::FilterResponse));
        }
        admitted.note(chain);
        Ok(())
    }

    /// The request's head goes through a chain's filters, which see it from here to its end. `Some`: one of them answers
    /// in the application's place. `admitted`: where the connection may be new to them.
    pub async fn filter_request(
        &mut self,
        chain: Option<&Arc<FilterChain>>,
        caller: Option<&SpiffeId>,
        admitted: Option<&Admitted>,
        head: &mut request::Parts,
    ) -> Answered {
        let Some(chain) = chain else { return Ok(None) };
        let run = self.enter(chain, caller);
        let mut answer = None;
        if let Some(admitted) = admitted.filter(|admitted| !admitted.by(chain)) {
            answer = run.connection().await?;
            if answer.is_none() {
                admitted.note(chain);
            }
        }
        if answer.is_none() {
            answer = run.request_headers(head).await?;
        }
        if answer.is_some() {
            self.record().reason = Some(Reason::FilterResponse);
        }
        Ok(answer)
    }

    fn enter(&mut self, chain: &Arc<FilterChain>, caller: Option<&SpiffeId>) -> &mut Run {
        let (chain, stream) = (self.worker.chains.borrow_mut().of(chain), self.worker.stream());
        let Record { direction, downstream, .. } = *self.record();
        self.filters
            .push(Run::new(chain, Context { stream, direction, downstream, identity: caller.cloned() }));
        self.filters.last_mut().expect("it was just pushed")
    }

    /// The request's body as the filters let it through.
    pub fn filter_request_body(&mut self, body: Body) -> Body {
        self.filters.iter_mut().fold(body, |body, run| run.request_body(body))
    }

    /// What a filter answered when it saw the request's body, which broke off there.
    pub fn filters_answer(&mut self) -> Option<Response<Body>> {
        let answer = self.filters.iter().find_map(Run::answer)?;
        self.record().reason = Some(Reason::FilterResponse);
        Some(answer)
    }

    /// The answer goes back through the filters that saw the request, its body too; or one of them gives another.
    pub async fn filter_response(&mut self, mut response: Response<Body>) -> Result<Response<Body>, Failure> {
        for run in self.filters.iter().rev() {
            let (mut head, body) = response.into_parts();
            if let Some(answer) = run.response_headers(&mut head).await? {
                self.record().reason = Some(Reason::FilterResponse);
                return Ok(answer);
            }
            response = Response::from_parts(head, run.response_body(body));
        }
        Ok(response)
    }

    /// Filters keep a request's state until they hear of its end.
    pub(super) fn leave_filters(&self, record: &Record) {
        for run in self.filters.iter().rev() {
            run.log(record);
        }
    }
}
