//! Work that takes long beside a runtime of one thread, on which admin, metrics and health are answered.

use tokio::task;

/// Something that work is done with, on a thread of its own.
#[derive(Debug)]
pub(super) struct Aside<T>(Option<T>);

/// It is away only while [`Aside::work`] is waited for, which nobody does beside others and gives up.
const THERE: &str = "it comes back before anybody else can ask";

impl<T: Send + 'static> Aside<T> {
    pub(super) fn new(inner: T) -> Self {
        Self(Some(inner))
    }

    /// What takes no time.
    pub(super) fn now(&mut self) -> &mut T {
        self.0.as_mut().expect(THERE)
    }

    /// What may take long. Others on this thread go on meanwhile. To give it up loses what it is done with.
    pub(super) async fn work<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> R {
        let mut inner = self.0.take().expect(THERE);
        let done = task::spawn_blocking(move || {
            let result = work(&mut inner);
            (inner, result)
        });
        match done.await {
            Ok((inner, result)) => {
                self.0 = Some(inner);
                result
            }
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends, and this with it.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn others_go_on_while_it_is_at_work() {
        let mut aside = Aside::new(1);
        let (tell, told) = mpsc::channel();
        let (word, ()) = tokio::join!(
            aside.work(move |number| {
                *number += 1;
                told.recv().unwrap()
            }),
            async move { tell.send("from the same thread").unwrap() }
        );
        assert_eq!((word, *aside.now()), ("from the same thread", 2));
    }
}
