//! Real sidecars of a real control plane: it says where the next request goes, and that is where it goes; what a sidecar
//! holds; and a drain that is begun from afar.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use serde_json::Value;
use trama_proto::admin::v1::{
    ExplainRequest, ExplainResponse, ExplainTraceRequest, ExplainedTrace, SidecarStatus,
};
use trama_proto::explain::v1::{
    ConsideredMatch, DescribedRequest, HeaderField, knowledge::Source, region::Verdict,
};
use trama_tests::control_plane::{ControlPlane, Ran, identity};
use trama_tests::mesh::{Application, Mesh, PATIENCE, Payload, Speaks, Where, until};

const ORDERS: &str = "shop/orders";
const URL: &str = "http://orders.shop/why";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// `orders` in two regions, and `storefront` in the first of them.
async fn two_regions(control: &ControlPlane) -> Mesh {
    Mesh::builder()
        .at(Where::Processes)
        .pod("first", |p| p.serves(ORDERS).region("sao-paulo").application(&Application::echo("first")))
        .pod("second", |p| p.serves(ORDERS).region("rio").application(&Application::echo("second")))
        .pod("storefront", |p| p.region("sao-paulo"))
        .policy(|p| {
            p.order(&["sao-paulo", "rio"]);
            p.service(
                ORDERS,
                "outlier: { consecutiveFailures: 2, baseEjection: 60s, maxEjectionPercent: 100 }",
            );
            p.route(ORDERS, "retry: { attempts: 1 }");
        })
        .start_in(control)
        .await
}

async fn explain(control: &ControlPlane, from: ExplainRequest) -> ExplainResponse {
    let described = DescribedRequest { url: URL.to_owned(), ..DescribedRequest::default() };
    let request = ExplainRequest { request: Some(described), ..from };
    control.admin().await.explain(request).await.unwrap().into_inner()
}

fn from(sidecar: &str) -> ExplainRequest {
    ExplainRequest { sidecar: sidecar.to_owned(), ..ExplainRequest::default() }
}

/// What a command line of `tramactl` ends with and prints; standard error last.
async fn tramactl(control: &ControlPlane, folder: &Path, line: &str) -> (i32, String) {
    let Ran { code, out, err } = control.tramactl(folder, line).await;
    (code, out + &err)
}

/// The next request goes where the control plane says that it goes, by what the sidecar's own log says. Gives the answer's.
async fn goes_there(control: &ControlPlane, mesh: &Mesh, path: &str) -> ExplainResponse {
    let told = explain(control, from("shop/storefront")).await;
    assert_eq!(told.by_policy, "", "{told:?}");
    let explanation = told.explanation.clone().unwrap();
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    assert_eq!(client.get(path).await.status, 200);
    let entry = mesh.pod("storefront").logged(path).await;
    let (transport, attempt) = (explanation.transport.unwrap(), &explanation.attempts[0]);
    assert_eq!(
        (&entry["upstream"], &entry["peer_region"], &entry["route"], &entry["attempts"]),
        (
            &transport.address.into(),
            &attempt.region.clone().into(),
            &explanation.routing.unwrap().rule.into(),
            &1.into()
        ),
        "{entry:#}"
    );
    assert_eq!(entry["policy_revision"], explanation.knowledge.unwrap().revision.as_str());
    told
}

