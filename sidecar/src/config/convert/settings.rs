//! Settings of the mesh and of telemetry.

use std::{collections::BTreeSet, sync::Arc};

use trama_proto::policy::v1::{RetryBudget, access_log, mesh_settings_spec};

use super::{Extent, Local, endpoint::Endpoints, index::Index, region::Topology};
use crate::config::snapshot::{MeshSettings, RetryBudgetPolicy, TelemetrySettings, UnknownDestination};

/// What holds for the mesh as a whole.
pub(super) fn mesh(
    index: &Index<'_>,
    topology: &Topology<'_>,
    endpoints: &Endpoints<'_>,
    (local, extent): (&Local, Extent<'_>),
) -> MeshSettings {
    let named = topology.regions().chain(endpoints.iter().map(|endpoint| &*endpoint.region));
    let named = named.chain([local.region.as_str()]).filter(|region| !region.is_empty());
    let regions: BTreeSet<Arc<str>> = named.map(Arc::from).collect();
    let mut settings = MeshSettings { regions: regions.into_iter().collect(), ..MeshSettings::default() };
    let Some((_, spec)) = index.mesh else {
        // Whoever wrote them may have wanted just that.
        if extent.part().is_some_and(|part| part.strict) {
            settings.strict = true;
            settings.unknown = UnknownDestination::Refuse;
        }
        return settings;
    };
    settings.unknown = match spec.unknown_destination() {
        mesh_settings_spec::UnknownDestination::PassThrough => UnknownDestination::PassThrough,
        mesh_settings_spec::UnknownDestination::Refuse => UnknownDestination::Refuse,
    };
    if let Some(inbound) = &spec.inbound {
        settings.strict = inbound.strict;
        settings.strict_ports =
            inbound.strict_ports.iter().filter_map(|port| u16::try_from(*port).ok()).collect();
    }
    settings
}

/// What is traced and logged.
pub(super) fn telemetry(index: &Index<'_>) -> TelemetrySettings {
    let mut settings = TelemetrySettings::default();
    let Some((_, spec)) = index.telemetry else { return settings };
    if let Some(percent) = spec.tracing.as_ref().and_then(|tracing| tracing.sampling_percent) {
        settings.sampling = percent / 100.0;
    }
    if let Some(log) = &spec.access_log {
        settings.access_log = log.mode() != access_log::Mode::Off;
    }
    settings
}

/// A retry budget, or what holds without one.
pub(super) fn retry_budget(message: Option<&RetryBudget>, default: RetryBudgetPolicy) -> RetryBudgetPolicy {
    message.map_or(default, |budget| RetryBudgetPolicy {
        percent: budget.percent.unwrap_or(default.percent),
        min_per_second: budget.min_per_second.unwrap_or(default.min_per_second),
    })
}
