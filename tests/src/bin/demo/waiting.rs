//! Waiting for what takes its time.

use std::time::{Duration, Instant};

use crate::failure::Result;

const POLL: Duration = Duration::from_millis(50);

/// Looks again and again until there is something; `None`: there was nothing all the time.
pub(crate) async fn within<T>(
    time: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        if let Some(found) = look().await? {
            return Ok(Some(found));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    #[tokio::test]
    async fn it_is_looked_until_there_is_something_or_the_time_is_over_or_it_fails() {
        let long = Duration::from_secs(60);
        let mut looks = 0;
        let third = async || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        };
        assert_eq!(within(long, third).await.unwrap(), Some(3));
        assert_eq!(within(Duration::from_millis(1), async || Ok(None::<()>)).await.unwrap(), None);
        let fails = async || Err::<Option<()>, _>(Failure("gone".to_owned()));
        assert_eq!(within(long, fails).await.unwrap_err().to_string(), "gone");
    }
}
