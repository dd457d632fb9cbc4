//! The client `storefront`: asks for orders at a fixed rate, whatever the answers do, and prints one line of JSON per
//! request. It knows nothing of the mesh either. When its input ends, it sends nothing more and waits for what is
//! under way.

use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::MissedTickBehavior;

use crate::application::{ORDER_ID, REGION};
use crate::failure::{Failure, Result};

/// How long a person would wait.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to connect to
    #[arg(long)]
    to: SocketAddr,
    /// What to ask for
    #[arg(long)]
    host: String,
    #[arg(long)]
    gets_per_second: u32,
    #[arg(long)]
    posts_per_second: u32,
}

/// What became of one request, as the client saw it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// When it was sent, in microseconds since the client began.
    pub(crate) sent: u64,
    pub(crate) took: u64,
    /// Its number, if it is a POST.
    pub(crate) order: Option<u64>,
    /// Nothing, if no answer began.
    pub(crate) status: Option<u16>,
    pub(crate) region: Option<String>,
    pub(crate) error: Option<String>,
}

impl Outcome {
    pub(crate) fn is_success(&self) -> bool {
        self.error.is_none() && self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

pub(crate) async fn run(args: Args) -> Result<()> {
    LocalSet::new().run_until(send_all(args)).await
}

async fn send_all(args: Args) -> Result<()> {
    let client =
        Rc::new(Client { to: args.to, host: args.host, idle: RefCell::default(), began: Instant::now() });
    let mut gets = ticks(args.gets_per_second);
    let mut posts = ticks(args.posts_per_second);
    let mut under_way = JoinSet::new();
    let mut order = 0;
    let mut told_to_stop =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
    loop {
        let number = tokio::select! {
            _ = gets.tick() => None,
            _ = posts.tick() => { order += 1; Some(order) }
            Some(_) = under_way.join_next() => continue,
            _ = &mut told_to_stop => break,
        };
        let client = Rc::clone(&client);
        under_way.spawn_local(async move { client.request(number).await });
    }
    while under_way.join_next().await.is_some() {}
    Ok(())
}

/// An open loop: a late tick is made up for, so that a stalled server does not slow the client down.
fn ticks(per_second: u32) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(Duration::from_secs(1) / per_second);
    interval.set_missed_tick_behavior(MissedTickBehavior::Burst);
    interval
}

struct Client {
    to: SocketAddr,
    host: String,
    idle: RefCell<Vec<SendRequest<Full<Bytes>>>>,
    began: Instant,
}

impl Client {
    async fn request(&self, order: Option<u64>) {
        let sent = Instant::now();
        let mut outcome = Outcome {
            sent: (sent - self.began).as_micros() as u64,
            took: 0,
            order,
            status: None,
            region: None,
            error: None,
        };
        let exchange = tokio::time::timeout(PATIENCE, self.exchange(order, &mut outcome)).await;
        outcome.error = match exchange {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure.0),
            Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        outcome.took = sent.elapsed().as_micros() as u64;
        if let Ok(line) = serde_json::to_string(&outcome) {
            // When nobody reads it any more, the demo is over.
            writeln!(std::io::stdout(), "{line}").unwrap_or_else(|_| std::process::exit(0));
        }
    }

    async fn exchange(&self, order: Option<u64>, outcome: &mut Outcome) -> Result<()> {
        let mut connection = self.connection().await?;
        let request = self.build(order)?;
        let response = connection.send_request(request).await;
        let response = response.map_err(Failure::on("get an answer from", &self.host))?;
        outcome.status = Some(response.status().as_u16());
        outcome.region = region(&response);
        let body = response.into_body().collect().await;
        body.map_err(Failure::on("read the answer of", &self.host))?;
        self.idle.borrow_mut().push(connection);
        Ok(())
    }

    fn build(&self, order: Option<u64>) -> Result<Request<Full<Bytes>>> {
        let request = Request::builder().uri("/orders").header(header::HOST, &self.host);
        let request = match order {
            None => request.method(Method::GET).body(Full::default()),
            Some(number) => request
                .method(Method::POST)
                .header(ORDER_ID, number.to_string())
                .body(Full::new(Bytes::from_static(b"{\"item\":\"coffee\"}"))),
        };
        request.map_err(Failure::on("build", "a request"))
    }

    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>> {
        while let Some(mut connection) = self.take_idle() {
            // A connection that was closed while it lay idle says so here, before anything is sent.
            if connection.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        let stream = TcpStream::connect(self.to).await.map_err(Failure::on("connect to", self.to))?;
        stream.set_nodelay(true).map_err(Failure::on("set up", "a connection"))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(Failure::on("set up", "a connection"))?;
        tokio::task::spawn_local(async move { connection.await.unwrap_or_default() });
        Ok(sender)
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        self.idle.borrow_mut().pop()
    }
}

fn region(response: &Response<Incoming>) -> Option<String> {
    response.headers().get(REGION)?.to_str().ok().map(str::to_owned)
}
