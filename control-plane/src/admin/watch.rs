//! What changes, for as long as it is read.
//!
//! A watch has a task, which holds two events at most: one that waits to be read, and the next. Who reads none for too long
//! is ended, as a policy stream is.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use tokio::{
    sync::{mpsc, watch},
    time,
};
use tonic::Status;
use trama_proto::{
    admin::v1::{Change, Stamp, StoredResource, WatchEvent, WatchRequest, change},
    policy::v1,
};

use super::{Shared, error, read::Filter};
use crate::{
    farewell::{Cut, farewell},
    mirror,
    reason::Reason,
    store::{Batch, StoreError, Watch},
};

/// The events of a watch.
pub(super) type Watching = Pin<Box<dyn Stream<Item = Result<WatchEvent, Status>> + Send>>;

type Events = mpsc::Sender<Result<WatchEvent, Status>>;

/// Why a watch ends: for the count, and for who watches.
struct Ended {
    why: &'static str,
    status: Status,
}

/// Nobody watches any more.
struct Gone;

impl Shared {
    /// `cut`: ends the connection of who does not read.
    pub(super) async fn watch(self: &Arc<Self>, request: WatchRequest, cut: Cut) -> Result<Watching, Status> {
        self.ready()?;
        let filter = Filter::new(&request.kind, &request.namespace)?;
        let begin = self.begin(request.after).await?;
        let (outgoing, mut events) = mpsc::channel(1);
        let watcher = Watcher {
            watch: mirror::watch(&*self.store, begin.revision),
            filter,
            epoch: begin.epoch,
            patience: self.patience,
        };
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let ending = shared.ending.clone();
            if let Err(Ended { why, status }) = watcher.run(&outgoing, ending).await {
                shared.metrics.watch_ended(why);
                tracing::warn!(reason = why, "a watch was ended: {}", status.message());
                farewell(&outgoing, status, &cut).await;
            }
        });
        Ok(Box::pin(stream::poll_fn(move |context| events.poll_recv(context))))
    }

    /// After which change it begins.
    async fn begin(&self, after: Option<Stamp>) -> Result<Stamp, Status> {
        let now = self.mirror.look(|world| world.stamp());
        let Some(after) = after else { return Ok(Stamp { epoch: now.epoch, revision: now.revision }) };
        if after.epoch != now.epoch {
            let problem =
                format!("the epoch is {}, not {}; list, and watch from there", now.epoch, after.epoch);
            return Err(error::out_of_range(problem));
        }
        // The store's last one: a watch may have told of it before it is known here.
        let last = self.store.stamp().await.map_err(error::of_store)?.revision;
        if after.revision > last {
            let problem = format!("the last change is {last}; write at most that, or leave `after` out");
            return Err(error::field("after.revision", &after.revision.to_string(), &problem));
        }
        Ok(after)
    }
}

/// One watch.
struct Watcher {
    watch: Watch,
    filter: Filter,
    epoch: u64,
    patience: Duration,
}

impl Watcher {
    async fn run(self, outgoing: &Events, mut ending: watch::Receiver<bool>) -> Result<Gone, Ended> {
        tokio::select! {
            ended = self.tell(outgoing) => ended,
            () = outgoing.closed() => Ok(Gone),
            _ = ending.wait_for(|ending| *ending) => {
                let status = Reason::Ending.status("the control plane ends; come back");
                Err(Ended { why: "ending", status })
            }
        }
    }

    async fn tell(mut self, outgoing: &Events) -> Result<Gone, Ended> {
        loop {
            let batch = self.watch.next().await.map_err(lost)?;
            let event = event(self.epoch, batch, &self.filter);
            match time::timeout(self.patience, outgoing.send(Ok(event))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(Gone),
                Err(_) => {
                    let problem =
                        "an event was not read in time (`timeouts.acknowledge`); list, and watch from there";
                    let status =
                        Reason::SlowConsumer.status_of(problem, &[("limit", "timeouts.acknowledge")]);
                    return Err(Ended { why: "slow", status });
                }
            }
        }
    }
}

fn lost(problem: StoreError) -> Ended {
    let why = match problem {
        StoreError::Compacted { .. } => "behind",
        _ => "store",
    };
    Ended { why, status: error::of_store(problem) }
}

fn event(epoch: u64, Batch { revision, changes }: Batch, filter: &Filter) -> WatchEvent {
    let wanted = changes.into_iter().filter_map(|(key, value)| {
        let id = mirror::resource_of(&key).filter(|id| filter.takes(id))?;
        let change = match value {
            Some(value) => {
                let (_, resource) = mirror::read(&key, value)?;
                let resource = Some(v1::Resource { kind: Some(resource) });
                change::Change::Written(StoredResource { resource, version: revision })
            }
            None => change::Change::Deleted(error::name(&id)),
        };
        Some(Change { change: Some(change) })
    });
    WatchEvent { stamp: Some(Stamp { epoch, revision }), changes: wanted.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Change as Write, Memory, Store};

    fn watcher(store: &Memory, patience: Duration) -> Watcher {
        let filter = Filter::new("", "").unwrap();
        Watcher { watch: mirror::watch(store, 0), filter, epoch: 1, patience }
    }

    async fn write(store: &Memory, times: usize) {
        for _ in 0..times {
            store.transact(vec![Write::put("policy/Service/shop/orders", "?")]).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_no_event_is_ended_after_a_while_and_who_reads_late_is_not() {
        let store = Memory::new(1);
        let patience = Duration::from_secs(7);
        let (outgoing, mut events) = mpsc::channel(1);
        let (_end, ending) = watch::channel(false);
        write(&store, 3).await;
        let running = watcher(&store, patience).run(&outgoing, ending);
        let reading = async {
            for revision in 1..=2 {
                time::sleep(patience - Duration::from_secs(1)).await;
                let event: WatchEvent = events.recv().await.unwrap().unwrap();
                assert_eq!(event.stamp.unwrap().revision, revision);
            }
            write(&store, 2).await;
            time::Instant::now()
        };
        let (ended, began) = tokio::join!(running, reading);
        let Ended { why, status } = ended.err().unwrap();
        assert_eq!((why, status.code()), ("slow", tonic::Code::DeadlineExceeded));
        assert_eq!(began.elapsed(), patience);
        assert_eq!(
            events.recv().await.unwrap().unwrap().stamp.unwrap().revision,
            3,
            "one waits, and no more"
        );
        assert!(events.try_recv().is_err());
    }

    #[tokio::test]
    async fn who_is_too_far_behind_is_told() {
        let store = Memory::keeping(1, 2);
        let watcher = watcher(&store, Duration::from_secs(1));
        write(&store, 5).await;
        let (outgoing, _events) = mpsc::channel(1);
        let Ended { why, status } = watcher.tell(&outgoing).await.err().unwrap();
        assert_eq!((why, status.code()), ("behind", tonic::Code::OutOfRange));
    }

    #[tokio::test]
    async fn nobody_is_watched_for_and_the_end_is_said() {
        let store = Memory::new(1);
        let patience = Duration::from_secs(1);
        let (outgoing, events) = mpsc::channel(1);
        let (end, ending) = watch::channel(false);
        drop(events);
        assert!(watcher(&store, patience).run(&outgoing, ending.clone()).await.is_ok());
        let (outgoing, _events) = mpsc::channel(1);
        end.send_replace(true);
        let ended = watcher(&store, patience).run(&outgoing, ending).await;
        assert_eq!(ended.err().unwrap().why, "ending");
    }
}
