//! What a rule changes: host and path of a request, and the answer that sends the caller elsewhere.
//!
//! Changes to headers are [`HeaderModifier::apply`](crate::config::snapshot::HeaderModifier::apply).

use http::{
    HeaderValue, Response, Uri, header, request,
    uri::{Authority, PathAndQuery},
};

use super::hostname;
use crate::{
    config::snapshot::{PathRewrite, Redirect, UrlRewrite},
    error::Reason,
};

/// What a redirect keeps of the request where the rule does not say otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'r> {
    /// `http` or `https`, as the caller sees it.
    pub scheme: &'r str,
    /// Host or `:authority`, as sent; empty: none was.
    pub host: &'r str,
    /// The port that the caller dialled.
    pub port: u16,
}

/// Gives the request its new host and path; the query stays (HTTPURLRewriteFilter). Fails when the new path is longer
/// than a path can be.
pub fn rewrite(rule: &UrlRewrite, parts: &mut request::Parts) -> Result<(), Reason> {
    let mut uri = parts.uri.clone().into_parts();
    if let (Some(path), Some(old)) = (&rule.path, &uri.path_and_query) {
        uri.path_and_query = Some(new_path(path, old)?);
    }
    if let Some(host) = &rule.host {
        // Where the authority is in the URI, a Host beside it must not say something else.
        if uri.authority.is_some() {
            let authority = Authority::try_from(host.as_bytes()).map_err(|_| Reason::NoBackend)?;
            uri.authority = Some(authority);
        }
        if uri.authority.is_none() || parts.headers.contains_key(header::HOST) {
            parts.headers.insert(header::HOST, host.clone());
        }
    }
    parts.uri = Uri::from_parts(uri).map_err(|_| Reason::HeadersTooLarge)?;
    Ok(())
}

/// The answer that sends the caller elsewhere, its body empty (HTTPRequestRedirectFilter).
pub fn redirect(rule: &Redirect, origin: &Origin<'_>, uri: &Uri) -> Result<Response<()>, Reason> {
    let asked = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let path = match &rule.path {
        Some(path) => new_path(path, &asked)?,
        None => asked,
    };
    let scheme = rule.scheme.as_deref().unwrap_or(origin.scheme);
    let host = rule.host.as_deref().unwrap_or_else(|| hostname(origin.host));
    let location = match (host, redirect_port(rule, origin, scheme)) {
        // HTTP/1.0 without Host: a relative reference is all that can be said. `//a/b` would name the host `a`
        // (RFC 3986 section 4.2).
        ("", _) if path.path().starts_with("//") => format!("/.{path}"),
        ("", _) => path.to_string(),
        (host, None) => format!("{scheme}://{host}{path}"),
        (host, Some(port)) => format!("{scheme}://{host}:{port}{path}"),
    };
    let mut response = Response::new(());
    *response.status_mut() = rule.status;
    let location = HeaderValue::try_from(location).map_err(|_| Reason::HeadersTooLarge)?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// The port to write: the rule's; else, if the rule names a scheme, that scheme's own; else the one that was dialled.
/// A scheme's own port is not written.
fn redirect_port(rule: &Redirect, origin: &Origin<'_>, scheme: &str) -> Option<u16> {
    let own = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let kept = if rule.scheme.is_some() { own } else { Some(origin.port) };
    rule.port.or(kept).filter(|port| Some(*port) != own)
}

/// The new path with the old query.
fn new_path(rule: &PathRewrite, old: &PathAndQuery) -> Result<PathAndQuery, Reason> {
    let rest = match rule {
        PathRewrite::Full(_) => Some(""),
        PathRewrite::Prefix { matched, .. } => old.path().strip_prefix(&**matched),
    };
    // `OPTIONS *` names no path that could be rewritten.
    let Some(rest) = rest.filter(|_| old.path().starts_with('/')) else { return Ok(old.clone()) };
    let mut text = match rule {
        PathRewrite::Full(path) => path.to_string(),
        PathRewrite::Prefix { replacement, .. } => format!("{}{rest}", replacement.trim_end_matches('/')),
    };
    if !text.starts_with('/') {
        text.insert(0, '/');
    }
    if let Some(query) = old.query() {
        text.push('?');
        text.push_str(query);
    }
    PathAndQuery::try_from(text).map_err(|_| Reason::HeadersTooLarge)
}
