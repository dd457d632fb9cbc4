//! The header `traceparent` (W3C Trace Context, level 2, sections 3.2 and 4).

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{hex, sampling::Draw};
use crate::telemetry::record::{TraceContext, TraceId};

pub(crate) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Bytes of a `traceparent` of version 00.
const LENGTH: usize = 55;

const SAMPLED: u8 = 0x01;
const RANDOM: u8 = 0x02;

/// What a request's headers say of its trace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Incoming {
    /// Nothing.
    Absent,
    /// Something that breaks a rule, and so means nothing.
    Invalid,
    /// This one, which is not kept. It is passed on unread, so its ids may turn out to be none.
    Dropped(TraceContext),
    /// This one, which is kept; the parent is the sender's span.
    Kept(TraceContext),
}

impl Incoming {
    /// Reads the header, of which there may be only one.
    #[inline(always)]
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(&TRACEPARENT) else { return Self::Absent };
        // Asked in this order, a request in which every header is there once pays for no second look-up.
        let is_twice =
            headers.len() != headers.keys_len() && headers.get_all(&TRACEPARENT).iter().count() > 1;
        if is_twice { Self::Invalid } else { Self::parse(value.as_bytes()).unwrap_or(Self::Invalid) }
    }

    /// `version "-" trace-id "-" parent-id "-" flags`, in lower case. Versions above 00 may add fields after the flags
    /// (section 4.3); ff is forbidden.
    #[inline(always)]
    fn parse(text: &[u8]) -> Option<Self> {
        let (head, rest) = text.split_first_chunk::<LENGTH>()?;
        let dashes = (head[2] ^ b'-') | (head[35] ^ b'-') | (head[52] ^ b'-');
        if dashes != 0 || !is_known([head[0], head[1]], rest) {
            return None;
        }
        let flags = flags([head[53], head[54]])?;
        let (trace_id, parent): (&[u8; 32], &[u8; 16]) =
            (head[3..].first_chunk()?, head[36..].first_chunk()?);
        let sampled = flags & SAMPLED != 0;
        let random = flags & RANDOM != 0;
        let context =
            TraceContext { trace_id: TraceId(*trace_id), span_id: 0, parent_id: 0, sampled, random };
        if !sampled {
            return Some(Self::Dropped(context));
        }
        let are_ids = hex::all_digits(trace_id) && hex::all_digits(parent);
        let is_zero = *trace_id == [b'0'; 32] || *parent == [b'0'; 16];
        (are_ids && !is_zero).then(|| Self::Kept(TraceContext { parent_id: hex::number(parent), ..context }))
    }
}

/// Whether a header of this version may go on like this after the flags.
#[inline(always)]
fn is_known(version: [u8; 2], rest: &[u8]) -> bool {
    if version == *b"00" { rest.is_empty() } else { is_later(version, rest) }
}

#[cold]
fn is_later(version: [u8; 2], rest: &[u8]) -> bool {
    version != *b"ff" && hex::all_digits(&version) && rest.first().is_none_or(|b| *b == b'-')
}

/// The flags that are known: both are in the last digit. What others mean, and those of later versions, is not.
fn flags(digits: [u8; 2]) -> Option<u8> {
    match digits {
        [b'0'..=b'9' | b'a'..=b'f', low @ b'0'..=b'9'] => Some(low - b'0'),
        [b'0'..=b'9' | b'a'..=b'f', low @ b'a'..=b'f'] => Some(low - b'a' + 10),
        _ => None,
    }
}

impl TraceContext {
    /// A trace that begins here.
    pub(crate) fn begun(id: u128, draw: &mut Draw) -> Self {
        let mut trace_id = TraceId([0; 32]);
        trace_id.0[..16].copy_from_slice(&hex::digits((id >> 64) as u64));
        trace_id.0[16..].copy_from_slice(&hex::digits(id as u64));
        Self { trace_id, span_id: draw.span_id(), parent_id: 0, sampled: true, random: true }
    }

    /// The same place in the trace with a span of its own: ours beneath the sender's, or the next attempt's.
    pub(crate) fn with_span(self, draw: &mut Draw) -> Self {
        Self { span_id: draw.span_id(), ..self }
    }

