//! The live view: one screen of text, drawn anew a few times a second with plain ANSI sequences. It takes the size that
//! the terminal has at that moment.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use crate::ledger::Tally;

/// Home, without clearing first: the screen does not flicker.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const BOLD: &str = "1";
const DIM: &str = "2";
const REVERSE: &str = "7";
const RED: &str = "31";
const BAR: usize = 40;
/// What stands beside a bar: the region, the share, "killed".
const BESIDE_BAR: usize = 34;
const DECISIONS: usize = 6;

/// What one drawing shows.
pub(crate) struct Frame<'a> {
    pub(crate) running: Duration,
    pub(crate) place: &'a str,
    pub(crate) act: &'a str,
    pub(crate) recent: &'a Tally,
    pub(crate) window: Duration,
    /// GETs and POSTs, since the start.
    pub(crate) failed: (u64, u64),
    /// Whether it lives.
    pub(crate) control_plane: bool,
    /// A region, and whether its pod lives.
    pub(crate) regions: &'a [(&'a str, bool)],
    pub(crate) decisions: &'a [String],
    pub(crate) verdicts: &'a [String],
    pub(crate) hints: &'a [String],
}

/// The terminal's second screen; the first one comes back when this is dropped.
pub(crate) struct Screen {
    /// By NO_COLOR (no-color.org) neither colours nor weights.
    plain: bool,
}

impl Screen {
    /// None if nothing can be drawn: it is no terminal, or one that knows lines only.
    pub(crate) fn open() -> Option<Self> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let able = std::io::stdout().is_terminal() && set("TERM").is_some_and(|term| term != "dumb");
        able.then(|| {
            put(ENTER);
            Self { plain: set("NO_COLOR").is_some() }
        })
    }

    pub(crate) fn draw(&self, frame: &Frame<'_>) {
        // One that does not tell its size is taken for the smallest usual one.
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok().filter(|size| size.ws_col > 0);
        let size = size.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()));
        put(&drawing(&lines(frame, size), self.plain));
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

fn drawing(lines: &[Line], plain: bool) -> String {
    let mut text = String::from(HOME);
    for (number, line) in lines.iter().enumerate() {
        // None after the last: on a full screen it would scroll.
        let end = if number == 0 { "" } else { "\r\n" };
        // Writing to a String cannot fail.
        let _ = match line.style {
            Some(style) if !plain => write!(text, "{end}\x1b[{style}m{}\x1b[0m{REST_OF_LINE}", line.text),
            _ => write!(text, "{end}{}{REST_OF_LINE}", line.text),
        };
    }
    text + REST_OF_SCREEN
}

struct Line {
    text: String,
    style: Option<&'static str>,
}

impl Line {
    fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), style: None }
    }

    fn styled(style: &'static str, text: impl Into<String>) -> Self {
        Self { text: text.into(), style: Some(style) }
    }

    /// Cut to the screen's width.
    fn cut(mut self, columns: usize) -> Self {
        if let Some((end, _)) = self.text.char_indices().nth(columns) {
            self.text.truncate(end);
        }
        self
    }

    /// Rows that it takes if the terminal breaks it.
    fn rows(&self, columns: usize) -> usize {
        self.text.chars().count().div_ceil(columns).max(1)
    }
}

/// The whole frame, in as many rows as there are. The hints stay whole, for they are there to be copied; of decisions
/// and verdicts the last ones stay.
fn lines(frame: &Frame<'_>, (columns, rows): (usize, usize)) -> Vec<Line> {
    let mut lines: Vec<Line> = top(frame, columns).into_iter().map(|line| line.cut(columns)).collect();
    let mut hints = vec![Line::plain("")];
    hints.push(Line::styled(DIM, "try it in another terminal; Ctrl-C ends the demo").cut(columns));
    hints.extend(frame.hints.iter().map(Line::plain));

    let taken = lines.len() + hints.iter().map(|line| line.rows(columns)).sum::<usize>();
    let mut left = rows.saturating_sub(taken);
    // Two rows each for an empty one and the title.
    let decisions = frame.decisions.len().min(DECISIONS).min(left.saturating_sub(4).div_ceil(2));
    let decisions = section("last decisions of storefront's sidecar", frame.decisions, decisions);
    left = left.saturating_sub(decisions.len());
    let verdicts = section("checked", frame.verdicts, left.saturating_sub(2));
    lines.extend(decisions.into_iter().chain(verdicts).map(|line| line.cut(columns)));
    lines.extend(hints);
    lines
}

