//! The sidecar: the proxy beside every service.
//!
//! # The life of a request
//!
//! The modules stand in the order in which a request meets them, save that route and filter take turns. An outbound
//! request is *accepted* from the application (0, 1), its protocol is told and it becomes one [`http::Request`] with our
//! [`http::body::Body`] (3), the service's *filter* chain may change or answer it (4), the *route* table finds its rule (5),
//! whose filters may too (4), *route* draws a backend by weight (5), *balance* says which region and endpoint (6), and
//! *upstream* carries it there (7), over mutual TLS (2) where the endpoint has a sidecar of its own. On the other side
//! `inbound` accepts it on the mesh port and hands it, through the filters there (4), to the application.
//!
//! `outbound` and `inbound` tell these two stories; their text order is the order of execution.
//!
//! # Who may import whom
//!
//! `main -> app -> inbound | outbound -> stages -> config::snapshot, telemetry, error`. No stage imports another
//! stage; the exceptions are listed, and the rule is held, by the tests in `xtask/src/source/rules.rs`.

// One word on errors: every failure that a peer can see has a name in here.
pub mod error;
// Where policy comes from, and how a new one is noticed.
pub mod discovery;
// What the sidecar was told: bootstrap file, immutable snapshot, conversion from the policy model.
pub mod config;
// How the sidecar ends.
pub mod drain;
// One thread's world, and one request's record from its first byte to its last.
pub mod exchange;
pub mod worker;

// 0 capture rules (nft): make, prove, take back; used by the init container, by tests and by hand
pub mod redirect;
// 1 sockets: listening, original destination, connection limits
pub mod accept;
// 2 identity, certificates, rotation; server and client side of mutual TLS
pub mod tls;
// 3 protocol detection; HTTP/1.1 and HTTP/2; every version becomes one Request and one Response
pub mod http;
// 4 who may call what; pure
pub mod authz;
// 5 phases, the chain, built-in filters
pub mod filter;
// 6 the route table: match, rewrite, split; pure
pub mod route;
// 7 the choice of region and endpoint, outliers, budgets; pure
pub mod balance;
// 8 connect, pool, send over HTTP/1, HTTP/2 and opaque streams
pub mod upstream;
// The two stories, and what puts everything together.
pub mod app;
pub mod inbound;
pub mod outbound;
// Why a request goes where it goes, by the outbound story's own decisions.
pub mod explain;

// metrics, traces, access log
pub mod telemetry;
// health, dump, metrics, on a runtime of their own
pub mod admin;

pub use self::config::snapshot::Snapshot;
