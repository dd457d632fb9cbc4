//! Changes to headers.

use http::{HeaderName, HeaderValue, header::HOST};
use trama_proto::{document::Document, policy::v1::HeaderModifier as HeaderModifierMessage};

use super::findings::{Findings, quoted};
use crate::config::snapshot::{HeaderChange, HeaderModifier, is_framing};

/// The changes of a modifier, or what is wrong with them.
pub(super) fn modifier(
    document: &Document,
    field: &str,
    message: &HeaderModifierMessage,
    findings: &mut Findings,
) -> HeaderModifier {
    let mut changes = |list: &str, values: &[trama_proto::policy::v1::HeaderValue]| {
        let mut changes = Vec::new();
        for (at, it) in values.iter().enumerate() {
            let place = format!("{field}.{list}[{at}]");
            let name = header_name(document, &format!("{place}.name"), &it.name, findings);
            let value = HeaderValue::from_str(&it.value).ok();
            if value.is_none() {
                let remedy = "write visible ASCII characters, spaces and tabs";
                let place = format!("{place}.value");
                findings.add(document, &place, quoted(&it.value), "not a header value", remedy);
            }
            changes.extend(name.zip(value).map(|(name, value)| HeaderChange { name, value }));
        }
        changes
    };
    let (set, add) = (changes("set", &message.set), changes("add", &message.add));
    let names = message.remove.iter().enumerate();
    let remove = names
        .filter_map(|(at, name)| header_name(document, &format!("{field}.remove[{at}]"), name, findings));
    HeaderModifier { set, add, remove: remove.collect() }
}

/// A field's name. Those that frame a message or name the destination are not a policy's to change, and those that
/// sidecars tell each other something by would say what is not so.
fn header_name(document: &Document, field: &str, text: &str, findings: &mut Findings) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(text.as_bytes()).ok();
    let problem = match &name {
        None => "not a header field's name",
        Some(name) if is_framing(name) || *name == HOST || name.as_str().starts_with("trama-") => {
            "a field that policy may not change"
        }
        Some(_) => return name,
    };
    let remedy = "name another field; `urlRewrite` changes the authority";
    findings.add(document, field, quoted(text), problem, remedy);
    None
}
