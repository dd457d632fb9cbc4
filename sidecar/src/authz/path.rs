//! The ways in which a server may read a path.
//!
//! One is certain: percent-encoded unreserved characters stand for themselves (RFC 3986 section 6.2.2.2, which
//! RFC 9110 section 4.2.3 takes over). Many servers go further before they choose a handler: they decode everything,
//! take a backslash for a slash and several slashes for one, remove dot segments, and drop what stands behind a semicolon in a
//! segment. The other reading does all of it. A path without any of these marks has one reading.

use std::borrow::Cow;

/// The readings of one path.
#[derive(Debug)]
pub(super) struct Readings<'r> {
    certain: Cow<'r, [u8]>,
    further: Option<Vec<u8>>,
}

impl<'r> Readings<'r> {
    pub(super) fn of(path: &'r str) -> Self {
        let bytes = path.as_bytes();
        let certain = if memchr::memchr(b'%', bytes).is_some() {
            Cow::Owned(decoded(bytes, is_unreserved))
        } else {
            Cow::Borrowed(bytes)
        };
        let further = is_ambiguous(bytes).then(|| resolved(&decoded(bytes, |_| true)));
        let further = further.filter(|further| **further != *certain);
        Self { certain, further }
    }

    /// Whether one of them is such.
    pub(super) fn any(&self, is: impl Fn(&[u8]) -> bool) -> bool {
        is(&self.certain) || self.further.as_deref().is_some_and(is)
    }

    /// Whether all of them are.
    pub(super) fn all(&self, is: impl Fn(&[u8]) -> bool) -> bool {
        is(&self.certain) && self.further.as_deref().is_none_or(is)
    }
}

fn is_ambiguous(path: &[u8]) -> bool {
    let marked = path.iter().any(|byte| matches!(byte, b'%' | b'\\' | b';'));
    marked || path.windows(2).any(|pair| pair == b"//" || pair == b"/.")
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Percent-decodes, once, the characters that `which` says. What is no encoding stays as it is.
fn decoded(path: &[u8], which: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let encoded = match rest {
            [b'%', high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match encoded.filter(|byte| which(*byte)) {
            Some(byte) => {
                text.push(byte);
                rest = &rest[3..];
            }
            None => {
                text.push(*first);
                rest = after;
            }
        }
    }
    text
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Without parameters, empty and dot segments (RFC 3986 section 5.2.4). A slash at the end stays.
fn resolved(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut is_folder = false;
    for segment in path.split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        is_folder = matches!(name, b"" | b"." | b"..");
        match name {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    let mut text = Vec::with_capacity(path.len());
    for name in &kept {
        text.push(b'/');
        text.extend_from_slice(name);
    }
    if is_folder || kept.is_empty() {
        text.push(b'/');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(path: &str) -> Vec<String> {
        let readings = Readings::of(path);
        let all = std::iter::once(&*readings.certain).chain(readings.further.as_deref());
        all.map(|reading| String::from_utf8_lossy(reading).into_owned()).collect()
    }

    #[test]
    fn a_plain_path_has_one_reading_and_costs_no_copy() {
        for path in ["/", "/admin", "/a.b/c-d_e~f/", "*", ""] {
            assert_eq!(readings(path), [path]);
            assert!(matches!(Readings::of(path).certain, Cow::Borrowed(_)), "{path}");
        }
    }

    #[test]
    fn what_servers_read_in_two_ways_has_both() {
        for (path, certain, further) in [
            ("/adm%69n", "/admin", None),
            ("/%7euser", "/~user", None),
            ("/public/../admin", "/public/../admin", Some("/admin")),
            ("/public/%2e%2E/admin", "/public/../admin", Some("/admin")),
            ("/public/..%2fadmin", "/public/..%2fadmin", Some("/admin")),
            ("//admin", "//admin", Some("/admin")),
            ("/admin/.", "/admin/.", Some("/admin/")),
            ("/x/\\..\\admin", "/x/\\..\\admin", Some("/admin")),
            ("/admin;a=b/c", "/admin;a=b/c", Some("/admin/c")),
            ("/..;/admin", "/..;/admin", Some("/admin")),
            ("/../..", "/../..", Some("/")),
            ("/.hidden", "/.hidden", None),
            ("/a%20b", "/a%20b", Some("/a b")),
            ("/100%", "/100%", None),
            ("/%zz%4", "/%zz%4", None),
            ("/%252e", "/%252e", Some("/%2e")),
        ] {
            let expected: Vec<&str> = std::iter::once(certain).chain(further).collect();
            assert_eq!(readings(path), expected, "{path}");
        }
    }
}
