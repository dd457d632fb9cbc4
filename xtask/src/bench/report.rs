//! The table: on the terminal, as Markdown and as JSON, with machine and date.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::control;
use super::measure::{Effort, Outcome, Players};
use super::row::Target;
use super::site::{ROUTES_EACH, SERVICES, Site};
use crate::error::{Error, Result};

/// Ours among the peers.
pub(crate) const OURS: &str = "trama";

/// A row's figures for the terminal.
pub(crate) fn lines(outcome: &Outcome) -> String {
    let mut text = String::new();
    for figures in &outcome.figures {
        let (low, high) = range(&figures.rounds);
        let middle = median(&figures.rounds);
        let unit = outcome.row.measure.unit();
        let _ = writeln!(text, "  {:<8} {middle:>8.1} {unit} ({low:.1} to {high:.1})", figures.peer);
    }
    for verdict in verdicts(outcome) {
        let _ = writeln!(text, "  {verdict}");
    }
    text
}

/// Prints the Markdown table and writes it with the JSON into the run's folder.
pub(crate) fn write(outcomes: &[Outcome], players: &Players, site: &Site, effort: &Effort) -> Result<()> {
    let about = About::collect(players, effort)?;
    let markdown = markdown(outcomes, &about);
    println!("{markdown}");
    let markdown = site.write("bench.md", markdown)?;
    let json = site.write("bench.json", format!("{:#}\n", json(outcomes, &about)))?;
    eprintln!("written: {} and {}", markdown.display(), json.display());
    Ok(())
}

/// Where, when, with what.
struct About {
    date: String,
    machine: String,
    /// Runnable processes beside ours: how far to trust the figures.
    busy: String,
    command: String,
    versions: Vec<(&'static str, String)>,
    load: String,
}

impl About {
    fn collect(Players { peers, control }: &Players, effort: &Effort) -> Result<Self> {
        let mut versions: Vec<_> =
            peers.iter().map(|peer| Ok((peer.name(), peer.version()?))).collect::<Result<_>>()?;
        if let (true, Some(control)) = (versions.is_empty(), control) {
            versions.push((OURS, control.version()?));
        }
        Ok(Self {
            date: date()?,
            machine: machine(),
            busy: read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" "),
            command: std::env::args().skip(1).fold("cargo xtask".to_owned(), |line, word| line + " " + &word),
            versions,
            load: format!(
                "{} rounds in turn, medians (least to most); {} small or {} big requests a round; 32 HTTP/1.1 \
                 connections or 4 x 32 HTTP/2 streams by h2load; one worker each; {} routes, metrics on, tracing 1 %, \
                 no access log (nginx and haproxy: one route, neither metrics nor tracing). Control plane: {} sidecars that \
                 joined, {} changes, {} certificates a round",
                effort.rounds,
                effort.small,
                effort.big,
                SERVICES * ROUTES_EACH,
                control::SIDECARS,
                effort.changes,
                effort.identities,
            ),
        })
    }
}

fn markdown(outcomes: &[Outcome], about: &About) -> String {
    let versions: Vec<_> =
        about.versions.iter().map(|(name, version)| format!("{name}: {version}")).collect();
    let mut text = format!(
        "# Trama beside its peers\n\n{} on {}, load average at the end {}\n\n`{}`\n\n{}\n\n{}\n\n",
        about.date,
        about.machine,
        about.busy,
        about.command,
        versions.join("; "),
        about.load,
    );
    let names: Vec<&str> = about.versions.iter().map(|(name, _)| *name).collect();
    let _ = writeln!(text, "| row | unit | {} | targets |", names.join(" | "));
    let _ = writeln!(text, "|---|---|{}---|", "---|".repeat(names.len()));
    for outcome in outcomes {
        let cells: Vec<String> = names.iter().map(|name| cell(outcome, name)).collect();
        let (title, unit) = (outcome.row.title, outcome.row.measure.unit());
        let verdicts = verdicts(outcome).join("; ");
        let _ = writeln!(text, "| {title} | {unit} | {} | {verdicts} |", cells.join(" | "));
    }
    text
}

