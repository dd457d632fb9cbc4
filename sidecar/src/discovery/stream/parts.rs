//! Pushes that come in parts. Nothing of one is looked at before all of it is there.

use prost::Message;
use trama_proto::discovery::v1::Push;

use super::Fault;

/// The most bytes of a push. A control plane takes no policy as large; one that never ends is none.
const LARGEST: usize = 512 * 1024 * 1024;

/// What has come of a push.
#[derive(Debug, Default)]
pub struct Parts {
    begun: Option<Push>,
    bytes: usize,
}

impl Parts {
    /// Adds a part. The push, if it was the last one.
    pub fn add(&mut self, part: Push) -> Result<Option<Push>, Fault> {
        self.add_up_to(LARGEST, part)
    }

    fn add_up_to(&mut self, most: usize, part: Push) -> Result<Option<Push>, Fault> {
        if self.begun.is_none() && !part.more {
            return Ok(Some(part));
        }
        self.bytes += part.encoded_len();
        if self.bytes > most {
            return Err(Fault::Malformed(format!("its parts have {} bytes, more than {most}", self.bytes)));
        }
        let Push { epoch, revision, nonce, resources, tombstones, subscribed, more } = part;
        let said = (epoch, revision, nonce, subscribed);
        let push = match self.begun.take() {
            None => Push { epoch, revision, nonce, resources, tombstones, subscribed, more: false },
            Some(mut push) if said == (push.epoch, push.revision, push.nonce, push.subscribed) => {
                push.resources.extend(resources);
                push.tombstones.extend(tombstones);
                push
            }
            Some(push) => {
                let problem = format!("a part of push {nonce} comes within push {}", push.nonce);
                return Err(Fault::Malformed(problem));
            }
        };
        if more {
            self.begun = Some(push);
            return Ok(None);
        }
        self.bytes = 0;
        Ok(Some(push))
    }
}

#[cfg(test)]
mod tests {
    use trama_proto::discovery::v1::ResourceName;

    use super::*;

    fn part(nonce: u64, name: &str, more: bool) -> Push {
        let name = ResourceName { name: name.to_owned(), ..ResourceName::default() };
        Push { nonce, subscribed: 2, tombstones: vec![name], more, ..Push::default() }
    }

    fn names(push: Option<Push>) -> Vec<String> {
        push.into_iter().flat_map(|push| push.tombstones).map(|name| name.name).collect()
    }

    #[test]
    fn a_push_is_there_when_its_last_part_is() {
        let mut parts = Parts::default();
        for nonce in 1..3 {
            assert_eq!(parts.add(part(nonce, "a", true)), Ok(None));
            assert_eq!(parts.add(part(nonce, "b", true)), Ok(None));
            let push = parts.add(part(nonce, "c", false)).unwrap();
            assert_eq!(
                push.as_ref().map(|push| (push.nonce, push.subscribed, push.more)),
                Some((nonce, 2, false))
            );
            assert_eq!(names(push), ["a", "b", "c"]);
        }
        assert_eq!(names(parts.add(part(3, "whole", false)).unwrap()), ["whole"]);
    }

    #[test]
    fn another_push_between_its_parts_and_one_without_end_are_faults() {
        let mut parts = Parts::default();
        parts.add(part(1, "a", true)).unwrap();
        let fault = parts.add(part(2, "b", false)).unwrap_err();
        assert!(fault.to_string().contains("a part of push 2 comes within push 1"), "{fault}");

        let mut parts = Parts::default();
        let endless = (0..).find_map(|_| parts.add_up_to(1000, part(1, "a", true)).err()).unwrap();
        assert!(endless.to_string().contains("more than 1000"), "{endless}");
    }
}
