//! The worker threads.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::{
    net::TcpStream,
    runtime,
    sync::{mpsc as messages, oneshot},
};

use super::{
    StartError,
    sockets::{Explicit, Purpose, Sockets, WorkerSockets},
};
use crate::{
    accept::listener::{ConnectionLimit, Place, accept},
    balance::Loads,
    drain::Stage,
    error::{Failure, Reason},
    exchange::Exchange,
    inbound, outbound,
    telemetry::{Direction, TelemetryHub},
    worker::{Settings, Shared, Worker},
};

/// How often idle connections and forgotten state are looked for.
const TICK: Duration = Duration::from_secs(1);

/// How often a draining worker looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// Those who may wait at once to hear what a worker has learned.
const LOOKS: usize = 16;

/// All workers.
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    running: usize,
    done: mpsc::Receiver<()>,
    looks: Vec<Look>,
}

/// How a worker is asked what it has learned of endpoints. It answers between two requests, with a copy.
pub(super) type Look = messages::Sender<oneshot::Sender<Loads>>;

impl Workers {
    /// Starts one thread for each set of sockets.
    pub(super) fn start(
        sockets: Sockets,
        settings: &Settings,
        shared: &Shared,
        hub: &TelemetryHub,
    ) -> Result<Self, StartError> {
        let (tell, done) = mpsc::channel();
        let (mut threads, mut looks) = (Vec::new(), Vec::new());
        for (index, sockets) in sockets.of_workers.into_iter().enumerate() {
            let (settings, shared, hub, tell) = (settings.clone(), shared.clone(), hub.clone(), tell.clone());
            let (look, looked) = messages::channel(LOOKS);
            looks.push(look);
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                run(sockets, settings, shared, &hub, looked);
                // Nobody listens any more once the deadline has passed.
                tell.send(()).ok();
            });
            threads.push(thread.map_err(|source| StartError::System { what: "a worker's thread", source })?);
        }
        Ok(Self { running: threads.len(), threads, done, looks })
    }

    /// How each of them is asked what it has learned.
    pub(super) fn looks(&self) -> Vec<Look> {
        self.looks.clone()
    }

    /// Waits until all have ended, or the deadline.
    pub(super) fn join(&mut self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        while self.running > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if self.done.recv_timeout(left).is_err() {
                return false;
            }
            self.running -= 1;
        }
        self.threads.drain(..).all(|thread| thread.join().is_ok())
    }
}

fn run(
    sockets: WorkerSockets,
    settings: Settings,
    shared: Shared,
    hub: &TelemetryHub,
    looked: messages::Receiver<oneshot::Sender<Loads>>,
) {
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build_local(runtime::LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "a worker has no runtime"),
    };
    runtime.block_on(async {
        let (drain, pass_on) = shared.drain.of_thread();
        tokio::task::spawn_local(pass_on);
        let shared = Shared { drain, ..shared };
        let worker = Worker::new(settings, shared, hub.worker(), fastrand::u64(..));
        let limit = ConnectionLimit::new(worker.settings.connections);
        for (purpose, socket) in sockets {
            tokio::task::spawn_local(listen(Rc::clone(&worker), Rc::clone(&limit), purpose, socket));
        }
        tokio::task::spawn_local(tick(Rc::clone(&worker)));
        tokio::task::spawn_local(show(Rc::clone(&worker), looked));
        worker.shared.drain.clone().reach(Stage::All).await;
        while limit.open() > 0 && !worker.shared.drain.reached(Stage::Gone) {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    });
}

async fn tick(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        worker.tick();
    }
}

async fn show(worker: Rc<Worker>, mut looked: messages::Receiver<oneshot::Sender<Loads>>) {
    while let Some(asker) = looked.recv().await {
        // Who asked may have gone.
        asker.send(worker.loads.borrow().clone()).ok();
    }
}

async fn listen(
    worker: Rc<Worker>,
    limit: Rc<ConnectionLimit>,
    purpose: Purpose,
    socket: std::net::TcpListener,
) {
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a listening socket cannot be used"),
    };
    let direction = match purpose {
        Purpose::Outbound | Purpose::Explicit(_) => Direction::Outbound,
        Purpose::Inbound | Purpose::Mesh => Direction::Inbound,
    };
    let refused = |peer| {
        let failure = Failure::before(Reason::Overloaded).detail("limits.maxConnections");
        Exchange::refuse(&worker, direction, peer, &failure);
    };
    accept(listener, limit, refused, |stream, peer, place| {
        tokio::task::spawn_local(connection(Rc::clone(&worker), purpose.clone(), stream, peer, place));
    })
    .await;
}

/// One connection from accept to close; its place is free again then. What only some connections need is boxed further
/// down, so that an idle one stays small.
async fn connection(
    worker: Rc<Worker>,
    purpose: Purpose,
    stream: TcpStream,
    peer: SocketAddr,
    _place: Place,
) {
    match purpose {
        Purpose::Outbound => outbound::captured(worker, stream, peer).await,
        Purpose::Inbound => inbound::captured(worker, stream, peer).await,
        Purpose::Mesh => inbound::mesh(worker, stream, peer).await,
        Purpose::Explicit(Explicit { meant, protocol, tls }) => {
            let tls = tls.map(|in_force| in_force.load_full());
            outbound::explicit(worker, stream, peer, meant, protocol, tls).await;
        }
    }
}
