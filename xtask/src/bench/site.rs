//! The place of one run: a folder for everything it writes, certificates, free ports, and the names that the
//! load, the backend and every peer's route table agree on.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use super::certificates;
use crate::error::{Error, Result};
use crate::{process, tools};

/// A route table as of a real mesh: 100 services with 10 routes each.
pub(crate) const SERVICES: usize = 100;
pub(crate) const ROUTES_EACH: usize = 10;
/// The service and the route that the load asks for: in the middle of the table.
pub(crate) const HOST: &str = "service-50.bench";
pub(crate) const ROUTE: &str = "/route-5";

pub(crate) struct Site {
    pub(crate) folder: PathBuf,
    pub(crate) backend_port: u16,
    /// Takes spans by OTLP over gRPC.
    pub(crate) collector_port: u16,
}

impl Site {
    /// With the tools and certificates that proxies are compared by.
    pub(crate) fn with_peers() -> Result<Self> {
        tools::ensure(&[tools::NGINX, tools::HAPROXY, tools::H2LOAD, tools::OPENSSL])?;
        let site = Self::prepare()?;
        certificates::make(&site.folder)?;
        Ok(site)
    }

    pub(crate) fn prepare() -> Result<Self> {
        let folder = process::root().join("target/bench");
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        Ok(Self { backend_port: free_port()?, collector_port: free_port()?, folder })
    }

    /// Writes a file of the run and returns its path.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.folder.join(name);
        let parent = path.parent().expect("the folder is its parent or above");
        fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
        fs::write(&path, content).map_err(Error::file("write", &path))?;
        Ok(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// A port of loopback that nobody listens on, and that no other peer of this run is told. Outside the run somebody may take
/// it before it is used: then the process does not come up, and says so. Not one of those that the kernel gives to clients:
/// whoever dials such a port again and again until somebody listens is given it himself one day, and connects to himself.
pub(crate) fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(22_000);
    let bind = |_| {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(|_| port)
    };
    (0..1_000)
        .map(bind)
        .find(|port| port.is_ok())
        .unwrap_or_else(|| bind(0))
        .map_err(Error::file("bind a port of", Path::new("127.0.0.1")))
}

/// The route table: every service's host with its routes' path prefixes.
pub(crate) fn table() -> impl Iterator<Item = (String, Vec<String>)> {
    (0..SERVICES).map(|service| {
        let routes = (0..ROUTES_EACH).map(|route| format!("/route-{route}/")).collect();
        (format!("service-{service}.bench"), routes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_asks_for_a_route_of_the_table_which_has_a_thousand() {
        assert_eq!(table().map(|(_, routes)| routes.len()).sum::<usize>(), 1000);
        let (_, routes) = table().find(|(host, _)| host == HOST).unwrap();
        assert!(routes.contains(&format!("{ROUTE}/")));
    }
}
