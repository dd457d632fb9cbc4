//! What the person or CI in front of the terminal sees: one moving line per suite, the log of a suite that failed,
//! a table of where the time went, and the number at the end.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::process::Event;

use super::libtest::Counts;
use super::runner::Outcome;
use super::suites::Suite;

/// Without a terminal, how often a suite says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// How much of a failed suite's log is shown; the rest is in the file.
const TAIL: usize = 200;

pub(crate) struct Progress {
    suite: &'static str,
    width: usize,
    terminal: bool,
    began: Instant,
    spoken: Instant,
    doing: String,
}

impl Progress {
    pub(crate) fn new(suites: &[&Suite]) -> Self {
        let width = suites.iter().map(|suite| suite.name.len()).max().unwrap_or(0);
        let now = Instant::now();
        let terminal = std::io::stdout().is_terminal();
        Self { suite: "", width, terminal, began: now, spoken: now, doing: String::new() }
    }

    pub(crate) fn begin(&mut self, suite: &'static str) {
        (self.began, self.spoken) = (Instant::now(), Instant::now());
        self.suite = suite;
        self.doing.clear();
        self.update(Counts::default(), &Event::Tick);
    }

    pub(crate) fn update(&mut self, counts: Counts, event: &Event<'_>) {
        if let Event::Line(line) = event
            && !line.trim().is_empty()
        {
            line.trim().clone_into(&mut self.doing);
        }
        if self.terminal {
            let line: String = self.line(counts).chars().take(columns() - 1).collect();
            print!("\r\x1b[2K{line}");
            // A terminal that is gone must not end the tests.
            std::io::stdout().flush().unwrap_or_default();
        } else if self.spoken.elapsed() >= HEARTBEAT {
            self.spoken = Instant::now();
            println!("{}", self.line(counts));
        }
    }

    pub(crate) fn end(&mut self, outcome: &Outcome, log: &Path) -> Result<()> {
        let clear = if self.terminal { "\r\x1b[2K" } else { "" };
        let Counts { passed, failed } = outcome.counts;
        let (mark, width) = (if failed == 0 { "ok" } else { "FAILED" }, self.width);
        println!(
            "{clear}{:width$}  {mark}: {passed} passed, {failed} failed, {}",
            self.suite,
            clock(outcome.took)
        );
        if failed == 0 {
            return Ok(());
        }
        let text = std::fs::read_to_string(log).map_err(Error::file("read", log))?;
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL)..];
        tail.iter().for_each(|line| println!("    {line}"));
        println!("    (all of it is in {})", log.display());
        Ok(())
    }

    fn line(&self, counts: Counts) -> String {
        let Counts { passed, failed } = counts;
        let (suite, width, time) = (self.suite, self.width, clock(self.began.elapsed()));
        format!("{suite:width$}  {time}: {passed} passed, {failed} failed; {}", self.doing)
    }
}

/// The table, what failed, and the last line. True if nothing failed.
pub(crate) fn summary(outcomes: &[Outcome]) -> bool {
    let mut total = Counts::default();
    let mut took = Duration::ZERO;
    println!("\n{:14} {:>7} {:>7} {:>9}", "suite", "passed", "failed", "time");
    for outcome in outcomes {
        let Counts { passed, failed } = outcome.counts;
        println!("{:14} {passed:>7} {failed:>7} {:>9}", outcome.name, clock(outcome.took));
        total.add(outcome.counts);
        took += outcome.took;
    }
    println!("{:14} {:>7} {:>7} {:>9}\n", "all", total.passed, total.failed, clock(took));
    for outcome in outcomes {
        outcome.failures.iter().for_each(|failure| println!("failed in {}: {failure}", outcome.name));
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    total.failed == 0
}

fn clock(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format!("{}:{:02} min", seconds / 60, seconds % 60),
    }
}

fn columns() -> usize {
    std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|width| *width > 20)
        .unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_good_only_if_nothing_failed() {
        let outcome = |failed| Outcome {
            name: "unit",
            counts: Counts { passed: 1, failed },
            took: Duration::from_secs(75),
            failures: Vec::new(),
        };
        assert!(summary(&[outcome(0), outcome(0)]));
        assert!(!summary(&[outcome(0), outcome(1)]));
    }

    #[test]
    fn times_are_short() {
        assert_eq!(clock(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(clock(Duration::from_secs(61)), "1:01 min");
    }
}
