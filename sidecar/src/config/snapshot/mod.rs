//! The snapshot: all policy, compiled, immutable, swapped whole.
//!
//! A request reads one `Arc<Snapshot>` and keeps it until its end. A snapshot holds policy only; what must survive a
//! push (ejections, circuit counts, retry budgets) lives in [`state`], keyed by stable ids, and the snapshot holds
//! handles to it. Everything that can be computed once (regular expressions, indexes, header names, TLS server names)
//! is computed when the snapshot is built, never on a request's way.

mod authz;
mod cidr;
mod cluster;
mod destination;
mod filter;
mod names;
mod route;
mod route_index;
mod settings;
pub mod state;

use std::{collections::BTreeSet, sync::Arc};

pub use self::{
    authz::{Authorization, AuthzAction, AuthzPolicy, AuthzRule, TextPattern},
    cidr::Cidr,
    cluster::{
        BackendTls, CertificateName, CircuitLimits, Cluster, Endpoint, MeshRecord, OutlierPolicy,
        RegionGroup, SkippedRegion, Transport,
    },
    destination::{Destination, DestinationIndex, Direct, Pending, ServicePort},
    filter::{FilterChain, FilterSpec, SourceRanges},
    names::{AppProtocol, Origin, Revision, ServiceName, SpiffeId},
    route::{
        Backend, HeaderChange, HeaderMatch, HeaderModifier, Match, PathMatch, PathRewrite, QueryMatch,
        Redirect, RetryPolicy, Rule, RuleAction, RuleTimeouts, UrlRewrite, ValueMatch, is_framing,
        whole_regex,
    },
    route_index::{PathIndex, RouteTable, Specificity, TableEntry},
    settings::{MeshSettings, RetryBudgetPolicy, TelemetrySettings, UnknownDestination},
};

use crate::error::Reason;

/// Everything that policy says, at one revision. The default is the empty policy before the first.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Which revision this is.
    pub revision: Revision,
    /// Where it comes from.
    pub origin: Origin,
    /// Which service, endpoint or nobody an address or authority means.
    pub destinations: DestinationIndex,
    /// What holds for the whole sidecar.
    pub mesh: MeshSettings,
    /// What is traced and logged.
    pub telemetry: TelemetrySettings,
    /// The entries of the sidecar's `upstreamTls` that endpoints are reached with; an empty name: the system's authorities.
    pub tls_files: BTreeSet<Arc<str>>,
}

impl Snapshot {
    /// Why something is refused: by policy, or because the policy that would tell is not there yet.
    pub fn refusal(&self, by_policy: Reason) -> Reason {
        if self.origin == Origin::Awaited { Reason::PolicyPending } else { by_policy }
    }
}
