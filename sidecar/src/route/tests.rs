//! The Gateway API's documented examples, and the index against a matcher that looks at everything.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use proptest::prelude::*;

use super::{Host, Inquiry, Precedence, Unmet, consider, find, rejected, rewrite};
use crate::config::snapshot::{
    HeaderChange, HeaderMatch, HeaderModifier, Match, PathMatch, PathRewrite, QueryMatch, Redirect,
    RetryPolicy, RouteTable, Rule, RuleAction, RuleTimeouts, UrlRewrite, ValueMatch, whole_regex,
};

fn rule(name: &str) -> Arc<Rule> {
    Arc::new(Rule {
        name: name.into(),
        rewrite: None,
        filters: None,
        action: RuleAction::Forward(Vec::new()),
        timeouts: RuleTimeouts::default(),
        retry: RetryPolicy::default(),
    })
}

fn any() -> Match {
    Match { path: prefix("/"), method: None, headers: Vec::new(), query: Vec::new() }
}

fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(path.trim_end_matches('/').into())
}

fn exact(path: &str) -> PathMatch {
    PathMatch::Exact(path.into())
}

fn regex(pattern: &str) -> PathMatch {
    PathMatch::Regex(whole_regex(pattern).unwrap())
}

fn on(path: PathMatch) -> Match {
    Match { path, ..any() }
}

fn header(name: &'static str, value: &str) -> HeaderMatch {
    HeaderMatch { name: HeaderName::from_static(name), value: ValueMatch::Exact(value.into()) }
}

fn query(name: &str, value: &str) -> QueryMatch {
    QueryMatch { name: name.into(), value: ValueMatch::Exact(value.into()) }
}

fn table(entries: Vec<(Option<&str>, Match, &str)>) -> RouteTable {
    let mut table = RouteTable::default();
    for (host, condition, name) in entries {
        table.insert(host, condition, rule(name));
    }
    table
}

