//! The conditions of a rule.

use http::{HeaderName, Method};
use regex::Regex;
use trama_proto::{
    document::Document,
    policy::v1::{PathMatch as PathMessage, RouteMatch, header_match, path_match, query_param_match},
};

use super::findings::{Findings, quoted};
use crate::config::snapshot::{HeaderMatch, Match, PathMatch, QueryMatch, ValueMatch, whole_regex};

/// What makes two conditions the same to a request: equal keys match equal requests.
pub(super) type Key = (String, String, Vec<String>, Vec<String>);

/// A condition that is read, and its key.
pub(super) struct Condition {
    pub(super) condition: Match,
    pub(super) key: Key,
}

/// Reads one match of a rule. `field` is its place.
pub(super) fn read(
    document: &Document,
    field: &str,
    message: &RouteMatch,
    findings: &mut Findings,
) -> Option<Condition> {
    let mut reader = Reader { document, field, findings };
    let path = reader.path(message.path.as_ref());
    let method = reader.method(&message.method);
    let headers = reader.headers(message);
    let query = reader.query(message);
    let condition = Match { path: path?, method: method?, headers: headers?, query: query? };
    Some(Condition { key: key(&condition), condition })
}

/// The key of a condition. Conditions on headers and parameters hold in any order.
fn key(condition: &Match) -> Key {
    let path = match &condition.path {
        PathMatch::Exact(path) => format!("exact {path}"),
        PathMatch::Prefix(prefix) => format!("prefix {prefix}"),
        PathMatch::Regex(regex) => format!("regex {regex}"),
    };
    let value = |value: &ValueMatch| match value {
        ValueMatch::Exact(text) => format!("= {text}"),
        ValueMatch::Regex(regex) => format!("~ {regex}"),
    };
    let mut headers: Vec<_> =
        condition.headers.iter().map(|header| format!("{} {}", header.name, value(&header.value))).collect();
    let mut query: Vec<_> =
        condition.query.iter().map(|it| format!("{} {}", it.name, value(&it.value))).collect();
    headers.sort();
    query.sort();
    (path, condition.method.as_ref().map(Method::to_string).unwrap_or_default(), headers, query)
}

struct Reader<'a, 'f> {
    document: &'a Document,
    field: &'a str,
    findings: &'f mut Findings,
}

impl Reader<'_, '_> {
    fn path(&mut self, message: Option<&PathMessage>) -> Option<PathMatch> {
        let Some(message) = message else { return Some(PathMatch::Prefix("".into())) };
        let text = if message.value.is_empty() { "/" } else { &message.value };
        if message.r#type() == path_match::Type::RegularExpression {
            return self.regex("path.value", text).map(PathMatch::Regex);
        }
        let wrong = |what: &str| format!("write a path that starts with a slash{what}");
        if !text.starts_with('/') {
            self.add("path.value", text, "not an absolute path", &wrong(", such as `/v1`"));
            return None;
        }
        if text.contains(['?', '#']) {
            self.add("path.value", text, "not a path alone", &wrong(" and has no query; see `queryParams`"));
            return None;
        }
        Some(match message.r#type() {
            path_match::Type::Exact => PathMatch::Exact(text.into()),
            _ => PathMatch::Prefix(text.trim_end_matches('/').into()),
        })
    }

    /// `Some(None)`: any method.
    fn method(&mut self, text: &str) -> Option<Option<Method>> {
        if text.is_empty() {
            return Some(None);
        }
        let parsed = Method::from_bytes(text.as_bytes()).ok();
        if parsed.is_none() {
            self.add("method", text, "not a method", "write an HTTP method, such as `GET`");
        }
        parsed.map(Some)
    }

    fn headers(&mut self, message: &RouteMatch) -> Option<Vec<HeaderMatch>> {
        let mut headers: Vec<HeaderMatch> = Vec::new();
        for (at, it) in message.headers.iter().enumerate() {
            let field = format!("headers[{at}]");
            let name = HeaderName::from_bytes(it.name.as_bytes()).ok()?;
            if headers.iter().any(|other| other.name == name) {
                self.add(
                    &format!("{field}.name"),
                    &it.name,
                    "used twice",
                    "join the two into one regular expression",
                );
            }
            let regex = it.r#type() == header_match::Type::RegularExpression;
            headers.push(HeaderMatch { name, value: self.value(&field, regex, &it.value)? });
        }
        Some(headers)
    }

    fn query(&mut self, message: &RouteMatch) -> Option<Vec<QueryMatch>> {
        let mut query: Vec<QueryMatch> = Vec::new();
        for (at, it) in message.query_params.iter().enumerate() {
            let field = format!("queryParams[{at}]");
            if query.iter().any(|other| *other.name == *it.name) {
                self.add(
                    &format!("{field}.name"),
                    &it.name,
                    "used twice",
                    "join the two into one regular expression",
                );
            }
            let regex = it.r#type() == query_param_match::Type::RegularExpression;
            query.push(QueryMatch {
                name: it.name.as_str().into(),
                value: self.value(&field, regex, &it.value)?,
            });
        }
        Some(query)
    }

    fn value(&mut self, field: &str, regex: bool, text: &str) -> Option<ValueMatch> {
        if regex {
            return self.regex(&format!("{field}.value"), text).map(ValueMatch::Regex);
        }
        Some(ValueMatch::Exact(text.into()))
    }

    /// A regular expression over the whole text.
    fn regex(&mut self, field: &str, text: &str) -> Option<Regex> {
        whole_regex(text)
            .map_err(|error| {
                let error = error.to_string();
                let last = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
                self.add(field, text, "not a regular expression", &format!("correct it: {last}"));
            })
            .ok()
    }

    fn add(&mut self, name: &str, value: &str, problem: &str, remedy: &str) {
        self.findings.add(self.document, &format!("{}.{name}", self.field), quoted(value), problem, remedy);
    }
}
