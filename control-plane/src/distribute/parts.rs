//! A push in parts: a first push names all services of a mesh, and no message may be as large as that.

use std::{iter::Peekable, vec::IntoIter};

use prost::Message;
use trama_proto::discovery::v1::{Push, ResourceName, VersionedResource};

/// About the most bytes of a part. One resource may have more.
pub(super) const PART: usize = 4 << 20;

/// A push in parts of about so many bytes, in their order. One that is as small is its only part.
pub fn parts(push: Push, most: usize) -> Parts {
    let Push { resources, tombstones, .. } = push;
    let head = Push { resources: Vec::new(), tombstones: Vec::new(), ..push };
    let (resources, tombstones) = (resources.into_iter().peekable(), tombstones.into_iter().peekable());
    Parts { head: Some(head), most, resources, tombstones }
}

/// The parts of a push.
#[derive(Debug)]
pub struct Parts {
    /// What all parts say; `None`: there are no more.
    head: Option<Push>,
    most: usize,
    resources: Peekable<IntoIter<VersionedResource>>,
    tombstones: Peekable<IntoIter<ResourceName>>,
}

impl Iterator for Parts {
    type Item = Push;

    fn next(&mut self) -> Option<Push> {
        let mut part = self.head.take()?;
        let mut room = Room { most: self.most, taken: 0 };
        while let Some(resource) = self.resources.next_if(|it| room.takes(it.encoded_len())) {
            part.resources.push(resource);
        }
        while let Some(name) = self.tombstones.next_if(|it| room.takes(it.encoded_len())) {
            part.tombstones.push(name);
        }
        part.more = self.resources.peek().is_some() || self.tombstones.peek().is_some();
        if part.more {
            self.head = Some(Push { resources: Vec::new(), tombstones: Vec::new(), ..part });
        }
        Some(part)
    }
}

/// What there is room for in a part. It takes one thing, whatever its size.
struct Room {
    most: usize,
    taken: usize,
}

impl Room {
    fn takes(&mut self, bytes: usize) -> bool {
        let takes = self.taken == 0 || self.taken + bytes <= self.most;
        if takes {
            self.taken += bytes;
        }
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(resources: u8, tombstones: u8) -> Push {
        let resource = |number| VersionedResource { hash: vec![number; 98], ..VersionedResource::default() };
        let name = |number: u8| ResourceName { name: format!("{number:098}"), ..ResourceName::default() };
        Push {
            epoch: 1,
            revision: 2,
            nonce: 3,
            subscribed: 4,
            resources: (0..resources).map(resource).collect(),
            tombstones: (0..tombstones).map(name).collect(),
            more: false,
        }
    }

    #[test]
    fn what_fits_is_one_part_and_what_does_not_is_several_of_the_same_push() {
        for (resources, tombstones, most, sizes) in [
            (0, 0, 100, &[0][..]),
            (3, 1, 400, &[4]),
            (3, 2, 400, &[4, 1]),
            (3, 3, 250, &[2, 2, 2]),
            // Too large for any part, and yet it goes.
            (2, 0, 10, &[1, 1]),
        ] {
            let whole = push(resources, tombstones);
            let cut: Vec<_> = parts(whole.clone(), most).collect();
            let found: Vec<_> = cut.iter().map(|part| part.resources.len() + part.tombstones.len()).collect();
            assert_eq!(found, sizes);
            let mut again = Push { resources: Vec::new(), tombstones: Vec::new(), ..whole.clone() };
            for (at, part) in cut.into_iter().enumerate() {
                assert_eq!(part.more, at + 1 < sizes.len());
                assert_eq!((part.epoch, part.revision, part.nonce, part.subscribed), (1, 2, 3, 4));
                again.resources.extend(part.resources);
                again.tombstones.extend(part.tombstones);
            }
            assert_eq!(again, whole);
        }
    }
}
