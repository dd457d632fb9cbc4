//! The fields of a JSON Schema as tables, one for each group of fields, in the order in which a reader meets them.

use std::{collections::BTreeSet, fmt::Write};

use serde_json::{Map, Value};

/// Above it a bound says no more than the type does.
const HARDLY_A_BOUND: u64 = u32::MAX as u64;

/// The tables of a schema.
pub(crate) struct Tables<'s> {
    schema: &'s Value,
    /// What this version refuses, as `Kind.spec.list[].field`, or with a value as `Kind.spec.field=VALUE`.
    refused: &'s BTreeSet<String>,
    groups: Vec<Group<'s>>,
    shapes: BTreeSet<&'s str>,
}

/// An object with fields of its own.
struct Group<'s> {
    name: &'s str,
    path: String,
    schema: &'s Value,
    /// Whatever names it is refused.
    refused: bool,
    outermost: bool,
}

impl<'s> Tables<'s> {
    pub(crate) fn of(schema: &'s Value, refused: &'s BTreeSet<String>) -> Self {
        Self { schema, refused, groups: Vec::new(), shapes: BTreeSet::new() }
    }

    /// The group of a definition and of all that it leads to.
    pub(crate) fn add_definition(&mut self, name: &'s str) {
        let schema = &self.schema["$defs"][name];
        let refused = self.refused.contains(&format!("{name}.kind"));
        self.add(Group { name, path: name.to_owned(), schema, refused, outermost: true });
    }

    /// The schema's own fields, and all that they lead to.
    pub(crate) fn add_whole(&mut self, name: &'s str) {
        let schema = self.schema;
        self.add(Group { name, path: String::new(), schema, refused: false, outermost: true });
    }

    fn add(&mut self, group: Group<'s>) {
        let (schema, path, refused) = (group.schema, group.path.clone(), group.refused);
        match self.groups.iter_mut().find(|known| known.name == group.name) {
            Some(known) if !known.refused || refused => return,
            Some(known) => *known = group,
            None => self.groups.push(group),
        }
        for (name, property) in in_order(schema) {
            let path = join(&path, name);
            let (item, path) = match property.get("items") {
                Some(item) => (item, format!("{path}[]")),
                None => (property, path),
            };
            let Some(name) = reference(item) else { continue };
            let schema = &self.schema["$defs"][name];
            if schema.get("properties").is_some() {
                let refused = refused || self.refused.contains(path.trim_end_matches("[]"));
                self.add(Group { name, path, schema, refused, outermost: false });
            } else if choices(schema).is_empty() {
                self.shapes.insert(name);
            }
        }
    }

    /// All groups, then the shapes that their fields have.
    pub(crate) fn write(&self, page: &mut String) {
        for group in &self.groups {
            let depth = if group.outermost { "##" } else { "###" };
            let text = one_line(group.schema["description"].as_str().unwrap_or_default());
            let _ = writeln!(page, "\n{depth} {}\n\n{text}", group.name);
            if group.refused {
                let _ = writeln!(page, "\n**Refused by this version**, with all its fields.");
            }
            let _ = writeln!(page, "\n| Field | Type | Default | Meaning |\n|---|---|---|---|");
            for (name, property) in in_order(group.schema) {
                let _ = writeln!(page, "{}", self.row(group, name, property));
            }
        }
        let _ = writeln!(page, "\n## Shapes of values\n\n| Shape | What it is | Rule |\n|---|---|---|");
        for name in &self.shapes {
            let shape = &self.schema["$defs"][*name];
            let words = shape["title"].as_str().unwrap_or_default();
            let source = shape["description"].as_str().unwrap_or_default();
            let _ = writeln!(page, "| `{name}` | {} | {} |", one_line(words), one_line(source));
        }
    }

