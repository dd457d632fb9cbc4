//! Filters on the way of a request.

use std::future;

use super::*;
use crate::filter::{Action, Phases, StreamId, tests::Log};

fn all() -> Phases {
    let request = Phases::REQUEST_HEADERS | Phases::REQUEST_BODY | Phases::REQUEST_TRAILERS;
    let response = Phases::RESPONSE_HEADERS | Phases::RESPONSE_BODY | Phases::RESPONSE_TRAILERS;
    request | response | Phases::LOG
}

#[tokio::test]
async fn a_filter_sees_every_phase_of_a_request_in_order() {
    LocalSet::new()
        .run_until(async {
            let log = Log::default();
            let world = World::filtered("HTTP2", Told::new("a", all(), &log)).await;
            let (status, _, whole) = world.put().await;
            assert_eq!((status, whole.trailers()), (StatusCode::OK, Some(&map(&[("t", "1")]))));
            assert_eq!(whole.to_bytes(), "xxxx");
            let wanted = [
                "a request headers",
                "a request body 4 false",
                "a request body 0 true",
                "a request trailers",
                "a response headers",
                "a response body 4 false",
                "a response body 0 true",
                "a response trailers",
                "a log 200",
            ];
            assert_eq!(*log.borrow(), wanted);
        })
        .await;
}

#[tokio::test]
async fn a_connection_is_asked_about_once() {
    LocalSet::new()
        .run_until(async {
            let log = Log::default();
            let phases = Phases::CONNECTION | Phases::REQUEST_HEADERS | Phases::LOG;
            let world = World::guarded(Told::new("a", phases, &log)).await;
            for _ in 0..2 {
                assert_eq!(world.put().await.0, StatusCode::OK);
            }
            let wanted = ["a connection", "a request headers", "a log 200", "a request headers", "a log 200"];
            assert_eq!(*log.borrow(), wanted);
        })
        .await;
}

