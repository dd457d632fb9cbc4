//! The signals of a running sidecar: SIGTERM and SIGINT end it, and mean the same; SIGHUP has files opened anew.

use std::{
    future::Future,
    io,
    pin::pin,
    time::{Duration, Instant},
};

use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};

/// Who ends a group of processes often sends one signal twice: a shell to its job and to the job's group, a supervisor that is
/// itself being ended. What comes again so soon is the same wish, not the next one.
const SAME_WISH: Duration = Duration::from_secs(1);

/// What is heard from now on; without it a signal would end the process on the spot.
pub(super) struct Signals {
    runtime: runtime::Runtime,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    wishes: Wishes,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
        let (terminate, interrupt, hang_up) = {
            let _context = runtime.enter();
            (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::hangup())?,
            )
        };
        Ok(Self { runtime, terminate, interrupt, hang_up, wishes: Wishes::default() })
    }

    /// Waits until the process is to end (`None`), or for the other thing.
    pub(super) fn wait_or<T>(&mut self, hung_up: impl Fn(), other: impl Future<Output = T>) -> Option<T> {
        let Self { runtime, terminate, interrupt, hang_up, wishes } = self;
        runtime.block_on(async {
            let mut other = pin!(other);
            loop {
                let wish = tokio::select! {
                    _ = terminate.recv() => SignalKind::terminate(),
                    _ = interrupt.recv() => SignalKind::interrupt(),
                    _ = hang_up.recv() => {
                        hung_up();
                        continue;
                    }
                    done = &mut other => return Some(done),
                };
                if wishes.is_new(wish, Instant::now()) {
                    return None;
                }
            }
        })
    }
}

/// The wishes to end so far.
#[derive(Default)]
struct Wishes(Option<(SignalKind, Instant)>);

impl Wishes {
    /// Whether a signal is more than the one before it, come again.
    fn is_new(&mut self, signal: SignalKind, now: Instant) -> bool {
        let repeats = |(last, at): (SignalKind, Instant)| {
            last == signal && now.saturating_duration_since(at) < SAME_WISH
        };
        let is_new = !self.0.is_some_and(repeats);
        if is_new {
            self.0 = Some((signal, now));
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_signal_soon_again_is_the_same_wish() {
        let (mut wishes, start) = (Wishes::default(), Instant::now());
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        let after = |millis| start + Duration::from_millis(millis);
        assert!(wishes.is_new(terminate, start));
        assert!(!wishes.is_new(terminate, after(1)) && !wishes.is_new(terminate, after(999)));
        assert!(wishes.is_new(terminate, after(1000)), "a second wish was not heard");
        assert!(wishes.is_new(interrupt, after(1001)), "another signal is another wish");
        assert!(!wishes.is_new(interrupt, after(1500)));
    }
}