fn ask<'t>(table: &'t RouteTable, host: &str, target: &str, headers: &[(&'static str, &str)]) -> &'t str {
    let uri: Uri = target.parse().unwrap();
    let pair =
        |&(n, v): &(&'static str, &str)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap());
    let mut map = HeaderMap::new();
    headers.iter().map(pair).for_each(|(name, value)| {
        map.append(name, value);
    });
    let inquiry = Inquiry { host, path: uri.path(), query: uri.query(), method: &Method::GET, headers: &map };
    find(table, &inquiry).map_or("404", |rule| &*rule.name)
}

#[test]
fn the_most_specific_host_comes_first_and_the_next_one_is_asked_where_it_has_no_rule() {
    let table = table(vec![
        (None, on(prefix("/any")), "any"),
        (Some("*.example.com"), on(prefix("/wild")), "wildcard"),
        (Some("*.foo.example.com"), on(prefix("/wild")), "longer wildcard"),
        (Some("www.example.com"), on(prefix("/exact")), "exact"),
    ]);
    for (host, path, wanted) in [
        ("www.example.com", "/exact", "exact"),
        ("WWW.Example.com:8080", "/exact", "exact"),
        ("www.example.com.", "/exact", "exact"),
        ("www.example.com", "/wild", "wildcard"),
        ("www.example.com", "/any", "any"),
        ("www.example.com", "/none", "404"),
        ("a.b.example.com", "/wild", "wildcard"),
        ("a.foo.example.com", "/wild", "longer wildcard"),
        ("foo.example.com", "/wild", "wildcard"),
        ("example.com", "/wild", "404"),
        (".example.com", "/wild", "404"),
        ("[::1]:80", "/any", "any"),
        ("", "/any", "any"),
    ] {
        assert_eq!(ask(&table, host, path, &[]), wanted, "{host} {path}");
    }
}

fn get<'r>(host: &'r str, path: &'r str, headers: &'r HeaderMap) -> Inquiry<'r> {
    Inquiry { host, path, query: None, method: &Method::GET, headers }
}

#[test]
fn the_other_rules_are_rejected_each_with_why() {
    let (own, headers) = (rule("own"), HeaderMap::new());
    let mut table = table(vec![
        (Some("b.example"), any(), "host"),
        (None, Match { method: Some(Method::PUT), headers: vec![header("x-a", "1")], ..any() }, "parts"),
        (None, any(), "all"),
        (None, Match { query: vec![query("q", "1")], ..on(prefix("/a")) }, "query"),
    ]);
    table.insert(None, on(prefix("/a")), Arc::clone(&own));
    table.insert(None, on(prefix("/b")), own);
    let told = |path: &str| {
        let rejected = rejected(&table, &get("a.example", path, &headers));
        assert_eq!(rejected.left_out, 0);
        rejected.rules.iter().map(|it| format!("{}: {}", it.rule, it.why)).collect::<Vec<_>>()
    };
    let parts = "parts: the method is GET, not PUT; header `x-a` is not sent";
    assert_eq!(
        told("/a"),
        [
            "host: the host is `a.example`",
            "query: query parameter `q` is not sent",
            parts,
            "all: holds too, but the chosen one has a more specific path",
        ]
    );
    // Whoever calls may send a path of any length.
    let long = format!("/{}", "x".repeat(5000));
    let last = format!("query: the path is `/{}…`; query parameter `q` is not sent", "x".repeat(99));
    assert!(told(&long).contains(&last), "{:?}", told(&long));
}

#[test]
fn of_many_rejected_rules_the_nearest_are_told_and_of_very_many_none() {
    let headers = HeaderMap::new();
    let far =
        |at: usize| (None, Match { method: Some(Method::PUT), ..on(exact(&format!("/{at:03}"))) }, "far");
    let mut entries: Vec<_> = (0..40).map(far).collect();
    entries.push((None, on(exact("/z")), "near"));
    entries.push((None, any(), "all"));
    let mut table = table(entries);
    let told = rejected(&table, &get("a.example", "/", &headers));
    let names: Vec<_> = told.rules.iter().map(|it| &*it.rule).collect();
    assert_eq!((names.len(), names[0], names[15], told.left_out), (16, "far", "near", 25));
    for at in 42..=200 {
        assert_eq!(rejected(&table, &get("a.example", "/", &headers)).rules.len(), 16, "{at}");
        table.insert(None, on(exact(&format!("/{at:03}"))), rule("more"));
    }
    let told = rejected(&table, &get("a.example", "/", &headers));
    assert_eq!((told.rules.len(), told.left_out), (0, 201));
}

#[test]
fn what_is_told_of_a_rejected_rule_is_bounded() {
    let headers = HeaderMap::new();
    let many = (0..20).map(|at| query(&format!("q{at}"), "1")).collect();
    let table = table(vec![(None, Match { query: many, ..any() }, "many")]);
    let told = rejected(&table, &get("a.example", "/", &headers));
    let why = &told.rules[0].why;
    assert!(why.ends_with("; query parameter `q7` is not sent; and 12 more"), "{why}");
}

#[test]
fn an_overlong_host_is_nobodys_and_cheap() {
    let table = table(vec![(Some("*.example.com"), any(), "wildcard"), (None, any(), "any")]);
    let host = "a.".repeat(30_000) + "example.com";
    assert_eq!(ask(&table, &host, "/", &[]), "any");
}

#[test]
fn an_exact_path_before_the_longest_prefix_before_a_regular_expression() {
    let table = table(vec![
        (None, on(regex("/foo/[a-z]+/?")), "regex"),
        (None, on(prefix("/foo")), "short"),
        (None, on(prefix("/foo/bar")), "long"),
        (None, on(exact("/foo/bar")), "exact"),
        (None, on(regex("/re/.*")), "regex"),
        (None, any(), "default"),
    ]);
    for (path, wanted) in [
        ("/foo/bar", "exact"),
        ("/foo/bar/", "long"),
        ("/foo/bar/baz", "long"),
        ("/foo/barbaz", "short"),
        ("/foo", "short"),
        ("/foobar", "default"),
        ("/re/x", "regex"),
        ("/re", "default"),
        ("/", "default"),
        ("*", "default"),
    ] {
        assert_eq!(ask(&table, "h", path, &[]), wanted, "{path}");
    }
}

#[test]
fn a_method_then_the_most_headers_then_the_most_query_conditions_then_the_order() {
    let get = |path| Match { method: Some(Method::GET), ..on(path) };
    let table = table(vec![
        (None, any(), "first"),
        (None, any(), "second"),
        (None, Match { query: vec![query("q", "1"), query("r", "2")], ..any() }, "two queries"),
        (None, Match { headers: vec![header("a", "1")], ..any() }, "header"),
        (None, Match { headers: vec![header("a", "1"), header("b", "2")], ..any() }, "two headers"),
        (None, get(exact("/method")), "method"),
        (
            None,
            Match { headers: vec![header("a", "1"), header("b", "2")], ..on(exact("/method")) },
            "headers",
        ),
        (None, Match { method: Some(Method::PUT), ..on(exact("/method")) }, "other method"),
    ]);
    let both = [("a", "1"), ("b", "2")];
    for (target, headers, wanted) in [
        ("/", &[][..], "first"),
        ("/?q=1&r=2", &[], "two queries"),
        ("/?r=2", &[], "first"),
        ("/?q=1&r=2", &[("a", "1")], "header"),
        ("/?q=1&r=2", &both, "two headers"),
        ("/", &[("a", "2")], "first"),
        ("/method", &both, "method"),
    ] {
        assert_eq!(ask(&table, "h", target, headers), wanted, "{target} {headers:?}");
    }
}

#[test]
fn repeated_headers_count_as_one_line_and_queries_are_decoded() {
    let name = HeaderName::from_static("x-list");
    let value = ValueMatch::Regex(whole_regex("a.*z").unwrap());
    let table = table(vec![
        (None, Match { headers: vec![header("x-list", "one, two")], ..any() }, "joined"),
        (None, Match { headers: vec![header("cookie", "a=1; b=2")], ..any() }, "cookies"),
        (None, Match { headers: vec![HeaderMatch { name, value }], ..any() }, "regex"),
        (None, Match { query: vec![query("full name", "Ann & Bob")], ..any() }, "query"),
    ]);
    assert_eq!(ask(&table, "", "/", &[("x-list", "one"), ("x-list", "two")]), "joined");
    assert_eq!(ask(&table, "", "/", &[("x-list", "one")]), "404");
    assert_eq!(ask(&table, "", "/", &[("x-list", "one, two, three")]), "404");
    assert_eq!(ask(&table, "", "/", &[("cookie", "a=1"), ("cookie", "b=2")]), "cookies");
    assert_eq!(ask(&table, "", "/", &[("x-list", "ab"), ("x-list", "yz")]), "regex");
    assert_eq!(ask(&table, "", "/?x&full+name=Ann%20%26+Bob", &[]), "query");
    assert_eq!(ask(&table, "", "/?full+name=no&full+name=Ann%20%26+Bob", &[]), "404", "the first one counts");
    assert_eq!(ask(&table, "", "/?full+name=%zz", &[]), "404");
}

#[test]
fn a_regular_expression_matches_the_whole_or_is_refused() {
    assert!(!whole_regex("/a|/b").unwrap().is_match("/ax"));
    assert!(whole_regex("/a|/b").unwrap().is_match("/b"));
    assert!(!whole_regex("/a").unwrap().is_match("/a\n"));
    assert!(whole_regex("a)(b").is_err());
}

/// A condition as the naive matcher sees it: everything spelled out, nothing indexed.
#[derive(Clone, Debug)]
struct Naive {
    host: Option<String>,
    kind: u8,
    path: String,
    post: Option<bool>,
    headers: usize,
    queries: usize,
}

impl Naive {
    fn condition(&self) -> Match {
        let names = ["h0", "h1"];
        Match {
            path: match self.kind {
                0 => exact(&self.path),
                1 => prefix(&self.path),
                _ => regex(&self.path.replace('b', "[bc]")),
            },
            method: self.post.map(|post| if post { Method::POST } else { Method::GET }),
            headers: names[..self.headers].iter().map(|name| header(name, "1")).collect(),
            query: ["q0", "q1"][..self.queries].iter().map(|name| query(name, "1")).collect(),
        }
    }

    /// `None`: it does not match; else what is compared, greatest first.
    #[allow(clippy::type_complexity, reason = "it is the list of the criteria")]
    fn score(&self, asked: &Asked) -> Option<((bool, usize), (u8, usize), bool, usize, usize)> {
        let host = match self.host.as_deref() {
            None => (false, 0),
            Some(host) => match host.strip_prefix('*') {
                Some(tail) if asked.host.ends_with(tail) && asked.host.len() > tail.len() => {
                    (false, host.len())
                }
                None if host == asked.host => (true, host.len()),
                _ => return None,
            },
        };
        let trimmed = self.path.trim_end_matches('/');
        let path = match self.kind {
            0 if self.path == asked.path => (3, self.path.len()),
            1 if trimmed.is_empty() => (0, 0),
            1 if asked.path.strip_prefix(trimmed).is_some_and(|r| r.is_empty() || r.starts_with('/')) => {
                (2, trimmed.len())
            }
            2 if self.path.replace('b', "c") == asked.path.replace('b', "c") => {
                (1, self.path.replace('b', "[bc]").len())
            }
            _ => return None,
        };
        let method = self.post.is_none_or(|post| post == asked.post);
        let rest = method && self.headers <= asked.headers && self.queries <= asked.queries;
        rest.then_some((host, path, self.post.is_some(), self.headers, self.queries))
    }
}

#[derive(Clone, Debug)]
struct Asked {
    host: String,
    path: String,
    post: bool,
    headers: usize,
    queries: usize,
}

fn paths() -> impl Strategy<Value = String> {
    // Few, so that one is often the beginning of another.
    "(/[ab]{0,1}){1,4}"
}

fn naive() -> impl Strategy<Value = Naive> {
    let host =
        prop_oneof![Just(None), "[xy](\\.[xy]){0,3}".prop_map(Some), "\\*(\\.[xy]){1,3}".prop_map(Some),];
    (host, 0..3_u8, paths(), any_post(), 0..3_usize, 0..3_usize).prop_map(
        |(host, kind, path, post, headers, queries)| Naive { host, kind, path, post, headers, queries },
    )
}

fn any_post() -> impl Strategy<Value = Option<bool>> {
    prop_oneof![3 => Just(None), 1 => Just(Some(false)), 1 => Just(Some(true))]
}

fn asked() -> impl Strategy<Value = Asked> {
    ("[xy](\\.[xy]){0,3}", paths(), prop::bool::ANY, 0..3_usize, 0..3_usize)
        .prop_map(|(host, path, post, headers, queries)| Asked { host, path, post, headers, queries })
}

/// What the index finds, and the first of all conditions that are considered of which all holds.
fn indexed(table: &RouteTable, asked: &Asked) -> (Option<String>, Option<String>) {
    let mut headers = HeaderMap::new();
    for name in &["h0", "h1"][..asked.headers] {
        headers.insert(*name, HeaderValue::from_static("1"));
    }
    let query = ["q0=1", "q1=1"][..asked.queries].join("&");
    let method = if asked.post { &Method::POST } else { &Method::GET };
    let inquiry =
        Inquiry { host: &asked.host, path: &asked.path, query: Some(&query), method, headers: &headers };
    let considered = consider(table, &inquiry).into_iter().find(|it| it.unmet.is_empty());
    let named = |rule: &Arc<Rule>| rule.name.to_string();
    (find(table, &inquiry).map(named), considered.map(|it| named(&it.entry.rule)))
}

fn linear(rules: &[Naive], asked: &Asked) -> Option<String> {
    let scored = rules.iter().enumerate().filter_map(|(at, rule)| Some((rule.score(asked)?, at)));
    // Of equals the first in the policy's order.
    scored.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, at)| at.to_string())
}

