//! Gives details to the statuses that the gRPC library makes itself: of an unknown method, of a message that is too large or
//! cannot be decoded.

use std::task::{Context, Poll};

use futures_util::{TryFutureExt, future::MapOk};
use tonic::{Status, codegen::Service};

use crate::reason;

const STATUS: &str = "grpc-status";
const DETAILS: &str = "grpc-status-details-bin";

/// A service whose statuses have details. Those at the end of a stream are our own, and have them.
#[derive(Clone)]
pub(super) struct Named<S>(S);

impl<S> Named<S> {
    pub(super) fn new(service: S) -> Self {
        Self(service)
    }
}

impl<S, I, O> Service<http::Request<I>> for Named<S>
where
    S: Service<http::Request<I>, Response = http::Response<O>>,
{
    type Response = http::Response<O>;
    type Error = S::Error;
    type Future = MapOk<S::Future, fn(Self::Response) -> Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<I>) -> Self::Future {
        self.0.call(request).map_ok(named as fn(_) -> _)
    }
}

/// The same answer; a status in its head has details.
fn named<O>(mut answer: http::Response<O>) -> http::Response<O> {
    let headers = answer.headers_mut();
    let refused = headers.get(STATUS).is_some_and(|code| code != "0") && !headers.contains_key(DETAILS);
    if let Some(status) = Status::from_header_map(headers).filter(|_| refused) {
        // It fails for metadata that is no header, and there is none.
        reason::named(status).add_header(headers).ok();
    }
    answer
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;
    use crate::reason::Reason;

    #[test]
    fn a_status_of_the_library_gets_details_and_everything_else_stays() {
        let of = |status: Status| named(status.into_http::<()>());
        let told = |answer: http::Response<()>| {
            let status = Status::from_header_map(answer.headers()).unwrap();
            (status.message().to_owned(), status.get_details_error_info().map(|info| info.reason))
        };
        let unknown = of(Status::unimplemented("nothing here"));
        assert_eq!(unknown.headers().get_all(STATUS).iter().count(), 1);
        assert_eq!(told(unknown), ("nothing here".to_owned(), Some("UNKNOWN_METHOD".to_owned())));
        let ending = of(Reason::Ending.status("later"));
        assert_eq!(told(ending), ("later".to_owned(), Some("ENDING".to_owned())));
        assert_eq!(told(of(Status::ok(""))), (String::new(), None));
        assert!(named(http::Response::new(())).headers().is_empty());
    }
}