#[tokio::test]
async fn the_next_request_goes_where_the_control_plane_says_before_and_after_an_ejection() {
    let control = ControlPlane::spawn().await;
    let mut mesh = two_regions(&control).await;
    // Before its first request the sidecar knows the service's name alone.
    let told = explain(&control, from("shop/storefront")).await;
    assert!(told.by_policy.contains("knows only the service's name"), "{told:?}");
    assert_eq!(told.explanation.as_ref().unwrap().attempts[0].region, "sao-paulo", "{told:?}");
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    assert_eq!(client.get("/first").await.header("x-served-by"), "first");

    let before = goes_there(&control, &mesh, "/before").await.explanation.unwrap();
    assert_eq!(before.regions[0].verdict(), Verdict::Chosen);
    assert_eq!(before.knowledge.as_ref().unwrap().source(), Source::Sidecar);

    mesh.pod_mut("first").kill_application().await;
    for n in 0..3 {
        assert_eq!(client.get(&format!("/{n}")).await.header("x-served-by"), "second");
    }
    let labels = [("service", ORDERS), ("peer_region", "sao-paulo")];
    mesh.pod("storefront").metric_reaches("trama_ejections_total", &labels, 1.0).await;
    let after = goes_there(&control, &mesh, "/after").await;
    let explanation = after.explanation.unwrap();
    assert_eq!(explanation.regions[0].verdict(), Verdict::Unusable);
    assert!(explanation.regions[0].why.contains("ejected for another"), "{:?}", explanation.regions[0]);
    assert_eq!(explanation.attempts[0].region, "rio");
    assert_eq!((after.sidecar.unwrap().name.as_str(), after.others), ("storefront", 0));

    // Whoever has no sidecar there is told by policy alone, which knows nothing of that.
    let workload = |region: &str| ExplainRequest {
        workload: identity("shop", "batch"),
        region: region.to_owned(),
        ..ExplainRequest::default()
    };
    let told = explain(&control, workload("rio")).await;
    assert_eq!((told.sidecar, told.by_policy.as_str()), (None, "no sidecar that would send it is connected"));
    let explanation = told.explanation.unwrap();
    assert_eq!(explanation.attempts[0].region, "sao-paulo");
    assert_eq!(explanation.knowledge.as_ref().unwrap().source(), Source::Policy);
    assert!(
        explanation.to_string().contains("by policy alone: nothing is known of endpoints"),
        "{explanation}"
    );
    let told = explain(&control, workload("")).await;
    assert!(told.by_policy.contains("where it runs is not known"), "{told:?}");
    // A service is asked by one of its sidecars.
    let by_service = ExplainRequest { service: ORDERS.to_owned(), ..ExplainRequest::default() };
    let told = explain(&control, by_service.clone()).await;
    assert_eq!((told.sidecar.unwrap().name.as_str(), told.others), ("first", 1));
    let told = explain(&control, ExplainRequest { region: "rio".to_owned(), ..by_service }).await;
    assert_eq!((told.sidecar.unwrap().name.as_str(), told.others), ("second", 0));
}

