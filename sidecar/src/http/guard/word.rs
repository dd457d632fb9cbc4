//! A name that may be split between two reads.

/// The first bytes of a name that may be split between two reads. What is longer than any known name reads as empty.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Word {
    bytes: [u8; 17],
    len: u8,
}

impl Word {
    const TOO_LONG: u8 = u8::MAX;

    pub(super) fn push(&mut self, run: &[u8]) {
        let len = usize::from(self.len);
        match self.bytes.get_mut(len..len + run.len()) {
            Some(free) => {
                free.copy_from_slice(run);
                self.len += run.len() as u8;
            }
            None => self.len = Self::TOO_LONG,
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::Word;

    #[test]
    fn a_word_longer_than_every_known_name_is_none_of_them() {
        let mut word = Word::default();
        word.push(b"transfer-encoding");
        assert_eq!(word.as_slice(), b"transfer-encoding");
        word.push(b"x");
        assert_eq!(word.as_slice(), b"");
        word.push(b"x");
        assert!(!word.is_empty());
    }
}
