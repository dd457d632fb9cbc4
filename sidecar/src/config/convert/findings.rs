//! The problems of a policy, gathered while it is read.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt::Display,
    hash::Hash,
    str::FromStr,
};

use trama_proto::{Problem, Problems, did_you_mean, document::Document};

/// All problems so far.
#[derive(Default)]
pub(super) struct Findings(Vec<Problem>);

impl Findings {
    /// Goes on from these.
    pub(super) const fn of(problems: Vec<Problem>) -> Self {
        Self(problems)
    }

    /// Adds a problem. `value` is what was found, as JSON, or empty.
    pub(super) fn add(
        &mut self,
        document: &Document,
        field: &str,
        value: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(document.problem(field, value, problem, remedy));
    }

    /// Adds that a name stands for nothing, with the known name that it may be a slip of.
    pub(super) fn unknown<'a>(
        &mut self,
        document: &Document,
        field: &str,
        name: &str,
        what: &str,
        known: impl Iterator<Item = &'a str>,
    ) {
        let known: Vec<_> = known.collect();
        let remedy = match did_you_mean(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "define it, or remove the reference".to_owned(),
            None => format!("define it, or name one of: {}", known.join(", ")),
        };
        self.add(document, field, quoted(name), format!("no such {what}"), remedy);
    }

    /// Reads a text form, or adds why it cannot be read.
    pub(super) fn parse<T: FromStr<Err: Display>>(
        &mut self,
        document: &Document,
        field: &str,
        text: &str,
        what: &str,
    ) -> Option<T> {
        let parsed = text.parse::<T>();
        parsed
            .map_err(|error| {
                self.add(document, field, quoted(text), error.to_string(), format!("write {what}"))
            })
            .ok()
    }

    /// A port number, or a problem.
    pub(super) fn port(&mut self, document: &Document, field: &str, port: u32) -> Option<u16> {
        let checked = u16::try_from(port).ok().filter(|port| *port != 0);
        if checked.is_none() {
            self.add(document, field, port.to_string(), "not a port", "write a whole number from 1 to 65535");
        }
        checked
    }

    /// `value` if there is no problem; else the problems.
    pub(super) fn none_or<T>(self, value: T) -> Result<T, Problems> {
        if self.0.is_empty() { Ok(value) } else { Err(self.in_order()) }
    }

    /// The problems in the order of the file, each once: what is wrong with a rule is found again for each of its parents.
    pub(super) fn in_order(mut self) -> Problems {
        self.0.sort_by(|a, b| (&a.source, a.position, &a.field).cmp(&(&b.source, b.position, &b.field)));
        self.0.dedup();
        Problems(self.0)
    }
}

/// A text as JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Who was the first to say something that may be said only once.
pub(super) struct Claims<'d, K>(HashMap<K, (&'d Document, String)>);

impl<K> Default for Claims<'_, K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<'d, K: Eq + Hash> Claims<'d, K> {
    /// Notes that `field` of `document` says `key`. If it was said before: by whom and where.
    pub(super) fn claim(&mut self, key: K, document: &'d Document, field: &str) -> Option<Claim<'d>> {
        match self.0.entry(key) {
            Entry::Vacant(free) => {
                free.insert((document, field.to_owned()));
                None
            }
            Entry::Occupied(taken) => {
                let (first, field) = taken.get();
                Some(Claim { first, place: first.place(field) })
            }
        }
    }
}

/// The first to say something.
pub(super) struct Claim<'d> {
    pub(super) first: &'d Document,
    pub(super) place: String,
}

impl Display for Claim<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.first.id, self.place)
    }
}