fn cell(outcome: &Outcome, name: &str) -> String {
    let Some(rounds) = rounds(outcome, name) else { return "-".to_owned() };
    let (low, high) = range(rounds);
    format!("{:.1} ({low:.1} to {high:.1})", median(rounds))
}

fn json(outcomes: &[Outcome], about: &About) -> Value {
    let rows = outcomes.iter().map(|outcome| {
        let peers = outcome.figures.iter().map(|figures| {
            let (low, high) = range(&figures.rounds);
            let value = json!({
                "median": median(&figures.rounds), "least": low, "most": high, "rounds": figures.rounds,
            });
            (figures.peer.to_owned(), value)
        });
        let targets = outcome.row.targets.iter().map(|target| {
            let judged = judge(outcome, *target);
            json!({
                "of": judged.of, "at_most": judged.limit, "measured": judged.measured.map(|(middle, ..)| middle),
                "met": judged.met(),
            })
        });
        json!({
            "row": outcome.row.name, "title": outcome.row.title, "unit": outcome.row.measure.unit(),
            "peers": peers.collect::<serde_json::Map<_, _>>(), "targets": targets.collect::<Vec<_>>(),
        })
    });
    let versions: serde_json::Map<_, _> =
        about.versions.iter().map(|(name, version)| ((*name).to_owned(), json!(version))).collect();
    json!({
        "date": about.date, "machine": about.machine, "load_average": about.busy, "command": about.command, "load": about.load,
        "versions": versions, "rows": rows.collect::<Vec<_>>(),
    })
}

/// A target, the words that follow its figure, and what was measured for it: median, least and most. Without a
/// limit there is nothing to meet.
struct Judged {
    of: &'static str,
    limit: Option<f64>,
    measured: Option<(f64, f64, f64)>,
}

impl Judged {
    fn met(&self) -> Option<bool> {
        let (middle, ..) = self.measured?;
        Some(middle <= self.limit?)
    }
}

fn verdicts(outcome: &Outcome) -> Vec<String> {
    let judged = outcome.row.targets.iter().map(|target| judge(outcome, *target));
    let spelled = judged.filter_map(|judged| {
        let (middle, low, high) = judged.measured?;
        let mut text = format!("{middle:.2} {} ({low:.2} to {high:.2})", judged.of);
        if let Some(limit) = judged.limit {
            let word = if middle <= limit { "met" } else { "MISSED" };
            let _ = write!(text, ", at most {limit:.2}: {word}");
        }
        Some(text)
    });
    spelled.collect()
}

/// Ratios are taken within a round, whose peers met the same weather on the machine.
fn judge(outcome: &Outcome, target: Target) -> Judged {
    let ours = rounds(outcome, OURS);
    let to = |of: &'static str, limit: Option<f64>, others: Option<Vec<f64>>| {
        let ratios = ours.zip(others).map(|(ours, others)| {
            let ratios: Vec<f64> = ours.iter().zip(others).map(|(ours, other)| ours / other).collect();
            let (low, high) = range(&ratios);
            (median(&ratios), low, high)
        });
        Judged { of, limit, measured: ratios }
    };
    let of = |name| rounds(outcome, name).map(<[f64]>::to_vec);
    match target {
        Target::OfEnvoy(limit) => to("of envoy", Some(limit), of("envoy")),
        Target::BesideEnvoy => to("of envoy", None, of("envoy")),
        Target::OfHaproxy(limit) => to("of haproxy", Some(limit), of("haproxy")),
        Target::OfTheBetterOfNginxAndHaproxy(limit) => {
            let better = |name| of(name).map(|rounds| (median(&rounds), rounds));
            let both = [better("nginx"), better("haproxy")].into_iter().flatten();
            let best = both.min_by(|one, other| one.0.total_cmp(&other.0));
            to("of the better of nginx and haproxy", Some(limit), best.map(|(_, rounds)| rounds))
        }
        Target::Absolute(limit) => {
            let unit = outcome.row.measure.unit();
            let measured = ours.map(|ours| (median(ours), range(ours).0, range(ours).1));
            Judged { of: unit, limit: Some(limit), measured }
        }
    }
}

