//! Where the identity of the workload comes from: files, or the control plane, which gives one to who joins.

use rustls_pki_types::UnixTime;

use super::{
    StartError,
    certificates::{again, of},
    policy,
};
use crate::{
    config::bootstrap::Config,
    discovery::{JoinedIdentity, Joining, WatchedFiles},
    telemetry::{CertificateUse, Seconds, TelemetryHub},
    tls::{self, Identity, IdentityFiles},
    worker::Shared,
};

/// Loads what there is once, to see whether it can be used. Nobody joins.
pub(super) fn check(config: &Config) -> Result<(), StartError> {
    if let Some(files) = files(config) {
        let identity = Identity::load(&files, 1).map_err(of("identity"))?;
        identity.judge(UnixTime::now()).map_err(|unfit| of("identity")(files.blame(unfit)))?;
    }
    if let Some(control_plane) = &config.control_plane {
        tls::pinned(&control_plane.bundle).map_err(of("controlPlane.bundle"))?;
    }
    Ok(())
}

/// Puts the identity in force and keeps it current. One from files must be there; one from the control plane is awaited,
/// beside everything else. To be called on the control side's runtime.
pub(super) fn keep(config: &Config, shared: &Shared, telemetry: &TelemetryHub) -> Result<(), StartError> {
    match files(config) {
        Some(files) => keep_files(files, shared, telemetry),
        None => {
            join(config, shared, telemetry);
            Ok(())
        }
    }
}

fn keep_files(files: IdentityFiles, shared: &Shared, telemetry: &TelemetryHub) -> Result<(), StartError> {
    let watched = WatchedFiles::new(files.paths());
    let in_force = shared.certificates.identity.clone();
    let hub = telemetry.clone();
    let mut revision = 0;
    let mut load = move || {
        let identity = Identity::load(&files, revision + 1)?;
        revision += 1;
        // With another authority in the bundle later, or another certificate, it may be good: no reason not to start.
        if let Err(unfit) = identity.judge(UnixTime::now()) {
            tracing::warn!(error = %files.blame(unfit), "no peer will take this identity");
        }
        tracing::info!(id = %identity.id, not_after = %Seconds(identity.not_after), "identity in use");
        hub.process().identity().in_use(identity.not_after, identity.authorities().len());
        in_force.put(identity);
        Ok(())
    };
    load().map_err(of("identity"))?;
    again(CertificateUse::Identity, watched, telemetry, load);
    Ok(())
}

fn join(config: &Config, shared: &Shared, telemetry: &TelemetryHub) {
    // What is missing of these, `Config` does not let through.
    let (Some(control_plane), Some(join), Some(state)) =
        (&config.control_plane, config.join(), &config.state_directory)
    else {
        return;
    };
    let joining = Joining {
        control_plane: policy::way_to(control_plane, shared),
        identity: join.identity.clone(),
        token: join.token.clone(),
        state: state.clone(),
    };
    let joined = JoinedIdentity::begin(joining, telemetry.clone());
    tokio::spawn(joined.keep());
}

fn files(config: &Config) -> Option<IdentityFiles> {
    config.identity.as_ref().map(|identity| IdentityFiles {
        certificate: identity.certificate.clone(),
        key: identity.key.clone(),
        bundle: identity.bundle.clone(),
    })
}
