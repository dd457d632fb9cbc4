//! Runs one suite: its commands one after the other, their output into a log, their results counted.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::process::{self, Event};
use crate::tools;

use super::libtest::{self, Counts, Verdict};
use super::network::Network;
use super::report::Progress;
use super::suites::{Step, Suite};

/// How a suite ended.
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) counts: Counts,
    pub(crate) took: Duration,
    /// What did not pass: tests by name, commands as typed.
    pub(crate) failures: Vec<String>,
}

/// `own` is the program that runs now. It is asked for before any suite runs: one of them builds it anew, and what is
/// at its path is then no longer what the kernel says that we are.
pub(crate) fn run(
    suite: &'static Suite,
    own: &Path,
    network: Network,
    progress: &mut Progress,
) -> Result<Outcome> {
    let log_path = log_path(suite.name)?;
    let mut log = File::create(&log_path).map_err(Error::file("create", &log_path))?;
    progress.begin(suite.name);
    let began = Instant::now();
    let mut outcome =
        Outcome { name: suite.name, counts: Counts::default(), took: Duration::ZERO, failures: Vec::new() };
    for step in suite.steps {
        if let Err(error) = run_step(step, own, network, &mut log, &mut outcome, progress) {
            outcome.fail(error.to_string());
        }
        if matches!(step, Step::Build(_)) && outcome.counts.failed > 0 {
            break;
        }
    }
    if outcome.counts == Counts::default() {
        outcome.fail(format!("suite {}: it ran no test at all", suite.name));
    }
    outcome.took = began.elapsed();
    progress.end(&outcome, &log_path)?;
    Ok(outcome)
}

impl Outcome {
    fn fail(&mut self, what: String) {
        self.counts.failed += 1;
        self.failures.push(what);
    }
}

fn run_step(
    step: &Step,
    own: &Path,
    network: Network,
    log: &mut File,
    outcome: &mut Outcome,
    progress: &mut Progress,
) -> Result<()> {
    let mut command = command(step, own)?;
    tools::with_path(&mut command);
    let spelled = process::spell(&command);
    writeln!(log, "$ {spelled}").map_err(Error::file("write", Path::new("the log")))?;

    let command = if step.is_of_tests() { network.around(command) } else { command };
    let before = outcome.counts;
    let mut failures = Vec::new();
    let mut counts = Counts::default();
    let counted = matches!(step, Step::Tests(_));
    let status = process::quiet(command, log, |event| {
        if let Event::Line(line) = event
            && counted
        {
            counts.add(libtest::result(line).unwrap_or_default());
            match libtest::verdict(line) {
                Some((name, Verdict::Failed)) => failures.push(name.to_owned()),
                Some((name, Verdict::Ignored)) => failures.push(format!("{name} (ignored)")),
                _ => {}
            }
        }
        let mut so_far = before;
        so_far.add(counts);
        progress.update(so_far, &event);
    })?;
    outcome.counts.add(counts);
    outcome.failures.extend(failures);
    judge(step, status, counts, spelled, outcome);
    Ok(())
}

/// What the exit status adds to the counted tests: a crash, a build error, a check's own verdict.
fn judge(step: &Step, status: ExitStatus, counts: Counts, spelled: String, outcome: &mut Outcome) {
    match step {
        Step::Check(_) | Step::Tool(..) | Step::Xtask(_) if status.success() => outcome.counts.passed += 1,
        _ if !status.success() && counts.failed == 0 => outcome.fail(format!("{spelled} ({status})")),
        _ => {}
    }
}

fn command(step: &Step, own: &Path) -> Result<Command> {
    match step {
        Step::Build(arguments) | Step::Tests(arguments) | Step::Check(arguments) => {
            Ok(process::cargo(arguments))
        }
        Step::Tool(tool, arguments) => tools::command(*tool, arguments),
        Step::Xtask(arguments) => {
            let mut command = Command::new(own);
            command.args(*arguments).current_dir(process::root());
            Ok(command)
        }
    }
}

fn log_path(suite: &str) -> Result<PathBuf> {
    let folder = process::root().join("target/xtask");
    std::fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    Ok(folder.join(format!("{suite}.log")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    const TESTS: Step = Step::Tests(&[]);
    const CHECK: Step = Step::Check(&[]);

    fn judged(step: &Step, code: i32, counts: Counts) -> Counts {
        let mut outcome = Outcome { name: "x", counts, took: Duration::ZERO, failures: Vec::new() };
        judge(step, ExitStatus::from_raw(code << 8), counts, "cargo x".to_owned(), &mut outcome);
        outcome.counts
    }

    #[test]
    fn a_check_counts_once() {
        assert_eq!(judged(&CHECK, 0, Counts::default()), Counts { passed: 1, failed: 0 });
        assert_eq!(judged(&CHECK, 1, Counts::default()), Counts { passed: 0, failed: 1 });
    }

    #[test]
    fn failed_tests_are_not_counted_again_for_the_exit_code() {
        let counts = Counts { passed: 3, failed: 2 };
        assert_eq!(judged(&TESTS, 101, counts), counts);
    }

    #[test]
    fn what_cannot_be_started_is_a_failure_and_not_the_end() {
        static SUITE: Suite =
            Suite { name: "own-tests", about: "", needs: &[], steps: &[Step::Xtask(&["demo"])] };
        let mut progress = Progress::new(&[&SUITE]);
        let outcome = run(&SUITE, Path::new("/no/such/xtask"), Network::Machine, &mut progress).unwrap();
        assert_eq!(outcome.counts, Counts { passed: 0, failed: 1 });
        assert!(outcome.failures[0].contains("`xtask demo`"), "{:?}", outcome.failures);
    }

    #[test]
    fn a_program_that_dies_without_a_result_is_a_failure() {
        let counts = Counts { passed: 3, failed: 0 };
        assert_eq!(judged(&TESTS, 101, counts), Counts { passed: 3, failed: 1 });
        assert_eq!(judged(&TESTS, 0, counts), counts);
    }
}
