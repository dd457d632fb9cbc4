//! A running sidecar says why a request would go where it would go, and that is where it goes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;

use serde_json::Value;
use trama_tests::mesh::{Application, Mesh, PATIENCE, Speaks, until};
use trama_tests::{process, programs};

const ORDERS: &str = "shop/orders";

/// What `trama-sidecar explain` ends with and prints when it asks a pod's sidecar; standard error last.
async fn explain(mesh: &Mesh, pod: &str, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(programs::built("trama-sidecar").unwrap());
    command.args(["explain", "--admin", &mesh.pod(pod).at(15000).to_string()]).args(arguments);
    let run = move || process::run(&mut command, PATIENCE).unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

async fn two_regions() -> Mesh {
    Mesh::builder()
        .pod("first", |p| p.serves(ORDERS).region("sao-paulo").application(&Application::echo("first")))
        .pod("second", |p| p.serves(ORDERS).region("rio").application(&Application::echo("second")))
        .pod("storefront", |p| p.region("sao-paulo").workers(2))
        .policy(|p| {
            p.order(&["sao-paulo", "rio"]);
            p.service(
                ORDERS,
                "outlier: { consecutiveFailures: 2, baseEjection: 60s, maxEjectionPercent: 100 }",
            );
            p.route(ORDERS, "retry: { attempts: 1 }");
        })
        .start()
        .await
}

#[tokio::test]
async fn a_dead_region_is_skipped_and_the_explanation_says_so() {
    let mut mesh = two_regions().await;
    let url = "http://orders.shop/why?q=1";
    let (code, before) = explain(&mesh, "storefront", &[url]).await;
    assert!(code == 0 && before.contains("* sao-paulo: chosen: the first in the order"), "{before}");
    assert!(
        before.contains(&format!("forwarded: to {} in sao-paulo", mesh.pod("first").at(8080))),
        "{before}"
    );
    assert!(before.contains(&format!("it must be {}", mesh.pod("first").identity())), "{before}");

    mesh.pod_mut("first").kill_application().await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    for n in 0..3 {
        assert_eq!(client.get(&format!("/{n}")).await.header("x-served-by"), "second");
    }
    let labels = [("service", ORDERS), ("peer_region", "sao-paulo")];
    mesh.pod("storefront").metric_reaches("trama_ejections_total", &labels, 1.0).await;

    let (code, after) = explain(&mesh, "storefront", &[url]).await;
    assert!(
        code == 0 && after.contains("- sao-paulo: skipped: its only endpoint is ejected for another "),
        "{after}"
    );
    assert!(after.contains("* rio: chosen: the first with an endpoint to use"), "{after}");

    // Of the worker that has sent requests, and as the API says it.
    let measured = || async {
        for worker in ["0", "1"] {
            let (code, json) =
                explain(&mesh, "storefront", &[url, "--json", "--worker", worker, "--draw", "7"]).await;
            assert_eq!(code, 0, "{json}");
            let told: Value = serde_json::from_str(&json).unwrap();
            assert_eq!(told["outcome"]["result"], "FORWARDED", "{json}");
            assert_eq!(told["regions"][0]["verdict"], "UNUSABLE", "{json}");
            assert_eq!(told["knowledge"]["draw"], "7", "{json}");
            assert_eq!(told["routing"]["rule"], "shop/orders/all", "{json}");
            if !told["regions"][1]["endpoints"][0]["latency"].is_null() {
                return Some(told);
            }
        }
        None
    };
    let told = until("a worker has measured rio", measured).await;
    let detail = format!("to {} in rio", mesh.pod("second").at(8080));
    assert_eq!(told["outcome"]["detail"], detail.as_str());
    // And so it is.
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    assert_eq!(client.get("/why?q=1").await.header("x-served-by"), "second");
    let entry = mesh.pod("storefront").logged("/why").await;
    assert_eq!(
        (&entry["peer_region"], &entry["route"]),
        (&"rio".into(), &told["routing"]["rule"]),
        "{entry}"
    );
}

#[tokio::test]
async fn what_cannot_be_explained_is_refused_by_field_value_and_remedy() {
    let mesh = two_regions().await;
    for (arguments, wanted) in [
        (&["/why"][..], "url: no host is asked, got \"/why\"; write `http://`"),
        (&["http://orders.shop/", "--worker", "2"], "worker: no worker has this number, got 2; there are 2"),
        (&["http://orders.shop/", "--http-version", "3"], "version: no version that the sidecar speaks"),
    ] {
        let (code, said) = explain(&mesh, "storefront", arguments).await;
        assert!(code == 1 && said.contains("400 Bad Request") && said.contains(wanted), "{said}");
    }
    let (code, said) = explain(&mesh, "storefront", &["http://orders.shop/", "-H", "x-canary"]).await;
    assert!(code == 2 && said.contains("write name and value"), "{said}");
}
