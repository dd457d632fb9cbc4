//! One request, whatever version it came in.
pub mod body;
