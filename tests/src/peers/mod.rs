//! Real applications and clients: what a sidecar meets, none of it ours.
//!
//! [`App`] serves HTTP in Python (HTTP/1.1) or Go (HTTP/1.1 and HTTP/2), [`TcpApp`] does not speak HTTP at
//! all, [`Nginx`] serves files and passes requests on; [`Curl`] and [`GoClient`] are the clients; [`OtlpReceiver`] takes
//! traces. Each runs in a [`Place`]: a pod of the lab, or [`Here`] on this machine, where a free port is chosen by the kernel and told on the first line of the log.

mod app;
mod client;
mod curl;
mod go;
mod nginx;
mod otlp;
mod place;
mod tcp;

pub use self::app::App;
pub use self::client::{Answer, GoClient};
pub use self::curl::{Curl, Reply};
pub use self::nginx::{Nginx, Site};
pub use self::otlp::OtlpReceiver;
pub use self::place::{Here, Place};
pub use self::tcp::TcpApp;