fn build(rules: &[Naive]) -> RouteTable {
    let mut table = RouteTable::default();
    for (at, naive) in rules.iter().enumerate() {
        table.insert(naive.host.as_deref(), naive.condition(), rule(&at.to_string()));
    }
    table
}

proptest! {
    #[test]
    fn the_index_finds_what_a_look_at_everything_finds(
        rules in prop::collection::vec(naive(), 0..40),
        requests in prop::collection::vec(asked(), 1..40),
    ) {
        let table = build(&rules);
        for asked in &requests {
            let wanted = linear(&rules, asked);
            prop_assert_eq!(indexed(&table, asked), (wanted.clone(), wanted), "{:?}", asked);
        }
    }
}

#[test]
fn what_is_considered_stands_in_the_order_of_precedence() {
    let table = table(vec![
        (None, any(), "/"),
        (None, on(prefix("/a")), "/a"),
        (None, on(prefix("/a/b/c")), "/a/b/c"),
        (None, on(prefix("/a/b")), "/a/b"),
        (None, on(regex("/a.*")), "regex"),
        (None, on(exact("/a/b/c")), "= /a/b/c"),
        (Some("*.c"), any(), "*.c"),
        (Some("*.b.c"), any(), "*.b.c"),
        (Some("a.b.c"), any(), "a.b.c"),
    ]);
    let headers = HeaderMap::new();
    let inquiry =
        Inquiry { host: "a.b.c", path: "/a/b/c", query: None, method: &Method::GET, headers: &headers };
    let considered = consider(&table, &inquiry);
    let named: Vec<_> = considered.iter().map(|it| &*it.entry.rule.name).collect();
    let wanted = ["a.b.c", "*.b.c", "*.c", "= /a/b/c", "/a/b/c", "/a/b", "/a", "regex", "/"];
    assert_eq!(named, wanted);
    assert!(considered.iter().all(|it| it.unmet.is_empty()));
}