#[tokio::test]
async fn a_trace_says_why_its_request_went_there() {
    let control = ControlPlane::spawn().await;
    let mut mesh = two_regions(&control).await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    assert_eq!(client.get("/first").await.status, 200);
    mesh.pod_mut("first").kill_application().await;
    let context = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let request = client.request("GET", "/traced?secret=1").header("traceparent", context);
    let answer = client.call(request.body(Payload::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.header("x-served-by"), "second");

    let whole = || async {
        let request = ExplainTraceRequest { id: TRACE.to_owned() };
        let told = control.admin().await.explain_trace(request).await.ok()?.into_inner();
        let served = told.requests.first()?.attempts.get(1)?.served.is_some();
        served.then_some(told)
    };
    let ExplainedTrace { requests, .. } = until("the trace", whole).await;
    assert_eq!(requests.len(), 1, "{requests:#?}");
    let request = &requests[0];
    assert_eq!((request.service.as_str(), request.path.as_str()), (ORDERS, "/traced"));
    assert_eq!(
        (&request.identity, request.route.as_str()),
        (&identity("shop", "storefront"), "shop/orders/all")
    );
    let told: Vec<_> = request
        .attempts
        .iter()
        .map(|it| (it.number, it.region.as_str(), it.why.as_str(), it.failed))
        .collect();
    assert_eq!(told, [(1, "sao-paulo", "preferred", true), (2, "rio", "moved", false)], "{request:#?}");
    let passed_over = &request.attempts[1].passed_over[0];
    assert_eq!((passed_over.region.as_str(), passed_over.why.as_str()), ("sao-paulo", "tried"));
    let second = mesh.pod("second").at(15008).to_string();
    assert_eq!(request.attempts[1].endpoint, second);
    assert_eq!(request.attempts[1].served.as_ref().unwrap().identity, identity("shop", "second"));

    let folder = tempfile::tempdir().unwrap();
    let (code, said) = tramactl(&control, folder.path(), &format!("explain --trace {TRACE}")).await;
    assert_eq!(code, 0, "{said}");
    for line in [
        format!("trace {TRACE}: 1 request"),
        format!(
            "GET /traced for shop/orders, from storefront ({}, sao-paulo): ",
            identity("shop", "storefront")
        ),
        "route     shop/orders/all".to_owned(),
        format!(
            "          2 to {second} in rio, {}: an attempt failed in a region before it",
            identity("shop", "second")
        ),
        "              - sao-paulo: all its endpoints were tried by this request".to_owned(),
    ] {
        assert!(said.contains(&line), "{line}\n{said}");
    }
    assert!(!said.contains("secret"), "{said}");
    let (code, said) =
        tramactl(&control, folder.path(), "explain --trace 00000000000000000000000000000001").await;
    assert_eq!(code, 4, "{said}");
}

/// Rules of which one request meets several, each of them a little.
const RULES: &str = "kind: Route
metadata: { name: orders, namespace: shop }
spec:
  parentRefs: [{ service: orders }]
  rules:
    - { name: canary, matches: [{ path: { value: /v1 }, headers: [{ name: x-canary, value: secret }] }] }
    - { name: write, matches: [{ path: { value: /v1 }, method: POST }, { path: { value: /upload } }] }
    - { name: v1, matches: [{ path: { value: /v1 } }] }
    - { name: v2, matches: [{ path: { value: /v2 } }] }
    - { name: all }
";

/// Rule by rule, the same of a request that was sent and of one that is described.
#[tokio::test]
async fn a_trace_rejects_the_rules_that_an_explanation_rejects() {
    let control = ControlPlane::spawn().await;
    let mesh = Mesh::builder()
        .at(Where::Processes)
        .pod("orders", |p| p.serves(ORDERS).application(&Application::echo("orders")))
        .pod("storefront", |p| p)
        .policy(|p| p.more(RULES))
        .start_in(&control)
        .await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    let context = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let request = client.request("GET", "/v1/17").header("x-canary", "no").header("traceparent", context);
    assert_eq!(client.call(request.body(Payload::empty()).unwrap()).await.unwrap().status, 200);

    let told = || async {
        let request = ExplainTraceRequest { id: TRACE.to_owned() };
        let told = control.admin().await.explain_trace(request).await.ok()?.into_inner();
        told.requests.into_iter().find(|request| !request.attempts.is_empty())
    };
    let sent = until("the trace", told).await;
    let described = DescribedRequest {
        url: "http://orders.shop/v1/17".to_owned(),
        headers: vec![HeaderField { name: "x-canary".to_owned(), value: "no".to_owned() }],
        ..DescribedRequest::default()
    };
    let request = ExplainRequest { request: Some(described), ..from("shop/storefront") };
    let explained = control.admin().await.explain(request).await.unwrap().into_inner();
    assert_eq!(explained.by_policy, "", "{explained:?}");
    let explanation = explained.explanation.unwrap();
    // The request was the first one: what it was decided by came while it waited.
    assert_eq!(sent.revision, explanation.knowledge.unwrap().revision);
    let routing = explanation.routing.unwrap();
    assert_eq!((&*sent.route, &*routing.rule), ("shop/orders/v1", "shop/orders/v1"));
    let why = |it: &ConsideredMatch| match it.outranked.as_str() {
        "" => it.unmet.iter().map(|unmet| unmet.why.clone()).collect::<Vec<_>>().join("; "),
        outranked => format!("holds too, but {outranked}"),
    };
    let others = routing.matches.iter().filter(|it| it.rule != routing.rule);
    let expected: Vec<_> = others.map(|it| (it.rule.clone(), why(it))).collect();
    let rejected: Vec<_> = sent.rejected.into_iter().map(|it| (it.rule, it.why)).collect();
    assert_eq!(rejected, expected);
    assert_eq!((rejected.len(), sent.rejected_left_out), (5, 0), "{rejected:#?}");

    let said = control.tramactl(Path::new("/"), &format!("explain --trace {TRACE}")).await.done();
    for line in [
        "route     shop/orders/v1\n",
        "\n              - shop/orders/canary: header `x-canary` has another value\n",
        "\n              - shop/orders/write: the method is GET, not POST\n",
        "\n              - shop/orders/write: the path is `/v1/17`\n",
        "\n              - shop/orders/all: holds too, but the chosen one has a more specific path\n",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert!(!said.contains("secret"), "{said}");
    // What is no id is a wrong command line, whichever command it is.
    for line in ["explain --trace 4bf9", "trace show 4bf9"] {
        assert!(control.tramactl(Path::new("/"), line).await.failed(2).contains("32 hexadecimal digits"));
    }
}

#[tokio::test]
async fn tramactl_explains_by_a_sidecar_and_shows_what_it_holds() {
    let control = ControlPlane::spawn().await;
    let mesh = two_regions(&control).await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    assert_eq!(client.get("/first").await.status, 200);
    let folder = tempfile::tempdir().unwrap();
    let run = |line: String| {
        let (control, folder) = (&control, folder.path());
        async move { tramactl(control, folder, &line).await }
    };

    let (code, said) =
        run(format!("explain {URL} --from storefront -n shop -X POST -H x-canary:1 --draw 7")).await;
    assert_eq!(code, 0, "{said}");
    let who = identity("shop", "storefront");
    assert!(
        said.starts_with(&format!("as the sidecar shop/storefront ({who}, sao-paulo) says\nPOST /why")),
        "{said}"
    );
    let first = mesh.pod("first").at(8080);
    for line in [
        format!("=> forwarded: to {first} in sao-paulo"),
        "* shop/orders/all: host *, path /*".to_owned(),
        "* sao-paulo: chosen: the first in the order".to_owned(),
        "+ rio: not needed".to_owned(),
    ] {
        assert!(said.contains(&line), "{line}\n{said}");
    }
    let (code, said) = run(format!("explain {URL} --from shop/storefront -o json")).await;
    let told: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &told["explanation"]["outcome"]["result"]), (0, &"FORWARDED".into()), "{said}");
    assert_eq!(told["sidecar"]["name"], "storefront", "{said}");
    let (code, said) = run(format!("explain {URL} --service shop/orders --region rio -o yaml")).await;
    assert!(code == 0 && said.contains("name: second\n"), "{said}");

    for (line, code, hint) in [
        (format!("explain {URL}"), 2, "say --from SIDECAR"),
        (format!("explain {URL} --from shop/storefrnt"), 4, "did you mean `shop/storefront`?"),
        (
            "explain orders --from shop/storefront".to_owned(),
            3,
            "request.url: no http URL, got \"orders\"; write",
        ),
        (
            format!("explain {URL} --from shop/storefront --worker 9"),
            3,
            "request.worker: no worker has this number",
        ),
        ("proxy config shop/storefrnt".to_owned(), 4, "did you mean `shop/storefront`?"),
        (
            "proxy config shop/storefront --service shop/ordres".to_owned(),
            3,
            "service: no service of the policy in force, got \"shop/ordres\"; did you mean `shop/orders`?",
        ),
        ("proxy config a//b".to_owned(), 2, "Sidecar: `a//b` is no name; write NAME or NAMESPACE/NAME"),
        (
            "proxy config shop/storefront --service a//b".to_owned(),
            2,
            "Service: `a//b` is no name; write NAME or NAMESPACE/NAME",
        ),
    ] {
        let (ended, said) = run(line.clone()).await;
        assert!(
            ended == code && said.to_lowercase().contains(&hint.to_lowercase()),
            "{line}: {ended} {said}"
        );
    }

    let (code, said) = run("proxy config shop/storefront".to_owned()).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(client.get("/second").await.status, 200);
    let entry = mesh.pod("storefront").logged("/second").await;
    let revision = entry["policy_revision"].as_str().unwrap();
    for line in [
        format!("shop/storefront ({who}, sao-paulo), version "),
        format!("policy {revision} (source); drains nothing"),
        "Service shop/orders".to_owned(),
        "EndpointSet shop/orders".to_owned(),
        "headerCount: 128".to_owned(),
    ] {
        assert!(said.contains(&line), "{line}\n{said}");
    }
    let (code, said) = run("proxy config storefront -n shop -o json".to_owned()).await;
    let told: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(code, 0, "{said}");
    assert_eq!(told["policy"]["services"][0]["service"], ORDERS, "{said}");
    assert_eq!(told["configuration"]["node"]["region"], "sao-paulo", "{said}");
    let names: Vec<_> = told["resources"].as_array().unwrap().iter().map(|it| &it["resource"]).collect();
    assert!(names.contains(&&Value::from("Route shop/orders")), "{names:?}");
    let (code, said) = run("proxy config shop/storefront --service shop/orders".to_owned()).await;
    assert!(code == 0 && said.contains("  service: shop/orders\n"), "{said}");
}

