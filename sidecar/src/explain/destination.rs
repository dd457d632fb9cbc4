//! Who is meant, and by what.

use std::net::SocketAddr;

use http::{HeaderValue, header, request};
use trama_proto::explain::v1::{Destination as Told, destination::Kind};

use crate::{
    config::snapshot::{AppProtocol, Destination, Endpoint, ServicePort},
    outbound::{Meant, plan::Plan},
};

/// Of a request; `None`: nobody.
pub(super) fn of_plan(plan: Option<&Plan>, meant: &Meant, head: &request::Parts) -> Told {
    let named = named(meant, head);
    match plan {
        Some(Plan::Service(service)) => of_service(service, format!("{named} is its")),
        Some(Plan::Endpoint(endpoint, owner)) => {
            of_endpoint(endpoint, owner.as_deref(), format!("{named} is its own"))
        }
        None => nobody(format!("no policy has {named}")),
    }
}

/// Of a connection whose bytes nobody looks at.
pub(super) fn of_address(destination: &Destination, address: SocketAddr) -> Told {
    let named = format!("the address {address}");
    match destination {
        Destination::Service(service) => of_service(service, format!("{named} is its")),
        Destination::Direct(direct) => {
            of_endpoint(&direct.endpoint, direct.owner.as_deref(), format!("{named} is its own"))
        }
        Destination::Pending(service) => {
            nobody(format!("{named} is of {service}, of which nothing else is known"))
        }
        Destination::External => nobody(format!("no policy has {named}")),
    }
}

fn named(meant: &Meant, head: &request::Parts) -> String {
    match meant {
        Meant::Address(address) => format!("the address {address}"),
        Meant::Service(service, port) => format!("the listener's service {service}:{port}"),
        Meant::Authority => {
            let host = head.headers.get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
            format!("the authority {}", String::from_utf8_lossy(host))
        }
    }
}

fn of_service(service: &ServicePort, by: String) -> Told {
    Told {
        kind: Kind::Service.into(),
        service: service.service.to_string(),
        port: service.port.into(),
        endpoint: String::new(),
        protocol: spoken(service.protocol).to_owned(),
        by,
    }
}

fn of_endpoint(endpoint: &Endpoint, owner: Option<&ServicePort>, by: String) -> Told {
    Told {
        kind: Kind::Endpoint.into(),
        service: owner.map(|owner| owner.service.to_string()).unwrap_or_default(),
        port: owner.map_or(0, |owner| owner.port.into()),
        endpoint: endpoint.address.to_string(),
        protocol: spoken(owner.map_or(endpoint.protocol, |owner| owner.protocol)).to_owned(),
        by,
    }
}

fn nobody(by: String) -> Told {
    Told { kind: Kind::External.into(), by, ..Told::default() }
}

/// As a policy writes it.
fn spoken(protocol: AppProtocol) -> &'static str {
    match protocol {
        AppProtocol::Auto => "AUTO",
        AppProtocol::Http1 => "HTTP",
        AppProtocol::Http2 => "HTTP2",
        AppProtocol::Grpc => "GRPC",
        AppProtocol::Tcp => "TCP",
    }
}
