//! The policy stream: its messages, with client and server, and the words of a refusal.

pub use crate::generated::discovery::v1;

/// The most bytes of a refusal's problem, and of its path: a remedy may list every service there is, and what a sidecar says
/// is remembered for as long as its stream lives.
pub const LONGEST_PROBLEM: usize = 1024;

/// What cut text ends with.
const CUT: char = '…';

/// As much of a text as a refusal may carry, with what stands behind it in any case.
pub fn problem_text(mut text: String, behind: &str) -> String {
    let room = LONGEST_PROBLEM.saturating_sub(behind.len());
    if text.len() > room {
        text.truncate(text.floor_char_boundary(room.saturating_sub(CUT.len_utf8())));
        text.push(CUT);
    }
    text + behind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_to_the_bound_and_keeps_what_stands_behind_it() {
        assert_eq!(problem_text("short".to_owned(), " (and 2 more)"), "short (and 2 more)");
        for text in ["x".repeat(LONGEST_PROBLEM + 1), "ä".repeat(LONGEST_PROBLEM)] {
            let cut = problem_text(text, " (and 2 more)");
            assert!(cut.len() <= LONGEST_PROBLEM && cut.len() > LONGEST_PROBLEM - 4, "{}", cut.len());
            assert!(cut.ends_with("… (and 2 more)"), "{cut}");
            // Who cuts it again changes nothing.
            assert_eq!(problem_text(cut.clone(), ""), cut);
        }
        assert_eq!(problem_text("x".repeat(LONGEST_PROBLEM), "").len(), LONGEST_PROBLEM);
    }
}
