//! One request, whatever version it came in.
pub mod body;
// what hyper reads of HTTP/1 is scanned first
pub mod guard;
