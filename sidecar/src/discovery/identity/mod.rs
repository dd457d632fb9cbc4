//! An identity from the control plane: had by a token, renewed long before it ends, kept on disk for a start without the
//! control plane. Its keys are made here and never leave.

mod failure;
mod kept;
mod schedule;

use std::{convert::Infallible, path::PathBuf, time::Duration};

use rustls_pki_types::UnixTime;
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tonic::{Response, Status, transport::Channel};
use tracing::{error, info, warn};
use trama_proto::{
    identity::v1::{
        IdentityResponse, JoinRequest, RenewRequest, identity_service_client::IdentityServiceClient,
    },
    spiffe::SpiffeId,
};

use self::{
    failure::Failure,
    kept::{Given, Kept},
    schedule::{Step, Term},
};
use super::{
    backoff::Backoff,
    clock,
    control_plane::{ControlPlane, PATIENCE},
    files::WatchedFiles,
    slots::Slots,
};
use crate::{
    telemetry::{IdentityRequest, Seconds, TelemetryHub},
    tls::{Identity, OwnKey},
};

/// How often it is looked what is to be done, where nothing changes but the clock, which may be set.
const LOOK: Duration = Duration::from_secs(60);

/// How a workload joins.
#[derive(Debug)]
pub struct Joining {
    /// Who gives the identity.
    pub control_plane: ControlPlane,
    /// The identity that is wanted.
    pub identity: SpiffeId,
    /// The file of the token.
    pub token: PathBuf,
    /// The folder in which the identity is kept.
    pub state: PathBuf,
}

/// The identity of a workload that joins.
#[derive(Debug)]
pub struct JoinedIdentity {
    control_plane: ControlPlane,
    wanted: SpiffeId,
    token: PathBuf,
    kept: Kept,
    /// The life of what is kept, as far as it can be used.
    term: Option<Term>,
    revision: u64,
    /// Roots that the control plane tells of between two certificates.
    roots: watch::Receiver<Vec<Vec<u8>>>,
    /// What is put here is written to the disk, beside everything else.
    keep: watch::Sender<Option<Kept>>,
    /// What was tried last to be written there.
    tried: watch::Receiver<Option<Kept>>,
    telemetry: TelemetryHub,
}

impl JoinedIdentity {
    /// Reads what is kept, and puts it in force if it holds.
    pub fn begin(joining: Joining, telemetry: TelemetryHub) -> Self {
        let Joining { control_plane, identity: wanted, token, state } = joining;
        let (slots, kept, torn) = Slots::open(state.clone());
        for torn in torn {
            error!("a kept identity is lost: {torn}");
            telemetry.process().identity().store_failed();
        }
        telemetry.process().identity().joins();
        let (keep, tried) = keeper(slots, state, &telemetry);
        let kept = kept.unwrap_or_default();
        let (term, revision, roots) = (None, 0, control_plane.identity.offered_roots());
        let mut joined =
            Self { control_plane, wanted, token, kept, term, revision, roots, keep, tried, telemetry };
        joined.restore(clock::now());
        joined
    }

    /// Keeps the identity current, for ever.
    pub async fn keep(mut self) -> Infallible {
        let mut backoff = Backoff::default();
        let mut draw = fastrand::f64();
        loop {
            self.recover(clock::now());
            let request = match schedule::step(self.term, clock::now(), draw) {
                Step::Wait(wait) => {
                    self.wait(wait.min(LOOK)).await;
                    continue;
                }
                Step::Renew => IdentityRequest::Renew,
                Step::Join => IdentityRequest::Join,
            };
            let proofs = self.proofs();
            let asked = match request {
                IdentityRequest::Renew => self.renew().await,
                IdentityRequest::Join => self.join().await,
            };
            let counted = asked.as_ref().map(drop).map_err(Failure::reason);
            self.telemetry.process().identity().asked(request, counted);
            match asked {
                Ok(()) => {
                    backoff.succeeded();
                    draw = fastrand::f64();
                }
                Err(failure) => {
                    let pause = self.pause_after(&failure, &mut backoff);
                    self.tell(request, &failure, pause);
                    self.pause(&failure, pause, proofs).await;
                }
            }
        }
    }