#[test]
fn what_does_not_hold_is_named_part_by_part() {
    let condition = Match {
        method: Some(Method::POST),
        headers: vec![header("x-a", "1"), header("x-b", "1"), header("x-c", "1")],
        query: vec![query("p", "1"), query("q", "1")],
        path: regex("/a+"),
    };
    let (a, b, c) =
        (HeaderName::from_static("x-a"), HeaderName::from_static("x-b"), HeaderName::from_static("x-c"));
    let table = table(vec![
        (Some("a.example"), condition.clone(), "other host"),
        (Some("*.example"), condition, "wildcard"),
        (None, on(exact("/b")), "chosen"),
        (None, on(prefix("/a")), "other path"),
    ]);
    let mut headers = HeaderMap::new();
    headers.insert("x-b", HeaderValue::from_static("2"));
    headers.insert("x-c", HeaderValue::from_static("1"));
    let inquiry = Inquiry {
        host: "B.example:80",
        path: "/b",
        query: Some("p=2"),
        method: &Method::GET,
        headers: &headers,
    };
    let considered = consider(&table, &inquiry);
    let told: Vec<_> =
        considered.iter().map(|it| (&*it.entry.rule.name, it.host, it.unmet.clone())).collect();
    let rest = [
        Unmet::Path,
        Unmet::Method,
        Unmet::Header { name: &a, sent: false },
        Unmet::Header { name: &b, sent: true },
        Unmet::Query { name: "p", sent: true },
        Unmet::Query { name: "q", sent: false },
    ];
    assert!(!rest.contains(&Unmet::Header { name: &c, sent: true }));
    let all = [&[Unmet::Host][..], &rest].concat();
    assert_eq!(
        told,
        [
            ("other host", Host::Exact("a.example"), all),
            ("wildcard", Host::Suffix(".example"), rest.to_vec()),
            ("chosen", Host::Any, vec![]),
            ("other path", Host::Any, vec![Unmet::Path]),
        ]
    );
}

