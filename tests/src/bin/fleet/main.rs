//! A fleet of sidecars as a control plane sees them, for `cargo xtask bench`. Each has joined by a token, has a connection of
//! its own over mutual TLS, and follows its policy stream by the very code of the sidecar. Left out is what a control plane
//! sees nothing of: making a snapshot of what was pushed. Sidecars have machines of their own for it; these share one with
//! the control plane that is measured.
//!
//! It does what stands on its standard input, one thing a line, and answers each with a line when it is done:
//!
//! | line | what is done | answer |
//! |---|---|---|
//! | `policy` | the policy of a mesh is applied ([`policy`]) | `done` |
//! | `invite N` | join tokens are made for N sidecars | `done` |
//! | `join` | who was invited joins | `done` |
//! | `renew` | who has joined renews its certificate | `done` |
//! | `open` | who has joined opens its stream and takes what there is | `done` |
//! | `apply` | something that concerns all of them is changed | microseconds until the last one acknowledged it |

mod identity;
mod policy;
mod sidecar;

use std::error::Error;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use trama_proto::admin::v1::admin_service_client::AdminServiceClient;
use trama_proto::admin::v1::{ApplyRequest, CreateJoinTokenRequest, ResourceChange, StatusRequest};
use trama_proto::document::Document;
use trama_proto::policy::v1::Resource;
use trama_proto::spiffe::SpiffeId;
use trama_sidecar::discovery::Once;

use identity::{Invited, Workload};
use sidecar::Told;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser)]
#[command(name = "fleet", about = "Sidecars as a control plane sees them")]
struct Args {
    /// Where the control plane takes sidecars, host and port
    #[arg(long)]
    address: String,
    /// The socket of its Admin API
    #[arg(long)]
    socket: PathBuf,
}

struct Fleet {
    address: String,
    folder: TempDir,
    admin: AdminServiceClient<Channel>,
    invited: Vec<Invited>,
    joined: Vec<Workload>,
    /// The last change.
    revision: u64,
    changes: u64,
    /// The last revision that each of the open streams has acknowledged.
    acknowledged: Vec<u64>,
    tell: mpsc::UnboundedSender<Told>,
    told: mpsc::UnboundedReceiver<Told>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    let mut fleet = Fleet::new(args).await?;
    let mut orders = orders();
    while let Some(order) = orders.recv().await {
        let done = timeout(PATIENCE, fleet.obey(&order)).await;
        let answer = done.map_err(|_| format!("{order}: not done within {PATIENCE:?}"))?;
        println!("{}", answer.map_err(|error| format!("{order}: {error}"))?);
    }
    Ok(())
}

/// The lines of the standard input, which must not be waited for where the streams are served.
fn orders() -> mpsc::UnboundedReceiver<String> {
    let (send, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        std::io::stdin()
            .lock()
            .lines()
            .map_while(std::result::Result::ok)
            .try_for_each(|line| send.send(line))
    });
    orders
}

