//! Identities over the wire.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use trama_proto::identity::v1::{
    IdentityResponse, JoinRequest, RenewRequest, identity_service_server::IdentityService,
};
use trama_sidecar::telemetry::Seconds;

use super::{Authority, IdentityError, Issued, JoinToken, certificate::names_asked, rates::Rates};
use crate::{
    clock,
    config::Limits,
    peer::{self, Peer},
    quota,
    reason::Reason,
    telemetry::Metrics,
};

/// The service.
#[derive(Clone)]
pub(crate) struct Identities {
    authority: Arc<Authority>,
    rates: Arc<Rates>,
    metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl IdentityService for Identities {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<IdentityResponse>, Status> {
        let peer = Peer::of_request(&request)?.clone();
        let source = peer.address().map(peer::source);
        if source.is_some_and(|source| !self.rates.join(source)) {
            return Err(self.too_many("join", &peer));
        }
        let JoinRequest { token, certificate_signing_request: request } = request.into_inner();
        let joined = match JoinToken::parse(&token) {
            Ok(token) => self.authority.join(&token, &request, clock::seconds()).await,
            Err(error) => Err(error),
        };
        self.answer("join", &peer, &request, joined)
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<IdentityResponse>, Status> {
        let peer = Peer::of_request(&request)?.clone();
        let now = clock::seconds();
        let request = request.into_inner().certificate_signing_request;
        let id = peer.identity(now).inspect_err(|status| {
            self.metrics.refused_as("no_certificate");
            let asked = names_asked(&request);
            tracing::warn!(%peer, ?asked, "a renewal is refused: {}", status.message());
        })?;
        if !self.rates.renewal(id) {
            return Err(self.too_many("renew", &peer));
        }
        let renewed = self.authority.renew(id, &request, now).await;
        self.answer("renew", &peer, &request, renewed)
    }
}

impl Identities {
    pub(crate) fn new(authority: Arc<Authority>, limits: &Limits, metrics: Arc<Metrics>) -> Self {
        Self { authority, rates: Arc::new(Rates::new(limits.certificates_per_second)), metrics }
    }

    /// Who asks so often has nothing of his looked at, not even for the log.
    fn too_many(&self, how: &'static str, peer: &Peer) -> Status {
        self.metrics.refused_as("too_many");
        if let Some(refused) = self.rates.line() {
            tracing::warn!(%peer, how, refused, reason = "too_many", "identities are refused: they are asked for too often");
        }
        let (most, limit) = (self.rates.each_second(), "limits.certificatesPerSecond");
        let problem =
            format!("more than {most} certificates a second are asked for (`{limit}`); try again later");
        quota::exceeded(Reason::TooManyCertificates, limit, &peer.to_string(), problem)
    }

    fn answer(
        &self,
        how: &'static str,
        peer: &Peer,
        request: &[u8],
        issued: Result<Issued, IdentityError>,
    ) -> Result<Response<IdentityResponse>, Status> {
        match issued {
            Ok(Issued { id, certificate, expires, bundle }) => {
                self.metrics.issued(how);
                let not_after = Seconds(i64::try_from(expires).unwrap_or(i64::MAX));
                tracing::info!(%peer, identity = %id, %not_after, how, "a certificate is issued");
                let identity = id.as_str().to_owned();
                Ok(Response::new(IdentityResponse { identity, certificate, expires, bundle }))
            }
            Err(error) => {
                self.metrics.refused_as(error.name());
                // What it names is proved by nothing, but it is whom somebody wants to be.
                let (asked, reason) = (names_asked(request), error.name());
                tracing::warn!(%peer, how, ?asked, reason, "an identity is refused: {error}");
                Err(status(&error))
            }
        }
    }
}

/// What whoever asks over the network may know: all tokens that do not fit are alike, or it could find out which exist.
fn status(error: &IdentityError) -> Status {
    use IdentityError as E;
    match error {
        E::MalformedToken | E::UnknownToken | E::ExpiredToken | E::UsedToken => Reason::TokenRefused.status(
            "this join token is not known, has ended or was used; make a new one with `tramactl join-token`",
        ),
        E::BadIdentity { .. } => Reason::IdentityRefused.status(error.to_string()),
        E::ForeignRequest { asked, allowed } => Reason::IdentityRefused
            .status_of(error.to_string(), &[("asked", asked.as_str()), ("allowed", allowed.as_str())]),
        E::BadRequest(_) => Reason::BadRequest.status(error.to_string()),
        E::Store(_) => Reason::StoreUnavailable.status("the store cannot be used at the moment; try again"),
        E::OtherDomain { .. } | E::Sealed(_) | E::SealingKey { .. } | E::Signing(_) => {
            Reason::Internal.status("the authority cannot sign; its log says why")
        }
    }
}
