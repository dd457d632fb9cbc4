//! The defaults, which are part of the contract: whoever leaves a field out relies on its value. Changing one is a change
//! that belongs into CHANGELOG.md.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;
use trama_control_plane::config as control_plane;
use trama_sidecar::config::bootstrap as sidecar;
use trama_sidecar::config::snapshot::{
    CircuitLimits, OutlierPolicy, RetryBudgetPolicy, RetryPolicy, RuleTimeouts, TelemetrySettings,
    UnknownDestination,
};

#[test]
fn the_sidecars_configuration() {
    let golden = include_str!("golden/default-sidecar.yaml");
    assert_yaml(&sidecar::Config::default(), golden);
    // What is spelled out means the same as what is left out.
    assert_eq!(sidecar::Config::parse("golden", golden, []).unwrap(), sidecar::Config::default());
}

#[test]
fn the_control_planes_configuration() {
    let golden = include_str!("golden/default-control-plane.yaml");
    assert_yaml(&control_plane::Config::default(), golden);
    assert_eq!(control_plane::Config::parse("golden", golden, []).unwrap(), control_plane::Config::default());
}

/// What a policy means that leaves the fields out.
#[test]
fn the_policy() {
    let lines = [
        format!("{:?}", UnknownDestination::default()),
        format!("{:?}", RuleTimeouts::default()),
        format!("{:?}", RetryPolicy::default()),
        format!("{:?}", RetryBudgetPolicy::default()),
        format!("{:?}", CircuitLimits::default()),
        format!("{:?}", OutlierPolicy::default()),
        format!("{:?}", TelemetrySettings::default()),
    ];
    let text = lines.join("\n") + "\n";
    assert_eq!(text, include_str!("golden/default-policy.txt"), "it is now:\n{text}");
}

fn assert_yaml(config: &impl Serialize, golden: &str) {
    let mut text = String::new();
    write_yaml(&serde_json::to_value(config).unwrap(), "", &mut text);
    assert_eq!(text, golden, "a default has changed; they are now:\n{text}");
}

/// Objects as indented blocks, in the order of their keys; what has no value as a comment, for a file may not spell that
/// out; all else as JSON, which YAML reads alike.
fn write_yaml(value: &Value, indent: &str, text: &mut String) {
    for (key, inner) in value.as_object().unwrap() {
        match inner {
            Value::Object(_) => {
                writeln!(text, "{indent}{key}:").unwrap();
                write_yaml(inner, &format!("{indent}  "), text);
            }
            Value::Null => writeln!(text, "{indent}# {key}: none").unwrap(),
            _ => writeln!(text, "{indent}{key}: {inner}").unwrap(),
        }
    }
}
