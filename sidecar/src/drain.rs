//! The one drain protocol: serving, then inbound drained, then all drained, then gone.
//!
//! Draining asks peers to leave (GOAWAY, `connection: close`) and goes on serving what comes meanwhile; it never cuts a
//! request. Only the deadline does, which `app` keeps: then the sidecar is gone.

use tokio::sync::watch;

/// How far the end has come.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// Nothing ends.
    #[default]
    Serving,
    /// Callers are asked to go elsewhere; our application's own calls go on.
    Inbound,
    /// Everything ends.
    All,
    /// What has not ended is cut off.
    Gone,
}

/// Tells the stage.
#[derive(Clone, Debug)]
pub struct Drain(watch::Sender<Stage>);

/// Hears the stage.
#[derive(Clone, Debug)]
pub struct DrainWatch(watch::Receiver<Stage>);

impl Drain {
    /// A fresh start.
    pub fn new() -> (Self, DrainWatch) {
        let (tell, hear) = watch::channel(Stage::Serving);
        (Self(tell), DrainWatch(hear))
    }

    /// Goes on to a later stage; never back.
    pub fn advance(&self, stage: Stage) {
        self.0.send_if_modified(|now| {
            let later = stage > *now;
            *now = stage.max(*now);
            later
        });
    }

    /// The stage now.
    pub fn stage(&self) -> Stage {
        *self.0.borrow()
    }
}

impl DrainWatch {
    /// The same for what runs on one thread, told as long as the future runs. A `watch` locks a mutex whenever somebody
    /// who waits on it is polled, as connections do for each request: here only this thread ever does.
    pub fn of_thread(&self) -> (Self, impl Future<Output = ()> + use<>) {
        let mut all = self.0.clone();
        let (tell, hear) = watch::channel(*all.borrow_and_update());
        let pass_on = async move {
            while all.changed().await.is_ok() {
                tell.send_replace(*all.borrow_and_update());
            }
        };
        (Self(hear), pass_on)
    }

    /// Whether this stage, or a later one, is reached.
    pub fn reached(&self, stage: Stage) -> bool {
        *self.0.borrow() >= stage
    }

    /// Waits until this stage is reached.
    pub async fn reach(mut self, stage: Stage) {
        if self.0.wait_for(|now| *now >= stage).await.is_err() {
            // Whoever could have told is gone without a word: then nothing is to be drained.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stages_only_go_forward() {
        let (drain, watch) = Drain::new();
        drain.advance(Stage::Inbound);
        drain.advance(Stage::Serving);
        assert_eq!(drain.stage(), Stage::Inbound);
        assert!(watch.reached(Stage::Inbound) && !watch.reached(Stage::All));
        watch.clone().reach(Stage::Inbound).await;
        drain.advance(Stage::All);
        watch.reach(Stage::All).await;
    }

    #[tokio::test]
    async fn a_thread_hears_of_what_came_before_it_and_after() {
        let (drain, watch) = Drain::new();
        drain.advance(Stage::Inbound);
        let (own, pass_on) = watch.of_thread();
        assert!(own.reached(Stage::Inbound));
        let told = async {
            drain.advance(Stage::All);
            own.clone().reach(Stage::All).await;
            drain.advance(Stage::Gone);
            own.reach(Stage::Gone).await;
        };
        tokio::select! {
            () = pass_on => panic!("it ends only with the one who tells"),
            () = told => {}
        }
    }
}