#[tokio::test]
async fn a_drain_from_afar_is_the_one_that_sigterm_begins() {
    let control = ControlPlane::spawn().await;
    let mut mesh = two_regions(&control).await;
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = tramactl(&control, folder.path(), "proxy drain --inbound shop/first").await;
    assert_eq!((code, said.as_str()), (0, "shop/first drains inbound\n"));
    let readiness = mesh.pod("first").ask(15021, "/readyz").await.unwrap();
    assert_eq!((readiness.status.as_u16(), &readiness.body[..]), (503, &b"draining\n"[..]));
    assert!(mesh.pod_mut("first").process().is_running());
    let (_, said) = tramactl(&control, folder.path(), "proxy config shop/first").await;
    assert!(said.contains("drains inbound"), "{said}");

    let (code, said) = tramactl(&control, folder.path(), "proxy drain shop/first -o json").await;
    assert_eq!(code, 0, "{said}");
    let told: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(told, serde_json::json!({ "sidecar": "shop/first", "draining": "all" }));
    let ended = mesh.pod_mut("first").process().wait(PATIENCE).unwrap();
    assert!(ended.success(), "{ended}");
    let log = mesh.pod_mut("first").process().log();
    assert!(log.contains("the control plane asks this sidecar to drain"), "{log}");
    let gone = || async {
        let (code, said) = tramactl(&control, folder.path(), "proxy drain shop/first").await;
        (code == 4 && said.contains("no sidecar shop/first is connected")).then_some(())
    };
    until("it is gone", gone).await;
}

