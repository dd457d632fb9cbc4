//! The scanner alone: each specimen whole, byte by byte, and cut in two at every place.

use super::super::{Kind, Limits, Scanner};
use super::specimens::{Fate, SPECIMENS};

/// Scans the pieces; what is held is resumed, as after a declined upgrade.
fn scan(limits: Limits, pieces: &[&[u8]]) -> Fate {
    let mut scanner = Scanner::new(limits);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            match scanner.scan(rest) {
                Ok(passed) => rest = &rest[passed..],
                Err(refused) => {
                    let begun = usize::from(refused.head_passed);
                    return Fate::Refused(scanner.heads() as usize - begun, refused.violation.kind);
                }
            }
            scanner.resume();
        }
    }
    assert!(scanner.is_between_messages(), "neither whole nor refused");
    Fate::Accepted(scanner.heads() as usize)
}

#[test]
fn every_specimen_meets_its_fate_however_it_is_split() {
    for specimen in SPECIMENS {
        let bytes = specimen.bytes.as_bytes();
        let text = specimen.bytes;
        assert_eq!(scan(Limits::default(), &[bytes]), specimen.fate, "whole: {text:?}");
        let single: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(scan(Limits::default(), &single), specimen.fate, "byte by byte: {text:?}");
        for at in 1..bytes.len() {
            let (first, second) = bytes.split_at(at);
            assert_eq!(scan(Limits::default(), &[first, second]), specimen.fate, "cut at {at}: {text:?}");
        }
    }
}

#[test]
fn the_table_is_large_and_meets_every_rule() {
    assert!(SPECIMENS.len() >= 60, "{}", SPECIMENS.len());
    let of_size = |kind: Kind| {
        let name = super::super::Violation::from(kind).name();
        name.contains("too_") || name == "chunk_extension_too_long"
    };
    for kind in Kind::ALL {
        let met =
            SPECIMENS.iter().any(|specimen| matches!(specimen.fate, Fate::Refused(_, met) if met == *kind));
        assert!(met || of_size(*kind), "no specimen for {kind:?}");
    }
}

#[test]
fn a_limit_is_met_at_the_same_byte_however_the_input_is_split() {
    let limits = Limits {
        head: 100,
        request_line: 30,
        field_line: 40,
        fields: 4,
        chunk_extension: 5,
        chunk_extensions: 8,
        trailers: 60,
        trailer_fields: 2,
    };
    let chunks =
        |rest: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{rest}");
    let field = |name: &str, size: usize| format!("{name}: {}\r\n", "x".repeat(size - name.len() - 4));
    let head = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let cases = [
        (format!("GET {:x<16} HTTP/1.1\r\nHost: a\r\n\r\n", "/"), Fate::Refused(0, Kind::RequestLineTooLong)),
        (format!("GET {:x<15} HTTP/1.1\r\nHost: a\r\n\r\n", "/"), Fate::Accepted(1)),
        (head(&field("x", 40)), Fate::Accepted(1)),
        (head(&field("x", 41)), Fate::Refused(0, Kind::FieldLineTooLong)),
        (head(&(field("x", 40) + &field("y", 33))), Fate::Accepted(1)),
        (head(&(field("x", 40) + &field("y", 34))), Fate::Refused(0, Kind::HeadTooLarge)),
        (head(&"a:\r\n".repeat(3)), Fate::Accepted(1)),
        (head(&"a:\r\n".repeat(4)), Fate::Refused(0, Kind::TooManyFields)),
        (chunks("1;abcde\r\nx\r\n0\r\n\r\n"), Fate::Accepted(1)),
        (chunks("1;abcdef\r\nx\r\n0\r\n\r\n"), Fate::Refused(0, Kind::ChunkExtensionTooLong)),
        (chunks("1;abcd\r\nx\r\n0;abcde\r\n\r\n"), Fate::Refused(0, Kind::ChunkExtensionTooLong)),
        (chunks(&format!("0\r\n{}{}\r\n", field("x", 40), field("y", 18))), Fate::Accepted(1)),
        (
            chunks(&format!("0\r\n{}{}\r\n", field("x", 40), field("y", 19))),
            Fate::Refused(0, Kind::TrailersTooLarge),
        ),
        (chunks("0\r\na:\r\na:\r\na:\r\n\r\n"), Fate::Refused(0, Kind::TooManyTrailers)),
    ];
    for (text, fate) in cases {
        let bytes = text.as_bytes();
        assert_eq!(scan(limits, &[bytes]), fate, "whole: {text:?}");
        for at in 1..bytes.len() {
            let (first, second) = bytes.split_at(at);
            assert_eq!(scan(limits, &[first, second]), fate, "cut at {at}: {text:?}");
        }
    }
}

#[test]
fn a_body_is_stepped_over_and_a_refusal_lasts() {
    let mut scanner = Scanner::new(Limits::default());
    let head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n";
    assert_eq!(scanner.scan(head), Ok(head.len()));
    assert_eq!(scanner.scan(&[0; 65_536]), Ok(65_536));
    let mut scanner = Scanner::new(Limits::default());
    assert!(scanner.scan(b"\n").is_err());
    assert_eq!(scanner.scan(b"GET").map_err(|refused| refused.violation.kind), Err(Kind::BareLf));
}

#[test]
fn what_follows_a_connect_is_held_until_the_owner_decides() {
    let mut scanner = Scanner::new(Limits::default());
    let bytes = b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n\x16\x03";
    assert_eq!(scanner.scan(bytes), Ok(bytes.len() - 2));
    assert!(scanner.is_held());
    assert_eq!(scanner.scan(b"\x16\x03"), Ok(0));
    scanner.pass_through();
    assert_eq!(scanner.scan(b"\x16\x03"), Ok(2));
}
