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

/// What the program's exit code says, for its help.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done, or proved
  1  refused by the kernel, or an error of the machine
  2  wrong options
  3  nft is missing, or the right to change rules
  4  the rules are absent or altered
  5  an address family that is present is not captured";

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
            let probes = report(probe::run(&args.rules)?, out)?;
            judged(Count::default(), probes)
        }
        Action::Check => {
            let table = report(compare(&rules)?, out)?;
            let probes = report(probe::run(&args.rules)?, out)?;
            judged(table, probes)
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

/// Prints one line per finding, and counts. A note is no check: there was nothing to prove.
fn report(findings: Vec<Finding>, out: &mut dyn Write) -> Result<Count, RedirectError> {
    for finding in &findings {
        say(out, format_args!("{finding}"))?;
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let failed = count(Verdict::Failed);
    Ok(Count { failed, made: failed + count(Verdict::Ok) })
}

/// What the checks come to. Rules that are absent or altered explain why traffic is not captured, so that is said of the two.
fn judged(table: Count, probes: Count) -> Result<(), RedirectError> {
    let all = Count { failed: table.failed + probes.failed, made: table.made + probes.made };
    match (table.failed, probes.failed) {
        (0, 0) => Ok(()),
        (0, _) => Err(RedirectError::NotCaptured(all)),
        _ => Err(RedirectError::Altered(all)),
    }
}

fn say(out: &mut dyn Write, line: std::fmt::Arguments<'_>) -> Result<(), RedirectError> {
    writeln!(out, "{line}").map_err(|source| RedirectError::Io { what: "write the report", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_names_the_cause_and_the_count_holds_all_checks() {
        let count = |failed, made| Count { failed, made };
        let told = |table, probes| judged(table, probes).err().map(|e| (e.exit_code(), e.to_string()));
        assert_eq!(told(count(0, 1), count(0, 6)), None);
        for (table, probes, code, words) in [
            (count(1, 1), count(2, 6), 4, "absent or altered (3 of 7 checks failed)"),
            (count(3, 3), count(0, 6), 4, "absent or altered (3 of 9 checks failed)"),
            (count(0, 1), count(2, 6), 5, "as it must be (2 of 7 checks failed)"),
        ] {
            let (told, said) = told(table, probes).unwrap();
            assert!(told == code && said.contains(words), "{told}: {said}");
        }
    }

    #[test]
    fn notes_are_told_and_not_counted() {
        let findings = vec![Finding::ok("a".into()), Finding::failed("b".into()), Finding::note("c".into())];
        let mut out = Vec::new();
        assert_eq!(report(findings, &mut out).unwrap(), Count { failed: 1, made: 2 });
        assert_eq!(String::from_utf8(out).unwrap(), "ok    a\nFAIL  b\nnote  c\n");
    }
}