    /// Puts the context into the headers, in place of what is there.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let value = HeaderValue::from_bytes(&self.render()).expect("digits and dashes make a header's value");
        headers.insert(&TRACEPARENT, value);
    }

    fn render(&self) -> [u8; LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(&self.trace_id.0);
        text[36..52].copy_from_slice(&hex::digits(self.span_id));
        text[LENGTH - 1] += u8::from(self.sampled) * SAMPLED + u8::from(self.random) * RANDOM;
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn kept(text: &str) -> TraceContext {
        match Incoming::parse(text.as_bytes()) {
            Some(Incoming::Kept(context)) => context,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_good_header_is_read_and_written() {
        let incoming = kept(GOOD);
        let expected = TraceContext {
            trace_id: TraceId(*b"4bf92f3577b34da6a3ce929d0e0e4736"),
            span_id: 0,
            parent_id: 0x00f0_67aa_0ba9_02b7,
            sampled: true,
            random: false,
        };
        assert_eq!(incoming, expected);
        let sent = TraceContext { span_id: incoming.parent_id, ..incoming };
        assert_eq!(sent.render(), GOOD.as_bytes());
        let random = TraceContext { random: true, ..sent };
        assert!(random.render().ends_with(b"-03"));
    }

    #[test]
    fn the_flags_say_whether_it_is_kept() {
        for (flags, sampled) in
            [("00", false), ("02", false), ("f8", false), ("01", true), ("ff", true), ("0b", true)]
        {
            let incoming = Incoming::parse(format!("{}{flags}", &GOOD[..53]).as_bytes()).unwrap();
            assert_eq!(matches!(incoming, Incoming::Kept(_)), sampled, "{flags}: {incoming:?}");
        }
    }

    #[test]
    fn what_breaks_a_rule_is_as_good_as_none() {
        let long = format!("{GOOD}-x");
        for bad in [
            "",
            &GOOD[..54],
            &long,
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-x0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7_01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47360-0f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.x",
        ] {
            assert_eq!(Incoming::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_newer_version_is_read_as_far_as_it_is_known() {
        for rest in ["", "-what the future holds"] {
            let newer = format!("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-f9{rest}");
            let incoming = kept(&newer);
            assert!(incoming.sampled && !incoming.random);
            assert!(incoming.render().starts_with(b"00-4bf92f3577b34da6a3ce929d0e0e4736-"));
        }
    }

    #[test]
    fn two_headers_are_as_bad_as_a_broken_one() {
        let mut headers = HeaderMap::new();
        assert_eq!(Incoming::of(&headers), Incoming::Absent);
        headers.append(&TRACEPARENT, HeaderValue::from_static(GOOD));
        headers.append("accept", HeaderValue::from_static("a"));
        headers.append("accept", HeaderValue::from_static("b"));
        assert!(matches!(Incoming::of(&headers), Incoming::Kept(_)));
        headers.append(&TRACEPARENT, HeaderValue::from_static(GOOD));
        assert_eq!(Incoming::of(&headers), Incoming::Invalid);
    }

    proptest! {
        /// A good header, spoiled in a few places or not at all.
        #[test]
        fn what_is_kept_is_what_the_header_says(
            spoils in prop::collection::vec((0..GOOD.len(), any::<u8>()), 0..3),
            cut in 0..=GOOD.len(),
            more in prop::collection::vec(any::<u8>(), 0..4),
        ) {
            let mut bytes = GOOD.as_bytes().to_vec();
            spoils.into_iter().for_each(|(at, byte)| bytes[at] = byte);
            prop_assert!(Incoming::parse(&bytes[..cut.min(GOOD.len() - 1)]).is_none());
            bytes.extend(more);
            if let Some(Incoming::Kept(context)) = Incoming::parse(&bytes) {
                let sent = TraceContext { span_id: context.parent_id, ..context }.render();
                prop_assert_eq!(&sent[3..53], &bytes[3..53], "the ids");
                prop_assert_eq!(sent[54] & 1, 1, "the flag");
            }
        }
    }
}
