//! How many of something each peer may have at one time, so that one of them cannot take what is there for all.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tonic::Status;
use tonic_types::ErrorDetails;

use crate::reason::Reason;

/// What each peer has, at most so many. Its lock is held for a look at the map.
#[derive(Debug)]
pub(crate) struct Quota<K> {
    most: usize,
    had: Mutex<HashMap<K, usize>>,
}

/// One of what a peer may have, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share<K: Eq + Hash> {
    quota: Arc<Quota<K>>,
    peer: K,
}

impl<K: Clone + Eq + Hash> Quota<K> {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, had: Mutex::default() }
    }

    /// One more for this peer; `None`: it has as many as it may.
    pub(crate) fn take(self: &Arc<Self>, peer: &K) -> Option<Share<K>> {
        let mut had = self.had();
        let has = had.get(peer).copied().unwrap_or(0);
        if has >= self.most {
            return None;
        }
        had.insert(peer.clone(), has + 1);
        Some(Share { quota: Arc::clone(self), peer: peer.clone() })
    }
}

impl<K> Quota<K> {
    fn had(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.had.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut had = self.quota.had();
        match had.get_mut(&self.peer) {
            Some(1) | None => {
                had.remove(&self.peer);
            }
            Some(has) => *has -= 1,
        }
    }
}

/// What a peer is told that is beyond a limit: which one, and whose share of it is used up.
pub(crate) fn exceeded(reason: Reason, limit: &str, subject: &str, message: String) -> Status {
    let details = ErrorDetails::with_quota_failure_violation(subject, &message);
    reason.status_with(message, details, &[("limit", limit)])
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::StatusExt;

    use super::*;

    #[test]
    fn a_peer_has_no_more_than_its_share_and_takes_nothing_from_others() {
        let quota = Arc::new(Quota::new(2));
        let first = quota.take(&"one").unwrap();
        let _second = quota.take(&"one").unwrap();
        assert!(quota.take(&"one").is_none());
        let other = quota.take(&"other").unwrap();
        drop(first);
        let _third = quota.take(&"one").unwrap();
        assert!(quota.take(&"one").is_none());
        drop(other);
        assert_eq!(quota.had().len(), 1, "who has nothing is forgotten");
    }

    #[test]
    fn the_details_name_the_limit_and_whose_share_is_used_up() {
        let message = "more than 3 (`limits.x`)".to_owned();
        let status = exceeded(Reason::TooManyStreams, "limits.x", "spiffe://mesh.test/a", message);
        let details = status.get_error_details();
        assert_eq!(status.code(), Code::ResourceExhausted);
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.metadata["limit"].as_str()), ("TOO_MANY_STREAMS", "limits.x"));
        assert_eq!(details.quota_failure().unwrap().violations[0].subject, "spiffe://mesh.test/a");
    }
}
