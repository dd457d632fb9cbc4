//! What is written of the charts' values: comments, schema, READMEs and the book agree. `cargo xtask reference` writes the
//! parts that follow from others.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod book;
mod readme;
mod schema;
mod values;
