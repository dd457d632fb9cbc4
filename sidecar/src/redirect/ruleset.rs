//! The capture rules as a value: made from the options, written as nft reads them, compared with what the
//! kernel holds. Nothing here touches the machine.
//!
//! A rule has one condition and one verdict, and the first that fits decides. Outbound, the order is: what is
//! not TCP, the sidecar's own connections, the pod's own addresses, what the user excluded; the rest goes to
//! the capture port. Inbound, the same with the sidecar's own ports.

use std::fmt;

use super::args::RuleOptions;
use super::ranges::{Field, Ranges};
use crate::config::snapshot::Cidr;

/// The table `trama`, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ruleset {
    pub(super) chains: Vec<Chain>,
}

/// A chain hangs on one hook of the kernel's packet path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) hook: Hook,
    pub(super) rules: Vec<Rule>,
}

/// Where and when a chain is asked. The priority is that of all destination NAT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hook {
    pub(super) kind: String,
    pub(super) hook: String,
    pub(super) priority: i64,
    pub(super) policy: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    Ours(When, Then),
    /// A rule that this program never writes, as nft shows it.
    Foreign(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum When {
    Tcp,
    NotTcp,
    SocketOf(u32),
    ToOurselves,
    NotToOurselves,
    FromLoopback,
    In(Ranges),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Return,
    Redirect(u16),
}

/// The address where clouds serve a machine its credentials: never through a proxy.
const METADATA: &str = "169.254.169.254";

/// nft's number for `dstnat`.
const DESTINATION_NAT: i64 = -100;

impl Ruleset {
    pub(super) const TABLE: &str = "trama";

    /// Takes the table back. To add it first makes the deletion work when there is none.
    pub(super) const REMOVAL: &str = "add table inet trama\ndelete table inet trama\n";

    pub(super) fn new(options: &RuleOptions) -> Self {
        Self { chains: vec![outbound(options), inbound(options)] }
    }

    /// What `nft -f -` loads: the old table goes and the new one comes in one transaction.
    pub(super) fn transaction(&self) -> String {
        format!("{}{self}", Self::REMOVAL)
    }

    pub(super) fn len(&self) -> usize {
        self.chains.iter().map(|c| c.rules.len()).sum()
    }

    /// What has to change in `actual` to become this, one line each.
    pub(super) fn differences(&self, actual: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for expected in &self.chains {
            match actual.chains.iter().find(|c| c.name == expected.name) {
                Some(chain) => expected.differences(chain, &mut found),
                None => found.push(format!("chain {} is missing", expected.name)),
            }
        }
        let known = |name: &str| self.chains.iter().any(|c| c.name == name);
        let foreign = actual.chains.iter().filter(|c| !known(&c.name));
        found.extend(foreign.map(|c| format!("chain {} is not ours", c.name)));
        found
    }
}

impl Chain {
    fn differences(&self, actual: &Self, found: &mut Vec<String>) {
        let name = &self.name;
        if self.hook != actual.hook {
            found.push(format!("chain {name} hangs on `{}` in place of `{}`", actual.hook, self.hook));
        }
        let before = found.len();
        let missing = self.rules.iter().filter(|r| !actual.rules.contains(r));
        found.extend(missing.map(|r| format!("chain {name} lacks the rule `{r}`")));
        let extra = actual.rules.iter().filter(|r| !self.rules.contains(r));
        found.extend(extra.map(|r| format!("chain {name} has the rule `{r}`, which is not ours")));
        if found.len() == before && self.rules != actual.rules {
            found.push(format!("chain {name} has its rules in another order or number"));
        }
    }
}

/// Connections that processes of this pod open.
fn outbound(options: &RuleOptions) -> Chain {
    let metadata: Option<Cidr> = METADATA.parse().ok();
    let cidrs = || metadata.iter().chain(&options.exclude_outbound_cidrs);
    let excluded = [
        Ranges::networks(Field::DestinationV4, cidrs()),
        Ranges::networks(Field::DestinationV6, cidrs()),
        Ranges::ports(&options.exclude_outbound_ports),
    ];
    let mut rules = vec![
        Rule::Ours(When::NotTcp, Then::Return),
        Rule::Ours(When::SocketOf(options.uid), Then::Return),
        Rule::Ours(When::ToOurselves, Then::Return),
    ];
    rules.extend(excluded.into_iter().filter_map(exclusion));
    rules.push(Rule::Ours(When::Tcp, Then::Redirect(options.outbound_capture_port)));
    chain("outbound", "output", rules)
}

/// Connections that arrive from elsewhere. What comes over loopback was decided on its way out; what is not
/// for one of the pod's addresses is only passing through.
fn inbound(options: &RuleOptions) -> Chain {
    let open = Ranges::ports(options.sidecar_ports.iter().chain(&options.exclude_inbound_ports));
    let mut rules = vec![
        Rule::Ours(When::NotTcp, Then::Return),
        Rule::Ours(When::FromLoopback, Then::Return),
        Rule::Ours(When::NotToOurselves, Then::Return),
    ];
    rules.extend(exclusion(open));
    rules.push(Rule::Ours(When::Tcp, Then::Redirect(options.inbound_capture_port)));
    chain("inbound", "prerouting", rules)
}

fn exclusion(set: Ranges) -> Option<Rule> {
    (!set.is_empty()).then_some(Rule::Ours(When::In(set), Then::Return))
}

fn chain(name: &str, hook: &str, rules: Vec<Rule>) -> Chain {
    let hook =
        Hook { kind: "nat".into(), hook: hook.into(), priority: DESTINATION_NAT, policy: "accept".into() };
    Chain { name: name.into(), hook, rules }
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {} {{", Self::TABLE)?;
        for chain in &self.chains {
            writeln!(f, "  chain {} {{\n    {}", chain.name, chain.hook)?;
            for rule in &chain.rules {
                writeln!(f, "    {rule}")?;
            }
            writeln!(f, "  }}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, hook, priority, policy } = self;
        write!(f, "type {kind} hook {hook} priority {priority}; policy {policy};")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(when, Then::Return) => write!(f, "{when} return"),
            Self::Ours(when, Then::Redirect(port)) => write!(f, "{when} redirect to :{port}"),
            Self::Foreign(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("meta l4proto tcp"),
            Self::NotTcp => f.write_str("meta l4proto != tcp"),
            Self::SocketOf(uid) => write!(f, "meta skuid {uid}"),
            Self::ToOurselves => f.write_str("fib daddr type local"),
            Self::NotToOurselves => f.write_str("fib daddr type != local"),
            Self::FromLoopback => f.write_str("iifname \"lo\""),
            Self::In(set) => set.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::tests::options;
    use super::*;

    #[test]
    fn the_defaults_are_the_contract() {
        let golden = r#"add table inet trama
delete table inet trama
table inet trama {
  chain outbound {
    type nat hook output priority -100; policy accept;
    meta l4proto != tcp return
    meta skuid 2102 return
    fib daddr type local return
    ip daddr { 169.254.169.254 } return
    meta l4proto tcp redirect to :15001
  }
  chain inbound {
    type nat hook prerouting priority -100; policy accept;
    meta l4proto != tcp return
    iifname "lo" return
    fib daddr type != local return
    tcp dport { 15008, 15020-15021 } return
    meta l4proto tcp redirect to :15006
  }
}
"#;
        assert_eq!(Ruleset::new(&options("")).transaction(), golden);
    }

    #[test]
    fn every_option_has_its_rule() {
        let rules = Ruleset::new(&options(
            "--uid 77 --outbound-capture-port 1 --inbound-capture-port 2 --sidecar-ports 3 \
             --exclude-inbound-ports 22,9000-9100 --exclude-outbound-ports 25 \
             --exclude-outbound-cidrs 10.0.0.0/8,169.254.0.0/16,fd00::/8",
        ));
        let golden = r#"table inet trama {
  chain outbound {
    type nat hook output priority -100; policy accept;
    meta l4proto != tcp return
    meta skuid 77 return
    fib daddr type local return
    ip daddr { 10.0.0.0/8, 169.254.0.0/16 } return
    ip6 daddr { fd00::/8 } return
    tcp dport { 25 } return
    meta l4proto tcp redirect to :1
  }
  chain inbound {
    type nat hook prerouting priority -100; policy accept;
    meta l4proto != tcp return
    iifname "lo" return
    fib daddr type != local return
    tcp dport { 3, 22, 9000-9100 } return
    meta l4proto tcp redirect to :2
  }
}
"#;
        assert_eq!(rules.to_string(), golden);
    }

    #[test]
    fn differences_name_what_is_wrong() {
        let expected = Ruleset::new(&options(""));
        assert!(expected.differences(&expected).is_empty());

        let mut lacks = expected.clone();
        lacks.chains[0].rules.remove(1);
        assert_eq!(expected.differences(&lacks), ["chain outbound lacks the rule `meta skuid 2102 return`"]);

        let mut order = expected.clone();
        order.chains[1].rules.swap(0, 4);
        assert_eq!(expected.differences(&order), ["chain inbound has its rules in another order or number"]);

        let mut hook = expected.clone();
        hook.chains[0].hook.hook = "input".into();
        assert!(expected.differences(&hook)[0].contains("hook input"));

        let mut more = expected.clone();
        more.chains[0].rules.push(Rule::Foreign("drop".into()));
        more.chains.remove(1);
        assert_eq!(
            expected.differences(&more),
            ["chain outbound has the rule `drop`, which is not ours", "chain inbound is missing"]
        );
    }
}
