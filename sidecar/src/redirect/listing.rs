//! Reads nft's JSON listing of a table back into a [`Ruleset`].
//!
//! The format is libnftables-json(5). Names and numbers are both read, since versions of nft differ in which
//! of them `--numeric` prints. Whatever this program never writes becomes a foreign rule, never an error, so
//! that a check can show it.

use serde_json::Value;

use super::ranges::{Field, Ranges};
use super::ruleset::{Chain, Hook, Rule, Ruleset, Then, When};

/// `RTN_LOCAL` of rtnetlink.
const LOCAL: u64 = 2;
const TCP: u64 = 6;

/// The table as the kernel holds it, or why the listing is not one.
pub(super) fn parse(json: &str) -> Result<Ruleset, String> {
    let listing: Value = serde_json::from_str(json).map_err(|e| e.to_string())?;
    let objects = listing.get("nftables").and_then(Value::as_array).ok_or("no list `nftables`")?;
    let mut chains: Vec<Chain> = objects.iter().filter_map(|o| o.get("chain")).map(chain).collect();
    for object in objects.iter().filter_map(|o| o.get("rule")) {
        let name = text(object, "chain");
        let owner = chains.iter_mut().find(|c| c.name == name).ok_or("a rule of no chain")?;
        owner.rules.push(rule(object));
    }
    Ok(Ruleset { chains })
}

fn chain(object: &Value) -> Chain {
    let hook = Hook {
        kind: text(object, "type"),
        hook: text(object, "hook"),
        priority: object.get("prio").and_then(Value::as_i64).unwrap_or_default(),
        policy: text(object, "policy"),
    };
    Chain { name: text(object, "name"), hook, rules: Vec::new() }
}

fn rule(object: &Value) -> Rule {
    let expressions = object.get("expr").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let ours = match expressions {
        [condition, verdict] => condition.get("match").and_then(when).zip(then(verdict)),
        _ => None,
    };
    match ours {
        Some((when, then)) => Rule::Ours(when, then),
        None => Rule::Foreign(expressions.iter().map(Value::to_string).collect::<Vec<_>>().join(" ")),
    }
}

fn when(condition: &Value) -> Option<When> {
    let (left, right) = (condition.get("left")?, condition.get("right")?);
    let equal = match condition.get("op")?.as_str()? {
        "==" => true,
        "!=" => false,
        _ => return None,
    };
    if let Some(meta) = left.get("meta") {
        return match (meta.get("key")?.as_str()?, equal) {
            ("l4proto", true) if is(right, TCP, "tcp") => Some(When::Tcp),
            ("l4proto", false) if is(right, TCP, "tcp") => Some(When::NotTcp),
            ("skuid", true) => u32::try_from(right.as_u64()?).ok().map(When::SocketOf),
            ("iifname", true) if right == "lo" => Some(When::FromLoopback),
            _ => None,
        };
    }
    if let Some(fib) = left.get("fib") {
        let of_destination = fib.get("result")? == "type" && fib.get("flags")?.as_array()? == &["daddr"];
        let local = of_destination && is(right, LOCAL, "local");
        return local.then_some(if equal { When::ToOurselves } else { When::NotToOurselves });
    }
    let payload = left.get("payload").filter(|_| equal)?;
    let field = match (payload.get("protocol")?.as_str()?, payload.get("field")?.as_str()?) {
        ("tcp", "dport") => Field::DestinationPort,
        ("ip", "daddr") => Field::DestinationV4,
        ("ip6", "daddr") => Field::DestinationV6,
        _ => return None,
    };
    Ranges::from_json(field, right).map(When::In)
}

fn then(verdict: &Value) -> Option<Then> {
    let object = verdict.as_object().filter(|o| o.len() == 1)?;
    if object.contains_key("return") {
        return Some(Then::Return);
    }
    let redirect = object.get("redirect")?.as_object().filter(|o| o.len() == 1)?;
    u16::try_from(redirect.get("port")?.as_u64()?).ok().map(Then::Redirect)
}

