//! The stage between the story and its audience: it pumps in what the client and the sidecar report, draws the live
//! view or prints lines, and remembers whether a check was a lie.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Failure, Result};
use crate::ledger::{Ledger, Tally};
use crate::load::Outcome;
use crate::mesh::Mesh;
use crate::scenario::{OTHER, PREFERRED};
use crate::view::{Frame, Screen};

const REDRAW: Duration = Duration::from_millis(200);

pub(crate) struct Stage {
    /// None when nobody watches.
    screen: Option<Screen>,
    began: Instant,
    act: String,
    ledger: Ledger,
    placed: BTreeSet<u64>,
    answered: u64,
    outcomes: Lines<BufReader<ChildStdout>>,
    interrupts: Interrupts,
    verdicts: Vec<String>,
    lies: usize,
}

impl Stage {
    pub(crate) fn new(outcomes: ChildStdout, interrupts: Interrupts, live: bool) -> Self {
        Self {
            screen: if live { Screen::open() } else { None },
            began: Instant::now(),
            act: String::new(),
            ledger: Ledger::default(),
            placed: BTreeSet::new(),
            answered: 0,
            outcomes: BufReader::new(outcomes).lines(),
            interrupts,
            verdicts: Vec::new(),
            lies: 0,
        }
    }

    pub(crate) fn act(&mut self, title: &str) {
        title.clone_into(&mut self.act);
        if self.screen.is_none() {
            println!("      {title}");
        }
    }

    /// One line per check: what must be true, and the fact that it was judged by.
    pub(crate) fn check(&mut self, claim: &str, holds: bool, fact: impl AsRef<str>) {
        let line = format!("{}  {claim} ({})", if holds { "ok  " } else { "LIE " }, fact.as_ref().trim());
        self.lies += usize::from(!holds);
        if self.screen.is_none() {
            println!("{line}");
        }
        self.verdicts.push(line);
    }

    /// Lets the play run for a time; what happened in it.
    pub(crate) async fn watch(&mut self, mesh: &Mesh, time: Duration) -> Result<Tally> {
        Ok(self.watch_until(mesh, time, |_| false).await?.0)
    }

    /// Lets the play run until the recent traffic is as wanted, and says after how long it was.
    pub(crate) async fn watch_until(
        &mut self,
        mesh: &Mesh,
        at_most: Duration,
        wanted: impl Fn(&Tally) -> bool,
    ) -> Result<(Tally, Option<Duration>)> {
        let took = match self.pump(mesh, at_most, wanted).await? {
            End::AsWanted(took) => Some(took),
            End::TimeIsUp => None,
            End::Interrupted => return Err(Failure("interrupted before the story was told".to_owned())),
        };
        Ok((self.ledger.take(), took))
    }

    /// Lets the play run until Ctrl-C.
    pub(crate) async fn watch_until_interrupted(&mut self, mesh: &Mesh) -> Result<Tally> {
        self.pump(mesh, Duration::MAX, |_| false).await?;
        Ok(self.ledger.take())
    }

    /// Ends the client and reads the rest of its report.
    pub(crate) async fn finish(&mut self, mesh: &mut Mesh) -> Result<Tally> {
        mesh.stop_client();
        while let Some(line) =
            self.outcomes.next_line().await.map_err(Failure::on("read", "the client's report"))?
        {
            self.note(&line)?;
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

    /// Gives the terminal back, and says everything that was checked. True if nothing was a lie.
    pub(crate) fn close(mut self) -> bool {
        if self.screen.take().is_some() {
            self.verdicts.iter().for_each(|line| println!("{line}"));
        }
        self.lies == 0
    }

    async fn pump(&mut self, mesh: &Mesh, at_most: Duration, wanted: impl Fn(&Tally) -> bool) -> Result<End> {
        let began = Instant::now();
        let mut redraw = tokio::time::interval(REDRAW);
        while began.elapsed() < at_most {
            tokio::select! {
                line = self.outcomes.next_line() => match line.map_err(Failure::on("read", "the client's report"))? {
                    Some(line) => self.note(&line)?,
                    None => return Err(Failure("the client ended before its time".to_owned())),
                },
                _ = redraw.tick() => {
                    self.draw(mesh);
                    if wanted(&self.recent().0) {
                        return Ok(End::AsWanted(began.elapsed()));
                    }
                }
                () = self.interrupts.any() => return Ok(End::Interrupted),
            }
        }
        Ok(End::TimeIsUp)
    }

    fn note(&mut self, line: &str) -> Result<()> {
        let outcome: Outcome =
            serde_json::from_str(line).map_err(Failure::on("understand the client's", line))?;
        if outcome.is_success() {
            self.answered += 1;
            self.placed.extend(outcome.order);
        }
        self.ledger.add(outcome, Instant::now());
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
            regions: &[(PREFERRED, mesh.is_alive(PREFERRED)), (OTHER, mesh.is_alive(OTHER))],
            decisions: &mesh.decisions(),
            verdicts: &self.verdicts,
            hints: &mesh.hints(),
        });
    }
}

/// Why the pumping ended.
enum End {
    TimeIsUp,
    AsWanted(Duration),
    Interrupted,
}

/// Ctrl-C and SIGTERM, from now on: whatever happens, the demo takes down what it has set up.
pub(crate) struct Interrupts([Signal; 2]);

impl Interrupts {
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(Failure::on("listen for", "signals"));
        Ok(Self([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?]))
    }

    pub(crate) async fn any(&mut self) {
        let [interrupt, terminate] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}