    fn row(&self, group: &Group<'_>, name: &str, property: &Value) -> String {
        let path = join(&group.path, name);
        let refused = group.refused || self.refused.contains(&path);
        let required = group.schema["required"].as_array().into_iter().flatten().any(|it| it == name);
        let default = match property.get("default") {
            _ if required => "required".to_owned(),
            // What is refused has no effect that could be there by default.
            _ if refused => String::new(),
            Some(value) => of_default(value),
            None => String::new(),
        };
        let mut meaning = one_line(property["description"].as_str().unwrap_or_default());
        let named = reference(property).map(|name| &self.schema["$defs"][name]);
        for choice in named.into_iter().flat_map(described_choices) {
            meaning += &format!("<br>{choice}");
        }
        let values: Vec<_> = self.refused_values(&path).map(|value| format!("`{value}`")).collect();
        if refused && !group.refused {
            meaning = format!("**Refused by this version.** {meaning}");
        } else if !values.is_empty() {
            meaning += &format!("<br>**This version refuses {}.**", values.join(", "));
        }
        format!("| `{name}` | {} | {default} | {meaning} |", self.kind(property))
    }

    fn refused_values(&self, path: &str) -> impl Iterator<Item = &str> {
        let prefix = format!("{path}=");
        self.refused.iter().filter_map(move |it| it.strip_prefix(prefix.as_str()))
    }

    fn kind(&self, schema: &Value) -> String {
        if let Some(name) = reference(schema) {
            let target = &self.schema["$defs"][name];
            return match () {
                () if target.get("properties").is_some() => format!("[{name}](#{})", name.to_lowercase()),
                () if !choices(target).is_empty() => "one of the words".to_owned(),
                () => format!("[{name}](#shapes-of-values)"),
            };
        }
        if let Some(value) = schema.get("const") {
            return of_default(value);
        }
        if !choices(schema).is_empty() {
            return "one of the words".to_owned();
        }
        match schema["type"].as_str() {
            Some("array") => format!("list of {}", self.kind(&schema["items"])),
            Some("integer") => format!("whole number{}", bounds(schema)),
            Some("number") => format!("number{}", bounds(schema)),
            Some("boolean") => "`true` or `false`".to_owned(),
            Some("object") if schema.get("additionalProperties").is_some() => "texts by name".to_owned(),
            Some("object") => "any fields".to_owned(),
            _ if schema["format"] == "ip" => "IP address".to_owned(),
            _ => "text".to_owned(),
        }
    }
}

/// Required fields first, the others by name.
pub(crate) fn in_order(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let required =
        move |name: &String| schema["required"].as_array().is_some_and(|all| all.iter().any(|it| it == name));
    let fields = || schema["properties"].as_object().into_iter().flat_map(Map::iter);
    let first = fields().filter(move |(name, _)| required(name));
    first.chain(fields().filter(move |(name, _)| !required(name)))
}

/// The definition that a schema refers to.
pub(crate) fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/$defs/")
}

/// The words that a schema allows.
pub(crate) fn choices(schema: &Value) -> Vec<&str> {
    let listed = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let described = schema["oneOf"].as_array().into_iter().flatten();
    listed.chain(described.filter_map(|choice| choice["const"].as_str())).collect()
}

fn described_choices(schema: &Value) -> impl Iterator<Item = String> {
    let choices = schema["oneOf"].as_array().into_iter().flatten();
    choices.filter_map(|choice| {
        let words = one_line(choice["description"].as_str()?);
        Some(format!("`{}`: {words}", choice["const"].as_str()?))
    })
}

fn bounds(schema: &Value) -> String {
    let most = &schema["maximum"];
    let most = most.as_f64().filter(|_| most.as_u64().is_none_or(|most| most < HARDLY_A_BOUND));
    match (schema["minimum"].as_f64(), most) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", at least {least}"),
        (None, Some(most)) => format!(", at most {most}"),
        (None, None) => String::new(),
    }
}

fn of_default(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::String(text) => format!("`{text}`"),
        Value::Array(items) if items.is_empty() => "empty".to_owned(),
        Value::Object(_) => "its fields'".to_owned(),
        other => format!("`{other}`"),
    }
}

/// A description in one cell of a table: a line break only before a word that it lists.
fn one_line(text: &str) -> String {
    text.replace("\n- ", "<br>").replace('\n', " ").replace('|', "\\|")
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
