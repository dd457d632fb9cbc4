//! Step 0 of a request's way: the rules that capture an application's traffic.
//!
//! `trama-sidecar redirect` makes them (`--apply`), proves them (`--check`), takes them back (`--remove`) or
//! only shows them (`--print`). It runs in the pod's network namespace, as an init container with the
//! capability NET_ADMIN, by hand, or in tests.
//!
//! What is captured is one pure value ([`ruleset::Ruleset`]), made from the options. `nft` loads it as one
//! `inet` table in one transaction, so that IPv4 and IPv6 are captured together or not at all. A check
//! compares the kernel's table with that value in meaning, and then dials addresses that nobody owns
//! ([`probe`]): rules that look right prove nothing where another table, a missing kernel module or a missing
//! route decides otherwise.
//!
//! # Exit codes
//! See [`RedirectError::exit_code`].

mod addresses;
mod args;
mod listing;
mod nft;
mod probe;
mod ranges;
mod ruleset;
mod sockets;

use std::io::{self, Write};

use args::Action;
pub use args::{RedirectArgs, RuleOptions};
use probe::{Finding, Verdict};
use ruleset::Ruleset;

/// Why the capture rules were not made, proven or taken back.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The program `nft` could not be found.
    #[error("`nft` is not in PATH: install it (Debian, Ubuntu and Alpine call the package `nftables`)")]
    NftMissing,
    /// The kernel refused because of who asks.
    #[error(
        "not permitted to read or change packet filter rules: run as root with the capability NET_ADMIN in the \
         pod's network namespace (in Kubernetes: securityContext.capabilities.add: [NET_ADMIN])"
    )]
    NotPermitted,
    /// `nft` or the kernel refused the rules for another reason.
    #[error(
        "nft refused: {0}\nThe kernel must be Linux 5.2 or newer with nf_tables, nft_nat, nft_redir and nft_fib_inet; \
         `--print` shows the rules"
    )]
    Refused(String),
    /// The rules in the kernel are not the expected ones.
    #[error(
        "the capture rules are absent or altered ({0} failed): `trama-sidecar redirect --apply` makes them anew"
    )]
    Altered(Count),
    /// A probe showed traffic that goes where it should not.
    #[error(
        "traffic of this pod is not captured as it must be ({0} failed): an address family that is present and not \
         captured would leave in the clear, so the pod must not start"
    )]
    NotCaptured(Count),
    /// Something on the machine could not be read, written or started.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// How many of the checks failed, as the errors print it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Checks that failed.
    pub failed: usize,
    /// Checks that were made.
    pub made: usize,
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} checks", self.failed, self.made)
    }
}

impl RedirectError {
    /// The exit code that tells a pod's events apart: 3 a tool or privilege is missing, 4 rules absent or
    /// altered, 5 a family that is present is not captured, 1 everything else. (0 is success, 2 wrong options.)
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NftMissing | Self::NotPermitted => 3,
            Self::Altered(_) => 4,
            Self::NotCaptured(_) => 5,
            Self::Refused(_) | Self::Io { .. } => 1,
        }
    }
}

/// Does what the options ask for and reports on standard output.
pub fn run(args: RedirectArgs) -> Result<(), RedirectError> {
    run_to(&args, &mut io::stdout().lock())
}

/// The same with a report that goes elsewhere.
pub fn run_to(args: &RedirectArgs, out: &mut dyn Write) -> Result<(), RedirectError> {
    let rules = Ruleset::new(&args.rules);
    match args.action() {
        Action::Print => say(out, format_args!("{}", rules.transaction().trim_end())),
        Action::Remove => {
            nft::load(Ruleset::REMOVAL)?;
            say(out, format_args!("ok    table inet {} is gone", Ruleset::TABLE))
        }
        Action::Apply => {
            nft::load(&rules.transaction())?;
            say(out, format_args!("ok    table inet {} is loaded ({} rules)", Ruleset::TABLE, rules.len()))?;
            report(probe::run(&args.rules)?, RedirectError::NotCaptured, out)
        }
        Action::Check => {
            let table = report(compare(&rules)?, RedirectError::Altered, out);
            let probes = report(probe::run(&args.rules)?, RedirectError::NotCaptured, out);
            probes.and(table)
        }
    }
}

/// Compares the kernel's table with the expected one.
fn compare(expected: &Ruleset) -> Result<Vec<Finding>, RedirectError> {
    let Some(json) = nft::list(Ruleset::TABLE)? else {
        return Ok(vec![Finding::failed(format!("table inet {} is absent", Ruleset::TABLE))]);
    };
    let differences = match listing::parse(&json) {
        Ok(actual) => expected.differences(&actual),
        Err(e) => vec![format!("nft's listing of table inet {} can't be read: {e}", Ruleset::TABLE)],
    };
    if differences.is_empty() {
        let text = format!("table inet {} holds the expected {} rules", Ruleset::TABLE, expected.len());
        return Ok(vec![Finding::ok(text)]);
    }
    Ok(differences.into_iter().map(Finding::failed).collect())
}

/// Prints one line per finding; fails if one of them did.
fn report(
    findings: Vec<Finding>,
    error: fn(Count) -> RedirectError,
    out: &mut dyn Write,
) -> Result<(), RedirectError> {
    for finding in &findings {
        say(out, format_args!("{finding}"))?;
    }
    let failed = findings.iter().filter(|f| f.verdict == Verdict::Failed).count();
    if failed == 0 { Ok(()) } else { Err(error(Count { failed, made: findings.len() })) }
}

fn say(out: &mut dyn Write, line: std::fmt::Arguments<'_>) -> Result<(), RedirectError> {
    writeln!(out, "{line}").map_err(|source| RedirectError::Io { what: "write the report", source })
}
