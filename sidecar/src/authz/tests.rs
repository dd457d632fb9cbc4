//! Policies and calls, and what is decided.

use super::*;
use crate::config::snapshot::TextPattern;

const STOREFRONT: &str = "spiffe://trama.local/ns/shop/sa/storefront";
const STRANGER: &str = "spiffe://trama.local/ns/mail/sa/mail";

/// `identities methods paths ports`, each a list with commas or `-`.
fn rule(text: &str) -> AuthzRule {
    let lists: Vec<Vec<&str>> =
        text.split(' ').map(|list| list.split(',').filter(|it| *it != "-").collect()).collect();
    let patterns = |list: &[&str]| list.iter().map(|it| TextPattern::new(it)).collect();
    AuthzRule {
        identities: patterns(&lists[0]),
        methods: lists[1].iter().map(|it| it.parse().unwrap()).collect(),
        paths: patterns(&lists[2]),
        ports: lists[3].iter().map(|it| it.parse().unwrap()).collect(),
    }
}

fn policy(name: &str, action: AuthzAction, enforced: bool, rules: &[&str]) -> Arc<AuthzPolicy> {
    let rules = rules.iter().map(|text| rule(text)).collect();
    Arc::new(AuthzPolicy { name: name.into(), action, enforced, rules })
}

fn allow(rules: &[&str]) -> Arc<AuthzPolicy> {
    policy("allow", AuthzAction::Allow, true, rules)
}

fn deny(rules: &[&str]) -> Arc<AuthzPolicy> {
    policy("deny", AuthzAction::Deny, true, rules)
}

/// `METHOD path` by somebody, or an opaque connection, to port 8080.
fn asked(policies: &[Arc<AuthzPolicy>], caller: &str, request: &str) -> String {
    let policies = Authorization(policies.to_vec());
    let identity = (!caller.is_empty()).then(|| SpiffeId::parse(caller).unwrap());
    let parts = request.split_once(' ').map(|(method, path)| (method.parse::<Method>().unwrap(), path));
    let http = parts.as_ref().map(|(method, path)| (method, *path));
    let call = Call { identity: identity.as_ref(), http, port: 8080 };
    let Decision { denied, would_deny } = decide(&policies, &call);
    // Each is considered as it is decided about.
    for considered in considered(&policies, &call) {
        let matches = Judged::new(&call).matches(considered.policy);
        assert_eq!(considered.matching().is_some(), matches, "{considered:?}");
    }
    match (denied, would_deny) {
        (None, None) => "passes".to_owned(),
        (Some(by), None) => format!("{} by {}", by.kind, by.policy),
        (None, Some(by)) => format!("would be {} by {}", by.kind, by.policy),
        (Some(_), Some(_)) => panic!("what is refused is not told again"),
    }
}

#[test]
fn deny_goes_over_allow_and_with_an_allow_others_are_refused() {
    let both = [allow(&["spiffe://trama.local/ns/shop/* - - -"]), deny(&["- DELETE - -"])];
    for (caller, request, decided) in [
        (STOREFRONT, "GET /orders", "passes"),
        (STOREFRONT, "DELETE /orders", "denied by deny"),
        (STRANGER, "GET /orders", "not_allowed by allow"),
        (STRANGER, "DELETE /orders", "denied by deny"),
        ("", "GET /orders", "not_allowed by allow"),
    ] {
        assert_eq!(asked(&both, caller, request), decided, "{caller} {request}");
    }
    assert_eq!(asked(&both[1..], "", "GET /orders"), "passes", "without an ALLOW all others may");
}

