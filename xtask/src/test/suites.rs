//! The suites. A name stays for ever: people, CI and notes refer to it.
//!
//! A new file `tests/tests/<suite>_<what>.rs` joins its suite by its name alone.

use crate::tools::{self, Tool};

pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) needs: &'static [Tool],
    pub(crate) steps: &'static [Step],
}

/// One command of a suite.
pub(crate) enum Step {
    /// `cargo …` that must succeed, and counts only when it does not.
    Build(&'static [&'static str]),
    /// `cargo …` that runs libtest programs, whose results are counted.
    Tests(&'static [&'static str]),
    /// `cargo …` that counts as one check.
    Check(&'static [&'static str]),
    /// A pinned program of cargo's that counts as one check.
    Tool(Tool, &'static [&'static str]),
    /// `cargo xtask …` that counts as one check.
    Xtask(&'static [&'static str]),
}

impl Step {
    /// Whether it runs our own programs, and not only tools that look at them.
    pub(crate) const fn is_of_tests(&self) -> bool {
        matches!(self, Self::Tests(_) | Self::Xtask(_))
    }
}

/// What tests start as processes. All members are built together here and below, for then cargo unifies the
/// features of dependencies once, and builds none of them twice.
const PROGRAMS: Step = Step::Build(&["build", "--workspace", "--bins", "--lib", "--tests"]);

/// The fuzz targets' own workspace.
pub(crate) const FUZZ: &str = "tests/fuzz/Cargo.toml";