fn rounds<'a>(outcome: &'a Outcome, name: &str) -> Option<&'a [f64]> {
    outcome.figures.iter().find(|figures| figures.peer == name).map(|figures| &*figures.rounds)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}

fn range(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
}

fn date() -> Result<String> {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
    let output = output.map_err(|source| Error::Start { command: "date".to_owned(), source })?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn machine() -> String {
    let cpus = read("/proc/cpuinfo");
    let models: Vec<&str> = cpus
        .lines()
        .filter(|line| line.starts_with("model name"))
        .filter_map(|line| Some(line.split_once(": ")?.1))
        .collect();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{} x {}, Linux {}", models.len(), models.first().unwrap_or(&"CPU"), kernel.trim())
}

/// A file of proc(5); the table is worth having without it.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::Figures;
    use crate::bench::row::ROWS;

    fn outcome(row: &str, figures: &[(&'static str, [f64; 3])]) -> Outcome {
        let figures = figures.iter().map(|(peer, rounds)| Figures { peer, rounds: rounds.to_vec() });
        let row = ROWS.iter().find(|known| known.name == row).unwrap();
        Outcome { row, figures: figures.collect() }
    }

    #[test]
    fn ratios_are_taken_round_by_round_and_judged_by_their_median() {
        let figures = [("trama", [6.0, 20.0, 9.0]), ("envoy", [20.0, 40.0, 20.0])];
        let all = outcome("h1-small", &[figures[0], figures[1], ("nginx", [9.0; 3]), ("haproxy", [8.0; 3])]);
        let verdicts = verdicts(&all);
        assert_eq!(verdicts[0], "0.45 of envoy (0.30 to 0.50), at most 0.50: met");
        assert_eq!(verdicts[1], "1.12 of the better of nginx and haproxy (0.75 to 2.50), at most 1.15: met");
    }

    #[test]
    fn a_target_missed_is_told() {
        let outcome = outcome("start", &[("trama", [19.0, 20.0, 21.0])]);
        assert_eq!(verdicts(&outcome), ["20.00 ms (19.00 to 21.00), at most 18.00: MISSED"]);
        assert_eq!(judge(&outcome, Target::Absolute(18.0)).met(), Some(false));
    }

    #[test]
    fn a_row_with_an_absolute_target_tells_its_ratio_to_envoy_too() {
        let outcome = outcome("idle-memory", &[("trama", [9.0; 3]), ("envoy", [36.0; 3])]);
        let ratio = "0.25 of envoy (0.25 to 0.25)";
        assert_eq!(verdicts(&outcome), ["9.00 MB (9.00 to 9.00), at most 12.00: met", ratio]);
        assert!(lines(&outcome).contains(ratio));

        let about = About {
            date: String::new(),
            machine: String::new(),
            busy: String::new(),
            command: String::new(),
            versions: vec![("trama", String::new()), ("envoy", String::new())],
            load: String::new(),
        };
        assert!(markdown(std::slice::from_ref(&outcome), &about).contains(&format!("met; {ratio} |")));
        let json = json(&[outcome], &about);
        let of_envoy = json!({ "of": "of envoy", "at_most": null, "measured": 0.25, "met": null });
        assert_eq!(json["rows"][0]["targets"][1], of_envoy);
    }

    #[test]
    fn a_peer_that_does_not_play_is_left_out() {
        let outcome = outcome("mesh-small", &[("trama", [1.0; 3])]);
        assert!(verdicts(&outcome).is_empty());
        assert_eq!(cell(&outcome, "nginx"), "-");
        assert_eq!(cell(&outcome, "trama"), "1.0 (1.0 to 1.0)");
    }

    #[test]
    fn a_median_of_an_even_count_lies_between() {
        assert!((median(&[4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < f64::EPSILON);
    }
}
