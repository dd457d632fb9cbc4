//! The header `traceparent` (W3C Trace Context, level 2, sections 3.2 and 4).
//!
//! A sampled context is rewritten, so that the next hop's parent is our span. One that is not sampled is passed on as
//! it came: there is no span of ours that could be anybody's parent, and it costs nothing.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{hex, sampling::Draw};
use crate::telemetry::record::TraceContext;

pub(crate) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Bytes of a `traceparent` of version 00.
pub(crate) const LENGTH: usize = 55;

const SAMPLED: u8 = 0x01;
const RANDOM: u8 = 0x02;

/// The context that a request came with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Incoming {
    trace_id: u128,
    parent_id: u64,
    sampled: bool,
    random: bool,
    newer: bool,
}

impl Incoming {
    /// Reads the header. `None`: there is none, more than one, or it breaks a rule, and a trace may begin here.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(&TRACEPARENT).iter();
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        Self::parse(value.as_bytes())
    }

    /// `version "-" trace-id "-" parent-id "-" flags`, in lower case. Versions above 00 may add fields after the flags
    /// (section 4.3); ff is forbidden.
    fn parse(text: &[u8]) -> Option<Self> {
        let (head, rest) = text.split_first_chunk::<LENGTH>()?;
        let newer = head[..2] != *b"00";
        if newer {
            let version = [b'0', b'0', b'0', b'0', b'0', b'0', head[0], head[1]];
            let known = hex::number(version)? != 0xff;
            if !known || !(rest.is_empty() || rest[0] == b'-') {
                return None;
            }
        } else if !rest.is_empty() {
            return None;
        }
        if head[2] != b'-' || head[35] != b'-' || head[52] != b'-' {
            return None;
        }
        let high = sixteen(head, 3)?;
        let low = sixteen(head, 19)?;
        let parent_id = sixteen(head, 36)?;
        let flags = hex::number([b'0', b'0', b'0', b'0', b'0', b'0', head[53], head[54]])? as u8;
        let trace_id = u128::from(high) << 64 | u128::from(low);
        (trace_id != 0 && parent_id != 0).then_some(Self {
            trace_id,
            parent_id,
            sampled: flags & SAMPLED != 0,
            random: flags & RANDOM != 0,
            newer,
        })
    }

    /// Whether the header must be written anew: it names our span, or speaks a version whose rules we do not know.
    pub(crate) const fn is_rewritten(&self) -> bool {
        self.sampled || self.newer
    }
}

fn sixteen(text: &[u8; LENGTH], at: usize) -> Option<u64> {
    let (digits, _) = text[at..].split_first_chunk::<16>()?;
    let (high, low) = digits.split_at(8);
    let high = hex::number(high.try_into().ok()?)?;
    let low = hex::number(low.try_into().ok()?)?;
    Some(u64::from(high) << 32 | u64::from(low))
}

impl TraceContext {
    /// The next hop of a trace that began elsewhere; whoever began it decided whether it is kept.
    pub(crate) fn continued(incoming: Incoming, draw: &mut Draw) -> Self {
        Self {
            trace_id: incoming.trace_id,
            span_id: if incoming.is_rewritten() { draw.span_id() } else { incoming.parent_id },
            parent_id: incoming.parent_id,
            sampled: incoming.sampled,
            random: incoming.random,
        }
    }

    /// A trace that begins here, and is kept with the given probability.
    pub(crate) fn begun(draw: &mut Draw, ratio: f64) -> Self {
        let trace_id = draw.trace_id();
        let sampled = super::sampling::keeps(trace_id, ratio);
        Self { trace_id, span_id: draw.span_id(), parent_id: 0, sampled, random: true }
    }

    /// The same place in the trace with a span of its own: the next attempt.
    #[must_use]
    pub(crate) fn again(self, draw: &mut Draw) -> Self {
        Self { span_id: draw.span_id(), ..self }
    }

    /// The header's value.
    pub(crate) fn render(&self) -> [u8; LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let words = [
            (3, self.trace_id >> 96),
            (11, self.trace_id >> 64),
            (19, self.trace_id >> 32),
            (27, self.trace_id),
            (36, u128::from(self.span_id >> 32)),
            (44, u128::from(self.span_id)),
        ];
        for (at, word) in words {
            text[at..at + 8].copy_from_slice(&hex::digits(word as u32));
        }
        text[LENGTH - 1] += u8::from(self.sampled) * SAMPLED + u8::from(self.random) * RANDOM;
        text
    }
}

/// Puts the context into the headers, in place of what is there.
pub(crate) fn write(headers: &mut HeaderMap, value: HeaderValue) {
    headers.insert(&TRACEPARENT, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_good_header_is_read_and_written() {
        let incoming = Incoming::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(incoming.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(incoming.parent_id, 0x00f0_67aa_0ba9_02b7);
        assert!(incoming.sampled && !incoming.random);
        let mut context = TraceContext::continued(incoming, &mut Draw::seeded(1, 2));
        assert_eq!(context.parent_id, incoming.parent_id);
        assert_ne!(context.span_id, incoming.parent_id);
        context.span_id = incoming.parent_id;
        assert_eq!(context.render(), GOOD.as_bytes());
        context.random = true;
        assert!(context.render().ends_with(b"-03"));
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
        let newer = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-what the future holds";
        let incoming = Incoming::parse(newer.as_bytes()).unwrap();
        assert!(!incoming.sampled && incoming.is_rewritten());
        let context = TraceContext::continued(incoming, &mut Draw::seeded(1, 2));
        assert!(context.render().starts_with(b"00-4bf92f3577b34da6a3ce929d0e0e4736-"));
    }

    #[test]
    fn two_headers_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(&TRACEPARENT, HeaderValue::from_static(GOOD));
        assert!(Incoming::from_headers(&headers).is_some());
        headers.append(&TRACEPARENT, HeaderValue::from_static(GOOD));
        assert_eq!(Incoming::from_headers(&headers), None);
    }
}
