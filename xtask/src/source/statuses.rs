//! Each status that the control plane answers has a reason by name: who makes one without goes past the list of them.

use super::{Source, load, paths};

/// Where statuses are made.
const MAKES: &str = "control-plane/src/reason.rs";
/// A receiver's answer to us, not ours to anybody.
const HEARS: &str = "control-plane/src/traces/forward/";
/// What does not make a status that refuses.
const HARMLESS: &[&str] = &["code", "ok", "from_header_map"];

#[test]
fn statuses_of_the_control_plane_are_made_in_one_place() {
    let sources = load("control-plane/src").unwrap();
    assert!(sources.iter().any(|source| source.path.ends_with(MAKES)), "{MAKES} has moved");
    let made: Vec<_> = sources.iter().filter(|source| !is_exempt(source)).flat_map(made).collect();
    assert!(made.is_empty(), "take a Reason, or add one to {MAKES}:\n{}", made.join("\n"));
}

fn is_exempt(source: &Source) -> bool {
    source.path.ends_with(MAKES) || source.path.starts_with(HEARS)
}

/// Where a file makes statuses itself.
fn made(source: &Source) -> Vec<String> {
    let named = paths::named(&source.syntax);
    let made = named.iter().filter(|named| match &named.path[..] {
        [.., of, how] => of == "Status" && !HARMLESS.contains(&how.as_str()),
        _ => false,
    });
    made.map(|named| format!("{}:{}: {}", source.path.display(), named.line, named.path.join("::"))).collect()
}

#[test]
fn a_status_that_is_made_is_found_and_one_that_is_read_is_not() {
    let made = |text: &str| {
        let syntax = syn::parse_file(text).unwrap();
        made(&Source { path: "a.rs".into(), text: text.to_owned(), syntax }).len()
    };
    assert_eq!(made("fn f() -> Status { Status::internal(\"x\") }"), 1);
    assert_eq!(made("fn f() { g(|| tonic::Status::new(code, \"\")); h(Status::unavailable) }"), 2);
    assert_eq!(made("fn f(s: Status) { s.code(); map(Status::code); Status::ok(\"\"); }"), 0);
}
