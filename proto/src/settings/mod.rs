//! How a program is configured: a YAML file, an environment variable for every leaf of it, and all that is wrong told at
//! once.

mod env;
mod schema;
pub mod text;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use self::{
    env::{is_service_link, variables},
    schema::schema_of,
};
use crate::{Problem, Problems, located::Located};

/// What a configuration looks like.
pub struct Form<T> {
    /// The JSON Schema of the file.
    pub schema: fn() -> &'static Value,
    /// `TRAMA_…` variables that are no field: the command line reads them.
    pub reserved: &'static [&'static str],
    /// What types and ranges cannot say: fields that contradict each other.
    pub problems: fn(&T, &Located) -> Vec<Problem>,
}

impl<T: DeserializeOwned> Form<T> {
    /// Reads the configuration from a file, if there is one, and from `TRAMA_…` variables.
    pub fn load(
        &self,
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<T, Problems> {
        let Some(file) = file else { return self.parse("environment", "", variables) };
        let name = file.display().to_string();
        let text = fs::read_to_string(file).map_err(|error| {
            let problem = format!("cannot be read: {error}");
            Problems(vec![Problem::of_source(&name, problem, "name a readable file by --config")])
        })?;
        self.parse(&name, &text, variables)
    }

    /// Reads the configuration from a text and from `TRAMA_…` variables.
    pub fn parse(
        &self,
        source: &str,
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<T, Problems> {
        let schema = (self.schema)();
        let mut located = only_document(source, text).map_err(|problem| Problems(vec![*problem]))?;
        let mut problems = env::overlay(&mut located, schema, self.reserved, variables);
        match located.typed::<T>(schema, "") {
            Ok(config) => {
                problems.extend((self.problems)(&config, &located));
                if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) }
            }
            Err(found) => Err(Problems(problems.into_iter().chain(found).collect())),
        }
    }
}

/// What stands for all addresses of the machine.
pub fn all_addresses() -> IpAddr {
    // A machine without IPv6 cannot bind `::`, which elsewhere takes IPv4 as well.
    let both = Path::new("/proc/net/if_inet6").exists();
    if both { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

fn only_document(source: &str, text: &str) -> Result<Located, Box<Problem>> {
    let mut documents = Located::parse(source, text)?.into_iter();
    let first = documents.next().unwrap_or_else(|| Located::empty(source));
    match documents.next() {
        None => Ok(first),
        Some(second) => {
            Err(Box::new(second.problem("", "", "a second document", "remove it and the `---` before it")))
        }
    }
}
