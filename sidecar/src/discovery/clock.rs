//! The machine's clock. Certificates are of its time, and it may be set while we run.

use std::time::SystemTime;

/// The seconds since 1970.
pub(super) fn seconds() -> i64 {
    let elapsed = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}