fn top(frame: &Frame<'_>, columns: usize) -> Vec<Line> {
    let seconds = frame.running.as_secs();
    let tally = frame.recent;
    let (gets, posts) = frame.failed;
    let rate = |count: u64| count as f64 / frame.window.as_secs_f64();
    let mut lines = vec![
        Line::styled(BOLD, format!("Trama demo  {:02}:{:02}", seconds / 60, seconds % 60)),
        Line::plain(frame.place),
        Line::styled(REVERSE, format!(" {} ", frame.act)),
        Line::plain(""),
        Line::plain(format!(
            "requests/s {:6.0}   GET {:4.0}   POST {:3.0}",
            rate(tally.total()),
            rate(tally.gets),
            rate(tally.posts)
        )),
        Line::plain(format!(
            "failed        GET {gets}   POST {posts}   since the start; a POST whose bytes had arrived is not repeated"
        )),
        Line::plain(format!(
            "latency       p50 {:.1} ms   p99 {:.1} ms",
            tally.latency(0.5),
            tally.latency(0.99)
        )),
        of_control_plane(frame.control_plane),
    ];
    let width = BAR.min(columns.saturating_sub(BESIDE_BAR));
    lines.extend(frame.regions.iter().map(|(region, alive)| bar(region, tally.share(region), *alive, width)));
    lines
}

fn of_control_plane(lives: bool) -> Line {
    match lives {
        true => Line::plain("control plane running"),
        false => Line::styled(RED, "control plane killed; the sidecars go on with what they have"),
    }
}

/// The last of the content; nothing at all where there is none to show.
fn section(title: &str, content: &[String], most: usize) -> Vec<Line> {
    let shown = &content[content.len().saturating_sub(most)..];
    if shown.is_empty() {
        return Vec::new();
    }
    let heading = [Line::plain(""), Line::styled(DIM, title)];
    heading.into_iter().chain(shown.iter().map(|line| Line::plain(format!("  {line}")))).collect()
}

fn bar(region: &str, share: f64, alive: bool, width: usize) -> Line {
    let filled = ((share / 100.0 * width as f64).round() as usize).min(width);
    let (full, empty) = ("█".repeat(filled), "░".repeat(width - filled));
    let state = if alive { "" } else { "  killed" };
    let text = format!("{region:15} {full}{empty} {share:5.1} %{state}");
    if alive { Line::plain(text) } else { Line::styled(RED, text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Vec<String> {
        vec![value.to_owned()]
    }

    fn frame<'a>(tally: &'a Tally, verdicts: &'a [String], hints: &'a [String]) -> Frame<'a> {
        Frame {
            running: Duration::from_secs(61),
            place: "explicit",
            act: "an act",
            recent: tally,
            window: Duration::from_secs(2),
            failed: (0, 7),
            control_plane: false,
            regions: &[("sao-paulo", true), ("rio-de-janeiro", false)],
            decisions: verdicts,
            verdicts,
            hints,
        }
    }

    fn drawn(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn a_frame_shows_every_part() {
        let (tally, verdicts, hints) = (Tally::default(), text("a verdict"), text("a hint"));
        let lines = lines(&frame(&tally, &verdicts, &hints), (80, 24));
        let all = drawing(&lines, false);
        for part in [
            "01:01",
            "explicit",
            "an act",
            "last decisions",
            "a verdict",
            "a hint",
            "killed",
            "control plane",
            "POST 7   since the start",
        ] {
            assert!(all.contains(part), "{part} is missing in\n{all}");
        }
    }

    #[test]
    fn a_frame_fits_the_terminal_and_keeps_the_hints_whole() {
        let verdicts: Vec<String> = (0..40).map(|n| format!("verdict {n} {}", "long ".repeat(40))).collect();
        let (tally, hints) = (Tally::default(), text(&"copy me ".repeat(20)));
        for (columns, rows) in [(200, 60), (80, 24), (60, 30), (40, 24)] {
            let lines = lines(&frame(&tally, &verdicts, &hints), (columns, rows));
            let taken: usize = lines.iter().map(|line| line.rows(columns)).sum();
            assert_eq!(taken, rows, "{columns} x {rows}");
            let shown = drawn(&lines);
            assert!(shown.contains(&hints[0].as_str()), "{columns} x {rows}");
            assert!(shown.iter().any(|line| line.starts_with("  verdict 39")), "{columns} x {rows}");
        }
    }

    #[test]
    fn without_colour_there_are_no_styles() {
        let (tally, verdicts, hints) = (Tally::default(), text("a verdict"), text("a hint"));
        let lines = lines(&frame(&tally, &verdicts, &hints), (80, 24));
        assert!(drawing(&lines, false).contains("\x1b[31m"));
        let plain = drawing(&lines, true);
        let sequences = plain.split('\x1b').skip(1);
        assert!(
            sequences.into_iter().all(|rest| ["[H", "[K", "[J"].iter().any(|known| rest.starts_with(known)))
        );
    }

    #[test]
    fn bars_are_as_long_as_their_share() {
        assert_eq!(bar("x", 50.0, true, BAR).text.matches('█').count(), BAR / 2);
        assert_eq!(bar("x", 100.0, true, BAR).text.matches('░').count(), 0);
    }
}