#[tokio::test]
async fn who_may_call_is_told_as_it_is_decided() {
    let control = ControlPlane::spawn().await;
    let mesh = two_regions(&control).await;
    let policy = "kind: AuthzPolicy\nmetadata: { name: admin, namespace: shop }\n\
                  spec: { service: orders, action: DENY, rules: [{ paths: [/admin*] }] }\n";
    let revision = control.apply(policy).await.unwrap().stamp.unwrap().revision;
    let has = |it: &SidecarStatus| {
        it.acknowledged >= revision && it.node.as_ref().is_some_and(|node| node.name == "first")
    };
    control.sidecar("the policy in force", has).await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    assert_eq!(client.get("/admin/x").await.status, 403);
    assert_eq!(client.get("/open").await.status, 200);

    let folder = tempfile::tempdir().unwrap();
    let (first, caller) = (mesh.pod("first"), identity("shop", "storefront"));
    let line = format!("--from shop/first --application {} --caller {caller}", first.at(8080));
    let (code, said) = tramactl(&control, folder.path(), &format!("explain /admin/x {line}")).await;
    let entry = first.logged("/admin/x").await;
    let detail = entry["detail"].as_str().unwrap();
    assert_eq!(
        (entry["reason"].as_str(), detail),
        (Some("authz_denied"), "denied by AuthzPolicy shop/admin")
    );
    assert!(code == 0 && said.contains(&format!("=> refused with 403 authz_denied: {detail}\n")), "{said}");
    assert!(said.contains("policies    * shop/admin (DENY): rule 1 matches\n"), "{said}");
    let (code, said) = tramactl(&control, folder.path(), &format!("explain /open {line}")).await;
    let forwarded = format!("=> forwarded: to the application at {}\n", first.at(8080));
    assert!(code == 0 && said.contains(&forwarded), "{said}");
    assert!(said.contains("- shop/admin (DENY): rule 1: the path is none of its\n"), "{said}");

    // By its own configuration: what is its own is nobody's application, and what is not ours does not come in.
    let own = first.at(15008);
    let line = format!("--from shop/first --application {own} --caller {caller}");
    let (code, said) = tramactl(&control, folder.path(), &format!("explain /open {line}")).await;
    let closed = format!("=> refused: port_refused: the connection is closed: port {}\n", own.port());
    assert!(code == 0 && said.contains(&closed) && !said.contains("assumed"), "{said}");
    let at = first.at(8080);
    let line = format!("--from shop/first --application {at} --caller spiffe://elsewhere.test/ns/shop/sa/a");
    let (code, said) = tramactl(&control, folder.path(), &format!("explain /open {line}")).await;
    assert!(code == 0 && said.contains("=> refused: wrong_identity: the connection is closed: "), "{said}");
    // Policy alone knows nothing of that, and says so.
    let line =
        format!("--workload {} --region rio --application {at} --caller {caller}", identity("shop", "batch"));
    let (code, said) = tramactl(&control, folder.path(), &format!("explain /open {line}")).await;
    assert!(code == 0 && said.contains(&forwarded) && said.contains("\nassumed     port "), "{said}");
}
