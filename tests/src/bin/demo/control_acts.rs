//! The acts of the control plane: it gives policy and identities, changes what holds, is lost, and comes back.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::checks::no_request_fails;
use crate::failure::{Failure, Result};
use crate::mesh::Mesh;
use crate::process;
use crate::scenario::{OTHER, PREFERRED};
use crate::stage::Stage;
use crate::waiting::within;

/// How long a change may take until the last sidecar has acknowledged it.
const IN_FORCE: Duration = Duration::from_secs(1);
/// How long sidecars may take to come back: their pauses grow to ten seconds.
const COME_BACK: Duration = Duration::from_secs(20);
/// The exit code of `tramactl` where nobody answers.
const UNREACHABLE: i32 = 7;

/// Policy is applied, each sidecar gets a token, joins by it and acknowledges the policy.
pub(crate) async fn opening(stage: &mut Stage, mesh: &mut Mesh) -> Result<()> {
    mesh.control.start().await?;
    let line = format!("apply -f {}", mesh.file("policy.yaml"));
    let applied = mesh.control.ask(&line).await?;
    stage.command(&mesh.control.line(&line), &applied.out);
    let created = applied.out.matches(" created ").count();
    let fact = if applied.worked() { format!("{created} resources created") } else { applied.err.clone() };
    stage.check("the policy is applied", applied.worked() && created > 0, fact)?;

    let mut tokens = 0;
    for line in mesh.token_lines() {
        let made = process::run(&line).await?;
        stage.command(&line, &made.err);
        tokens += usize::from(made.worked());
    }
    stage.check("there is a token for each sidecar to join by", tokens == 3, format!("{tokens} tokens"))?;
    mesh.start_pods().await?;
    all_acknowledge(stage, mesh, "each sidecar has joined and acknowledges the policy", 3).await
}

/// While traffic flows, a change reaches every sidecar.
pub(crate) async fn a_policy_changes(stage: &mut Stage, mesh: &mut Mesh) -> Result<()> {
    let line = format!("apply -f {} --wait=10s", mesh.file("tracing.yaml"));
    let began = Instant::now();
    let applied = stage.meanwhile(mesh, mesh.control.ask(&line)).await?;
    let took = began.elapsed();
    mesh.is_traced = applied.worked();
    stage.command(&mesh.control.line(&line), &applied.out);
    let acknowledged = applied.worked() && applied.last_line() == "acknowledged by 3 of 3 sidecars";
    let fact = format!("{} after {:.2} s", applied.last_line(), took.as_secs_f64());
    stage.check("each sidecar has a change within a second", acknowledged && took < IN_FORCE, fact)
}

