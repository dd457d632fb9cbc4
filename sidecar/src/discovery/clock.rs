//! The machine's clock. Certificates are of its time, and it may be set while we run.

use std::time::{Duration, SystemTime};

/// The time since 1970, in whole milliseconds, as it is kept.
pub(super) fn now() -> Duration {
    let elapsed = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Duration::from_millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

/// The same in whole seconds.
pub(super) fn seconds() -> i64 {
    i64::try_from(now().as_secs()).unwrap_or(i64::MAX)
}