#[test]
fn why_one_condition_comes_before_another_is_told() {
    let with = |method: Option<Method>, headers: usize, queries: usize| Match {
        method,
        headers: vec![header("x-a", "1"); headers],
        query: vec![query("q", "1"); queries],
        ..any()
    };
    let table = table(vec![
        (Some("a.example"), any(), "host"),
        (None, on(exact("/a")), "path"),
        (None, on(regex("/a+")), "longer expression"),
        (None, on(regex("/a")), "path"),
        (None, with(Some(Method::GET), 0, 0), "method"),
        (None, with(None, 2, 0), "headers"),
        (None, with(None, 1, 1), "query"),
        (None, with(None, 1, 0), "order"),
        (None, with(None, 1, 0), "last"),
    ]);
    let headers = HeaderMap::new();
    let inquiry =
        Inquiry { host: "a.example", path: "/a", query: None, method: &Method::GET, headers: &headers };
    let considered = consider(&table, &inquiry);
    let told: Vec<_> = considered.windows(2).map(|pair| pair[0].precedes(&pair[1])).collect();
    use Precedence as By;
    let wanted = [By::Host, By::Path, By::Path, By::Path, By::Method, By::Headers, By::Query, By::Order];
    assert_eq!(told, wanted);
}

#[test]
fn a_thousand_rules_are_told_apart() {
    let mut table = RouteTable::default();
    for n in 0..1_000 {
        table.insert(
            Some(&format!("s{}.shop", n % 10)),
            on(prefix(&format!("/api/v{n}"))),
            rule(&n.to_string()),
        );
    }
    for n in 0..1_000 {
        let path = format!("/api/v{n}/orders/17");
        assert_eq!(ask(&table, &format!("s{}.shop", n % 10), &path, &[]), n.to_string());
        assert_eq!(ask(&table, &format!("s{}.shop", (n + 1) % 10), &path, &[]), "404");
    }
}

