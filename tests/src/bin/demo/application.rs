//! The service `orders`: knows nothing of the mesh, answers on one plain address, and keeps a journal of every order
//! whose bytes reached it. The journal is what a failed POST is judged by.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use crate::failure::{Failure, Result};

/// The header in which a POST carries its number.
pub(crate) const ORDER_ID: &str = "order-id";
/// The header in which the answer says where it was made.
pub(crate) const REGION: &str = "x-region";
/// Where it says that it serves.
pub(crate) const HEALTH: &str = "/healthz";
/// What serving an order costs: long enough that a sudden death always catches some in the middle.
const WORK: Duration = Duration::from_millis(40);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    region: String,
    #[arg(long)]
    journal: PathBuf,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    let file = File::options().create(true).append(true).open(&args.journal);
    let journal = file.map_err(Failure::on("open", args.journal.display()))?;
    let listener = TcpListener::bind(args.listen).await.map_err(Failure::on("listen on", args.listen))?;
    let orders = Rc::new(Orders { region: args.region, journal });
    let serving = LocalSet::new();
    serving.run_until(accept(listener, orders)).await
}

struct Orders {
    region: String,
    journal: File,
}

async fn accept(listener: TcpListener, orders: Rc<Orders>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await.map_err(Failure::on("accept", "a connection"))?;
        let orders = Rc::clone(&orders);
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| answer(Rc::clone(&orders), request));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A peer that goes away in the middle is not the application's business.
            connection.await.unwrap_or_default();
        });
    }
}

async fn answer(
    orders: Rc<Orders>,
    request: Request<Incoming>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, HEALTH) => (StatusCode::OK, "ready\n".to_owned()),
        (&Method::GET, "/orders") => {
            tokio::time::sleep(WORK).await;
            (StatusCode::OK, format!("{{\"region\":\"{}\",\"orders\":[17,18,19]}}\n", orders.region))
        }
        (&Method::POST, "/orders") => orders.place(request).await,
        _ => (StatusCode::NOT_FOUND, "orders are at /orders\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    if let Ok(region) = orders.region.parse() {
        response.headers_mut().insert(REGION, region);
    }
    Ok(response)
}

impl Orders {
    async fn place(&self, request: Request<Incoming>) -> (StatusCode, String) {
        let id = request.headers().get(ORDER_ID).and_then(|value| value.to_str().ok()).unwrap_or("by-hand");
        // Before anything else: from here on the order may have had an effect.
        if let Err(error) = (&self.journal).write_all(format!("{id}\n").as_bytes()) {
            return (StatusCode::INSUFFICIENT_STORAGE, format!("the journal: {error}\n"));
        }
        let id = id.to_owned();
        if request.into_body().collect().await.is_err() {
            return (StatusCode::BAD_REQUEST, "the order broke off\n".to_owned());
        }
        tokio::time::sleep(WORK).await;
        (StatusCode::CREATED, format!("{{\"region\":\"{}\",\"order\":\"{id}\"}}\n", self.region))
    }
}
