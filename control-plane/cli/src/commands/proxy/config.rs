//! `proxy config`: what a sidecar holds and what it runs with.

use std::fmt::Write;

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use trama_proto::{
    admin::v1::{ProxyConfigRequest, ProxyConfigResponse},
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
    reference,
    sidecars::{Refused, spelled},
};

/// The sections of a sidecar's configuration that a table shows.
const SECTIONS: [&str; 3] = ["limits", "timeouts", "pool"];

#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(flatten)]
    sidecar: Name,
    /// The service whose part of the compiled policy is shown, NAME or NAMESPACE/NAME; as a table, too. Left out: all of it,
    /// as JSON and YAML.
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
}

impl Config {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let Self { sidecar, service } = self;
        let within = sidecar.within.namespace.as_deref();
        let service = service.map(|service| reference::label("Service", within, &service)).transpose()?;
        let (sidecar, one) = (sidecar.label()?, service.is_some());
        let request = ProxyConfigRequest { sidecar, service: service.unwrap_or_default() };
        let told = Client::connect(global).await?.proxy_config(request).await?;
        global.output.print(&Shown::of(told)?, |shown| shown.table(one))?;
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
    /// Why it is not told, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_left_out: Option<String>,
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
        let Configuration {
            revision,
            origin,
            held,
            refused,
            draining,
            configuration,
            policy,
            policy_left_out,
        } = configuration.unwrap_or_default();
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
            policy: read(&sidecar, &policy)?,
            policy_left_out: left_out(policy_left_out),
            sidecar,
        })
    }

    /// `with_policy`: that of one service has room in it.
    fn table(&self, with_policy: bool) -> String {
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
        let _ = write!(text, "\n{}", lines(&Value::Object(sections.collect())));
        if let Some(why) = &self.policy_left_out {
            let _ = writeln!(text, "\n{why}");
        }
        if with_policy && let Some(services) = self.policy.get("services") {
            let _ = write!(text, "\n{}", lines(services));
        }
        text
    }
}

impl Held {
    fn of(HeldResource { name, version, .. }: HeldResource) -> Self {
        Self { resource: spelled(name), revision: version }
    }
}

/// The policy that a sidecar has told.
fn read(sidecar: &str, policy: &str) -> Result<Value, Failure> {
    if policy.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(policy).map_err(|error| {
        let problem = "what it tells of its policy is no JSON";
        Failure::Local(format!("{sidecar}: {problem}: {error}; is it of another version?"))
    })
}

/// Why a policy of so many bytes is not told.
fn left_out(bytes: u64) -> Option<String> {
    (bytes > 0).then(|| {
        format!(
            "the compiled policy has {bytes} bytes, more than an answer may have: ask for one service's with --service \
             NAMESPACE/NAME, or the sidecar's own admin port for `GET /policy`"
        )
    })
}

fn lines(value: &Value) -> String {
    yaml(value).lines().map(|line| printable(line) + "\n").collect()
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
        let told = |configuration: Configuration| {
            let (sidecar, configuration) = (Some(node.clone()), Some(configuration));
            Shown::of(ProxyConfigResponse { sidecar, configuration }).unwrap()
        };
        let shown = told(configuration.clone());
        assert_eq!(shown.configuration["limits"], json!({ "headerCount": 100, "share": 0.5 }));
        let text = shown.table(false);
        assert!(text.contains("policy 9-ab (source); drains nothing\n"), "{text}");
        assert!(text.contains("Route shop/orders   7\n"), "{text}");
        assert!(text.contains("headerCount: 100\n") && !text.contains("node"), "{text}");
        assert!(!text.contains("compiled policy"), "{text}");

        let policy = r#"{"services":[{"service":"shop/orders","port":80}]}"#.to_owned();
        let shown = told(Configuration { policy, ..configuration.clone() });
        assert_eq!(shown.policy["services"][0]["port"], 80);
        assert!(!shown.table(false).contains("service: shop/orders"), "{}", shown.table(false));
        assert!(shown.table(true).contains("service: shop/orders\n"), "{}", shown.table(true));
        let shown = told(Configuration { policy_left_out: 5_000_000, ..configuration });
        let why = "the compiled policy has 5000000 bytes, more than an answer may have: ask for one service's with --service";
        assert!(shown.table(false).contains(why), "{}", shown.table(false));
        assert_eq!(output::json(&shown).unwrap()["policy"], Value::Null);
    }
}