fn rewritten(rule: &UrlRewrite, request: Request<()>) -> (Uri, HeaderMap) {
    let mut parts = request.into_parts().0;
    rewrite::rewrite(rule, &mut parts).unwrap();
    (parts.uri, parts.headers)
}

fn replace_prefix(matched: &str, replacement: &str) -> PathRewrite {
    PathRewrite::Prefix { matched: matched.trim_end_matches('/').into(), replacement: replacement.into() }
}

/// The table in the documentation of `HTTPPathModifier.replacePrefixMatch`.
#[test]
fn a_prefix_is_replaced_as_the_gateway_api_says() {
    for (path, matched, replacement, wanted) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/foo/bar?q=1", "/foo", "/xyz", "/xyz/bar?q=1"),
        ("*", "/", "/xyz", "*"),
    ] {
        let rule = UrlRewrite { host: None, path: Some(replace_prefix(matched, replacement)) };
        let request = Request::get(path).body(()).unwrap();
        assert_eq!(rewritten(&rule, request).0.to_string(), wanted, "{path} {matched} {replacement}");
    }
}

#[test]
fn a_host_is_replaced_wherever_the_request_names_it() {
    let rule = UrlRewrite {
        host: Some(HeaderValue::from_static("new.example")),
        path: Some(PathRewrite::Full("/p".into())),
    };
    let (uri, headers) = rewritten(&rule, Request::get("/a?q").header("host", "old").body(()).unwrap());
    assert_eq!((uri.to_string().as_str(), headers["host"].to_str().unwrap()), ("/p?q", "new.example"));
    let (uri, headers) = rewritten(&rule, Request::get("http://old:81/a").body(()).unwrap());
    assert_eq!((uri.to_string().as_str(), headers.len()), ("http://new.example/p", 0));
    let (uri, headers) =
        rewritten(&rule, Request::get("http://old/a").header("host", "old").body(()).unwrap());
    assert_eq!(
        (uri.authority().unwrap().as_str(), headers["host"].to_str().unwrap()),
        ("new.example", "new.example")
    );
}