impl Fleet {
    async fn new(Args { address, socket }: Args) -> Result<Self> {
        let began = Instant::now();
        let admin = loop {
            match admin(&socket).await {
                Ok(admin) => break admin,
                Err(error) if began.elapsed() > PATIENCE => {
                    return Err(format!("{}: {error}", socket.display()).into());
                }
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        };
        let (tell, told) = mpsc::unbounded_channel();
        let (invited, joined, acknowledged) = (Vec::new(), Vec::new(), Vec::new());
        let folder = tempfile::tempdir()?;
        Ok(Self {
            address,
            folder,
            admin,
            invited,
            joined,
            revision: 0,
            changes: 0,
            acknowledged,
            tell,
            told,
        })
    }

    async fn obey(&mut self, order: &str) -> Result<String> {
        match order.split_once(' ').unwrap_or((order, "")) {
            ("policy", "") => self.apply(change(&policy::mesh())?).await?,
            ("invite", count) => self.invite(count.parse()?).await?,
            ("join", "") => {
                for invited in std::mem::take(&mut self.invited) {
                    self.joined.push(invited.join().await?);
                }
            }
            ("renew", "") => {
                for workload in &self.joined {
                    workload.renew().await?;
                }
            }
            ("open", "") => self.open().await?,
            ("apply", "") => return self.change().await.map(|took| took.as_micros().to_string()),
            _ => return Err("no such order".into()),
        }
        Ok("done".to_owned())
    }

    async fn invite(&mut self, count: usize) -> Result<()> {
        for number in 0..count {
            let id = SpiffeId::parse(&policy::identity(self.joined.len() + number))?;
            let request = CreateJoinTokenRequest { identity: id.to_string(), lifetime: 0 };
            let made = self.admin.create_join_token(request).await?.into_inner();
            let pinned = self.folder.path().join("roots.pem");
            self.invited.push(Invited::new(id, made, &self.address, &pinned)?);
        }
        Ok(())
    }

    async fn open(&mut self) -> Result<()> {
        for (number, workload) in self.joined.iter().enumerate().skip(self.acknowledged.len()) {
            let channel = workload.connect().await?;
            let follow = sidecar::follow(channel, number, workload.id().to_string(), self.tell.clone());
            tokio::spawn(follow);
            self.acknowledged.push(0);
        }
        self.all_have(self.revision).await?;
        self.confirmed().await
    }

    /// How long it took from the begin of an Apply until the last sidecar had said that it has it.
    async fn change(&mut self) -> Result<Duration> {
        self.changes += 1;
        let change = change(&policy::changed(self.changes))?;
        let began = Instant::now();
        self.apply(change).await?;
        let last = self.all_have(self.revision).await?;
        self.confirmed().await?;
        Ok(last.duration_since(began))
    }

    async fn apply(&mut self, change: ApplyRequest) -> Result<()> {
        let applied = self.admin.apply(change).await?.into_inner();
        self.revision = applied.stamp.unwrap_or_default().revision;
        Ok(())
    }

    /// Waits until each sidecar has acknowledged a revision, and tells when the last one did.
    async fn all_have(&mut self, revision: u64) -> Result<Instant> {
        let mut last = Instant::now();
        while self.acknowledged.iter().any(|acknowledged| *acknowledged < revision) {
            let told = self.told.recv().await.ok_or("all sidecars are gone")?;
            let (acknowledged, at) =
                told.acknowledged.map_err(|ended| format!("sidecar {}: {ended}", told.sidecar))?;
            self.acknowledged[told.sidecar] = acknowledged;
            last = at;
        }
        Ok(last)
    }

    /// The control plane must have heard what the sidecars say that they said.
    async fn confirmed(&mut self) -> Result<()> {
        loop {
            let status = self.admin.status(StatusRequest::default()).await?.into_inner();
            let so_far =
                status.sidecars.iter().filter(|sidecar| sidecar.acknowledged >= self.revision).count();
            let refused = status.sidecars.iter().map(|sidecar| sidecar.refusals.len()).sum::<usize>();
            if refused > 0 {
                return Err(format!("{refused} refusals").into());
            }
            if so_far == self.acknowledged.len() {
                return Ok(());
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
}

fn change(text: &str) -> Result<ApplyRequest> {
    let documents = Document::parse("the fleet's policy", text);
    let documents = documents.map_err(|problems| format!("{problems:?}"))?;
    let changes = documents.into_iter().map(|document| ResourceChange {
        resource: Some(Resource { kind: Some(document.resource) }),
        expected_version: None,
    });
    Ok(ApplyRequest { changes: changes.collect() })
}

/// The Admin API, if it answers: the control plane may just have been started.
async fn admin(socket: &Path) -> Result<AdminServiceClient<Channel>> {
    let stream = UnixStream::connect(socket).await?;
    let endpoint = Endpoint::from_static("http://control.plane");
    let mut client = AdminServiceClient::new(endpoint.connect_with_connector(Once::new(stream)).await?);
    client.status(StatusRequest::default()).await?;
    Ok(client)
}
