//! What is answered: as a table for people, as JSON and YAML for programs.

mod table;

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::Failure;

pub(crate) use self::table::{Table, printable};

/// The form of what is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lines and tables for people.
    Table,
    /// JSON.
    Json,
    /// YAML; resources as they can be applied.
    Yaml,
}

impl Format {
    /// Writes a value, or for people what `table` makes of it.
    pub(crate) fn print<T: Serialize>(
        self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        match self {
            Self::Table => text(&table(value)),
            Self::Json => text(&format!("{:#}\n", json(value)?)),
            Self::Yaml => text(&trama_proto::yaml(&json(value)?)),
        }
    }
}

/// A value as JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(value).map_err(|error| Failure::Local(format!("the answer has no form: {error}")))
}

/// Writes a text as it is.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
