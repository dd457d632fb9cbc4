//! Reads what a libtest program prints.

/// Counts of one or several test programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// A `test result:` line. What was ignored counts as failed: nothing passes by being skipped.
pub(crate) fn result(line: &str) -> Option<Counts> {
    let (_, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
    let number = |word: &str| {
        let part = counts.split(';').find_map(|part| part.trim().strip_suffix(word))?;
        part.trim().parse::<u32>().ok()
    };
    Some(Counts { passed: number("passed")?, failed: number("failed")? + number("ignored")? })
}

/// The test that a progress line is about, and whether the line says that it did not pass.
pub(crate) fn verdict(line: &str) -> Option<(&str, Verdict)> {
    let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let verdict = match outcome.split_whitespace().next()? {
        "ok" => Verdict::Passed,
        "FAILED" => Verdict::Failed,
        "ignored," | "ignored" => Verdict::Ignored,
        _ => return None,
    };
    Some((name, verdict))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    Ignored,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let line =
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.01s";
        assert_eq!(result(line), Some(Counts { passed: 12, failed: 0 }));
        let line =
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s";
        assert_eq!(result(line), Some(Counts { passed: 4, failed: 2 }));
    }

    #[test]
    fn ignored_is_failed() {
        let line =
            "test result: ok. 1 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(result(line), Some(Counts { passed: 1, failed: 2 }));
    }

    #[test]
    fn other_lines_are_no_result() {
        for line in
            ["", "running 3 tests", "test result: ", "test result: ok. many passed; 0 failed; 0 ignored"]
        {
            assert_eq!(result(line), None, "{line}");
        }
    }

    #[test]
    fn verdicts_carry_the_name() {
        assert_eq!(verdict("test a::b ... ok"), Some(("a::b", Verdict::Passed)));
        assert_eq!(verdict("test a::b ... FAILED"), Some(("a::b", Verdict::Failed)));
        assert_eq!(verdict("test a ... ignored, no reason"), Some(("a", Verdict::Ignored)));
        assert_eq!(verdict("test a has been running for over 60 seconds"), None);
    }
}