    /// Puts what is kept in force, if it is ours and has not ended.
    fn restore(&mut self, now: Duration) {
        let Some(given) = &self.kept.given else { return };
        let identity = match given.identity(self.revision + 1) {
            Ok(identity) if identity.id == self.wanted => identity,
            Ok(identity) => {
                let (kept, wanted) = (&identity.id, &self.wanted);
                return error!(%kept, %wanted, "the identity on disk is another one than controlPlane.join.identity and is not used");
            }
            Err(unfit) => return error!("the identity on disk cannot be used: {unfit}"),
        };
        let term = given.term(&identity);
        self.term = Some(term);
        self.telemetry.process().identity().in_use(identity.not_after, given.bundle.len());
        if now >= term.until {
            let remedy = "it joins anew with a new token";
            return error!(id = %identity.id, ended = %Seconds(identity.not_after), remedy, "the identity on disk has expired");
        }
        info!(id = %identity.id, not_after = %Seconds(identity.not_after), "identity in use, from disk");
        self.revision += 1;
        self.control_plane.identity.put(identity);
    }

    /// A clock that was wrong at the start and is set right makes of an identity that had expired one that holds.
    fn recover(&mut self, now: Duration) {
        let holds = self.term.is_some_and(|term| now < term.until);
        if holds && self.control_plane.identity.load().is_none() {
            self.restore(now);
        }
    }

    /// The first certificate, or the first one after an end, for a token.
    async fn join(&mut self) -> Result<(), Failure> {
        let token = self.read_token()?;
        let key = self.key_to_join().await?;
        let certificate_signing_request = key.request(&self.wanted)?;
        let channel = self.control_plane.connect_to_join(&self.wanted).await?;
        let request = JoinRequest { token, certificate_signing_request };
        let asked = timeout(PATIENCE, client(channel).join(request)).await;
        self.take(key, answered(IdentityRequest::Join, asked)?)
    }

    /// The next certificate, by the one that holds.
    async fn renew(&mut self) -> Result<(), Failure> {
        let key = OwnKey::generate()?;
        let request = RenewRequest { certificate_signing_request: key.request(&self.wanted)? };
        let connecting = timeout(PATIENCE, self.control_plane.connect()).await;
        let (channel, _) = connecting.map_err(|_| Failure::Late)??;
        let asked = timeout(PATIENCE, client(channel).renew(request)).await;
        self.take(key, answered(IdentityRequest::Renew, asked)?)
    }

    fn read_token(&self) -> Result<String, Failure> {
        let failed = |problem: String| Failure::Token { path: self.token.clone(), problem };
        let text = std::fs::read_to_string(&self.token).map_err(|error| failed(error.to_string()))?;
        match text.trim() {
            "" => Err(failed("it is empty".to_owned())),
            token => Ok(token.to_owned()),
        }
    }

    /// The key to join with. It is on disk before the token is spent on it, unless the disk fails.
    async fn key_to_join(&mut self) -> Result<OwnKey, Failure> {
        if let Some(key) = &self.kept.joining {
            return Ok(key.clone());
        }
        let key = OwnKey::generate()?;
        self.kept.joining = Some(key.clone());
        self.save();
        let tried = |tried: &Option<Kept>| tried.as_ref() == Some(&self.kept);
        timeout(PATIENCE, self.tried.wait_for(tried)).await.ok();
        Ok(key)
    }

    /// Takes what was given if it is what we asked for: it is in force at once, and then kept.
    fn take(&mut self, key: OwnKey, answer: IdentityResponse) -> Result<(), Failure> {
        let IdentityResponse { certificate, bundle, .. } = answer;
        let now = clock::now();
        let given = Given { key, chain: vec![certificate], bundle, since: now };
        let identity = given.identity(self.revision + 1)?;
        if identity.id != self.wanted {
            return Err(Failure::Foreign { given: identity.id.to_string() });
        }
        self.put(given, identity, now)
    }

    /// Takes the roots that are to be trusted from now on, beside the certificate that holds.
    fn trust(&mut self, bundle: Vec<Vec<u8>>) -> Result<(), Failure> {
        let given = self.kept.given.as_ref().filter(|given| given.bundle != bundle);
        let Some(given) = given.map(|given| Given { bundle, ..given.clone() }) else { return Ok(()) };
        let identity = given.identity(self.revision + 1)?;
        self.put(given, identity, clock::now())
    }

