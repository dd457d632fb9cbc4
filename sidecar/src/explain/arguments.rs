//! How a request is described on a command line, here and of `tramactl`.

use std::net::{IpAddr, SocketAddr};

use trama_proto::{
    explain::v1::{DescribedRequest, HeaderField, Inbound},
    spiffe::SpiffeId,
};

// What is said of a request beside its URL. No documentation: it would be that of whatever it is flattened into.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "description", multiple = true)]
pub struct Description {
    /// The address that the application dials and the sidecar captures. Left out: the request comes in on an explicit
    /// listener.
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "listener")]
    address: Option<SocketAddr>,
    /// The service that the explicit listener is for. Left out: the authority says which is meant.
    #[arg(long, value_name = "NAMESPACE/NAME:PORT")]
    listener: Option<String>,
    /// Where the application listens that is called: the request comes in, and it is told who may call.
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with_all = ["address", "listener"])]
    application: Option<SocketAddr>,
    /// Who calls: the SPIFFE id in the calling sidecar's certificate. Left out: nobody who proves it.
    #[arg(long, value_name = "SPIFFE_ID", value_parser = SpiffeId::parse, requires = "application")]
    caller: Option<SpiffeId>,
    /// The method.
    #[arg(long, short = 'X', default_value = "GET")]
    method: String,
    /// A header field; may be given several times.
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<HeaderField>,
    /// What the application speaks: HTTP/1.0, HTTP/1.1 or HTTP/2.
    #[arg(long, default_value = "HTTP/1.1", value_name = "VERSION")]
    http_version: String,
    /// Where the application's connection comes from: filters may ask.
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    source: IpAddr,
    /// The random number to decide with, to have the same answer again. Left out: any.
    #[arg(long)]
    draw: Option<u64>,
    /// The worker whose latencies decide.
    #[arg(long, default_value_t = 0)]
    worker: u32,
}

impl Description {
    /// The request, with what is asked for.
    pub fn of(self, url: String) -> DescribedRequest {
        let Self { address, listener, application, caller, method, headers, http_version, .. } = self;
        let inbound = application.map(|application| Inbound {
            application: application.to_string(),
            caller: caller.map(|id| id.to_string()).unwrap_or_default(),
        });
        DescribedRequest {
            url,
            address: address.map(|address| address.to_string()).unwrap_or_default(),
            listener: listener.unwrap_or_default(),
            method,
            headers,
            version: http_version,
            source: self.source.to_string(),
            draw: self.draw,
            worker: self.worker,
            inbound,
        }
    }
}

fn header(text: &str) -> Result<HeaderField, String> {
    let (name, value) = text.split_once(':').ok_or("write name and value, such as `x-canary: 1`")?;
    Ok(HeaderField { name: name.trim().to_owned(), value: value.trim().to_owned() })
}
