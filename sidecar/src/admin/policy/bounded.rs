//! JSON that may be only so large.

use std::io::{self, Write};

use serde::Serialize;

/// It has more bytes than it may.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooLarge {
    /// How many.
    pub(crate) bytes: usize,
}

/// How JSON is laid out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Layout {
    /// For people: a field a line.
    Lines,
    /// For programs: nothing that means nothing.
    Compact,
}

/// Keeps what is written as long as it is not too large, and counts all of it.
#[derive(Debug)]
pub(super) struct Bounded {
    kept: Vec<u8>,
    most: usize,
    bytes: usize,
}

impl Bounded {
    /// The JSON of a value, if it has no more bytes than that.
    pub(super) fn json(value: &impl Serialize, layout: Layout, most: usize) -> Result<String, TooLarge> {
        let mut bounded = Self { kept: Vec::new(), most, bytes: 0 };
        let written = match layout {
            Layout::Lines => serde_json::to_writer_pretty(&mut bounded, value),
            Layout::Compact => serde_json::to_writer(&mut bounded, value),
        };
        written.expect("memory can be written to, and each key is a field's name");
        let Self { kept, bytes, .. } = bounded;
        if bytes > most {
            return Err(TooLarge { bytes });
        }
        Ok(String::from_utf8(kept).expect("JSON is UTF-8"))
    }
}

impl Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        self.bytes += more.len();
        if self.bytes <= self.most {
            self.kept.extend_from_slice(more);
        } else {
            self.kept = Vec::new();
        }
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_counted_and_not_kept() {
        let words = vec!["word"; 100];
        for layout in [Layout::Lines, Layout::Compact] {
            let whole = Bounded::json(&words, layout, usize::MAX).unwrap();
            assert_eq!(serde_json::from_str::<Vec<String>>(&whole).unwrap(), words);
            assert_eq!(Bounded::json(&words, layout, whole.len()), Ok(whole.clone()));
            let bytes = whole.len();
            assert_eq!(Bounded::json(&words, layout, bytes - 1), Err(TooLarge { bytes }));
        }
        let mut bounded = Bounded { kept: Vec::new(), most: 8, bytes: 0 };
        for _ in 0..3 {
            bounded.write_all(b"12345").unwrap();
        }
        assert_eq!((bounded.kept.capacity(), bounded.bytes), (0, 15));
    }
}
