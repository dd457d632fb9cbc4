//! `proxy config`: what a sidecar holds and what it runs with.

use std::fmt::Write;

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use trama_proto::{
    admin::v1::ProxyConfigResponse,
    discovery::v1::{Configuration, HeldResource, Node, draining::What},
    yaml,
};

use super::Name;
use crate::{
    arguments::Global,
    client::Client,
    exit::Exit,
    failure::Failure,
    output::{self, Table, printable},
    sidecars::{Refused, spelled},
};

/// The sections of a sidecar's configuration that a table shows.
const SECTIONS: [&str; 3] = ["limits", "timeouts", "pool"];

#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(flatten)]
    sidecar: Name,
}

impl Config {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let sidecar = self.sidecar.label()?;
        let told = Client::connect(global).await?.proxy_config(sidecar).await?;
        global.output.print(&Shown::of(told)?, Shown::table)?;
        Ok(Exit::Done)
    }
}

/// What it says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    /// Namespace and name.
    sidecar: String,
    identity: String,
    region: String,
    zone: String,
    /// Of its program.
    version: String,
    /// The policy in force: its revision and digest.
    policy_revision: String,
    /// Where that comes from.
    origin: String,
    draining: &'static str,
    /// What is in use.
    resources: Vec<Held>,
    refusals: Vec<Refused>,
    /// What it runs with.
    configuration: Value,
    /// The policy as it was compiled; nothing: it is too large to be told.
    policy: Value,
}

/// A resource that is in use.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Held {
    /// Such as `Route shop/orders`.
    resource: String,
    /// The version: the revision that wrote it.
    revision: u64,
}

impl Shown {
    fn of(ProxyConfigResponse { sidecar, configuration }: ProxyConfigResponse) -> Result<Self, Failure> {
        let Node { identity, name, namespace, region, zone, version, .. } = sidecar.unwrap_or_default();
        let sidecar = format!("{namespace}/{name}");
        let Configuration { revision, origin, held, refused, draining, configuration, policy } =
            configuration.unwrap_or_default();
        Ok(Self {
            identity,
            region,
            zone,
            version,
            policy_revision: revision,
            origin,
            draining: words(draining.map_or(What::Unspecified, |draining| draining.what())),
            resources: held.into_iter().map(Held::of).collect(),
            refusals: refused.into_iter().map(|refusal| Refused::of(&sidecar, refusal)).collect(),
            configuration: whole_numbers(output::json(&configuration)?),
            policy: whole_numbers(output::json(&policy)?),
            sidecar,
        })
    }

    fn table(&self) -> String {
        let Self { sidecar, identity, region, zone, version, policy_revision, origin, draining, .. } = self;
        let place = [region, zone].map(String::as_str).into_iter().filter(|part| !part.is_empty());
        let place = place.fold(String::new(), |text, part| text + ", " + part);
        let mut text = printable(&format!("{sidecar} ({identity}{place}), version {version}")) + "\n";
        let _ = writeln!(
            text,
            "{}",
            printable(&format!("policy {policy_revision} ({origin}); drains {draining}"))
        );
        text += &self.refusals.iter().map(Refused::line).collect::<String>();
        let mut table = Table::new(&["RESOURCE", "REVISION"]);
        for Held { resource, revision } in &self.resources {
            table.row([resource.clone(), revision.to_string()]);
        }
        let _ = write!(text, "\n{}", table.text());
        let sections = SECTIONS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), self.configuration.get(name)?.clone())));
        let sections = Value::Object(sections.collect());
        let _ = write!(
            text,
            "\n{}",
            yaml(&sections).lines().map(|line| printable(line) + "\n").collect::<String>()
        );
        text
    }
}

impl Held {
    fn of(HeldResource { name, version, .. }: HeldResource) -> Self {
        Self { resource: spelled(name), revision: version }
    }
}

/// What is drained.
pub(super) fn words(what: What) -> &'static str {
    match what {
        What::Unspecified => "nothing",
        What::Inbound => "inbound",
        What::All => "all",
    }
}

/// A message has one kind of number, which is written with a fraction.
fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(whole) if whole.fract() == 0.0 && whole.abs() < 9e15 => Value::from(whole as i64),
            _ => Value::Number(number),
        },
        Value::Array(values) => values.into_iter().map(whole_numbers).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, whole_numbers(value))).collect()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trama_proto::{discovery::v1::ResourceName, structure};

    use super::*;

    #[test]
    fn a_sidecar_is_shown_with_what_it_holds_and_its_limits() {
        let name = ResourceName { kind: "Route".into(), namespace: "shop".into(), name: "orders".into() };
        let held = HeldResource { name: Some(name), version: 7, hash: vec![1] };
        let configuration = Configuration {
            revision: "9-ab".to_owned(),
            origin: "source".to_owned(),
            held: vec![held],
            configuration: structure(json!({ "limits": { "headerCount": 100, "share": 0.5 }, "node": {} })),
            ..Configuration::default()
        };
        let node = Node { namespace: "shop".into(), name: "orders-1".into(), ..Node::default() };
        let told = ProxyConfigResponse { sidecar: Some(node), configuration: Some(configuration) };
        let shown = Shown::of(told).unwrap();
        assert_eq!(shown.configuration["limits"], json!({ "headerCount": 100, "share": 0.5 }));
        let text = shown.table();
        assert!(text.contains("policy 9-ab (source); drains nothing\n"), "{text}");
        assert!(text.contains("Route shop/orders   7\n"), "{text}");
        assert!(text.contains("headerCount: 100\n") && !text.contains("node"), "{text}");
    }
}
