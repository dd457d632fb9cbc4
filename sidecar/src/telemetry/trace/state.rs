//! The header `tracestate` (W3C Trace Context, sections 3.3 and 4.3): other tracers' luggage. It is passed on as it
//! came, within the bounds that the specification gives; without a valid `traceparent` it means nothing and is dropped.

use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

const MAX_LENGTH: usize = 512;
const MAX_MEMBERS: usize = 32;
/// Members longer than this are the first to go (section 3.3.1.5).
const LONG_MEMBER: usize = 128;

/// Brings the header within its bounds.
pub(crate) fn bound(headers: &mut HeaderMap) {
    let mut values = headers.get_all(&TRACESTATE).iter();
    let Some(first) = values.next() else { return };
    if values.next().is_none() && is_bounded(first.as_bytes()) {
        return;
    }
    match combined(headers) {
        Some(value) => drop(headers.insert(&TRACESTATE, value)),
        None => drop(headers.remove(&TRACESTATE)),
    }
}

fn is_bounded(text: &[u8]) -> bool {
    text.len() <= MAX_LENGTH && text.iter().filter(|b| **b == b',').count() < MAX_MEMBERS
}

/// All members of all headers, in their order, without those that are too many. `None`: nothing is left.
fn combined(headers: &HeaderMap) -> Option<HeaderValue> {
    let values = headers.get_all(&TRACESTATE).iter();
    let members = values.flat_map(|value| value.as_bytes().split(|b| *b == b','));
    let mut members: Vec<&[u8]> = members.map(<[u8]>::trim_ascii).filter(|m| !m.is_empty()).collect();
    members.truncate(MAX_MEMBERS);
    let mut length = members.iter().map(|m| m.len() + 1).sum::<usize>();
    while length > MAX_LENGTH + 1 {
        let last = members.iter().rposition(|m| m.len() > LONG_MEMBER).unwrap_or(members.len() - 1);
        length -= members.remove(last).len() + 1;
    }
    let text = members.join(&b","[..]);
    HeaderValue::from_bytes(&text).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bounded(values: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&TRACESTATE, value.parse().unwrap());
        }
        bound(&mut headers);
        let values = headers.get_all(&TRACESTATE).iter();
        values.map(|v| v.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn one_header_within_the_bounds_is_not_touched() {
        assert_eq!(bounded(&["a=1 ,, b=2"]), ["a=1 ,, b=2"]);
        assert_eq!(bounded(&[]), Vec::<String>::new());
    }

    #[test]
    fn several_headers_become_one() {
        assert_eq!(bounded(&["a=1", "b=2, c=3"]), ["a=1,b=2,c=3"]);
        assert_eq!(bounded(&["", " "]), Vec::<String>::new());
    }

    #[test]
    fn long_members_go_first_then_the_last_ones() {
        let long = format!("long={}", "x".repeat(300));
        let many: Vec<String> = (0..20).map(|n| format!("k{n:02}={}", "y".repeat(16))).collect();
        let kept = bounded(&[&format!("{long},{}", many.join(","))]);
        assert_eq!(kept, [many.join(",")]);
        let more = [many.clone(), many.clone()].concat().join(",");
        let kept = &bounded(&[&more])[0];
        assert!(kept.len() <= 512 && kept.starts_with("k00=") && more.starts_with(kept.as_str()));
    }

    #[test]
    fn the_33rd_member_goes() {
        let members: Vec<String> = (0..40).map(|n| format!("k{n}=1")).collect();
        assert_eq!(bounded(&[&members.join(",")]), [members[..32].join(",")]);
    }

    proptest! {
        /// Whatever comes: in bounds, made of members that came, in their order, and not touched a second time.
        #[test]
        fn what_is_passed_on_is_in_bounds(
            values in prop::collection::vec("[a-z0-9=, \t\u{e9}]{0,400}", 0..6),
        ) {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(&TRACESTATE, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            bound(&mut headers);
            let kept: Vec<_> = headers.get_all(&TRACESTATE).iter().cloned().collect();
            prop_assert!(kept.len() <= 1);
            if let Some(kept) = kept.first() {
                prop_assert!(is_bounded(kept.as_bytes()), "{} bytes", kept.len());
                let members = |text: &[u8]| -> Vec<Vec<u8>> {
                    let members = text.split(|b| *b == b',').map(<[u8]>::trim_ascii);
                    members.filter(|m| !m.is_empty()).map(<[u8]>::to_vec).collect()
                };
                let came = members(values.join(",").as_bytes());
                let mut came = came.iter();
                prop_assert!(members(kept.as_bytes()).iter().all(|member| came.any(|one| one == member)));
            }
            let once = headers.clone();
            bound(&mut headers);
            prop_assert_eq!(headers, once);
        }
    }
}
