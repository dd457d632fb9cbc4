//! The documentation against the code: its links, its examples and its tables.

mod errors;
mod links;
mod pages;
mod policies;
