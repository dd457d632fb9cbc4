//! A value checked against a JSON Schema (2020-12, as far as our schemas go), with words for people.
//!
//! A validator's own messages speak of schemas; these speak of the file: what was meant, what is allowed. What is
//! not understood here is left to the type behind the schema. Durations are brought to their canonical form.

use crate::{
    did_you_mean, duration,
    located::{join_index, join_key},
};
use regex::Regex;
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

/// The definition whose strings are durations.
const DURATION: &str = "#/$defs/Duration";
/// The format of strings that are IP addresses.
const ADDRESS: &str = "ip";

/// One violation. The fields are those of [`crate::Problem`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) field: String,
    /// The field as a JSON Pointer (RFC 6901).
    pointer: String,
    pub(crate) value: String,
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

/// Checks `value` against a definition of `schema`, or against the whole schema if `definition` is empty.
pub(crate) fn check(schema: &Value, definition: &str, value: &mut Value) -> Vec<Finding> {
    let mut checker = Checker { root: schema, findings: Vec::new() };
    let start = if definition.is_empty() { schema } else { checker.definition(definition) };
    checker.visit(start, value, &Path::Whole);
    checker.findings
}

/// What is left of a value without what was found in it. An item of a list becomes empty, so that the others keep their places.
pub(crate) fn without(mut value: Value, findings: &[Finding]) -> Value {
    for Finding { pointer, .. } in findings {
        let Some((parent, last)) = pointer.rsplit_once('/') else { return Value::Null };
        match value.pointer_mut(parent) {
            Some(Value::Object(fields)) => drop(fields.remove(&last.replace("~1", "/").replace("~0", "~"))),
            Some(Value::Array(items)) => {
                if let Some(item) = last.parse::<usize>().ok().and_then(|at| items.get_mut(at)) {
                    *item = if item.is_string() { "".into() } else { Map::new().into() };
                }
            }
            _ => {}
        }
    }
    value
}

/// The way to a field. It becomes text only for a finding: most fields are right.
enum Path<'p> {
    Whole,
    Key(&'p Self, &'p str),
    Index(&'p Self, usize),
}

impl Path<'_> {
    fn field(&self) -> String {
        match self {
            Self::Whole => String::new(),
            Self::Key(group, name) => join_key(&group.field(), name),
            Self::Index(list, index) => join_index(&list.field(), *index),
        }
    }

    fn pointer(&self) -> String {
        match self {
            Self::Whole => String::new(),
            Self::Key(group, name) => {
                format!("{}/{}", group.pointer(), name.replace('~', "~0").replace('/', "~1"))
            }
            Self::Index(list, index) => format!("{}/{index}", list.pointer()),
        }
    }
}

struct Checker<'s> {
    root: &'s Value,
    findings: Vec<Finding>,
}

impl<'s> Checker<'s> {
    fn visit(&mut self, schema: &'s Value, value: &mut Value, path: &Path<'_>) {
        if let Some(reference) = schema["$ref"].as_str() {
            let before = self.findings.len();
            self.visit(self.definition(reference), value, path);
            if reference == DURATION && self.findings.len() == before {
                self.canonical_duration(value, path);
            }
            return;
        }
        if value.is_null() {
            return self.add(path, "", "empty", "give it a value or remove the line");
        }
        if let Some(present) = without_null(schema) {
            return self.visit(present, value, path);
        }
        let choices = choices(schema);
        if !choices.is_empty() {
            return self.choice(&choices, value, path);
        }
        match value {
            Value::Object(fields) if is(schema, "object") => self.object(schema, fields, path),
            Value::Array(items) if is(schema, "array") => self.array(schema, items, path),
            Value::String(text) if is(schema, "string") => self.string(schema, text, path),
            Value::Number(_) if is(schema, "integer") || is(schema, "number") => {
                self.number(schema, value, path)
            }
            Value::Bool(_) if is(schema, "boolean") => {}
            _ if schema.get("type").is_none() => {}
            _ => self.wrong_type(schema, value, path),
        }
    }