#[test]
fn every_condition_of_a_rule_must_hold_and_one_rule_is_enough() {
    let rules = [
        "spiffe://trama.local/ns/shop/sa/storefront GET,HEAD /orders,/orders/* 8080",
        "* - /health -",
        "- - - 9090",
    ];
    for (caller, request, passes) in [
        (STOREFRONT, "GET /orders", true),
        (STOREFRONT, "HEAD /orders/7", true),
        (STOREFRONT, "POST /orders", false),
        (STOREFRONT, "GET /ordersx", false),
        (STRANGER, "GET /orders", false),
        (STRANGER, "POST /health", true),
        ("", "POST /health", false),
    ] {
        assert_eq!(asked(&[allow(&rules)], caller, request) == "passes", passes, "{caller} {request}");
    }
}

#[test]
fn what_a_path_may_mean_is_denied_and_what_it_surely_means_is_allowed() {
    for path in
        ["/admin/x", "/adm%69n/x", "//admin/x", "/public/../admin/x", "/public/..%2Fadmin/x", "/;/admin/x"]
    {
        let request = format!("GET {path}");
        assert_eq!(asked(&[deny(&["- - /admin/* -"])], STOREFRONT, &request), "denied by deny", "{path}");
        let public = [allow(&["- - /public/* -"])];
        assert_eq!(asked(&public, STOREFRONT, &request), "not_allowed by allow", "{path}");
    }
    assert_eq!(asked(&[allow(&["- - /~user -"])], STOREFRONT, "GET /%7Euser"), "passes");
}

#[test]
fn a_path_is_read_when_a_rule_asks_for_it_and_not_before() {
    let read = |rule: &str| {
        let policies = Authorization(vec![deny(&[rule])]);
        let (method, identity) = (Method::GET, SpiffeId::parse(STOREFRONT).unwrap());
        let call = Call { identity: Some(&identity), http: Some((&method, "/a/../b")), port: 8080 };
        let call = Judged::new(&call);
        refusal(&policies, &call, |_| true);
        call.readings.get().is_some()
    };
    assert!(read("- - /admin -"));
    for rule in ["- GET - -", "- DELETE /admin -", "spiffe://trama.local/ns/mail/* - /admin -"] {
        assert!(!read(rule), "{rule}");
    }
}

#[test]
fn a_connection_that_is_not_http_is_denied_in_doubt() {
    for (rule, denied, allowed) in [
        ("- GET - -", true, false),
        ("- - /admin -", true, false),
        ("spiffe://trama.local/ns/mail/* - - -", false, false),
        ("spiffe://trama.local/ns/shop/* - - 8080", true, true),
    ] {
        assert_eq!(asked(&[deny(&[rule])], STOREFRONT, "") != "passes", denied, "{rule}");
        assert_eq!(asked(&[allow(&[rule])], STOREFRONT, "") == "passes", allowed, "{rule}");
    }
}

#[test]
fn audit_tells_what_it_would_refuse_and_refuses_nothing() {
    let audit = |action, rules: &[&str]| policy("audit", action, false, rules);
    let denying = audit(AuthzAction::Deny, &["- DELETE - -"]);
    let allowing = audit(AuthzAction::Allow, &["spiffe://trama.local/ns/shop/* - - -"]);
    assert_eq!(asked(&[Arc::clone(&denying)], STOREFRONT, "DELETE /"), "would be denied by audit");
    assert_eq!(asked(&[Arc::clone(&denying)], STOREFRONT, "GET /"), "passes");
    assert_eq!(asked(&[Arc::clone(&allowing)], STRANGER, "GET /"), "would be not_allowed by audit");
    assert_eq!(asked(&[Arc::clone(&allowing)], STOREFRONT, "GET /"), "passes");
    // Beside an ALLOW that is enforced, another one would only let more pass.
    let strangers = allow(&["spiffe://trama.local/ns/mail/* - - -"]);
    assert_eq!(asked(&[Arc::clone(&strangers), Arc::clone(&allowing)], STRANGER, "GET /"), "passes");
    assert_eq!(asked(&[strangers, allowing], STOREFRONT, "GET /"), "not_allowed by allow");
    // What is refused anyway is told once.
    assert_eq!(asked(&[deny(&["- DELETE - -"]), denying], STOREFRONT, "DELETE /"), "denied by deny");
}
