//! OTLP's `TraceService` over the wire, as far as sidecars need it. The generated server would decode a request whole, see
//! [`super::wire`].

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::Service,
    server::{Grpc, NamedService, UnaryService},
};
use tonic_prost::ProstCodec;

use super::{Traces, wire::ExportRequest};
use crate::reason::Reason;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The server.
#[derive(Clone)]
pub(crate) struct TraceServer {
    traces: Arc<Traces>,
    message_bytes: usize,
}

impl TraceServer {
    /// Takes messages up to this size.
    pub(crate) fn new(traces: Arc<Traces>, message_bytes: usize) -> Self {
        Self { traces, message_bytes }
    }
}

impl NamedService for TraceServer {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

type Answering<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl Service<http::Request<Body>> for TraceServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answering<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self { traces, message_bytes } = self.clone();
        Box::pin(async move {
            if request.uri().path() != EXPORT {
                return Ok(Reason::UnknownMethod.status("there is `Export` only").into_http());
            }
            // Before anything of the message is read; the place is kept to the end.
            let _place = match traces.let_in(request.extensions().get()) {
                Ok(place) => place,
                Err(status) => return Ok(status.into_http()),
            };
            let mut grpc = Grpc::new(ProstCodec::default()).max_decoding_message_size(message_bytes);
            Ok(grpc.unary(Export(traces), request).await)
        })
    }
}

struct Export(Arc<Traces>);

impl UnaryService<ExportRequest> for Export {
    type Response = ExportTraceServiceResponse;
    type Future = Answering<Response<Self::Response>, Status>;

    fn call(&mut self, request: Request<ExportRequest>) -> Self::Future {
        let traces = Arc::clone(&self.0);
        Box::pin(async move { traces.export(request).map(Response::new) })
    }
}