    fn object(&mut self, schema: &'s Value, fields: &mut Map<String, Value>, path: &Path<'_>) {
        let empty = Map::new();
        let known = schema["properties"].as_object().unwrap_or(&empty);
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                let remedy = format!("add it: {}", summary(self.described(&schema["properties"][name])));
                self.add(&Path::Key(path, name), "", "missing", remedy);
            }
        }
        for (name, value) in fields.iter_mut() {
            let path = Path::Key(path, name);
            match (schema["properties"].get(name), schema.get("additionalProperties")) {
                (Some(property), _) => self.visit(property, value, &path),
                (None, Some(Value::Bool(false))) => {
                    let remedy = spelling(name, known.keys().map(String::as_str));
                    self.add(&path, "", "unknown field", remedy);
                }
                (None, Some(other)) => self.visit(other, value, &path),
                (None, None) => {}
            }
        }
        let most = schema["maxProperties"].as_u64().unwrap_or(u64::MAX);
        let least = schema["minProperties"].as_u64().unwrap_or(0);
        let count = fields.len() as u64;
        if count < least || count > most {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            let problem = format!("{count} fields where exactly one is needed");
            self.add(path, "", problem, format!("keep one of: {}", names.join(", ")));
        }
    }

    fn array(&mut self, schema: &'s Value, items: &mut [Value], path: &Path<'_>) {
        if (items.len() as u64) < schema["minItems"].as_u64().unwrap_or(0) {
            self.add(path, "[]", "empty list", "add at least one item");
        }
        for (index, item) in items.iter_mut().enumerate() {
            self.visit(&schema["items"], item, &Path::Index(path, index));
        }
    }

    fn string(&mut self, schema: &'s Value, text: &str, path: &Path<'_>) {
        let is_no_address = schema["format"] == ADDRESS && text.parse::<IpAddr>().is_err();
        let pattern = schema["pattern"].as_str().and_then(compiled);
        if is_no_address || pattern.is_some_and(|pattern| !pattern.is_match(text)) {
            self.add(path, quoted(text), "malformed", format!("write {}", expected(schema)));
        }
    }

    fn number(&mut self, schema: &Value, value: &Value, path: &Path<'_>) {
        if is(schema, "integer") && !(value.is_u64() || value.is_i64()) {
            return self.wrong_type(schema, value, path);
        }
        let number = value.as_f64().unwrap_or(f64::NAN);
        let least = schema["minimum"].as_f64().unwrap_or(f64::NEG_INFINITY);
        let most = schema["maximum"].as_f64().unwrap_or(f64::INFINITY);
        if !(least..=most).contains(&number) {
            self.add(path, value.to_string(), "out of range", format!("write {}", expected(schema)));
        }
    }

    fn choice(&mut self, choices: &[&str], value: &Value, path: &Path<'_>) {
        match value.as_str() {
            Some(word) if choices.contains(&word) => {}
            Some(word) => {
                self.add(path, quoted(word), "not an allowed value", spelling(word, choices.iter().copied()))
            }
            None => self.add(
                path,
                shown(value),
                format!("{} where a word is needed", kind(value)),
                format!("write one of: {}", choices.join(", ")),
            ),
        }
    }

    fn wrong_type(&mut self, schema: &Value, value: &Value, path: &Path<'_>) {
        let problem = format!("{} where {} is needed", kind(value), needed(schema));
        let remedy = match value {
            Value::String(text)
                if is(schema, "boolean") && ["yes", "on"].contains(&&*text.to_lowercase()) =>
            {
                "write true".to_owned()
            }
            Value::String(text)
                if is(schema, "boolean") && ["no", "off"].contains(&&*text.to_lowercase()) =>
            {
                "write false".to_owned()
            }
            Value::String(text) if !is(schema, "array") && serde_json::from_str::<Value>(text).is_ok() => {
                "remove the quotes".to_owned()
            }
            Value::Number(_) | Value::Bool(_) if is(schema, "string") && schema.get("title").is_none() => {
                "put it in quotes".to_owned()
            }
            _ => format!("write {}", expected(schema)),
        };
        self.add(path, shown(value), problem, remedy);
    }

    fn canonical_duration(&mut self, value: &mut Value, path: &Path<'_>) {
        let Some(text) = value.as_str() else { return };
        match duration::parse(text) {
            Some(length) => *value = duration::format(length).into(),
            None => self.add(path, quoted(text), "too long to be held", "write less than 500 years"),
        }
    }

    fn definition(&self, reference: &str) -> &'s Value {
        reference.strip_prefix("#/$defs/").map_or(&Value::Null, |name| &self.root["$defs"][name])
    }

    /// The description of a property, or else of what it refers to.
    fn described(&self, property: &'s Value) -> &'s str {
        let own = property["description"].as_str();
        own.or_else(|| self.definition(property["$ref"].as_str()?)["description"].as_str()).unwrap_or("")
    }

    fn add(
        &mut self,
        path: &Path<'_>,
        value: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.findings.push(Finding {
            field: path.field(),
            pointer: path.pointer(),
            value: value.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }
}

/// The alternative that is not null, of a schema that also allows null (an optional field of a Rust type).
fn without_null(schema: &Value) -> Option<&Value> {
    let alternatives = schema["anyOf"].as_array()?;
    let [present, absent] = alternatives.as_slice() else { return None };
    (absent["type"] == "null").then_some(present)
}

/// The words that a schema allows, in whichever of the three ways it says so.
fn choices(schema: &Value) -> Vec<&str> {
    let listed = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let described = schema["oneOf"].as_array().into_iter().flatten();
    let described = described.flat_map(|choice| {
        let several = choice["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
        choice["const"].as_str().into_iter().chain(several)
    });
    schema["const"].as_str().into_iter().chain(listed).chain(described).collect()
}

fn is(schema: &Value, name: &str) -> bool {
    match &schema["type"] {
        Value::Array(names) => names.iter().any(|known| known == name),
        one => one == name,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a fractional number",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a group of fields",
    }
}

fn needed(schema: &Value) -> &'static str {
    let names = [
        ("object", "a group of fields"),
        ("array", "a list"),
        ("string", "a string"),
        ("integer", "a whole number"),
        ("number", "a number"),
        ("boolean", "true or false"),
    ];
    names.iter().find(|(name, _)| is(schema, name)).map_or("another value", |(_, words)| words)
}

/// What a schema expects, in the words of its title where it has one.
fn expected(schema: &Value) -> String {
    if let Some(title) = schema["title"].as_str() {
        return title.to_owned();
    }
    if schema["format"] == ADDRESS {
        return "an IP address, such as 0.0.0.0 or ::".to_owned();
    }
    match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(least), Some(most)) if most < f64::from(u32::MAX) => {
            format!("{} from {least} to {most}", needed(schema))
        }
        (Some(least), _) => format!("{} of at least {least}", needed(schema)),
        (None, Some(most)) => format!("{} of at most {most}", needed(schema)),
        (None, None) => needed(schema).to_owned(),
    }
}

fn spelling<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let all = known.clone().collect::<Vec<_>>().join(", ");
    match did_you_mean(word, known) {
        Some(near) => format!("did you mean `{near}`? Known: {all}"),
        None => format!("known: {all}"),
    }
}

/// The first sentence of a description.
fn summary(description: &str) -> &str {
    let line = description.lines().next().unwrap_or_default();
    line.split_once(". ").map_or(line, |(first, _)| first).trim_end_matches('.')
}

fn quoted(text: &str) -> String {
    shown(&Value::String(text.to_owned()))
}

/// A value as JSON, cut where it gets long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A pattern of a schema, compiled once in the life of the process: a policy has hundreds of documents, and compiling costs
/// more than all the rest of reading one. Shared and not cloned: each clone would build its automaton anew.
fn compiled(pattern: &str) -> Option<Arc<Regex>> {
    static COMPILED: LazyLock<Mutex<HashMap<String, Option<Arc<Regex>>>>> = LazyLock::new(Mutex::default);
    let mut known = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(compiled) = known.get(pattern) {
        return compiled.clone();
    }
    let compiled = Regex::new(pattern).ok().map(Arc::new);
    known.insert(pattern.to_owned(), compiled.clone());
    compiled
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
