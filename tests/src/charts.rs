//! The Helm charts, rendered by helm and judged by kubeconform, in the versions that `cargo xtask test charts` installs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::{process, programs};

/// For a command that takes a moment.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where a chart is installed to in these tests, and under which name.
pub const NAMESPACE: &str = "trama-system";
const RELEASE: &str = "trama";

/// The folder of the charts and of what they are expected to render.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("charts")
}

/// Runs helm in the folder of the charts, without what the user has set for it, and without a cluster.
#[must_use]
pub fn helm(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut helm = tool("helm");
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        helm.env(variable, home.path());
    }
    helm.env("KUBECONFIG", "/dev/null").args(arguments).current_dir(folder());
    process::run(&mut helm, PATIENCE).unwrap()
}

/// What a chart becomes in the newest version of Kubernetes that is known, or why it does not.
pub fn template(chart: &str, arguments: &[&str]) -> Result<String, String> {
    let newest = kubernetes_versions().pop().unwrap_or_default();
    let fixed = ["template", RELEASE, chart, "--namespace", NAMESPACE, "--kube-version", &newest];
    said(&helm(&[&fixed[..], arguments].concat()))
}

/// What a person reads after installing. Helm shows it with a cluster only, so here it is an object's text, in a copy.
pub fn notes(chart: &str, arguments: &[&str]) -> Result<String, String> {
    let copy = tempfile::tempdir().unwrap();
    let copied =
        process::run(Command::new("cp").arg("-r").arg(folder().join(chart)).arg(copy.path()), PATIENCE);
    assert!(copied.unwrap().status.success());
    let templates = copy.path().join(chart).join("templates");
    let text = fs::read_to_string(templates.join("NOTES.txt")).unwrap();
    fs::write(templates.join("_notes.tpl"), format!("{{{{ define \"notes\" }}}}{text}{{{{ end }}}}"))
        .unwrap();
    let shown = "kind: Notes\ntext: {{ include \"notes\" . | toJson }}\n";
    fs::write(templates.join("notes.yaml"), shown).unwrap();
    let chart = copy.path().join(chart);
    let only = ["--show-only", "templates/notes.yaml"];
    let rendered = template(chart.to_str().unwrap(), &[&only[..], arguments].concat())?;
    Ok(object(&objects(&rendered), "Notes")["text"].as_str().unwrap().to_owned())
}

/// The standard output of a success, or the standard error of a failure.
pub fn said(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The objects of rendered manifests.
#[must_use]
pub fn objects(rendered: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(rendered).unwrap_or_else(|error| panic!("{error}\n{rendered}"))
}

/// The one object of a kind.
#[must_use]
pub fn object<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "several of kind {kind}");
    first
}

/// The versions of Kubernetes whose schemas are there, from the oldest to the newest.
#[must_use]
pub fn kubernetes_versions() -> Vec<String> {
    let entries = fs::read_dir(schemas()).unwrap_or_else(|error| {
        panic!("no schemas of Kubernetes ({error}): run `cargo xtask test charts` once, which makes them")
    });
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut versions: Vec<String> =
        names.filter_map(|name| name.strip_prefix('v').map(str::to_owned)).collect();
    versions
        .sort_by_key(|version| version.split('.').map(|part| part.parse().unwrap()).collect::<Vec<u32>>());
    versions
}

/// Judges manifests by the schemas of a version of Kubernetes; an unknown field or kind is an error.
pub fn kubeconform(manifests: &str, version: &str) -> Result<(), String> {
    // It takes what is called otherwise for no manifest.
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    fs::write(file.path(), manifests).unwrap();
    let location = "{{ .NormalizedKubernetesVersion }}/{{ .ResourceKind }}{{ .KindSuffix }}.json";
    let mut judge = tool("kubeconform");
    judge.args(["-strict", "-summary", "-verbose", "-kubernetes-version", version, "-schema-location"]);
    judge.arg(schemas().join(location)).arg(file.path());
    let output = process::run(&mut judge, PATIENCE).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let judged = format!("{} resources found", objects(manifests).len());
    // What it does not find in the text it does not judge.
    if output.status.success() && text.contains(&judged) && text.contains("Skipped: 0") {
        Ok(())
    } else {
        Err(text)
    }
}

fn schemas() -> PathBuf {
    programs::cache().join("tools/kubernetes")
}

fn tool(name: &str) -> Command {
    Command::new(programs::installed(name, "charts").unwrap_or_else(|error| panic!("{error}")))
}
