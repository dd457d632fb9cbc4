//! Keeps on disk what is in force, beside everything else: a disk that is slow or full holds up nobody.

use std::{io, time::Duration};

use tokio::{sync::watch, task, time};

/// How long after a failure it is tried again, if nothing new comes before that.
const AGAIN: Duration = Duration::from_secs(30);

/// Keeps each content that is put into `accepted`, for ever. Of those that come while one is being written only the last
/// is kept. `save` writes it, where it may wait for a disk; `tried` hears of each what became of it.
pub async fn keep<T: Send + Sync + 'static>(
    mut save: impl FnMut(&T) -> io::Result<()> + Send + 'static,
    accepted: watch::Sender<Option<T>>,
    tried: impl Fn(&T, &io::Result<()>),
) {
    let mut arrivals = accepted.subscribe();
    // Something may have been put there before this begins.
    arrivals.mark_changed();
    let mut waiting = None;
    loop {
        tokio::select! {
            // We hold a sender ourselves: it cannot fail.
            _ = arrivals.changed() => {}
            () = time::sleep(AGAIN), if waiting.is_some() => {}
        }
        // Taken out, for a policy can be large, and without a notice to ourselves.
        accepted.send_if_modified(|arrived| {
            waiting = arrived.take().or_else(|| waiting.take());
            false
        });
        let Some(kept) = waiting.take() else { continue };
        let saving = move || {
            let saved = save(&kept);
            (save, kept, saved)
        };
        // A save that panics takes its store with it.
        let Ok((back, kept, saved)) = task::spawn_blocking(saving).await else { return };
        save = back;
        tried(&kept, &saved);
        if saved.is_err() {
            waiting = Some(kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::mpsc};

    use tempfile::TempDir;

    use super::*;
    use crate::{
        config::snapshot::Revision,
        discovery::{Kept, Slots},
    };

    fn policy(number: u64) -> Kept {
        Kept { revision: Revision { number, digest: number }, content: vec![b'#'; 100] }
    }

    /// Looks again and again, in virtual time.
    async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
        loop {
            match look() {
                Some(found) => return found,
                None => time::sleep(Duration::from_secs(1)).await,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_tried_again_and_the_last_of_a_burst_is_kept() {
        let folder = TempDir::new().unwrap();
        let state = folder.path().join("state");
        fs::write(&state, "in the way of a folder").unwrap();
        let accepted = watch::Sender::new(None);
        let (failures, heard) = mpsc::channel();
        let (mut store, ..) = Slots::<Kept>::open(state.clone());
        let tried = move |_: &Kept, saved: &io::Result<()>| {
            if let Err(error) = saved {
                failures.send(error.to_string()).unwrap();
            }
        };
        let keeper = tokio::spawn(keep(move |kept| store.save(kept), accepted.clone(), tried));
        for number in 1..=3 {
            accepted.send_replace(Some(policy(number)));
        }
        until(|| heard.try_recv().ok()).await;
        until(|| heard.try_recv().ok()).await;
        fs::remove_file(&state).unwrap();
        assert_eq!(until(|| Slots::<Kept>::open(state.clone()).1).await, policy(3));
        accepted.send_replace(Some(policy(4)));
        until(|| Slots::<Kept>::open(state.clone()).1.filter(|kept| *kept == policy(4))).await;
        keeper.abort();
    }
}
