//! A policy file: YAML documents of the form `kind`, `metadata`, `spec`, read into resources, and resources written as
//! such documents.

use crate::{
    Position, Problem, QualifiedName, did_you_mean,
    located::Located,
    policy::{self, v1::Metadata},
    schema,
};
use prost::Message;
use serde_json::Value;
use std::fmt::{self, Display, Formatter};

pub use crate::policy::v1::resource::Kind as Resource;

/// The `apiVersion` of every document.
pub const API_VERSION: &str = "trama.dev/v1alpha1";

/// One resource of a policy file. It knows where its fields were written.
#[derive(Clone, Debug)]
pub struct Document {
    /// Kind, namespace and name.
    pub id: ResourceId,
    /// The resource.
    pub resource: Resource,
    /// Where its fields are.
    located: Located,
}

/// What names a resource. It is written `Route shop/orders`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId {
    /// The kind.
    pub kind: &'static str,
    /// The namespace, `default` if it was left out.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ResourceId {
    /// Names a resource; `None` for a kind that there is not.
    pub fn new(kind: &str, namespace: impl Into<String>, name: impl Into<String>) -> Option<Self> {
        let kind = KINDS.iter().find(|known| **known == kind)?;
        Some(Self { kind, namespace: namespace.into(), name: name.into() })
    }

    /// Its namespace and name.
    pub fn qualified(&self) -> QualifiedName<'_> {
        QualifiedName { namespace: &self.namespace, name: &self.name }
    }

    /// Names a resource that exists.
    pub fn of(resource: &Resource) -> Self {
        let metadata = resource.metadata().cloned().unwrap_or_default();
        let namespace = Some(metadata.namespace).filter(|namespace| !namespace.is_empty());
        Self {
            kind: resource.kind(),
            namespace: namespace.unwrap_or_else(|| "default".to_owned()),
            name: metadata.name,
        }
    }
}

impl Display for ResourceId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// What was read of a policy text.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The resources. One with problems is here without what is wrong with it, if anything can be made of the rest.
    pub documents: Vec<Document>,
    /// All that is wrong with the text, unless it is not YAML at all.
    pub problems: Vec<Problem>,
}

impl Document {
    /// Reads the resources of a policy text, as far as they can be read.
    pub fn read(source_name: &str, text: &str) -> Reading {
        let mut reading = Reading::default();
        match Located::parse(source_name, text) {
            Ok(all) => all.into_iter().for_each(|located| {
                let (document, problems) = Self::readable(located);
                reading.documents.extend(document);
                reading.problems.extend(problems);
            }),
            Err(problem) => reading.problems.push(*problem),
        }
        reading
    }

    /// The resources of a policy text, or all that is wrong with it.
    pub fn parse(source_name: &str, text: &str) -> Result<Vec<Self>, Vec<Problem>> {
        let Reading { documents, problems } = Self::read(source_name, text);
        if problems.is_empty() { Ok(documents) } else { Err(problems) }
    }

    /// A resource that came as a message. It is checked by the same schema as one that was written: who sent it may have
    /// another version, or harm in mind.
    pub fn received(source_name: &str, resource: Resource) -> Result<Self, Vec<Problem>> {
        let id = ResourceId::of(&resource);
        let value = written(&resource).map_err(|error| {
            let mut problem =
                Problem::of_source(source_name, error.to_string(), "use a value of this version");
            problem.resource = id.to_string();
            vec![problem]
        })?;
        let Self { located, .. } = Self::typed(Located::of_value(source_name, value))?;
        Ok(Self { id, resource, located })
    }

    /// A resource that was judged before.
    pub fn of_judged(source_name: &str, resource: Resource) -> Self {
        let mut located = Located::empty(source_name);
        let id = ResourceId::of(&resource);
        located.set_resource(id.to_string());
        Self { id, resource, located }
    }

    /// Where a field was written, such as `spec.rules[1].backendRefs[0].service`.
    pub fn line_of(&self, field: &str) -> Option<Position> {
        self.located.line_of(field)
    }

    /// Where a field was written, as `policy.yaml:12:9`.
    pub fn place(&self, field: &str) -> String {
        match self.line_of(field) {
            Some(Position { line, column }) => format!("{}:{line}:{column}", self.located.source()),
            None => self.located.source().to_owned(),
        }
    }

    /// The resource's canonical encoding: the same bytes for the same content.
    pub fn encode(&self) -> Vec<u8> {
        policy::v1::Resource { kind: Some(self.resource.clone()) }.encode_to_vec()
    }

