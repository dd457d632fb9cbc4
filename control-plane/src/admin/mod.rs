//! The Admin API over the store: what operators and tools read and change.

mod apply;
mod error;
mod explain;
mod proxy;
mod read;
mod traces;
mod watch;

use std::{sync::Arc, time::Duration};

use tokio::sync::{Mutex, watch::Receiver};
use tonic::{Code, Request, Response, Status};
use trama_proto::{
    admin::v1::{
        ApplyRequest, ApplyResponse, CreateJoinTokenRequest, CreateJoinTokenResponse, DeleteRequest,
        DeleteResponse, ExplainRequest, ExplainResponse, ExplainTraceRequest, ExplainedTrace, GetRequest,
        GetTraceRequest, ListRequest, ListResponse, ListTracesRequest, ListTracesResponse,
        ProxyConfigRequest, ProxyConfigResponse, ProxyDrainRequest, ProxyDrainResponse, StatusRequest,
        StatusResponse, StoredResource, Trace, ValidateRequest, ValidateResponse, WatchRequest,
        admin_service_server::AdminService,
    },
    spiffe::SpiffeId,
};

use crate::{
    clock, identity::Authority, mirror::Mirror, peer::Peer, reason::Reason, store::Store, stream::Seats,
    telemetry::Metrics, traces::Traces,
};

/// The longest that a join token may hold, in seconds.
const LONGEST_TOKEN: u32 = 86_400;

/// What the service needs.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) mirror: Arc<Mirror>,
    pub(crate) seats: Arc<Seats>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) traces: Arc<Traces>,
    /// Who may use it over TLS.
    pub(crate) admins: Vec<SpiffeId>,
    pub(crate) token_lifetime: Duration,
    /// For how long an event of a watch may wait to be read.
    pub(crate) patience: Duration,
    pub(crate) ending: Receiver<bool>,
    /// Held from a change's judgement until the mirror shows it: what is judged is what is there.
    pub(crate) changing: Mutex<()>,
}

/// The service.
#[derive(Clone)]
pub(crate) struct Admin(pub(crate) Arc<Shared>);

impl Admin {
    /// Lets admins ask what services and messages there are.
    pub(crate) fn let_look(&self, request: Request<()>) -> Result<Request<()>, Status> {
        let allowed = self.allowed(&request);
        self.0.metrics.admin("reflection", code(allowed.as_ref().map_or_else(Status::code, |()| Code::Ok)));
        allowed.map(|()| request)
    }

    /// Lets admins in, and counts.
    fn let_in<T>(&self, method: &'static str, request: Request<T>) -> Result<T, Status> {
        let allowed = self.allowed(&request);
        if let Err(status) = &allowed {
            self.0.metrics.admin(method, code(status.code()));
        }
        allowed.map(|()| request.into_inner())
    }