#[tokio::test]
async fn a_filter_that_refuses_or_fails_has_its_reason_and_is_asked_again() {
    type Made = (fn() -> Action, StatusCode, &'static str);
    let made: [Made; 2] = [
        (|| Action::Deny, StatusCode::FORBIDDEN, "denied"),
        (|| Action::Fail("out of memory".into()), StatusCode::SERVICE_UNAVAILABLE, "filter_failed"),
    ];
    LocalSet::new()
        .run_until(async {
            for (action, wanted, reason) in made {
                let log = Log::default();
                let mut told = Told::new("a", Phases::CONNECTION | Phases::LOG, &log);
                told.on_head = Box::new(move |_, _| action());
                let world = World::guarded(told).await;
                for _ in 0..2 {
                    let (status, headers, _) = world.put().await;
                    assert_eq!((status, headers["trama-reason"].to_str().unwrap()), (wanted, reason));
                }
                assert!(world.application.heads.borrow().is_empty());
                assert_eq!(world.ended(reason), 1, "one series");
                let log = log.borrow();
                assert_eq!(log.iter().filter(|line| *line == "a connection").count(), 2, "{log:?}");
                assert_eq!(log.iter().filter(|line| line.starts_with("a log")).count(), 2, "{log:?}");
            }
        })
        .await;
}

/// A filter that answers with 418 when it is asked for the `at`-th time; trailers count.
fn teapot(at: u32, log: &Log) -> Told {
    let mut told = Told::new("a", all(), log);
    told.on_head =
        Box::new(move |_, entries| if entries == at { Action::respond(own()) } else { Action::Continue });
    told
}

fn own() -> Response<Body> {
    let mut response = Response::new(Body::full("short and stout"));
    *response.status_mut() = StatusCode::IM_A_TEAPOT;
    response
}

#[tokio::test]
async fn a_filter_answers_in_the_applications_place() {
    LocalSet::new()
        .run_until(async {
            let log = Log::default();
            let world = World::filtered("HTTP2", teapot(1, &log)).await;
            let (status, _, whole) = world.put().await;
            assert_eq!((status, &whole.to_bytes()[..]), (StatusCode::IM_A_TEAPOT, &b"short and stout"[..]));
            assert!(world.application.heads.borrow().is_empty());
            let wanted = ["a request headers", "a response headers", "a response body 15 true", "a log 418"];
            assert_eq!(*log.borrow(), wanted);
            assert_eq!(world.ended("filter_response"), 1);
        })
        .await;
}

#[tokio::test]
async fn a_filter_replaces_the_applications_answer() {
    LocalSet::new()
        .run_until(async {
            // Request headers, request trailers, response headers.
            let log = Log::default();
            let world = World::filtered("HTTP2", teapot(3, &log)).await;
            assert_eq!(world.put().await.0, StatusCode::IM_A_TEAPOT);
            assert_eq!(*world.application.whole.borrow(), 1);
            assert_eq!(log.borrow().last().unwrap(), "a log 418");
            assert_eq!(world.ended("filter_response"), 1);
        })
        .await;
}

/// PUT could be tried again, and its body could be replayed: but what a filter refused must not be.
#[tokio::test]
async fn a_filter_that_answers_to_the_body_ends_the_request_for_good() {
    LocalSet::new()
        .run_until(async {
            for protocol in ["HTTP", "HTTP2"] {
                let log = Log::default();
                let mut told = Told::new("a", all(), &log);
                // The end of the request's body, which is told alone; not that of the answer's.
                told.on_data =
                    Box::new(
                        |data, end| {
                            if end && data.is_empty() { Action::respond(own()) } else { Action::Continue }
                        },
                    );
                let world = World::filtered(protocol, told).await;
                let (status, _, whole) = world.put().await;
                assert_eq!(status, StatusCode::IM_A_TEAPOT, "{protocol}");
                assert!(whole.trailers().is_none());
                assert!(world.application.heads.borrow().len() <= 1, "{protocol}");
                assert_eq!(
                    *world.application.whole.borrow(),
                    0,
                    "{protocol}: what broke off arrived as if whole"
                );
                assert_eq!(log.borrow().last().unwrap(), "a log 418", "{protocol}");
                assert_eq!(world.ended("filter_response"), 1, "{protocol}");
            }
        })
        .await;
}

#[tokio::test]
async fn a_rules_own_filters_change_headers_both_ways() {
    LocalSet::new()
        .run_until(async {
            let filters = "[{requestHeaderModifier: {set: [{name: x-asked, value: '1'}]}}, \
                            {responseHeaderModifier: {set: [{name: x-answered, value: '2'}]}}]";
            let world = World::new("HTTP", filters).await;
            let (_, headers, _) = world.put().await;
            assert_eq!(headers["x-answered"], "2");
            assert_eq!(world.application.heads.borrow()[0]["x-asked"], "1");
        })
        .await;
}

/// A request given up leaves nothing in a filter: the end comes there too.
#[tokio::test]
async fn a_request_that_is_given_up_still_ends_in_its_filters() {
    LocalSet::new()
        .run_until(async {
            let log = Log::default();
            let mut told = Told::new("a", all(), &log);
            told.on_head = Box::new(|_, _| Action::Wait(Box::pin(future::pending())));
            let world = World::filtered("HTTP", told).await;
            let mut asking = Box::pin(world.put());
            assert!(futures_util::poll!(&mut asking).is_pending());
            drop(asking);
            assert_eq!(*log.borrow(), ["a request headers", "a log 0"]);
        })
        .await;
}

#[tokio::test]
async fn a_rule_without_filters_asks_for_no_chain() {
    LocalSet::new()
        .run_until(async {
            let world = World::new("HTTP", "[]").await;
            assert_eq!(world.put().await.0, StatusCode::OK);
            assert_eq!(world.connection.worker.stream(), StreamId(0), "no number was drawn for filters");
        })
        .await;
}
