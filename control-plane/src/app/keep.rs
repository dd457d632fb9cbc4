//! What is done now and then, for as long as the control plane lives.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time};

use crate::{
    clock,
    identity::{Authority, Trusted},
    mirror::Mirror,
    serve::Credentials,
    store::Embedded,
    telemetry::Metrics,
    traces::Traces,
};

/// How often traces that are too old are looked for where no span comes.
const TIDY: Duration = Duration::from_secs(10);

/// Keeps roots, our own certificate and the join tokens in order, and has sidecars told of new roots.
pub(super) async fn identities(
    authority: Arc<Authority>,
    mut credentials: Credentials,
    trusted: watch::Sender<Arc<Trusted>>,
    metrics: Arc<Metrics>,
    lifetime: Duration,
) {
    loop {
        time::sleep(Credentials::look_every(lifetime)).await;
        let now = clock::seconds();
        if let Err(error) = authority.maintain(now).await {
            tracing::error!(%error, "the roots cannot be kept");
        }
        match authority.bundle(now).await {
            Ok(bundle) => tell(&trusted, Trusted::new(bundle)),
            Err(error) => tracing::error!(%error, "the roots cannot be read"),
        }
        if let Err(error) = credentials.keep(&authority, now).await {
            tracing::error!(%error, "our own certificate cannot be renewed");
        }
        metrics.own_certificate(credentials.expires());
        if let Err(error) = authority.forget_expired(now).await {
            tracing::warn!(%error, "join tokens that have ended cannot be forgotten");
        }
    }
}

fn tell(trusted: &watch::Sender<Arc<Trusted>>, now: Trusted) {
    trusted.send_if_modified(|told| {
        let changed = **told != now;
        if changed {
            tracing::info!(roots = now.certificates().len(), "the roots have changed; sidecars are told");
            *told = Arc::new(now);
        }
        changed
    });
}

/// Renews the copy beside the store: at once, for else one that is often started anew would never have any, and then
/// `every` so long.
pub(super) async fn copy(store: Arc<Embedded>, every: Duration) {
    loop {
        match store.copy().await {
            Ok(stamp) => tracing::debug!(revision = stamp.revision, "the store's copy is renewed"),
            Err(error) => tracing::error!(%error, "the store's copy cannot be renewed"),
        }
        time::sleep(every).await;
    }
}

/// Shows the revision in force.
pub(super) async fn revision(mirror: Arc<Mirror>, metrics: Arc<Metrics>) {
    let mut stamps = mirror.stamps();
    while stamps.changed().await.is_ok() {
        if let Some(stamp) = *stamps.borrow_and_update() {
            metrics.revision(stamp.revision);
        }
    }
}

/// Forgets traces that are too old.
pub(super) async fn traces(traces: Arc<Traces>) {
    loop {
        time::sleep(TIDY).await;
        traces.tidy();
    }
}
