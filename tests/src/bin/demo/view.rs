//! The live view: one screen of text, drawn anew a few times a second with plain ANSI sequences.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use crate::ledger::Tally;

/// Home, without clearing first: the screen does not flicker.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const BAR: usize = 40;

/// What one drawing shows.
pub(crate) struct Frame<'a> {
    pub(crate) running: Duration,
    pub(crate) place: &'a str,
    pub(crate) act: &'a str,
    pub(crate) recent: &'a Tally,
    pub(crate) window: Duration,
    pub(crate) failed: u64,
    /// A region, and whether its pod lives.
    pub(crate) regions: &'a [(&'a str, bool)],
    pub(crate) decisions: &'a [String],
    pub(crate) verdicts: &'a [String],
    pub(crate) hints: &'a [String],
}

/// The terminal's second screen; the first one comes back when this is dropped.
pub(crate) struct Screen;

impl Screen {
    pub(crate) fn open() -> Self {
        put(ENTER);
        Self
    }

    pub(crate) fn draw(&self, frame: &Frame<'_>) {
        let mut text = String::from(HOME);
        for line in lines(frame) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{line}{REST_OF_LINE}\r\n");
        }
        put(&(text + REST_OF_SCREEN));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        put(LEAVE);
    }
}

/// A terminal that is gone must not end the demo before its processes are taken down.
fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).unwrap_or_default();
}

fn lines(frame: &Frame<'_>) -> Vec<String> {
    let seconds = frame.running.as_secs();
    let tally = frame.recent;
    let rate = |count: u64| count as f64 / frame.window.as_secs_f64();
    let mut lines = vec![
        format!("\x1b[1mTrama demo\x1b[0m  {:02}:{:02}  {}", seconds / 60, seconds % 60, frame.place),
        String::new(),
        format!("\x1b[7m {} \x1b[0m", frame.act),
        String::new(),
        format!(
            "requests/s {:6.0}   GET {:4.0}   POST {:3.0}   failed since the start {}",
            rate(tally.total()),
            rate(tally.gets),
            rate(tally.posts),
            frame.failed
        ),
        format!("latency       p50 {:.1} ms   p99 {:.1} ms", tally.latency(0.5), tally.latency(0.99)),
        String::new(),
    ];
    for (region, alive) in frame.regions {
        lines.push(bar(region, tally.share(region), *alive));
    }
    section(&mut lines, "last decisions of storefront's sidecar", frame.decisions);
    section(&mut lines, "checked", frame.verdicts);
    section(&mut lines, "try it in another terminal; Ctrl-C ends the demo", frame.hints);
    lines
}

fn section(lines: &mut Vec<String>, title: &str, content: &[String]) {
    lines.extend([String::new(), format!("\x1b[2m{title}\x1b[0m")]);
    lines.extend(content.iter().map(|line| format!("  {line}")));
}

fn bar(region: &str, share: f64, alive: bool) -> String {
    let filled = (share / 100.0 * BAR as f64).round() as usize;
    let (full, empty) = ("█".repeat(filled.min(BAR)), "░".repeat(BAR.saturating_sub(filled)));
    let state = if alive { "" } else { "  \x1b[31mkilled\x1b[0m" };
    format!("{region:15} {full}{empty} {share:5.1} %{state}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_shows_every_part() {
        let text = |value: &str| vec![value.to_owned()];
        let frame = Frame {
            running: Duration::from_secs(61),
            place: "explicit",
            act: "an act",
            recent: &Tally::default(),
            window: Duration::from_secs(2),
            failed: 0,
            regions: &[("sao-paulo", true), ("rio-de-janeiro", false)],
            decisions: &text("a decision"),
            verdicts: &text("a verdict"),
            hints: &text("a hint"),
        };
        let all = lines(&frame).join("\n");
        for part in ["01:01", "explicit", "an act", "a decision", "a verdict", "a hint", "killed"] {
            assert!(all.contains(part), "{part} is missing in\n{all}");
        }
    }

    #[test]
    fn bars_are_as_long_as_their_share() {
        assert_eq!(bar("x", 50.0, true).matches('█').count(), BAR / 2);
        assert_eq!(bar("x", 100.0, true).matches('░').count(), 0);
    }
}