fn is(value: &Value, number: u64, name: &str) -> bool {
    value.as_u64() == Some(number) || value.as_str() == Some(name)
}

fn text(object: &Value, key: &str) -> String {
    object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::args::tests::options;
    use super::*;

    fn matched(left: Value, op: &str, right: Value) -> Value {
        json!({"match": {"op": op, "left": left, "right": right}})
    }

    /// What nft 1.0.6 lists for the rules with port 22 excluded; `by_name` as later versions may print it.
    fn listing(by_name: bool) -> Value {
        let tcp = if by_name { json!("tcp") } else { json!(6) };
        let local = if by_name { json!("local") } else { json!(2) };
        let meta = |key: &str| json!({"meta": {"key": key}});
        let field = |p: &str, f: &str| json!({"payload": {"protocol": p, "field": f}});
        let fib = json!({"fib": {"result": "type", "flags": ["daddr"]}});
        let chain = |name: &str, hook: &str| {
            json!({"chain": {"family": "inet", "table": "trama", "name": name, "handle": 1, "type": "nat",
                "hook": hook, "prio": -100, "policy": "accept"}})
        };
        let rule = |chain: &str, condition: Value, verdict: Value| json!({"rule": {"chain": chain, "handle": 4, "expr": [condition, verdict]}});
        let back = json!({"return": null});
        json!({"nftables": [
            {"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
            {"table": {"family": "inet", "name": "trama", "handle": 2}},
            chain("outbound", "output"),
            chain("inbound", "prerouting"),
            rule("outbound", matched(meta("l4proto"), "!=", tcp.clone()), back.clone()),
            rule("outbound", matched(meta("skuid"), "==", json!(2102)), back.clone()),
            rule("outbound", matched(fib.clone(), "==", local.clone()), back.clone()),
            rule("outbound", matched(field("ip", "daddr"), "==", json!("169.254.169.254")), back.clone()),
            rule("outbound", matched(field("tcp", "dport"), "==", json!({"set": [22]})), back.clone()),
            rule("outbound", matched(meta("l4proto"), "==", tcp.clone()), json!({"redirect": {"port": 15001}})),
            rule("inbound", matched(meta("l4proto"), "!=", tcp.clone()), back.clone()),
            rule("inbound", matched(meta("iifname"), "==", json!("lo")), back.clone()),
            rule("inbound", matched(fib, "!=", local), back.clone()),
            rule("inbound", matched(field("tcp", "dport"), "==", json!({"set": [15008, {"range": [15020, 15021]}]})), back),
            rule("inbound", matched(meta("l4proto"), "==", tcp), json!({"redirect": {"port": 15006}})),
        ]})
    }

    #[test]
    fn a_listing_reads_back_as_the_rules_it_came_from() {
        let expected = Ruleset::new(&options("--exclude-outbound-ports 22"));
        for by_name in [false, true] {
            assert_eq!(parse(&listing(by_name).to_string()).unwrap(), expected);
        }
    }

    #[test]
    fn what_we_never_write_is_shown_and_not_understood() {
        for foreign in [
            json!([{"drop": null}]),
            json!([matched(json!({"meta": {"key": "skuid"}}), "<", json!(2102)), {"return": null}]),
            json!([matched(json!({"meta": {"key": "skuid"}}), "==", json!(2102)), {"accept": null}]),
            json!([matched(json!({"payload": {"protocol": "tcp", "field": "sport"}}), "==", json!(1)), {"return": null}]),
            json!([matched(json!({"meta": {"key": "l4proto"}}), "==", json!(6)), {"redirect": {"port": 1, "flags": "random"}}]),
        ] {
            let object = json!({"chain": "outbound", "expr": foreign});
            assert!(matches!(rule(&object), Rule::Foreign(_)), "{object}");
        }
        assert!(parse("{}").is_err() && parse("nonsense").is_err());
    }
}
