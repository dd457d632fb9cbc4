//! All that TLS takes from files: loaded before anything is served, and again whenever a file changes. What cannot be used
//! leaves what was before it in force.

use std::{collections::HashMap, fmt::Display, sync::Arc};

use arc_swap::ArcSwap;
use rustls_pki_types::ServerName;

use super::{StartError, identity};
use crate::{
    config::{
        bootstrap::{self, Config, ListenerTls},
        snapshot::{BackendTls, CertificateName, Snapshot},
    },
    discovery::WatchedFiles,
    telemetry::{CertificateUse, ReceiverTls, TelemetryHub},
    tls::{
        IdentityError, InForce, ListenerClients, ListenerFiles, Offer, UpstreamFiles, UpstreamTls,
        UpstreamTlsByName,
    },
    upstream::Certificates,
    worker::Shared,
};

/// The TLS of an explicit listener: a connection takes what is in force when it comes.
pub(super) type ServerTls = Arc<ArcSwap<rustls::ServerConfig>>;

/// The system's authorities, and no client certificate.
const SYSTEM: UpstreamFiles = UpstreamFiles { authorities: None, client: None };

/// A place for everything, with nothing in it yet.
pub(super) fn none(config: &Config) -> Certificates {
    let names = config.upstream_tls.iter().map(|entry| entry.name.as_str());
    Certificates { identity: InForce::default(), upstream: Arc::new(UpstreamTlsByName::new(names)) }
}

/// Loads everything once, to see whether it can be used.
pub(super) fn check(config: &Config) -> Result<(), StartError> {
    identity::check(config)?;
    for (index, listener) in config.listeners.iter().enumerate() {
        let files = listener.tls.as_ref().map(listener_files);
        files.map(|files| files.load()).transpose().map_err(of(format_args!("listeners[{index}].tls")))?;
    }
    for (index, entry) in config.upstream_tls.iter().enumerate() {
        upstream_files(entry).load(1).map_err(of(format_args!("upstreamTls[{index}]")))?;
    }
    if receiver_trusts_the_system(config) {
        SYSTEM.load(1).map_err(of("telemetry.otlpEndpoint"))?;
    }
    Ok(())
}

/// Says which field of the configuration names the files.
pub(super) fn of(field: impl Display) -> impl FnOnce(IdentityError) -> StartError {
    move |error| StartError::Certificates { field: field.to_string(), error }
}

/// Loads the certificates of explicit listeners and keeps them current, by the listeners' names.
pub(super) fn keep_listeners(
    config: &Config,
    telemetry: &TelemetryHub,
) -> Result<HashMap<String, ServerTls>, StartError> {
    let mut listeners = HashMap::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        let Some(files) = listener.tls.as_ref().map(listener_files) else { continue };
        let watched = WatchedFiles::new(files.paths());
        let loaded = files.load().map_err(of(format_args!("listeners[{index}].tls")))?;
        let in_force = Arc::new(ArcSwap::new(loaded));
        listeners.insert(listener.name.clone(), Arc::clone(&in_force));
        again(CertificateUse::Listener, watched, telemetry, move || {
            files.load().map(|new| in_force.store(new))
        });
    }
    Ok(listeners)
}

/// Loads what TLS to endpoints without a sidecar takes, and keeps it current.
pub(super) fn keep_upstream(
    config: &Config,
    shared: &Shared,
    telemetry: &TelemetryHub,
) -> Result<(), StartError> {
    if receiver_trusts_the_system(config) {
        keep_entry("", SYSTEM, shared, telemetry).map_err(of("telemetry.otlpEndpoint"))?;
    }
    let mut entries = config.upstream_tls.iter().enumerate();
    entries.try_for_each(|(index, entry)| {
        let kept = keep_entry(&entry.name, upstream_files(entry), shared, telemetry);
        kept.map_err(of(format_args!("upstreamTls[{index}]")))
    })
}

