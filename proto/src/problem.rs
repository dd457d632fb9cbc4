//! What is wrong in a file: the place, the field, the value and the remedy.

use std::{
    error::Error,
    fmt::{self, Display, Formatter},
};

/// A place in a text. Both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, or whatever else the value came from.
    pub source: String,
    /// Where in the file.
    pub position: Option<Position>,
    /// The resource, such as `Route shop/orders`. Empty where there is none.
    pub resource: String,
    /// The field, such as `spec.rules[1].backendRefs[0].service`. Empty for the file as a whole.
    pub field: String,
    /// The offending value, as JSON. Empty where nothing is there.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

impl Problem {
    /// A problem of a file, or of another source, as a whole.
    pub fn of_source(source: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            source: source.to_owned(),
            position: None,
            resource: String::new(),
            field: String::new(),
            value: String::new(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        for part in [&self.resource, &self.field] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        write!(f, ": {}", self.problem)?;
        if !self.value.is_empty() {
            write!(f, ", got {}", self.value)?;
        }
        write!(f, "; {}", self.remedy)
    }
}

/// All that is wrong, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Display for Problems {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl Error for Problems {}
