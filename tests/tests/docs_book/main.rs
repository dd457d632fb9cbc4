//! The documentation against the code: its links, its examples and its tables.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod applied;
mod book;
mod commands;
mod configurations;
mod errors;
mod explained;
mod fields;
mod links;
mod metrics;
mod pages;
mod policies;
mod reasons;
mod reference;
mod refused;