    /// Puts it in force if peers with the same roots take it: else we would cut ourselves off.
    fn put(&mut self, given: Given, identity: Identity, now: Duration) -> Result<(), Failure> {
        identity.verify(UnixTime::since_unix_epoch(now)).map_err(Failure::Invalid)?;
        let (id, not_after) = (&identity.id, identity.not_after);
        info!(%id, not_after = %Seconds(not_after), roots = given.bundle.len(), "identity in use");
        self.telemetry.process().identity().in_use(not_after, given.bundle.len());
        self.term = Some(given.term(&identity));
        self.revision += 1;
        self.control_plane.identity.put(identity);
        self.kept = Kept { given: Some(given), joining: None };
        self.save();
        Ok(())
    }

    /// Waits, and takes new roots meanwhile.
    async fn wait(&mut self, wait: Duration) {
        let end = Instant::now() + wait;
        // Their sender is the identity's place, of which we have a share.
        while let Ok(Ok(())) = timeout_at(end, self.roots.changed()).await {
            let roots = self.roots.borrow_and_update().clone();
            if let Err(failure) = self.trust(roots) {
                warn!(
                    "the roots that the control plane tells of are not taken, those in use stay: {failure}"
                );
            }
        }
    }

    fn save(&self) {
        self.keep.send_replace(Some(self.kept.clone()));
    }

    fn pause_after(&self, failure: &Failure, backoff: &mut Backoff) -> Duration {
        let now = clock::now();
        match self.term.filter(|term| now < term.until) {
            Some(term) => backoff.failed_up_to(schedule::longest_pause(term, now), fastrand::u64(..)),
            None if failure.is_refusal() => schedule::pause_refused(fastrand::f64()),
            None => backoff.failed(fastrand::u64(..)),
        }
    }

    /// Waits; a refused proof until there is another one, or for so long.
    async fn pause(&mut self, failure: &Failure, wait: Duration, mut proofs: WatchedFiles) {
        if !failure.is_refusal() {
            return self.wait(wait).await;
        }
        tokio::select! {
            () = self.wait(wait) => {}
            () = proofs.changed() => {}
        }
    }

    /// What a join is proved by: the token, and whom it is given to.
    fn proofs(&self) -> WatchedFiles {
        WatchedFiles::new(vec![self.token.clone(), self.control_plane.pinned.clone()])
    }

    fn tell(&self, request: IdentityRequest, failure: &Failure, again_in: Duration) {
        let (reason, remedy) = (failure.reason().name(), failure.remedy());
        match (request, self.term) {
            (IdentityRequest::Renew, _) => {
                warn!(
                    reason,
                    remedy,
                    ?again_in,
                    "the identity is not renewed, the one in force stays: {failure}"
                );
            }
            (IdentityRequest::Join, Some(_)) => {
                error!(
                    reason,
                    remedy,
                    ?again_in,
                    "the identity has expired and cannot be had anew: {failure}"
                );
            }
            (IdentityRequest::Join, None) => {
                error!(reason, remedy, ?again_in, "no identity yet: {failure}");
            }
        }
    }
}

/// Writes what is put into the one, and tells by the other what was tried. A disk that fails costs a start without the
/// control plane, and nothing before that.
fn keeper(
    mut slots: Slots<Kept>,
    state: PathBuf,
    telemetry: &TelemetryHub,
) -> (watch::Sender<Option<Kept>>, watch::Receiver<Option<Kept>>) {
    let (keep, hub) = (watch::Sender::new(None), telemetry.clone());
    let (tell, tried) = watch::channel(None);
    tokio::spawn(super::keep(
        move |kept| slots.save(kept),
        keep.clone(),
        move |kept: &Kept, saved| {
            tell.send_replace(Some(kept.clone()));
            let Err(error) = saved else { return };
            let folder = state.display();
            error!("stateDirectory {folder}: the identity cannot be kept: {error}; traffic goes on");
            hub.process().identity().store_failed();
        },
    ));
    (keep, tried)
}

fn client(channel: Channel) -> IdentityServiceClient<Channel> {
    IdentityServiceClient::new(channel)
}

fn answered(
    request: IdentityRequest,
    asked: Result<Result<Response<IdentityResponse>, Status>, tokio::time::error::Elapsed>,
) -> Result<IdentityResponse, Failure> {
    match asked {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(Failure::Refused { request, status: Box::new(status) }),
        Err(_) => Err(Failure::Late),
    }
}

#[cfg(test)]
mod tests;
