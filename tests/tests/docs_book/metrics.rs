//! The book's tables of metrics are the catalogues of the two programs. `cargo xtask reference` writes them anew.

use std::fmt::Write;

use trama_sidecar::telemetry::{self, Metric};
use trama_tests::published::published_part;

use crate::pages;

const SOURCE: &str = "the catalogue of metrics";

#[test]
fn the_published_table_of_the_sidecars_metrics_is_the_present_one() {
    let page = pages::book().join("reference/metrics.md");
    published_part(&page, SOURCE, &table(telemetry::CATALOGUE));
}

#[test]
fn the_published_table_of_the_control_planes_metrics_is_the_present_one() {
    let page = pages::book().join("reference/control-plane.md");
    published_part(&page, SOURCE, &table(trama_control_plane::telemetry::CATALOGUE));
}

fn table(metrics: &[Metric]) -> String {
    let mut table = "| Name | Type | Unit | Labels | Meaning |\n|---|---|---|---|---|\n".to_owned();
    for Metric { name, kind, unit, labels, help } in metrics {
        let unit = if unit.is_empty() { "1" } else { unit };
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(table, "| `{name}` | {kind} | {unit} | {} | {help} |", labels.join(" ")).unwrap();
    }
    table
}