pub(crate) const SUITES: &[Suite] = &[
    Suite {
        name: "format",
        about: "rustfmt has nothing to change",
        needs: &[],
        steps: &[
            Step::Check(&["fmt", "--all", "--check"]),
            Step::Check(&["fmt", "--manifest-path", FUZZ, "--check"]),
        ],
    },
    Suite {
        name: "lints",
        about: "clippy has nothing to say about any target, the fuzzer's included",
        needs: &[tools::GXX],
        steps: &[
            Step::Check(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
            // What is between `--` and the end is told to clippy alone: by RUSTFLAGS all would be built anew.
            Step::Check(&[
                "clippy",
                "--manifest-path",
                "tests/fuzz/Cargo.toml",
                "--target-dir",
                "target/fuzz",
                "--locked",
                "--",
                "--cfg",
                "fuzzing",
                "-D",
                "warnings",
            ]),
        ],
    },
    Suite {
        name: "deny",
        about: "licences, banned crates and sources of the dependencies (cargo-deny)",
        needs: &[tools::CARGO_DENY],
        steps: &[
            Step::Tool(tools::CARGO_DENY, &["--offline", "check", "bans", "licenses", "sources"]),
            Step::Tool(
                tools::CARGO_DENY,
                &[
                    "--offline",
                    "--manifest-path",
                    FUZZ,
                    "--config",
                    "deny.toml",
                    "check",
                    "bans",
                    "licenses",
                    "sources",
                ],
            ),
        ],
    },
    Suite {
        name: "unused-deps",
        about: "no crate is depended on in vain (cargo-machete)",
        needs: &[tools::CARGO_MACHETE],
        steps: &[Step::Tool(tools::CARGO_MACHETE, &[])],
    },
    Suite {
        name: "dependencies",
        about: "the modules of sidecar and control plane depend on each other in one direction; files stay small",
        needs: &[],
        steps: &[Step::Tests(&["test", "--workspace", "--no-fail-fast", "--bin", "xtask", "source::"])],
    },
    Suite {
        name: "unit",
        about: "every crate's own tests, and the examples in its documentation",
        needs: &[],
        steps: &[
            Step::Tests(&[
                "test",
                "--workspace",
                "--no-fail-fast",
                "--lib",
                "--bins",
                "--",
                "--skip",
                "source::",
            ]),
            Step::Tests(&["test", "--workspace", "--no-fail-fast", "--doc"]),
            Step::Tests(&["test", "--workspace", "--no-fail-fast", "--test", "unit_*"]),
        ],
    },
    Suite {
        name: "golden",
        about: "the contract: defaults, ports, ALPN, SNI, span parents, labels",
        needs: &[],
        steps: &[PROGRAMS, Step::Tests(&["test", "--workspace", "--no-fail-fast", "--test", "golden_*"])],
    },
    Suite {
        name: "strict",
        about: "malformed requests are refused, and the guard agrees with the parser behind it",
        needs: &[],
        steps: &[PROGRAMS, Step::Tests(&["test", "--workspace", "--no-fail-fast", "--test", "strict_*"])],
    },
    Suite {
        name: "fuzz",
        about: "the fuzz target builds, and finds nothing from its corpus in a few seconds",
        needs: &[tools::GXX],
        steps: &[Step::Xtask(&["fuzz"])],
    },
    Suite {
        name: "telemetry",
        about: "spans reach a receiver by OTLP; what telemetry costs a request is counted (callgrind)",
        needs: &[tools::VALGRIND, tools::GO, tools::OTLP_RECEIVER],
        steps: &[PROGRAMS, Step::Tests(&["test", "--workspace", "--no-fail-fast", "--test", "telemetry_*"])],
    },
    Suite {
        name: "mesh",
        about: "pairs of sidecars within one process",
        needs: &[tools::CURL, tools::GO, tools::NGINX, tools::PYTHON],
        steps: &[PROGRAMS, Step::Tests(&["test", "--workspace", "--no-fail-fast", "--test", "mesh_*"])],
    },
    Suite {
        name: "lab",
        about: "sidecars as processes in network namespaces, with captured traffic (root)",
        needs: &[tools::IP, tools::NFT, tools::CURL, tools::GO, tools::NGINX, tools::PYTHON],
        steps: &[PROGRAMS, Step::Tests(&["test", "--workspace", "--no-fail-fast", "--test", "lab_*"])],
    },
    Suite {
        name: "store",
        about: "the control plane's store, killed while it writes",
        needs: &[],
        steps: &[Step::Tests(&["test", "--workspace", "--no-fail-fast", "--test", "store_*"])],
    },
    Suite {
        name: "control",
        about: "the control plane over real sockets: policy stream, Admin API, identities",
        needs: &[tools::FAKETIME, tools::GO, tools::OTLP_RECEIVER],
        steps: &[PROGRAMS, Step::Tests(&["test", "--workspace", "--no-fail-fast", "--test", "control_*"])],
    },
    Suite {
        name: "charts",
        about: "the Helm charts: real helm lints and renders them, kubeconform judges what comes out",
        needs: &[tools::GO, tools::HELM, tools::KUBECONFORM, tools::KUBERNETES],
        steps: &[PROGRAMS, Step::Tests(&["test", "--workspace", "--no-fail-fast", "--test", "charts_*"])],
    },
    Suite {
        name: "docs",
        about: "links lead somewhere; the configurations in the book are valid, and tramactl applies its policies",
        needs: &[],
        steps: &[PROGRAMS, Step::Tests(&["test", "--workspace", "--no-fail-fast", "--test", "docs_*"])],
    },
    Suite {
        name: "demo",
        about: "`cargo xtask demo --once`: the control plane and a region die, and nobody notices",
        needs: &[tools::IP, tools::NFT, tools::CURL, tools::SETPRIV],
        steps: &[
            Step::Xtask(&["demo", "--once"]),
            Step::Xtask(&["demo", "--once", "--explicit"]),
            PROGRAMS,
            Step::Tests(&["test", "--workspace", "--no-fail-fast", "--test", "demo_*"]),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SUITES.len());
    }

    /// Whoever has written a name down must find it: names are added here, and none is changed or taken away.
    #[test]
    fn names_stay_as_the_project_grows() {
        let names = "format lints deny unused-deps dependencies unit golden strict fuzz telemetry mesh lab store control charts docs demo";
        assert_eq!(SUITES.iter().map(|suite| suite.name).collect::<Vec<_>>().join(" "), names);
    }

    /// A test file that no suite runs would be green for ever.
    #[test]
    fn every_file_of_tests_belongs_to_a_suite() {
        let folder = crate::process::root().join("tests/tests");
        let Ok(entries) = std::fs::read_dir(&folder) else { return };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.join("main.rs").exists() {
                continue;
            }
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let runs = |step: &Step| match step {
                Step::Tests(arguments) => arguments
                    .iter()
                    .any(|pattern| pattern.strip_suffix('*').is_some_and(|prefix| stem.starts_with(prefix))),
                _ => false,
            };
            let homes = SUITES.iter().filter(|suite| suite.steps.iter().any(runs)).count();
            assert_eq!(homes, 1, "{stem}: name it after its suite, as in mesh_{stem} (see `test --list`)");
        }
    }
}