    fn allowed<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let peer = Peer::of_request(request)?;
        if matches!(peer, Peer::Socket { .. }) {
            return Ok(());
        }
        let id = peer.identity(clock::seconds())?;
        if self.0.admins.contains(id) {
            return Ok(());
        }
        tracing::warn!(%peer, "the Admin API is refused to one who is no admin");
        let problem = format!("{id} is no admin; add it to `admin.identities`, or use the Unix socket");
        Err(Reason::NotAdmin.status_of(problem, &[("identity", id.as_str())]))
    }

    fn answer<T>(&self, method: &'static str, answer: Result<T, Status>) -> Result<Response<T>, Status> {
        let code = code(answer.as_ref().map_or_else(Status::code, |_| Code::Ok));
        self.0.metrics.admin(method, code);
        answer.map(Response::new)
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let request = self.let_in("apply", request)?;
        let answer = self.0.apply(request).await;
        self.answer("apply", answer)
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<StoredResource>, Status> {
        let request = self.let_in("get", request)?;
        let answer = self.0.get(&request);
        self.answer("get", answer)
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let request = self.let_in("list", request)?;
        let answer = self.0.list(&request);
        self.answer("list", answer)
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        let request = self.let_in("delete", request)?;
        let answer = self.0.delete(request).await;
        self.answer("delete", answer)
    }

    async fn validate(
        &self,
        request: Request<ValidateRequest>,
    ) -> Result<Response<ValidateResponse>, Status> {
        let request = self.let_in("validate", request)?;
        let answer = self.0.validate(request).await;
        self.answer("validate", answer)
    }

    type WatchStream = watch::Watching;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let cut = Peer::of_request(&request)?.cut().clone();
        let request = self.let_in("watch", request)?;
        let answer = self.0.watch(request, cut).await;
        self.answer("watch", answer)
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let request = self.let_in("status", request)?;
        let answer = self.0.status(&request);
        self.answer("status", answer)
    }

    async fn list_traces(
        &self,
        request: Request<ListTracesRequest>,
    ) -> Result<Response<ListTracesResponse>, Status> {
        let request = self.let_in("list_traces", request)?;
        let answer = self.0.list_traces(request);
        self.answer("list_traces", answer)
    }

    async fn get_trace(&self, request: Request<GetTraceRequest>) -> Result<Response<Trace>, Status> {
        let request = self.let_in("get_trace", request)?;
        let answer = self.0.get_trace(&request);
        self.answer("get_trace", answer)
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let request = self.let_in("explain", request)?;
        let answer = self.0.explain(request).await;
        self.answer("explain", answer)
    }

    async fn explain_trace(
        &self,
        request: Request<ExplainTraceRequest>,
    ) -> Result<Response<ExplainedTrace>, Status> {
        let request = self.let_in("explain_trace", request)?;
        let answer = self.0.explain_trace(request);
        self.answer("explain_trace", answer)
    }

    async fn proxy_config(
        &self,
        request: Request<ProxyConfigRequest>,
    ) -> Result<Response<ProxyConfigResponse>, Status> {
        let request = self.let_in("proxy_config", request)?;
        let answer = self.0.proxy_config(request).await;
        self.answer("proxy_config", answer)
    }

    async fn proxy_drain(
        &self,
        request: Request<ProxyDrainRequest>,
    ) -> Result<Response<ProxyDrainResponse>, Status> {
        let request = self.let_in("proxy_drain", request)?;
        let answer = self.0.proxy_drain(request).await;
        self.answer("proxy_drain", answer)
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<CreateJoinTokenResponse>, Status> {
        let request = self.let_in("create_join_token", request)?;
        let answer = self.0.create_join_token(&request).await;
        self.answer("create_join_token", answer)
    }
}

impl Shared {
    async fn create_join_token(
        &self,
        request: &CreateJoinTokenRequest,
    ) -> Result<CreateJoinTokenResponse, Status> {
        let CreateJoinTokenRequest { identity, lifetime } = request;
        let id = SpiffeId::parse(identity).map_err(|rule| error::field("identity", identity, rule))?;
        if *lifetime > LONGEST_TOKEN {
            let problem = format!("more than {LONGEST_TOKEN} seconds");
            return Err(error::field("lifetime", &lifetime.to_string(), &problem));
        }
        let lifetime = match lifetime {
            0 => self.token_lifetime,
            seconds => Duration::from_secs(u64::from(*seconds)),
        };
        let now = clock::seconds();
        let made = self.authority.invite(&id, lifetime, now).await.map_err(error::of_identity)?;
        let bundle = self.authority.bundle(now).await.map_err(error::of_identity)?;
        tracing::info!(identity = %id, expires = made.expires, "a join token is made");
        Ok(CreateJoinTokenResponse { token: made.token.to_string(), expires: made.expires, bundle })
    }
}

/// A code's name, for the count.
fn code(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::InvalidArgument => "invalid_argument",
        Code::NotFound => "not_found",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::DataLoss => "data_loss",
        Code::Internal => "internal",
        Code::PermissionDenied => "permission_denied",
        Code::Unauthenticated => "unauthenticated",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::Unavailable => "unavailable",
        _ => "other",
    }
}
