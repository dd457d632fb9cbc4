//! The rules of a route, in the words of the Gateway API (HTTPRoute v1).

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::{cluster::Cluster, filter::FilterChain};

/// A rule: what it matches, what it changes, where it leads.
#[derive(Debug)]
pub struct Rule {
    /// `namespace/route/rule`, as metrics and logs say it.
    pub name: Arc<str>,
    /// A new host or path. It comes before the filters: they see the request as it is sent.
    pub rewrite: Option<UrlRewrite>,
    /// Other changes, in the order of the policy.
    pub filters: Option<Arc<FilterChain>>,
    /// Where it leads.
    pub action: RuleAction,
    /// Time-outs.
    pub timeouts: RuleTimeouts,
    /// Retries.
    pub retry: RetryPolicy,
}

impl Rule {
    /// Who shares its requests; nobody where it redirects.
    pub fn backends(&self) -> &[Backend] {
        match &self.action {
            RuleAction::Forward(backends) => backends,
            RuleAction::Redirect(_) => &[],
        }
    }
}

/// Where a rule leads.
#[derive(Debug)]
pub enum RuleAction {
    /// To one of these, by weight. Empty: the rule's backends do not exist, 500 (Gateway API, HTTPBackendRef).
    Forward(Vec<Backend>),
    /// Answered with a redirect.
    Redirect(Redirect),
}

/// A share of a rule's traffic.
#[derive(Debug)]
pub struct Backend {
    /// Its share; 0 takes none.
    pub weight: u32,
    /// Who serves it.
    pub cluster: Arc<Cluster>,
}

/// One condition on a request; all of its parts must hold.
#[derive(Clone, Debug)]
pub struct Match {
    /// The path.
    pub path: PathMatch,
    /// The method, if one is asked.
    pub method: Option<Method>,
    /// Headers, all of them.
    pub headers: Vec<HeaderMatch>,
    /// Query parameters, all of them.
    pub query: Vec<QueryMatch>,
}

/// A condition on the path.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// The whole path.
    Exact(Box<str>),
    /// The path's first segments, without the slash at the end; empty matches all.
    Prefix(Box<str>),
    /// A regular expression over the whole path, made by [`whole_regex`].
    Regex(regex::Regex),
}

impl fmt::Display for PathMatch {
    /// `= /a`, `/a/*` or `~ a+`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "= {path}"),
            Self::Prefix(prefix) => write!(f, "{prefix}/*"),
            Self::Regex(regex) => {
                let whole = regex.as_str().strip_prefix(WHOLE.0).and_then(|rest| rest.strip_suffix(WHOLE.1));
                write!(f, "~ {}", whole.unwrap_or(regex.as_str()))
            }
        }
    }
}

/// A condition on a value.
#[derive(Clone, Debug)]
pub enum ValueMatch {
    /// The very value.
    Exact(Box<str>),
    /// A regular expression over the whole value, made by [`whole_regex`].
    Regex(regex::Regex),
}

/// Compiles a regular expression that must match from the first to the last character.
pub fn whole_regex(pattern: &str) -> Result<regex::Regex, regex::Error> {
    // Alone first: `a)(b` would be fine between our parentheses and mean something else.
    regex::Regex::new(pattern)?;
    let (begin, end) = WHOLE;
    regex::Regex::new(&format!("{begin}{pattern}{end}"))
}

/// What a pattern stands between so that it must match the whole.
const WHOLE: (&str, &str) = (r"\A(?:", r")\z");

/// A condition on a header.
#[derive(Clone, Debug)]
pub struct HeaderMatch {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: ValueMatch,
}

/// A condition on a query parameter.
#[derive(Clone, Debug)]
pub struct QueryMatch {
    /// Its name, case kept.
    pub name: Box<str>,
    /// Its value.
    pub value: ValueMatch,
}

/// Changes to headers, in this order.
#[derive(Clone, Debug, Default)]
pub struct HeaderModifier {
    /// Set, replacing what is there.
    pub set: Vec<HeaderChange>,
    /// Added to what is there.
    pub add: Vec<HeaderChange>,
    /// Removed.
    pub remove: Vec<HeaderName>,
}

impl HeaderModifier {
    /// Makes the changes. Fields that frame the message or belong to one connection stay as they are.
    pub fn apply(&self, headers: &mut HeaderMap) {
        let free = |name: &HeaderName| !is_framing(name);
        for change in self.set.iter().filter(|c| free(&c.name)) {
            headers.insert(change.name.clone(), change.value.clone());
        }
        for change in self.add.iter().filter(|c| free(&c.name)) {
            headers.append(change.name.clone(), change.value.clone());
        }
        for name in self.remove.iter().filter(|n| free(n)) {
            headers.remove(name);
        }
    }
}

/// Whether a field says where a message ends, or concerns one connection only (RFC 9110 section 7.6.1): neither a
/// policy nor a filter may touch it, or two parsers could disagree about where the next message begins.
pub fn is_framing(name: &HeaderName) -> bool {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    const FRAMING: [HeaderName; 8] = [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        KEEP_ALIVE,
        PROXY_CONNECTION,
    ];
    FRAMING.contains(name)
}

/// A header and its value.
#[derive(Clone, Debug)]
pub struct HeaderChange {
    /// The name.
    pub name: HeaderName,
    /// The value.
    pub value: HeaderValue,
}

/// A new host or path for the request.
#[derive(Debug)]
pub struct UrlRewrite {
    /// The new authority.
    pub host: Option<HeaderValue>,
    /// The new path.
    pub path: Option<PathRewrite>,
}

/// How a path is rewritten.
#[derive(Debug)]
pub enum PathRewrite {
    /// The whole path.
    Full(Box<str>),
    /// The prefix that matched.
    Prefix {
        /// What matched, without the slash at the end.
        matched: Box<str>,
        /// What takes its place, without the slash at the end.
        replacement: Box<str>,
    },
}

/// An answer that sends the caller elsewhere.
#[derive(Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// The scheme, if it changes.
    pub scheme: Option<Box<str>>,
    /// The host, if it changes.
    pub host: Option<Box<str>>,
    /// The port, if it changes.
    pub port: Option<u16>,
    /// The path, if it changes.
    pub path: Option<PathRewrite>,
}

/// Time-outs of a rule; `None`: none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RuleTimeouts {
    /// From the request's head until the answer's end (GEP-1742 `request`).
    pub request: Option<Duration>,
    /// One attempt, until the answer's head (GEP-1742 `backendRequest`).
    pub backend_request: Option<Duration>,
}

/// When a request is tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Tries after the first; 0: none.
    pub attempts: u32,
    /// Statuses that are tried again, of idempotent requests.
    pub codes: Vec<StatusCode>,
    /// The least wait before a try on the same region; doubled each time, with jitter.
    pub backoff: Duration,
}

impl Default for RetryPolicy {
    /// Without a word in the policy, a request that no application can have seen, and an idempotent one whose answer
    /// has not begun, is tried up to twice more.
    fn default() -> Self {
        Self { attempts: 2, codes: Vec::new(), backoff: Duration::from_millis(25) }
    }
}
