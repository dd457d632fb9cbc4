//! Judges the guard by the parser behind it: what the scanner accepts, httparse and hyper read as the same messages.
//!
//! So is detection, which decides what the guard gets to see.
//!
//! [`check`] is run by a property test over generated requests and by the fuzz target `tests/fuzz`, which includes this
//! module by its path so that it needs to build nothing else of the sidecar.

mod reference;
mod server;

use super::{Limits, Scanner, Violation};
use crate::http::first_bytes::{Detected, judge_all};

pub use self::reference::Message;
pub use self::server::{Outcome, serve};

/// More would be split between two reads of hyper's, and `check` tells withheld messages from delivered ones by that.
const MAX_INPUT: usize = 8 * 1024;

/// Panics if the guard and what is behind it disagree about these bytes of a connection.
pub fn check(input: &[u8]) {
    let input = &input[..input.len().min(MAX_INPUT)];
    check_detection(input);
    let verdict = Verdict::of(input, 1);
    for size in [2, 3, 7, 64, input.len().max(1)] {
        assert_eq!(verdict.violation, Verdict::of(input, size).violation, "read in pieces of {size}");
    }
    let accepted = match verdict.violation {
        Some(_) => &input[..verdict.ends.last().copied().unwrap_or(0)],
        None => input,
    };
    let (messages, ends) = reference::read(accepted);
    assert_eq!(ends, verdict.ends, "the ends of messages");
    let closed = messages.iter().position(|message| message.closes);
    let served = &messages[..closed.map_or(messages.len(), |last| last + 1)];
    check_hyper(&serve(input, input.len().max(1), &verdict), served, closed, &verdict, true);
    check_hyper(&serve(input, 1 + input.len() % 16, &verdict), served, closed, &verdict, false);
}

/// Opaque bytes pass the guard by: none of them may be a request, even to a parser that is told to be lenient.
fn check_detection(input: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut fields);
    let mut lenient = httparse::ParserConfig::default();
    lenient.allow_multiple_spaces_in_request_line_delimiters(true);
    let read = lenient.parse_request(&mut request, input);
    if read.is_ok() && request.version.is_some() {
        assert_eq!(judge_all(input), Detected::Http1, "detection, of what httparse reads");
    }
}

fn check_hyper(outcome: &Outcome, served: &[Message], closed: Option<usize>, verdict: &Verdict, whole: bool) {
    let mut requests = outcome.requests.as_slice();
    if let (false, Some(_), [before @ .., last]) = (whole, verdict.violation, requests)
        && requests.len() == served.len() + 1
    {
        // In pieces, the head of the refused message may have been served before its body turned out bad.
        assert!(!last.complete, "a refused message was read to its end: {last:?}");
        requests = before;
    }
    assert_eq!(requests.len(), served.len(), "requests served, of {served:?}");
    for (request, message) in requests.iter().zip(served) {
        assert!(request.is_like(message), "hyper read {request:?}, httparse {message:?}");
    }
    let withheld = requests.len() == outcome.requests.len();
    let due = verdict.violation.filter(|_| closed.is_none() && withheld);
    assert_eq!(outcome.answer_due, due, "the answer that is left to the owner");
    assert_eq!(outcome.statuses.len(), outcome.requests.len(), "answers to {:?}", outcome.requests);
    assert!(outcome.statuses.iter().all(|status| *status == 404), "answers {:?}", outcome.statuses);
}

/// What the scanner says about a whole connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Where messages end.
    pub ends: Vec<usize>,
    pub violation: Option<Violation>,
}

impl Verdict {
    /// Scans in pieces. The ends are found only if the pieces are single bytes.
    pub fn of(input: &[u8], size: usize) -> Self {
        let mut scanner = Scanner::new(Limits::default());
        let mut verdict = Self { ends: Vec::new(), violation: None };
        let mut at = 0;
        while at < input.len() {
            let heads = scanner.heads();
            let within = !scanner.is_between_messages();
            match scanner.scan(&input[at..input.len().min(at + size)]) {
                Ok(passed) => at += passed,
                Err(refused) => {
                    verdict.violation = Some(refused.violation);
                    break;
                }
            }
            if scanner.is_between_messages() && (within || scanner.heads() > heads) {
                verdict.ends.push(at);
            }
            scanner.resume();
        }
        verdict
    }
}
