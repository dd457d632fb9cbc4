//! Which root signs and which are trusted, at a point in time. Pure.
//!
//! Rotation is by overlap: a new root is trusted by everybody before it signs, and the old one is trusted until the last
//! certificate that it signed has ended.

use prost::Message;

use super::{IdentityError, records};
use crate::store::{Entry, StoreError};

/// A root as the store has it. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Root {
    /// Its key in the store, which is also what its secret is sealed for.
    pub(super) key: String,
    /// DER.
    pub(super) certificate: Vec<u8>,
    pub(super) sealed_key: Vec<u8>,
    /// When it begins to sign. It is trusted from the moment it exists.
    pub(super) signs_from: u64,
    /// When its certificate ends.
    pub(super) expires: u64,
}

impl Root {
    /// Reads one of the store's.
    pub(super) fn read(Entry { key, value, .. }: Entry) -> Result<Self, IdentityError> {
        let damaged = |error| StoreError::Damaged(format!("{key}: {error}"));
        let records::Root { certificate, sealed_key, signs_from, expires } =
            records::Root::decode(value).map_err(damaged)?;
        Ok(Self { key, certificate, sealed_key, signs_from, expires })
    }
}

/// The lengths of time of a rotation, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// How long a root's certificate holds.
    pub(super) root_lifetime: u64,
    /// How long a workload's certificate holds.
    pub(super) leaf_lifetime: u64,
    /// From the moment a new root is trusted until it signs: the time in which its trust reaches every sidecar.
    pub(super) overlap: u64,
    /// How far clocks may be apart.
    pub(super) skew: u64,
}

impl Schedule {
    /// The root that signs: the last one whose time has come and has not ended.
    pub(super) fn signer<'a>(&self, roots: &'a [Root], now: u64) -> Option<&'a Root> {
        let alive = roots.iter().filter(|root| root.signs_from <= now && now < root.expires);
        alive.max_by_key(|root| root.signs_from)
    }

    /// Whether a root is trusted: until another has signed for so long that nothing of this one is left.
    pub(super) fn trusted(&self, root: &Root, roots: &[Root], now: u64) -> bool {
        let successor =
            roots.iter().map(|other| other.signs_from).filter(|from| *from > root.signs_from).min();
        now < root.expires && successor.is_none_or(|from| now < from + self.leaf_lifetime + self.skew)
    }

    /// When a new root that is made now begins to sign: at once if it is the first.
    pub(super) fn signs_from(&self, roots: &[Root], now: u64) -> u64 {
        if self.signer(roots, now).is_some() { now + self.overlap } else { now }
    }

    /// Whether a new root is to be made: half of the newest one's life is over, or there is none.
    pub(super) fn due(&self, roots: &[Root], now: u64) -> bool {
        let newest = roots.iter().map(|root| root.expires).max();
        newest.is_none_or(|expires| now + self.root_lifetime / 2 >= expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    const SCHEDULE: Schedule =
        Schedule { root_lifetime: 3650 * DAY, leaf_lifetime: DAY, overlap: DAY, skew: 300 };

    fn root(signs_from: u64) -> Root {
        Root { signs_from, expires: signs_from + SCHEDULE.root_lifetime, ..Root::default() }
    }

    #[test]
    fn the_first_root_signs_at_once_and_the_next_after_the_overlap() {
        let now = 1000 * DAY;
        assert_eq!(SCHEDULE.signs_from(&[], now), now);
        assert_eq!(SCHEDULE.signs_from(&[root(now)], now + 5), now + 5 + DAY);
    }

    #[test]
    fn a_rotation_never_signs_with_what_is_not_trusted_yet_and_never_forgets_what_still_holds() {
        let (old, new) = (root(1000 * DAY), root(1100 * DAY));
        let roots = [old.clone(), new.clone()];
        let made = new.signs_from - SCHEDULE.overlap;
        for minute in 0..4 * 24 * 60 {
            let now = made + minute * 60;
            let signer = SCHEDULE.signer(&roots, now).unwrap();
            assert!(SCHEDULE.trusted(signer, &roots, now));
            // A certificate that was signed at any moment before holds with a root that is trusted now.
            let signed = now.saturating_sub(SCHEDULE.leaf_lifetime - 1);
            assert!(SCHEDULE.trusted(SCHEDULE.signer(&roots, signed).unwrap(), &roots, now), "{minute}");
        }
        assert!(!SCHEDULE.trusted(&old, &roots, new.signs_from + DAY + 300), "the old one goes in the end");
    }

    #[test]
    fn after_an_outage_longer_than_a_roots_life_the_next_one_signs_at_once() {
        let old = root(1000 * DAY);
        let now = old.expires + DAY;
        assert_eq!(SCHEDULE.signer(std::slice::from_ref(&old), now), None);
        assert!(SCHEDULE.due(std::slice::from_ref(&old), now));
        assert_eq!(SCHEDULE.signs_from(&[old], now), now);
    }

    #[test]
    fn a_new_root_is_due_at_half_of_the_life() {
        assert!(SCHEDULE.due(&[], 0));
        let roots = [root(1000 * DAY)];
        assert!(!SCHEDULE.due(&roots, (1000 + 1824) * DAY));
        assert!(SCHEDULE.due(&roots, (1000 + 1825) * DAY));
        let roots = [root(1000 * DAY), root(2825 * DAY)];
        assert!(!SCHEDULE.due(&roots, 2826 * DAY));
    }
}
