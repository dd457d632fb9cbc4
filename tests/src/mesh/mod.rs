//! A whole mesh for one test: pods with applications and sidecars, their identities, and the policy that joins them.
//!
//! ```text
//! let (application, seen) = Application::recording("orders");
//! let mesh = Mesh::builder()
//!     .pod("orders-sp", |p| p.serves("shop/orders").region("sao-paulo").application(&application))
//!     .pod("storefront", |p| p)
//!     .start()
//!     .await;
//! let mut client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
//! assert_eq!(client.get("/").await.status, 200);
//! ```
//!
//! By default everything runs in this process, on loopback addresses that no other mesh has; [`Where`] puts the sidecars
//! in processes of their own, or in network namespaces with captured traffic. Everything goes with the value.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a harness makes its test fail by panicking")]

mod application;
mod body;
mod builder;
mod client;
mod net;
mod pod;
mod policy;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

use tempfile::TempDir;

pub use self::application::{Application, Record, Seen};
pub use self::body::{BrokenOff, Feed, Payload};
pub use self::builder::{Certificate, MeshBuilder, PodSpec, Where};
pub use self::client::{Answer, Client, SharedClient, Speaks};
pub use self::pod::{PATIENCE, Pod, until};
pub use self::policy::Policy;
use crate::authority::{Authority, Issued};
use crate::control::Control;

/// Where applications listen.
pub const APPLICATION: u16 = 8080;
/// The first explicit listener; further ones follow it.
pub const EXPLICIT: u16 = 15080;
/// The mesh port, where a pod has no other.
pub const MESH: u16 = 15008;

/// The ports of a pod's sidecar.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ports {
    /// Outbound capture.
    pub outbound: u16,
    /// Inbound capture.
    pub inbound: u16,
    /// Mutual TLS from other sidecars.
    pub mesh: u16,
    /// Admin, on loopback.
    pub admin: u16,
    /// Prometheus.
    pub metrics: u16,
    /// Health.
    pub health: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { outbound: 15001, inbound: 15006, mesh: MESH, admin: 15000, metrics: 15020, health: 15021 }
    }
}

/// An address that no mesh of this machine has.
pub(crate) fn loopback() -> std::net::IpAddr {
    net::Net::loopback().ip()
}

/// A running mesh.
#[derive(Debug)]
pub struct Mesh {
    // Dropped before the folder that its pods write to.
    pods: BTreeMap<String, Pod>,
    policy: Policy,
    authority: Authority,
    place: Where,
    ipv6: bool,
    control: Option<Control>,
    folder: TempDir,
}

impl Mesh {
    /// An empty mesh, to be described.
    #[must_use]
    pub fn builder() -> MeshBuilder {
        MeshBuilder::default()
    }

    /// A pod.
    #[must_use]
    pub fn pod(&self, name: &str) -> &Pod {
        self.pods.get(name).unwrap_or_else(|| panic!("no pod {name}"))
    }

    /// A pod, to be changed.
    pub fn pod_mut(&mut self, name: &str) -> &mut Pod {
        self.pods.get_mut(name).unwrap_or_else(|| panic!("no pod {name}"))
    }

    /// Takes a pod out, to be used while others are changed. It ends with the value.
    pub fn take(&mut self, name: &str) -> Pod {
        self.pods.remove(name).unwrap_or_else(|| panic!("no pod {name}"))
    }

    /// Its control plane.
    pub fn control(&mut self) -> &mut Control {
        self.control.as_mut().expect("the mesh was built with one")
    }

    /// The authority of its trust domain.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The address of a service that is dialled in namespaces.
    #[must_use]
    pub fn service(&self, label: &str) -> SocketAddr {
        let addresses = &self.policy.services[label].addresses;
        SocketAddr::new(addresses[usize::from(self.ipv6)], 80)
    }

    /// Changes the policy and publishes it.
    pub fn publish(&mut self, change: impl FnOnce(&mut Policy)) {
        change(&mut self.policy);
        self.publish_text(&self.policy.text());
    }

    /// Publishes this text as the policy, whatever it is.
    pub fn publish_text(&self, text: &str) {
        if let Some(control) = &self.control {
            return control.publish(text);
        }
        let next = self.folder.path().join("policy.next");
        fs::write(&next, text).unwrap();
        fs::rename(next, self.folder.path().join("policy.yaml")).unwrap();
    }

    /// Puts this text in the policy's place, or nothing at all; not as a change to those that watch it, but for a start.
    pub fn spoil_policy(&self, text: Option<&str>) {
        let path = self.folder.path().join("policy.yaml");
        match text {
            Some(text) => fs::write(path, text).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }

    /// Kills a pod's sidecar process.
    pub fn stop_sidecar(&mut self, name: &str) {
        self.pod_mut(name).process().kill_hard();
    }

    /// Starts a pod's sidecar process again. It need not be ready.
    pub fn start_sidecar(&mut self, name: &str) {
        self.pod_mut(name).start_process();
    }

    /// Gives a pod this certificate.
    pub fn give(&self, name: &str, issued: &Issued) {
        builder::put_identity(self.pod(name).folder(), issued, self.place);
    }

    /// Gives a pod a fresh certificate.
    pub fn renew(&self, name: &str) {
        self.give(name, &self.authority.issue(self.pod(name).identity()).unwrap());
    }
}
