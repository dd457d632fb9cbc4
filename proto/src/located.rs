//! A YAML document read by a JSON Schema into a type, all problems told at once, each with its place.

use crate::{
    Position, Problem, check,
    node::{self, Node},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;
use serde_saphyr::Spanned;
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

/// A document whose fields know where they were written.
#[derive(Clone, Debug)]
pub struct Located {
    source: String,
    resource: String,
    value: Value,
    /// The text, and the how manieth of its documents this is.
    text: Arc<Text>,
    index: usize,
    overlaid: HashMap<String, String>,
}

/// A YAML text and the places of its documents' fields, which are looked for when somebody asks first: of a text without
/// problems nobody does.
#[derive(Debug, Default)]
struct Text {
    text: String,
    places: OnceLock<Vec<HashMap<String, Position>>>,
}

impl Text {
    fn places(&self) -> &[HashMap<String, Position>] {
        self.places.get_or_init(|| node::located(&self.text).into_iter().map(places).collect())
    }
}

impl Located {
    /// Reads each document of a YAML text. Empty documents are left out.
    pub fn parse(source: &str, text: &str) -> Result<Vec<Self>, Box<Problem>> {
        let documents = node::values(source, text)?;
        let text = Arc::new(Text { text: text.to_owned(), places: OnceLock::new() });
        let located = documents.into_iter().enumerate().map(|(index, value)| Self {
            source: source.to_owned(),
            resource: String::new(),
            value,
            text: Arc::clone(&text),
            index,
            overlaid: HashMap::new(),
        });
        Ok(located.filter(|document| !document.value.is_null()).collect())
    }

    /// A document without content, to be filled by [`Self::overlay`].
    pub fn empty(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            resource: String::new(),
            value: Value::Object(Map::new()),
            text: Arc::default(),
            index: 0,
            overlaid: HashMap::new(),
        }
    }

    /// A value that was never written.
    pub(crate) fn of_value(source: &str, value: Value) -> Self {
        Self { value, ..Self::empty(source) }
    }

    /// What the document says, without types.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The file's name.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Where a field was written; of a field that is not there, where the nearest field round it was.
    pub fn line_of(&self, field: &str) -> Option<Position> {
        let places = self.text.places().get(self.index)?;
        enclosing(field).find_map(|field| places.get(field)).copied()
    }

    /// A problem of a field, with its place. `value` is what was found there, as JSON, or empty.
    pub fn problem(
        &self,
        field: &str,
        value: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Problem {
        let overlaid = self.overlaid(field);
        Problem {
            source: overlaid.unwrap_or(&self.source).clone(),
            position: overlaid.is_none().then(|| self.line_of(field)).flatten(),
            resource: self.resource.clone(),
            field: field.to_owned(),
            value: value.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// Puts a value that came from elsewhere, such as an environment variable, in place of the document's.
    pub fn overlay(&mut self, path: &[&str], value: Value, source: &str) {
        let mut at = &mut self.value;
        for key in path {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            let Value::Object(fields) = at else { return };
            at = fields.entry(*key).or_insert(Value::Null);
        }
        *at = value;
        let field = path.iter().fold(String::new(), |field, key| join_key(&field, key));
        self.overlaid.insert(field, source.to_owned());
    }

    /// The document as a `T`, if it obeys `definition` (`#/$defs/…`, or the whole schema if empty). Uses up its value; the
    /// places stay.
    pub fn typed<T: DeserializeOwned>(
        &mut self,
        schema: &Value,
        definition: &str,
    ) -> Result<T, Vec<Problem>> {
        self.typed_without(schema, definition, &[])
    }

    /// What a field's value came from, if not from the document.
    fn overlaid(&self, field: &str) -> Option<&String> {
        enclosing(field).find_map(|field| self.overlaid.get(field))
    }

    /// Names the resource that problems of this document are of.
    pub(crate) fn set_resource(&mut self, resource: String) {
        self.resource = resource;
    }

    /// What is left of the document as a `T`, after [`Self::typed_without`] has found something wrong in it.
    pub(crate) fn rest<T: DeserializeOwned>(&mut self, omitted: &[&str]) -> Option<T> {
        serde_json::from_value(lacking(std::mem::take(&mut self.value), omitted)).ok()
    }

    /// As [`Self::typed`]; fields in `omitted` are in the schema but not in the type.
    pub(crate) fn typed_without<T: DeserializeOwned>(
        &mut self,
        schema: &Value,
        definition: &str,
        omitted: &[&str],
    ) -> Result<T, Vec<Problem>> {
        let mut value = std::mem::take(&mut self.value);
        let findings = check::check(schema, definition, &mut value);
        if !findings.is_empty() {
            self.value = check::without(value, &findings);
            let told = |found: check::Finding| {
                // A variable is text, whatever is needed: to say so would explain nothing.
                let of_text = found.problem.strip_prefix("a string where ");
                let needed = of_text.and_then(|rest| rest.strip_suffix(" is needed"));
                let problem = match needed.filter(|_| self.overlaid(&found.field).is_some()) {
                    Some(needed) => format!("not {needed}"),
                    None => found.problem,
                };
                self.problem(&found.field, found.value, problem, found.remedy)
            };
            let mut problems: Vec<_> = findings.into_iter().map(told).collect();
            problems.sort_by_key(|problem| problem.position);
            return Err(problems);
        }
        // The schema is checked first, because serde stops at the first problem. Serde has the last word.
        serde_path_to_error::deserialize(lacking(value, omitted)).map_err(|error| {
            let field = error.path().iter().fold(String::new(), |field, segment| match segment {
                Segment::Seq { index } => join_index(&field, *index),
                Segment::Map { key } => join_key(&field, key),
                Segment::Enum { variant } => join_key(&field, variant),
                Segment::Unknown => field,
            });
            vec![self.problem(&field, "", error.inner().to_string(), "write a value of the documented form")]
        })
    }
}

/// A value without these fields.
fn lacking(mut value: Value, omitted: &[&str]) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.retain(|name, _| !omitted.contains(&name.as_str()));
    }
    value
}

/// The path of a field within an object.
pub(crate) fn join_key(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    match (plain, path.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{path}.{key}"),
        (false, _) => format!("{path}[{key:?}]"),
    }
}

/// The path of an item within a list.
pub(crate) fn join_index(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// A path, the path round it, and so on to the whole document.
fn enclosing(field: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(field), |field| {
        (!field.is_empty()).then(|| &field[..field.rfind(['.', '[']).unwrap_or(0)])
    })
}

/// The place of each field of a document.
fn places(root: Spanned<Node>) -> HashMap<String, Position> {
    let mut places = HashMap::from([(String::new(), node::position(root.referenced))]);
    place(root.value, "", &mut places);
    places
}

fn place(node: Node, path: &str, places: &mut HashMap<String, Position>) {
    match node {
        Node::Scalar => {}
        Node::List(items) => {
            for (index, item) in items.into_iter().enumerate() {
                let path = join_index(path, index);
                places.insert(path.clone(), node::position(item.referenced));
                place(item.value, &path, places);
            }
        }
        Node::Map(entries) => {
            for (key, item) in entries {
                let path = join_key(path, &key.value);
                places.insert(path.clone(), member_position(&key, &item));
                place(item.value, &path, places);
            }
        }
    }
}

/// A member is where its value is, if that is on the line of its key; a block begins at its key.
fn member_position(key: &Spanned<String>, item: &Spanned<Node>) -> Position {
    let (key, item) = (node::position(key.referenced), node::position(item.referenced));
    if key.line == item.line || key.line == 0 { item } else { key }
}

#[cfg(test)]
#[path = "located_tests.rs"]
mod tests;