/// The TLS with whoever receives spans, where its address asks for it: as the files are when it connects.
pub(super) fn of_receiver(config: &Config, shared: &Shared) -> Option<ReceiverTls> {
    let server_name = ServerName::try_from(config.telemetry.sealed_host()?.to_owned()).ok()?;
    let receiver = Arc::new(BackendTls {
        names: vec![CertificateName::Host(server_name.clone())],
        server_name: server_name.clone(),
        files: config.telemetry.otlp_tls.as_deref().unwrap_or_default().into(),
    });
    let entries = Arc::clone(&shared.certificates.upstream);
    let (of_revision, files) = (Arc::clone(&entries), Arc::clone(&receiver.files));
    let in_force = move || {
        let files = entries.in_force(&receiver.files).ok_or("its files are not loaded")?;
        files.client(&receiver, Offer::Http2).map_err(|error| error.to_string())
    };
    let revision = Arc::new(move || of_revision.revision(&files));
    Some(ReceiverTls { server_name, config: Arc::new(in_force), revision })
}

/// Whether whoever receives spans is known by the system's authorities.
fn receiver_trusts_the_system(config: &Config) -> bool {
    config.telemetry.sealed_host().is_some() && config.telemetry.otlp_tls.is_none()
}

/// What a policy's TLS needs beyond the configuration: the system's authorities, loaded when a policy first names them.
/// An entry that it names and that does not exist is told; a policy is shared, so that it is no error.
pub(super) fn named_by(snapshot: &Snapshot, shared: &Shared, telemetry: &TelemetryHub) {
    let entries = &shared.certificates.upstream;
    for name in snapshot.tls_files.iter().filter(|name| !entries.knows(name)) {
        tracing::warn!(files = %name, "policy names an entry that upstreamTls does not have; its endpoints cannot be reached");
    }
    if snapshot.tls_files.contains("")
        && entries.in_force("").is_none()
        && let Err(error) = keep_entry("", SYSTEM, shared, telemetry)
    {
        tracing::error!(%error, "the system's authorities cannot be used; name others in upstreamTls");
    }
}

fn keep_entry(
    name: &str,
    files: UpstreamFiles,
    shared: &Shared,
    telemetry: &TelemetryHub,
) -> Result<(), IdentityError> {
    let watched = WatchedFiles::new(files.paths());
    let (name, entries) = (name.to_owned(), Arc::clone(&shared.certificates.upstream));
    let mut revision = 0;
    let mut load = move || {
        let loaded: UpstreamTls = files.load(revision + 1)?;
        revision += 1;
        entries.put(&name, loaded);
        Ok(())
    };
    load()?;
    again(CertificateUse::Upstream, watched, telemetry, load);
    Ok(())
}

/// Loads again after each change.
pub(super) fn again(
    of: CertificateUse,
    files: WatchedFiles,
    telemetry: &TelemetryHub,
    mut load: impl FnMut() -> Result<(), IdentityError> + Send + 'static,
) {
    let telemetry = telemetry.clone();
    tokio::spawn(files.watch(move || {
        let loaded = load();
        telemetry.process().certificates_read(of, loaded.is_ok());
        match loaded {
            Ok(()) => tracing::info!(of = of.name(), "new certificates in use"),
            // They may fit together at the next change.
            Err(error) => {
                tracing::error!(of = of.name(), %error, "certificates refused, those before stay");
            }
        }
    }));
}

fn listener_files(tls: &ListenerTls) -> ListenerFiles {
    ListenerFiles {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
        clients: tls.client_bundle.clone().map(|authorities| ListenerClients {
            authorities,
            names: tls.client_names.iter().map(|name| name.0.clone()).collect(),
        }),
    }
}

fn upstream_files(entry: &bootstrap::UpstreamTls) -> UpstreamFiles {
    UpstreamFiles {
        authorities: entry.authorities.clone(),
        client: entry.certificate.clone().zip(entry.key.clone()),
    }
}
