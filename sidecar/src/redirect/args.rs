//! The options of `trama-sidecar redirect`.

use std::str::FromStr;

use crate::config::snapshot::Cidr;

/// Make, prove or take back the rules that capture this pod's TCP traffic.
#[derive(Debug, Clone, clap::Args)]
pub struct RedirectArgs {
    #[command(flatten)]
    action: ActionFlags,
    /// What the rules capture.
    #[command(flatten)]
    pub rules: RuleOptions,
}

#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
struct ActionFlags {
    /// Load the rules in one transaction, in place of any older ones, and probe that they capture
    #[arg(long)]
    apply: bool,
    /// Compare the kernel's rules with the expected ones, and probe that they capture; change nothing
    #[arg(long)]
    check: bool,
    /// Take the rules back
    #[arg(long)]
    remove: bool,
    /// Show the transaction that --apply would load
    #[arg(long)]
    print: bool,
}

/// What to do with the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Load them and probe.
    Apply,
    /// Compare and probe.
    Check,
    /// Take them back.
    Remove,
    /// Show them.
    Print,
}

/// What is captured, where to, and what is not.
#[derive(Debug, Clone, clap::Args)]
pub struct RuleOptions {
    /// User id of the sidecar: its own connections are never captured
    #[arg(long, value_name = "UID", default_value_t = 2102)]
    pub uid: u32,
    /// Port that receives the application's outgoing connections
    #[arg(long, value_name = "PORT", default_value_t = 15001, value_parser = clap::value_parser!(u16).range(1..))]
    pub outbound_capture_port: u16,
    /// Port that receives connections to the application
    #[arg(long, value_name = "PORT", default_value_t = 15006, value_parser = clap::value_parser!(u16).range(1..))]
    pub inbound_capture_port: u16,
    /// The sidecar's own ports (mesh, metrics, health), which are reached without capture
    #[arg(long, value_name = "PORT,...", value_delimiter = ',', default_value = "15008,15020,15021")]
    pub sidecar_ports: Vec<Ports>,
    /// Ports of the application whose incoming connections are left alone
    #[arg(long, value_name = "PORT|FROM-TO,...", value_delimiter = ',')]
    pub exclude_inbound_ports: Vec<Ports>,
    /// Destination ports whose outgoing connections are left alone
    #[arg(long, value_name = "PORT|FROM-TO,...", value_delimiter = ',')]
    pub exclude_outbound_ports: Vec<Ports>,
    /// Destinations whose outgoing connections are left alone (169.254.169.254 always is)
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
    pub exclude_outbound_cidrs: Vec<Cidr>,
}

impl RedirectArgs {
    pub(super) fn action(&self) -> Action {
        match &self.action {
            ActionFlags { apply: true, .. } => Action::Apply,
            ActionFlags { check: true, .. } => Action::Check,
            ActionFlags { remove: true, .. } => Action::Remove,
            ActionFlags { print: _, .. } => Action::Print,
        }
    }
}

/// One port, or all from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    pub(super) first: u16,
    pub(super) last: u16,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |t: &str| t.trim().parse::<u16>().ok().filter(|p| *p > 0);
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            (Some(first), Some(last)) => Err(format!("the range is empty: write {last}-{first}")),
            _ => Err("write a port from 1 to 65535, or FROM-TO".into()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        redirect: RedirectArgs,
    }

    fn parse(line: &str) -> Result<RedirectArgs, String> {
        let words = std::iter::once("redirect").chain(line.split_whitespace());
        Cli::try_parse_from(words).map(|c| c.redirect).map_err(|e| e.to_string())
    }

    /// The options of a command line without its action.
    pub(in crate::redirect) fn options(line: &str) -> RuleOptions {
        parse(&format!("--print {line}")).unwrap().rules
    }

    #[test]
    fn exactly_one_action_is_asked_for() {
        assert_eq!(parse("--check").unwrap().action(), Action::Check);
        assert_eq!(parse("--print").unwrap().action(), Action::Print);
        assert!(parse("").unwrap_err().contains("--apply"));
        assert!(parse("--apply --remove").unwrap_err().contains("cannot be used with"));
    }

    #[test]
    fn lists_hold_ports_ranges_and_networks() {
        let args = parse(
            "--apply --exclude-outbound-ports 22,8000-8100 --exclude-outbound-cidrs 10.0.0.0/8,fd00::1",
        )
        .unwrap();
        assert_eq!(
            args.rules.exclude_outbound_ports,
            [Ports { first: 22, last: 22 }, Ports { first: 8000, last: 8100 }]
        );
        assert_eq!(
            args.rules.exclude_outbound_cidrs[1],
            Cidr { network: "fd00::1".parse().unwrap(), prefix: 128 }
        );
        assert!("0.0.0.0/0".parse::<Cidr>().is_ok() && "::/0".parse::<Cidr>().is_ok());
    }

    #[test]
    fn errors_name_option_value_and_remedy() {
        for (line, parts) in [
            ("--apply --exclude-inbound-ports 0", ["--exclude-inbound-ports", "'0'", "1 to 65535"]),
            ("--apply --exclude-outbound-ports 9-7", ["--exclude-outbound-ports", "'9-7'", "write 7-9"]),
            (
                "--apply --exclude-outbound-cidrs 10.1.0.0/8",
                ["--exclude-outbound-cidrs", "10.1.0.0/8", "10.0.0.0/8"],
            ),
            (
                "--apply --exclude-outbound-cidrs 10.0.0.0/33",
                ["--exclude-outbound-cidrs", "10.0.0.0/33", "0 to 32"],
            ),
            (
                "--apply --exclude-outbound-cidrs orders",
                ["--exclude-outbound-cidrs", "orders", "address or CIDR"],
            ),
        ] {
            let error = parse(line).unwrap_err();
            assert!(parts.iter().all(|p| error.contains(p)), "{line}: {error}");
        }
    }
}
