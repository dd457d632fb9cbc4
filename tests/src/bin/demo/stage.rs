//! The stage between the story and its audience: it takes in what the client reports, draws the live view or prints
//! lines, and stops the story at a lie where nobody watches.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::ChildStdout;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::failure::{Failure, Result};
use crate::ledger::{Ledger, Tally};
use crate::load::Outcome;
use crate::mesh::Mesh;
use crate::scenario::{OTHER, PREFERRED};
use crate::view::{Frame, Screen};

const REDRAW: Duration = Duration::from_millis(200);

pub(crate) struct Stage {
    /// None where the story is told in lines.
    screen: Option<Screen>,
    /// Nobody watches: the first lie ends the story.
    once: bool,
    began: Instant,
    act: String,
    /// Whether there is a client that reports.
    playing: bool,
    ledger: Ledger,
    placed: BTreeSet<u64>,
    answered: u64,
    first_answer: Option<Instant>,
    outcomes: UnboundedReceiver<(Instant, String)>,
    interrupts: Interrupts,
    interrupted: bool,
    verdicts: Vec<String>,
    /// How many of them were printed at once.
    said: usize,
    lies: usize,
}

impl Stage {
    /// `began`: when the demo was started.
    pub(crate) fn new(interrupts: Interrupts, once: bool, began: Instant) -> Self {
        Self {
            screen: None,
            once,
            began,
            act: String::new(),
            playing: false,
            ledger: Ledger::default(),
            placed: BTreeSet::new(),
            answered: 0,
            first_answer: None,
            outcomes: unbounded_channel().1,
            interrupts,
            interrupted: false,
            verdicts: Vec::new(),
            said: 0,
            lies: 0,
        }
    }

    /// The client's report begins, and with it the live view, if somebody watches.
    pub(crate) fn raise(&mut self, outcomes: ChildStdout) {
        self.outcomes = listen(outcomes);
        self.playing = true;
        self.said = self.verdicts.len();
        self.screen = if self.once { None } else { Screen::open() };
    }

    pub(crate) fn act(&mut self, title: &str) {
        title.clone_into(&mut self.act);
        if self.screen.is_none() {
            println!("      {title}");
        }
    }

    /// A command line that was run, as a reader could type it, and what it printed.
    pub(crate) fn command(&self, line: &str, printed: &str) {
        if self.screen.is_none() {
            println!("      $ {line}");
            printed.lines().for_each(|line| println!("{}", format!("      {line}").trim_end()));
        }
    }

    /// One line per check: what must be true, and the fact that it was judged by. A lie that nobody watches ends the
    /// story.
    pub(crate) fn check(&mut self, claim: &str, holds: bool, fact: impl AsRef<str>) -> Result<()> {
        let fact = fact.as_ref().trim();
        let line = format!("{}  {claim} ({fact})", if holds { "ok  " } else { "LIE " });
        self.lies += usize::from(!holds);
        if self.screen.is_none() {
            println!("{line}");
        }
        self.verdicts.push(line);
        if holds || !self.once {
            return Ok(());
        }
        Err(Failure(format!("the story stops at its first lie; expected: {claim}; seen: {fact}")))
    }

    /// Lets the play run until the traffic is as wanted, and says after how long it was.
    pub(crate) async fn watch_until(
        &mut self,
        mesh: &Mesh,
        at_most: Duration,
        wanted: impl Fn(&Ledger) -> bool,
    ) -> Result<(Tally, Option<Duration>)> {
        let took = match self.pump(mesh, at_most, wanted).await? {
            End::AsWanted(took) => Some(took),
            End::TimeIsUp => None,
            End::Interrupted => {
                self.interrupted = true;
                return Err(Failure("interrupted before the story was told".to_owned()));
            }
        };
        Ok((self.ledger.take(), took))
    }

    /// Lets the play run while something is waited for.
    pub(crate) async fn meanwhile<T>(
        &mut self,
        mesh: &Mesh,
        awaited: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if !self.playing {
            return awaited.await;
        }
        let mut awaited = pin!(awaited);
        tokio::select! {
            come = &mut awaited => return come,
            end = self.pump(mesh, Duration::MAX, |_| false) => { end?; }
        }
        self.interrupted = true;
        Err(Failure("interrupted before the story was told".to_owned()))
    }

    /// Lets the play run until Ctrl-C.
    pub(crate) async fn watch_until_interrupted(&mut self, mesh: &Mesh) -> Result<Tally> {
        self.pump(mesh, Duration::MAX, |_| false).await?;
        Ok(self.ledger.take())
    }

