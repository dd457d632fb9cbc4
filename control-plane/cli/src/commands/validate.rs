//! `validate`: what would be wrong, before anything is changed.

use clap::Args;
use serde::Serialize;
use trama_proto::{Problem, admin::v1::ValidateRequest};
use trama_sidecar::config::{
    convert::{self, Local},
    snapshot::state::Registry,
};

use crate::{
    about::count,
    arguments::Global,
    client::Client,
    exit::Exit,
    explain,
    failure::Failure,
    files::{Files, Sources},
    output::Format,
};

#[derive(Debug, Args)]
pub(crate) struct Validate {
    #[command(flatten)]
    sources: Sources,
    /// Asks nobody: the files are judged as a whole policy.
    #[arg(long)]
    offline: bool,
}

impl Validate {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let judged = match self.sources.read() {
            Ok(files) if self.offline => alone(&files),
            Ok(files) => asked(&files, global).await,
            Err(failure) => Err(failure),
        };
        match (judged, global.output) {
            (Ok(resources), output) => {
                let said = |_: &Judged<'_>| format!("valid: {}\n", count(resources, "resource"));
                output.print(&Judged { valid: true, problems: &[] }, said)?;
                Ok(Exit::Done)
            }
            // For a program the problems are the answer.
            (Err(Failure::Refused(problems)), Format::Json | Format::Yaml) => {
                let problems: Vec<_> = problems.iter().map(Line::of).collect();
                global.output.print(&Judged { valid: false, problems: &problems }, |_| String::new())?;
                Ok(Exit::Refused)
            }
            (Err(failure), _) => Err(failure),
        }
    }
}

async fn asked(files: &Files, global: &Global) -> Result<usize, Failure> {
    let request = ValidateRequest { resources: files.resources().collect() };
    let answer = Client::connect(global).await?.validate(request).await;
    let problems = answer.map_err(|failure| explain::refusal(failure, files))?.problems;
    none_of(files, problems.iter().map(|found| explain::problem(found, files)).collect())
}

/// By the code with which sidecars and the control plane judge. Where a sidecar is does not change what is wrong.
fn alone(files: &Files) -> Result<usize, Failure> {
    match convert::convert(&files.documents, &Local::default(), &mut Registry::default(), 0) {
        Ok(_) => none_of(files, Vec::new()),
        Err(problems) => none_of(files, problems.0),
    }
}

fn none_of(files: &Files, problems: Vec<Problem>) -> Result<usize, Failure> {
    if problems.is_empty() { Ok(files.documents.len()) } else { Err(Failure::Refused(problems)) }
}

#[derive(Debug, Serialize)]
struct Judged<'a> {
    valid: bool,
    problems: &'a [Line<'a>],
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u64>,
    resource: &'a str,
    field: &'a str,
    /// As JSON.
    value: &'a str,
    problem: &'a str,
    remedy: &'a str,
}

impl<'a> Line<'a> {
    fn of(found: &'a Problem) -> Self {
        let Problem { source, position, resource, field, value, problem, remedy } = found;
        Self {
            source,
            line: position.map(|position| position.line),
            column: position.map(|position| position.column),
            resource,
            field,
            value,
            problem,
            remedy,
        }
    }
}