/// The control plane is killed. What there is goes on, and a sidecar that starts serves from its disk.
pub(crate) async fn the_control_plane_is_lost(
    stage: &mut Stage,
    mesh: &mut Mesh,
    at_least: Duration,
) -> Result<()> {
    mesh.control.kill().await?;
    let asked = stage.meanwhile(mesh, mesh.control.ask("status")).await?;
    stage.command(&mesh.control.line("status"), &asked.err);
    let fact = format!("exit code {}", asked.code.unwrap_or_default());
    stage.check("tramactl says that nobody answers", asked.code == Some(UNREACHABLE), fact)?;

    let took = mesh.restart_sidecar(OTHER).await?;
    let from_disk = mesh.counted_in(OTHER, "trama_policy_last_good", &[]).await?;
    let connected = mesh.counted_in(OTHER, "trama_control_plane_connected", &[]).await?;
    let fact = format!("ready after {:.2} s, control plane connected: {connected}", took.as_secs_f64());
    let dark = from_disk == 1.0 && connected == 0.0;
    stage.check("a sidecar starts without the control plane, with the policy of its disk", dark, fact)?;

    let line = mesh.hint_in(OTHER);
    let answered = stage.meanwhile(mesh, process::run(&line)).await?;
    stage.command(&line, "");
    let sealed = [r#"direction="outbound""#, r#"tls="mutual""#, r#"reason="""#];
    let sealed = mesh.counted_in(OTHER, "trama_requests_total", &sealed).await?;
    let fact = format!("{}, {sealed} over mutual TLS", answered.first_line());
    let holds = answered.worked() && sealed == 1.0;
    stage.check("it knows where to send a request, and has an identity to send it with", holds, fact)?;

    let began = Instant::now();
    let (dark, _) = stage.watch_until(mesh, at_least, |_| began.elapsed() >= at_least).await?;
    no_request_fails(stage, "without the control plane", &dark)
}

/// The control plane comes back: the sidecars follow it again and tell it why requests went where they went.
pub(crate) async fn the_control_plane_is_back(stage: &mut Stage, mesh: &mut Mesh) -> Result<()> {
    mesh.control.start().await?;
    all_acknowledge(stage, mesh, "the sidecars that live follow the control plane again", 2).await?;
    a_trace_spans_both_sidecars(stage, mesh).await
}

/// Waits until so many sidecars, and no others, have acknowledged the last change and refuse nothing.
pub(crate) async fn all_acknowledge(
    stage: &mut Stage,
    mesh: &Mesh,
    claim: &str,
    sidecars: usize,
) -> Result<()> {
    let waiting = within(COME_BACK, async || {
        let status = mesh.control.ask("status -o json").await?;
        let status = serde_json::from_str::<Value>(&status.out);
        Ok(status.is_ok_and(|status| are_in_sync(&status, sidecars)).then_some(()))
    });
    let acknowledged = stage.meanwhile(mesh, waiting).await?.is_some();
    let status = stage.meanwhile(mesh, mesh.control.ask("status")).await?;
    stage.command(&mesh.control.line("status"), &status.out);
    stage.check(claim, acknowledged, status.first_line())
}

fn are_in_sync(status: &Value, sidecars: usize) -> bool {
    let known = status["sidecars"].as_array().map(Vec::as_slice).unwrap_or_default();
    known.len() == sidecars && known.iter().all(|sidecar| sidecar["inSync"] == true)
}

/// A request that was tried in the dead region is one trace, told by its caller's sidecar and by the one that served it.
async fn a_trace_spans_both_sidecars(stage: &mut Stage, mesh: &Mesh) -> Result<()> {
    let find = format!("trace list --reason connect_failed --region {PREFERRED}");
    let waiting = within(COME_BACK, async || {
        let listed = mesh.control.ask(&format!("{find} -o json")).await?;
        Ok(serde_json::from_str::<Value>(&listed.out).ok().and_then(|it| whole(&it)))
    });
    let found = stage.meanwhile(mesh, waiting).await?;
    let find = format!("{find} --limit 3");
    let listed = stage.meanwhile(mesh, mesh.control.ask(&find)).await?;
    stage.command(&mesh.control.line(&find), &listed.out);
    let id = found.ok_or_else(|| Failure(format!("no trace of a request that {PREFERRED} failed")))?;
    let line = format!("trace show {id}");
    let shown = stage.meanwhile(mesh, mesh.control.ask(&line)).await?;
    stage.command(&mesh.control.line(&line), &shown.out);
    let told = format!("{line} -o json");
    let told = stage.meanwhile(mesh, mesh.control.ask(&told)).await?;
    let told: Value = serde_json::from_str(&told.out).map_err(Failure::on("read", &line))?;
    let fact = journey(&told);
    let right = format!("{PREFERRED} connect_failed, {OTHER} 200, served there by shop/orders");
    stage.check("a trace shows a request on its way through both sidecars", fact == right, &fact)
}

/// The id of the newest trace of which both attempts and the called side have come.
fn whole(listed: &Value) -> Option<String> {
    let mut traces = listed["traces"].as_array()?.iter();
    let whole = traces.find(|trace| trace["spans"] == 3 && trace["status"] == 200)?;
    whole["trace"].as_str().map(str::to_owned)
}

/// Where a trace's attempts went and what came of them, from top to bottom of its tree.
fn journey(trace: &Value) -> String {
    let spans = trace["spans"].as_array().map(Vec::as_slice).unwrap_or_default();
    let words = spans.iter().map(|span| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match text(&span["kind"]).as_str() {
            "client" if span["failed"] == true => {
                format!("{} {}", text(&span["to"]["region"]), text(&span["reason"]))
            }
            "client" => format!("{} {}", text(&span["to"]["region"]), span["status"]),
            _ => {
                let identity = text(&span["identity"]);
                let account =
                    identity.split_once("/ns/").map_or(&*identity, |(_, rest)| rest).replace("/sa/", "/");
                let place = if span["depth"] == 1 && span["region"] == OTHER {
                    "served there"
                } else {
                    "served elsewhere"
                };
                format!("{place} by {account}")
            }
        }
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sidecars_are_in_sync_if_all_are_there_and_each_is() {
        let status = |all: &[bool]| {
            let sidecars: Vec<_> = all.iter().map(|in_sync| json!({ "inSync": in_sync })).collect();
            json!({ "sidecars": sidecars })
        };
        assert!(are_in_sync(&status(&[true, true]), 2));
        assert!(!are_in_sync(&status(&[true, false]), 2));
        assert!(!are_in_sync(&status(&[true]), 2));
        assert!(!are_in_sync(&status(&[true, true, true]), 2));
    }

    #[test]
    fn a_journey_is_told_from_the_first_attempt_to_who_served_it() {
        let identity = "spiffe://demo.trama/ns/shop/sa/orders";
        let trace = json!({ "spans": [
            { "kind": "client", "failed": true, "reason": "connect_failed", "to": { "region": PREFERRED } },
            { "kind": "client", "failed": false, "status": 200, "to": { "region": OTHER } },
            { "kind": "server", "depth": 1, "region": OTHER, "identity": identity },
        ]});
        let told = journey(&trace);
        assert_eq!(told, format!("{PREFERRED} connect_failed, {OTHER} 200, served there by shop/orders"));
        let listed = json!({ "traces": [
            { "trace": "a", "spans": 2, "status": 200 },
            { "trace": "b", "spans": 3, "status": 200 },
        ]});
        assert_eq!(whole(&listed).as_deref(), Some("b"));
    }
}
