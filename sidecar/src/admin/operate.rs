//! What operators ask and tell. The socket is on loopback, but a browser on the same machine reaches it too: so a
//! request must name a loopback host, or a foreign page could be rebound to us by DNS, and must not come from a page.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, Method, StatusCode, header, uri::Authority};

use super::{
    Answer, Asked, Drain, READ, State, explain, is_question, json, not_found, policy, server, text,
    wrong_method,
};
use crate::telemetry::{TelemetryHub, own_log};

pub(super) async fn answer(request: Asked, state: Arc<dyn State>, hub: TelemetryHub) -> Answer {
    if let Some(refused) = foreign(request.headers()) {
        return text(StatusCode::FORBIDDEN, refused);
    }
    match request.uri().path() {
        "/drain" if request.method() == Method::POST => {
            let what = if request.uri().query() == Some("inbound") { Drain::Inbound } else { Drain::All };
            state.drain(what);
            text(StatusCode::ACCEPTED, "draining\n")
        }
        "/explain" if request.method() == Method::POST => {
            let as_text = request.uri().query() == Some("text");
            match server::body(request).await {
                Ok(described) => explain::answer(&described, as_text, &*state).await,
                Err(refused) => refused,
            }
        }
        "/log" if request.method() == Method::PUT => match server::body(request).await {
            Ok(level) => set_level(&level),
            Err(refused) => refused,
        },
        "/log" if !is_question(&request) => wrong_method("GET, HEAD, PUT"),
        "/log" => match own_log::level() {
            Some(level) => text(StatusCode::OK, level + "\n"),
            None => text(StatusCode::NOT_FOUND, "this process has no log of its own\n"),
        },
        "/config" | "/policy" | "/revision" | "/connections" if !is_question(&request) => wrong_method(READ),
        "/config" => json(&state.configuration()),
        "/policy" => policy::answer(request.uri().query(), state).await,
        "/revision" => text(StatusCode::OK, format!("{}\n", state.snapshot().revision)),
        "/connections" => json(&hub.connections()),
        "/explain" | "/drain" => wrong_method("POST"),
        _ => not_found("GET /config /policy /revision /connections /log, POST /explain /drain, PUT /log"),
    }
}

fn set_level(wanted: &[u8]) -> Answer {
    match own_log::set_level(&String::from_utf8_lossy(wanted)) {
        Ok(()) => text(StatusCode::OK, own_log::level().unwrap_or_default() + "\n"),
        Err(refused) => text(StatusCode::BAD_REQUEST, refused + "\n"),
    }
}

fn foreign(headers: &HeaderMap) -> Option<&'static str> {
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    if !host.is_some_and(is_loopback) {
        return Some("the admin side answers only to localhost and to loopback addresses as Host\n");
    }
    headers.contains_key(header::ORIGIN).then_some("the admin side does not answer web pages\n")
}

fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|a| a.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_loopback() {
        for good in
            ["localhost", "LocalHost:15000", "127.0.0.1", "127.8.8.8:1", "[::1]:15000", "[::ffff:127.0.0.1]"]
        {
            assert!(is_loopback(good), "{good}");
        }
        for bad in
            ["", "evil.example", "localhost.evil.example", "10.0.0.1", "[::2]", "127.0.0.1.nip.io:15000", "@"]
        {
            assert!(!is_loopback(bad), "{bad}");
        }
    }
}