    /// Ends the client and reads the rest of its report.
    pub(crate) async fn finish(&mut self, mesh: &mut Mesh) -> Result<Tally> {
        mesh.stop_client();
        while let Some((at, line)) = self.outcomes.recv().await {
            self.note(at, &line)?;
        }
        Ok(self.ledger.take())
    }

    /// The traffic of the last two seconds.
    pub(crate) fn recent(&self) -> (Tally, Duration) {
        self.ledger.recent(Instant::now())
    }

    /// The orders that were confirmed to the client.
    pub(crate) fn placed(&self) -> &BTreeSet<u64> {
        &self.placed
    }

    /// How many requests were answered as they should.
    pub(crate) fn answered(&self) -> u64 {
        self.answered
    }

    /// How long after the demo's start the first request was answered.
    pub(crate) fn first_answer_after(&self) -> Duration {
        self.first_answer.map_or(Duration::MAX, |at| at.duration_since(self.began))
    }

    /// Whether Ctrl-C cut the story short.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.interrupted
    }

    /// Gives the terminal back, and says everything that was checked. True if nothing was a lie.
    pub(crate) fn close(mut self) -> bool {
        if self.screen.take().is_some() {
            self.verdicts[self.said..].iter().for_each(|line| println!("{line}"));
        }
        self.lies == 0
    }

    async fn pump(
        &mut self,
        mesh: &Mesh,
        at_most: Duration,
        wanted: impl Fn(&Ledger) -> bool,
    ) -> Result<End> {
        let began = Instant::now();
        let mut redraw = tokio::time::interval(REDRAW);
        while began.elapsed() < at_most {
            tokio::select! {
                report = self.outcomes.recv() => match report {
                    Some((at, line)) => self.note(at, &line)?,
                    None => return Err(Failure("the client ended before its time".to_owned())),
                },
                _ = redraw.tick() => {
                    self.draw(mesh);
                    if wanted(&self.ledger) {
                        return Ok(End::AsWanted(began.elapsed()));
                    }
                }
                () = self.interrupts.any() => return Ok(End::Interrupted),
            }
        }
        Ok(End::TimeIsUp)
    }

    fn note(&mut self, at: Instant, line: &str) -> Result<()> {
        let outcome: Outcome =
            serde_json::from_str(line).map_err(Failure::on("understand the client's", line))?;
        if outcome.is_success() {
            self.answered += 1;
            self.first_answer.get_or_insert(at);
            self.placed.extend(outcome.order);
        }
        self.ledger.add(outcome, at);
        Ok(())
    }

    fn draw(&self, mesh: &Mesh) {
        let Some(screen) = &self.screen else { return };
        let (recent, window) = self.recent();
        screen.draw(&Frame {
            running: self.began.elapsed(),
            place: mesh.place().describe(),
            act: &self.act,
            recent: &recent,
            window,
            failed: self.ledger.failed(),
            control_plane: mesh.control.is_alive(),
            regions: &[(PREFERRED, mesh.is_alive(PREFERRED)), (OTHER, mesh.is_alive(OTHER))],
            decisions: &mesh.decisions(),
            verdicts: &self.verdicts,
            hints: &mesh.hints(),
        });
    }
}

/// Reads the client's report as it comes, whatever the story is at: a full pipe would hold the client up.
fn listen(outcomes: ChildStdout) -> UnboundedReceiver<(Instant, String)> {
    let (tell, told) = unbounded_channel();
    tokio::spawn(async move {
        let mut lines = BufReader::new(outcomes).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if tell.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
    told
}

/// Why the pumping ended.
enum End {
    TimeIsUp,
    AsWanted(Duration),
    Interrupted,
}

/// Ctrl-C, SIGTERM and the terminal's end, from now on: whatever happens, the demo takes down what it has set up.
pub(crate) struct Interrupts([Signal; 3]);

impl Interrupts {
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(Failure::on("listen for", "signals"));
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(listen);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    pub(crate) async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(once: bool) -> Stage {
        Stage::new(Interrupts::listen().unwrap(), once, Instant::now())
    }

    #[tokio::test]
    async fn the_first_lie_ends_a_story_that_nobody_watches() {
        let mut stage = stage(true);
        stage.check("one is one", true, "1").unwrap();
        let failure = stage.check("no GET fails", false, "2 of 9 GETs failed").unwrap_err();
        assert!(failure.0.contains("expected: no GET fails; seen: 2 of 9 GETs failed"), "{failure}");
        assert!(!stage.close());
    }

    #[tokio::test]
    async fn who_watches_sees_the_story_to_its_end() {
        let mut stage = stage(false);
        stage.check("no GET fails", false, "2 of 9 GETs failed").unwrap();
        stage.check("one is one", true, "1").unwrap();
        assert!(!stage.close(), "a lie was told");
    }
}