    /// A problem of one of its fields, with its place. `value` is what was found there, as JSON, or empty.
    pub fn problem(
        &self,
        field: &str,
        value: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Problem {
        self.located.problem(field, value, problem, remedy)
    }

    fn typed(located: Located) -> Result<Self, Vec<Problem>> {
        match Self::readable(located) {
            (Some(document), problems) if problems.is_empty() => Ok(document),
            (_, problems) => Err(problems),
        }
    }

    /// What can be made of a document, and what is wrong with it; without a document something always is.
    fn readable(mut located: Located) -> (Option<Self>, Vec<Problem>) {
        let kind = match kind_of(&located) {
            Ok(kind) => kind,
            Err(problem) => return (None, vec![*problem]),
        };
        let label = |field: &str| located.value()["metadata"][field].as_str().filter(|text| !text.is_empty());
        let namespace = label("namespace").unwrap_or("default").to_owned();
        let id = ResourceId { kind, namespace, name: label("name").unwrap_or("(without name)").to_owned() };
        located.set_resource(id.to_string());
        let (resource, problems) = match resource(kind, &mut located) {
            Ok(resource) => (Some(resource), Vec::new()),
            Err(problems) => (rest(kind, &mut located), problems),
        };
        (resource.map(|resource| Self { id, resource, located }), problems)
    }
}

/// A resource as the document that says it. What is empty is left out unless a document must say it. An error names a value
/// that this version has no word for.
pub fn written(resource: &Resource) -> Result<Value, serde_json::Error> {
    let message = serde_json::to_value(policy::v1::Resource { kind: Some(resource.clone()) })?;
    // The message's JSON form is `{"route": {…}}`, a document's is the inner part with its kind.
    let mut document =
        message.as_object().and_then(|fields| fields.values().next()).cloned().unwrap_or_default();
    say_what_is_empty(&schema()["$defs"][resource.kind()], &mut document);
    document["apiVersion"] = API_VERSION.into();
    document["kind"] = resource.kind().into();
    Ok(document)
}

/// protobuf's JSON form leaves out an empty text and a zero, also where a document must say them: a header's empty value,
/// the weight 0.
fn say_what_is_empty(shape: &Value, value: &mut Value) {
    let named = shape["$ref"].as_str().and_then(|reference| schema().pointer(reference.strip_prefix('#')?));
    let shape = named.unwrap_or(shape);
    match value {
        Value::Object(fields) => {
            for name in shape["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let property = &shape["properties"][name];
                let empty: Value = match property["type"].as_str() {
                    Some("string") if property.get("enum").is_none() => "".into(),
                    Some("integer") if property["minimum"] == 0 => 0.into(),
                    _ => continue,
                };
                fields.entry(name).or_insert(empty);
            }
            for (name, field) in fields {
                say_what_is_empty(&shape["properties"][name], field);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| say_what_is_empty(&shape["items"], item)),
        _ => {}
    }
}

fn kind_of(located: &Located) -> Result<&'static str, Box<Problem>> {
    let kinds = KINDS.join(", ");
    if !located.value().is_object() {
        let remedy = "write `kind:`, `metadata:` and `spec:`; separate documents by a line `---`";
        return Err(Box::new(located.problem("", "", "not a resource", remedy)));
    }
    let value = &located.value()["kind"];
    let Some(kind) = value.as_str() else {
        return Err(Box::new(located.problem("kind", "", "missing", format!("write one of: {kinds}"))));
    };
    KINDS.iter().find(|known| **known == kind).copied().ok_or_else(|| {
        let near = did_you_mean(kind, KINDS.iter().copied());
        let remedy = match near {
            Some(near) => format!("did you mean `{near}`? Known: {kinds}"),
            None => format!("known: {kinds}"),
        };
        Box::new(located.problem("kind", value.to_string(), "unknown kind", remedy))
    })
}

/// Fields that documents have and messages have not.
const OF_DOCUMENTS: &[&str] = &["apiVersion", "kind"];

macro_rules! kinds {
    ($($kind:ident),*) => {
        /// Every kind of resource, as it is written in a document.
        pub const KINDS: &[&str] = &[$(stringify!($kind)),*];

        fn resource(kind: &str, located: &mut Located) -> Result<Resource, Vec<Problem>> {
            let definition = format!("#/$defs/{kind}");
            match kind {
                $(stringify!($kind) => {
                    located.typed_without(schema(), &definition, OF_DOCUMENTS).map(Resource::$kind)
                })*
                _ => unreachable!("kind_of gives only known kinds"),
            }
        }

        /// What is left of a resource with problems.
        fn rest(kind: &str, located: &mut Located) -> Option<Resource> {
            match kind {
                $(stringify!($kind) => located.rest(OF_DOCUMENTS).map(Resource::$kind),)*
                _ => unreachable!("kind_of gives only known kinds"),
            }
        }

        impl Resource {
            /// The kind, as it is written in a document.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => stringify!($kind),)*
                }
            }

            /// Name, namespace and labels.
            pub fn metadata(&self) -> Option<&Metadata> {
                match self {
                    $(Self::$kind(resource) => resource.metadata.as_ref(),)*
                }
            }
        }
    };
}

kinds!(
    Service,
    EndpointSet,
    Route,
    RegionTopology,
    RegionalPolicy,
    PluginChain,
    AuthzPolicy,
    Telemetry,
    MeshSettings
);

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
