//! The sections of the configuration.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trama_proto::{
    settings::text::{self, DurationText, LabelText, SpiffeIdText},
    spiffe::SpiffeId,
};

const HOUR: Duration = Duration::from_secs(3600);

/// The schema of a trust domain.
#[derive(JsonSchema)]
#[schemars(
    rename = "TrustDomain",
    title = "a trust domain of lower-case letters, digits, dots, dashes and underscores, such as `trama.local`",
    extend("pattern" = "^[a-z0-9._-]{1,255}$")
)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct TrustDomainText(String);

/// Who the control plane is: `spiffe://<trust domain>/ns/<namespace>/sa/<account>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Workload {
    /// Its namespace.
    #[schemars(with = "LabelText")]
    pub namespace: String,
    /// Its account.
    #[schemars(with = "LabelText")]
    pub account: String,
}

impl Default for Workload {
    fn default() -> Self {
        Self { namespace: "trama-system".to_owned(), account: "trama-control-plane".to_owned() }
    }
}

/// The ports of the control plane, on `bindAddress`. 0: any free port, for tests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Ports {
    /// Takes sidecars, and admins with a certificate, over TLS.
    pub sidecars: u16,
    /// Answers Prometheus.
    pub metrics: u16,
    /// Answers `/startupz`, `/readyz` and `/livez`.
    pub health: u16,
}

impl Default for Ports {
    fn default() -> Self {
        // Not the sidecar's: one may run beside the control plane.
        Self { sidecars: 15010, metrics: 15011, health: 15012 }
    }
}

/// What must outlive the process, in a file of this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Store {
    /// The file. It is made if there is none.
    pub path: PathBuf,
    /// The file with the key that closes the authority's keys, mode 0600; root's may be 0640, as a Secret of Kubernetes is. It
    /// is made if there is none. Keep it apart from copies of the store: who has both can be the authority.
    pub sealing_key: PathBuf,
    /// How often the copy beside the file is renewed, from which a damaged file is restored.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub copy_every: Duration,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            path: "/var/lib/trama/store".into(),
            sealing_key: "/var/lib/trama/sealing.key".into(),
            copy_every: HOUR,
        }
    }
}

/// Who may use the Admin API: whoever may open the socket, and these identities over TLS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Admin {
    /// The Unix socket, mode 0600.
    pub socket: PathBuf,
    /// The identities of admins. Empty: only the socket is open.
    #[schemars(with = "Vec<SpiffeIdText>")]
    pub identities: Vec<SpiffeId>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { socket: "/run/trama/admin.sock".into(), identities: Vec::new() }
    }
}

/// How long the authority's certificates hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Certificates {
    /// A workload's. Sidecars renew theirs at half of it.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub lifetime: Duration,
    /// A root's. At half of it the next one is made.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub root_lifetime: Duration,
    /// How long a new root is trusted before it signs. It reaches sidecars that have a stream within seconds; one that was without
    /// a control plane for longer than this cannot come back but by a new token. At least a minute, or `lifetime` if that is less.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub overlap: Duration,
    /// How far clocks may be apart: a certificate begins this long before it is issued.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub clock_skew: Duration,
    /// A join token's, where nobody says another.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub join_token_lifetime: Duration,
}

impl Default for Certificates {
    fn default() -> Self {
        Self {
            lifetime: 24 * HOUR,
            root_lifetime: 10 * 365 * 24 * HOUR,
            overlap: 24 * HOUR,
            clock_skew: Duration::from_secs(300),
            join_token_lifetime: Duration::from_secs(600),
        }
    }
}

/// The most of everything. What exceeds a limit is refused with a named reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at `ports.sidecars`: of a sidecar one for its policy and one for its spans. Further ones wait.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: u32,
    /// Those of one identity. Further ones are closed.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_per_identity: u32,
    /// Those of one address, of IPv6 of one network of 64 bits, that have proved no identity: who is in the handshake, or
    /// joins. Further ones are closed.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_per_address: u32,
    /// Policy streams.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub streams: u32,
    /// Those of one identity: of the sidecars of one workload.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub streams_per_identity: u32,
    /// Certificates that may be asked for each second: by joins from one address, of IPv6 from one network of 64 bits, and by
    /// renewals of one identity; ten times as many at once. Who is refused counts too.
    #[schemars(range(min = 1, max = 100_000))]
    pub certificates_per_second: u32,
    /// Bytes of a message that is received.
    #[schemars(range(min = 65_536, max = 268_435_456))]
    pub message_bytes: u32,
    /// Messages that a policy stream may bring each second; ten times as many at once.
    #[schemars(range(min = 1, max = 100_000))]
    pub messages_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 50_000,
            connections_per_identity: 4_000,
            connections_per_address: 256,
            streams: 20_000,
            streams_per_identity: 2_000,
            certificates_per_second: 50,
            message_bytes: 16 << 20,
            messages_per_second: 100,
        }
    }
}

/// The longest of everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Timeouts {
    /// For a TLS handshake.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub tls_handshake: Duration,
    /// How long a connection at `ports.sidecars` may be without a call. Then it is closed.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub idle: Duration,
    /// From the begin of a policy stream to its Hello.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub hello: Duration,
    /// From a push to its Ack or Nack, and for an event of the Admin API's Watch to be read. A stream that is slower is ended;
    /// its sidecar comes back.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub acknowledge: Duration,
    /// From SIGTERM until what is still open is cut.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tls_handshake: Duration::from_secs(5),
            idle: Duration::from_secs(300),
            hello: Duration::from_secs(10),
            acknowledge: Duration::from_secs(60),
            drain: Duration::from_secs(5),
        }
    }
}
