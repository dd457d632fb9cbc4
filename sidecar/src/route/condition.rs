//! Whether the parts of a match that no index answers hold: regular expressions, method, headers, query.

use std::{borrow::Cow, iter};

use http::{HeaderName, header, header::GetAll, header::HeaderValue};

use super::{Inquiry, consider::Unmet};
use crate::config::snapshot::{HeaderMatch, Match, PathMatch, QueryMatch, ValueMatch};

/// Whether the condition holds, the index having judged exact paths and prefixes.
pub(super) fn holds(condition: &Match, request: &Inquiry<'_>) -> bool {
    path_holds(condition, request)
        && method_holds(condition, request)
        && condition.headers.iter().all(|header| header_holds(header, request))
        && condition.query.iter().all(|query| query_holds(query, request))
}

/// Every part that does not hold, the index having judged hosts, exact paths and prefixes.
pub(super) fn unmet<'c>(condition: &'c Match, request: &Inquiry<'_>) -> Vec<Unmet<'c>> {
    let path = (!path_holds(condition, request)).then_some(Unmet::Path);
    let method = (!method_holds(condition, request)).then_some(Unmet::Method);
    let headers =
        condition.headers.iter().filter(|header| !header_holds(header, request)).map(|header| {
            Unmet::Header { name: &header.name, sent: request.headers.contains_key(&header.name) }
        });
    let query = condition
        .query
        .iter()
        .filter(|query| !query_holds(query, request))
        .map(|query| Unmet::Query { name: &query.name, sent: parameters(query, request).next().is_some() });
    path.into_iter().chain(method).chain(headers).chain(query).collect()
}

fn path_holds(condition: &Match, request: &Inquiry<'_>) -> bool {
    match &condition.path {
        PathMatch::Exact(_) | PathMatch::Prefix(_) => true,
        PathMatch::Regex(regex) => regex.is_match(request.path),
    }
}

fn method_holds(condition: &Match, request: &Inquiry<'_>) -> bool {
    condition.method.as_ref().is_none_or(|method| method == request.method)
}

/// A field sent more than once counts as the one line that it stands for (RFC 9110 section 5.3).
fn header_holds(wanted: &HeaderMatch, request: &Inquiry<'_>) -> bool {
    let values = request.headers.get_all(&wanted.name);
    if values.iter().next().is_none() {
        return false;
    }
    let separator = separator(&wanted.name);
    match &wanted.value {
        ValueMatch::Exact(text) => joined_is(&values, separator, text.as_bytes()),
        ValueMatch::Regex(regex) => {
            std::str::from_utf8(&joined(&values, separator)).is_ok_and(|text| regex.is_match(text))
        }
    }
}

/// HTTP/2 splits cookies as it likes; they are put together with a semicolon (RFC 9113 section 8.2.3).
fn separator(name: &HeaderName) -> &'static [u8] {
    if *name == header::COOKIE { b"; " } else { b", " }
}

fn joined_is(values: &GetAll<'_, HeaderValue>, separator: &[u8], wanted: &[u8]) -> bool {
    let mut rest = Some(wanted);
    for (n, value) in values.iter().enumerate() {
        let between = if n == 0 { b"" } else { separator };
        rest = rest.and_then(|r| r.strip_prefix(between)?.strip_prefix(value.as_bytes()));
    }
    rest.is_some_and(<[u8]>::is_empty)
}

fn joined<'v>(values: &GetAll<'v, HeaderValue>, separator: &[u8]) -> Cow<'v, [u8]> {
    let mut each = values.iter();
    match (each.next(), each.next()) {
        (None, _) => Cow::Borrowed(b""),
        (Some(only), None) => Cow::Borrowed(only.as_bytes()),
        (Some(_), Some(_)) => {
            let all: Vec<&[u8]> = values.iter().map(HeaderValue::as_bytes).collect();
            Cow::Owned(all.join(separator))
        }
    }
}

/// Of a parameter sent more than once the first counts (HTTPQueryParamMatch recommends it). Name and value are
/// compared decoded, as the application will read them.
fn query_holds(wanted: &QueryMatch, request: &Inquiry<'_>) -> bool {
    let Some(value) = parameters(wanted, request).next() else { return false };
    match &wanted.value {
        ValueMatch::Exact(text) => decoded(value).eq(text.bytes()),
        ValueMatch::Regex(regex) => {
            let value: Vec<u8> = decoded(value).collect();
            std::str::from_utf8(&value).is_ok_and(|text| regex.is_match(text))
        }
    }
}

/// The values of the parameter, undecoded.
fn parameters<'r>(wanted: &QueryMatch, request: &Inquiry<'r>) -> impl Iterator<Item = &'r str> {
    let query = request.query.unwrap_or_default();
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(name, _)| decoded(name).eq(wanted.name.bytes())).map(|(_, value)| value)
}

/// The bytes that `application/x-www-form-urlencoded` text stands for; a broken escape stands for itself.
fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let mut rest = text.as_bytes();
    iter::from_fn(move || {
        let (byte, after) = match rest {
            [] => return None,
            [b'+', after @ ..] => (b' ', after),
            [b'%', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(*high) * 16 + hex(*low), after)
            }
            [byte, after @ ..] => (*byte, after),
        };
        rest = after;
        Some(byte)
    })
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.to_ascii_lowercase() - b'a' + 10,
    }
}
