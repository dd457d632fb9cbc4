//! The roots that are trusted at a time, as sidecars are told of them.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{SHA256, digest};

/// The roots that are trusted at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trusted {
    /// DER.
    certificates: Vec<Vec<u8>>,
    digests: BTreeSet<Vec<u8>>,
}

impl Trusted {
    /// Of an authority's bundle.
    pub(crate) fn new(certificates: Vec<Vec<u8>>) -> Self {
        let digests = certificates.iter().map(|root| digest(&SHA256, root).as_ref().to_vec()).collect();
        Self { certificates, digests }
    }

    /// DER.
    pub(crate) fn certificates(&self) -> &[Vec<u8>] {
        &self.certificates
    }

    /// Whether somebody who names roots by their SHA-256 trusts just these.
    pub(crate) fn are(&self, digests: &[Vec<u8>]) -> bool {
        self.digests == digests.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_known_by_their_hashes_in_any_order() {
        let sha = |root: &[u8]| digest(&SHA256, root).as_ref().to_vec();
        let trusted = Trusted::new(vec![vec![1], vec![2]]);
        assert!(trusted.are(&[sha(&[2]), sha(&[1])]));
        assert!(!trusted.are(&[sha(&[1])]) && !trusted.are(&[sha(&[1]), sha(&[3])]));
        assert!(!trusted.are(&[sha(&[1]), sha(&[2]), sha(&[3])]));
    }
}