#[test]
fn a_path_too_long_to_be_one_is_refused() {
    let rule = UrlRewrite { host: None, path: Some(replace_prefix("/a", &"/b".repeat(200))) };
    let path = format!("/a/{}", "x".repeat(65_200));
    let mut parts = Request::get(path).body(()).unwrap().into_parts().0;
    assert!(rewrite::rewrite(&rule, &mut parts).is_err());
}

#[test]
fn a_redirect_says_where_as_the_gateway_api_says() {
    let plain = || Redirect { status: StatusCode::FOUND, scheme: None, host: None, port: None, path: None };
    let moved = |rule: &Redirect, scheme, host, port| {
        let origin = rewrite::Origin { scheme, host, port };
        let response = rewrite::redirect(rule, &origin, &"/foo/bar?q=1".parse().unwrap()).unwrap();
        assert_eq!(response.status(), rule.status);
        response.headers()["location"].to_str().unwrap().to_owned()
    };
    let https = Redirect { scheme: Some("https".into()), ..plain() };
    assert_eq!(moved(&https, "http", "a.example:8080", 8080), "https://a.example/foo/bar?q=1");
    assert_eq!(moved(&plain(), "http", "a.example", 80), "http://a.example/foo/bar?q=1");
    assert_eq!(moved(&plain(), "http", "a.example:9", 8080), "http://a.example:8080/foo/bar?q=1");
    assert_eq!(moved(&plain(), "http", "[::1]:9", 80), "http://[::1]/foo/bar?q=1");
    let port = Redirect { port: Some(8443), host: Some("b.example".into()), ..https };
    assert_eq!(moved(&port, "http", "a.example", 80), "https://b.example:8443/foo/bar?q=1");
    let path =
        Redirect { path: Some(replace_prefix("/foo", "")), status: StatusCode::MOVED_PERMANENTLY, ..plain() };
    assert_eq!(moved(&path, "http", "", 80), "/bar?q=1");
}

#[test]
fn a_redirect_without_a_host_never_names_one_out_of_the_path() {
    let rule = Redirect {
        status: StatusCode::FOUND,
        scheme: None,
        host: None,
        port: None,
        path: Some(replace_prefix("/out", "")),
    };
    let origin = rewrite::Origin { scheme: "http", host: "", port: 80 };
    let uri = "/out//evil.example/".parse().unwrap();
    let response = rewrite::redirect(&rule, &origin, &uri).unwrap();
    assert_eq!(response.headers()["location"], "/.//evil.example/");
}

#[test]
fn headers_are_set_added_and_removed_and_framing_is_left_alone() {
    let change = |name, value| HeaderChange {
        name: HeaderName::from_static(name),
        value: HeaderValue::from_static(value),
    };
    let modifier = HeaderModifier {
        set: vec![change("my-header", "bar"), change("content-length", "0")],
        add: vec![change("my-added", "bar,baz"), change("transfer-encoding", "chunked")],
        remove: vec![HeaderName::from_static("my-header3"), HeaderName::from_static("content-length")],
    };
    let request = Request::get("/").header("my-header", "foo").header("my-added", "foo");
    let request = request.header("my-header3", "DEF").header("content-length", "7").body(()).unwrap();
    let mut headers = request.into_parts().0.headers;
    modifier.apply(&mut headers);
    assert_eq!(headers.get_all("my-header").iter().collect::<Vec<_>>(), ["bar"]);
    assert_eq!(headers.get_all("my-added").iter().collect::<Vec<_>>(), ["foo", "bar,baz"]);
    assert_eq!(headers.get("my-header3"), None);
    assert_eq!(headers.get_all("content-length").iter().collect::<Vec<_>>(), ["7"]);
    assert_eq!(headers.get("transfer-encoding"), None);
}
