//! Plays a row: every peer in turn, several rounds, the order reversed from round to round.

use std::thread;
use std::time::Duration;

use super::control;
use super::load;
use super::peers::Peer;
use super::profile;
use super::report::OURS;
use super::row::{Answer, Measure, Row, Scene, Version};
use super::running::Running;
use super::site::Site;
use crate::error::Result;

/// How much is played.
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) small: u32,
    pub(crate) big: u32,
    pub(crate) connections: u32,
    /// Changes that a fleet acknowledges.
    pub(crate) changes: u32,
    /// Certificates that are issued in each round.
    pub(crate) identities: u32,
    /// Ours is sampled once more in each row of CPU time.
    pub(crate) profile: bool,
}

impl Effort {
    pub(crate) const FULL: Self = Self {
        rounds: 7,
        small: 40_000,
        big: 6_000,
        connections: 800,
        changes: 50,
        identities: 300,
        profile: false,
    };
    pub(crate) const QUICK: Self = Self {
        rounds: 1,
        small: 4_000,
        big: 400,
        connections: 100,
        changes: 5,
        identities: 50,
        profile: false,
    };

    fn requests(&self, answer: Answer) -> u32 {
        match answer {
            Answer::Small => self.small,
            Answer::Big => self.big,
        }
    }
}

/// What was measured of one peer: a figure for each round.
pub(crate) struct Figures {
    pub(crate) peer: &'static str,
    pub(crate) rounds: Vec<f64>,
}

pub(crate) struct Outcome {
    pub(crate) row: &'static Row,
    pub(crate) figures: Vec<Figures>,
}

/// Who can be played.
pub(crate) struct Players {
    pub(crate) peers: Vec<Box<dyn Peer>>,
    pub(crate) control: Option<control::Programs>,
}

/// A peer with its processes of a scene; the load goes to the one started last.
struct Contender<'a> {
    peer: &'a dyn Peer,
    processes: Vec<Running>,
}

pub(crate) fn row(row: &'static Row, players: &Players, site: &Site, effort: &Effort) -> Result<Outcome> {
    if let (Scene::ControlPlane, Some(programs)) = (row.scene, &players.control) {
        let rounds = control::rounds(row.measure, programs, site, effort)?;
        return Ok(Outcome { row, figures: vec![Figures { peer: OURS, rounds }] });
    }
    let players: Vec<&dyn Peer> =
        players.peers.iter().map(|peer| &**peer).filter(|peer| peer.plays(row.scene)).collect();
    let rounds = match row.measure {
        Measure::CpuPerRequest(answer) => cpu(row, answer, &players, site, effort)?,
        _ => fresh(row, &players, site, effort)?,
    };
    let figures = players.iter().zip(rounds).map(|(peer, rounds)| Figures { peer: peer.name(), rounds });
    Ok(Outcome { row, figures: figures.collect() })
}

/// All peers stay up, each warmed, and are loaded in turn.
fn cpu(
    row: &Row,
    answer: Answer,
    players: &[&dyn Peer],
    site: &Site,
    effort: &Effort,
) -> Result<Vec<Vec<f64>>> {
    let version = match row.scene {
        Scene::OneHop(version) => version,
        Scene::MeshPair | Scene::ControlPlane => Version::Http1,
    };
    let count = effort.requests(answer);
    let contenders: Vec<Contender<'_>> =
        players.iter().map(|peer| Contender::start(*peer, row.scene, site)).collect::<Result<_>>()?;
    for contender in &contenders {
        load::requests(contender.peer.name(), contender.port(), version, answer, count / 10)?;
    }
    let figures = in_turn(contenders.len(), effort.rounds, |index| {
        let contender = &contenders[index];
        let before = contender.cpu()?;
        load::requests(contender.peer.name(), contender.port(), version, answer, count)?;
        Ok((contender.cpu()? - before).as_secs_f64() * 1e6 / f64::from(count))
    })?;
    let ours = contenders.iter().find(|contender| contender.peer.name() == OURS);
    if let Some(ours) = ours.filter(|_| effort.profile) {
        profile::record(row, &ours.processes, &load::command(ours.port(), version, answer, count)?, site)?;
    }
    Ok(figures)
}

/// Each figure is that of a process just started, alone with the backend.
fn fresh(row: &Row, players: &[&dyn Peer], site: &Site, effort: &Effort) -> Result<Vec<Vec<f64>>> {
    in_turn(players.len(), effort.rounds, |index| {
        let contender = Contender::start(players[index], row.scene, site)?;
        if row.measure == Measure::Start {
            return Ok(contender.processes[0].start.as_secs_f64() * 1e3);
        }
        let idle = contender.settled()? as f64;
        if row.measure == Measure::IdleMemory {
            return Ok(idle * 1024.0 / 1e6);
        }
        // What the first requests set up once is no cost of a connection.
        let first = load::connections(contender.peer.name(), contender.port(), 4)?;
        let before = contender.settled()? as f64;
        let held = load::connections(contender.peer.name(), contender.port(), effort.connections)?;
        let after = contender.settled()? as f64;
        drop((first, held));
        Ok((after - before) / f64::from(effort.connections))
    })
}

fn in_turn(
    players: usize,
    rounds: usize,
    mut play: impl FnMut(usize) -> Result<f64>,
) -> Result<Vec<Vec<f64>>> {
    let mut figures = vec![Vec::new(); players];
    for round in 0..rounds {
        for place in 0..players {
            let index = if round % 2 == 0 { place } else { players - 1 - place };
            figures[index].push(play(index)?);
        }
    }
    Ok(figures)
}

impl<'a> Contender<'a> {
    fn start(peer: &'a dyn Peer, scene: Scene, site: &Site) -> Result<Self> {
        let launches = peer.launches(scene, site)?;
        let processes =
            launches.into_iter().map(|launch| Running::start(launch, &site.folder)).collect::<Result<_>>()?;
        Ok(Self { peer, processes })
    }

    fn port(&self) -> u16 {
        self.processes.last().expect("a scene has at least one process").port
    }

    fn cpu(&self) -> Result<Duration> {
        self.processes.iter().map(Running::cpu).sum()
    }

    fn settled(&self) -> Result<u64> {
        settled(|| self.processes.iter().map(Running::resident).sum())
    }
}

/// Resident KiB once it has not changed for 300 ms, or after 3 s.
pub(super) fn settled(resident: impl Fn() -> Result<u64>) -> Result<u64> {
    let (mut last, mut same) = (resident()?, 0);
    for _ in 0..30 {
        thread::sleep(Duration::from_millis(100));
        let now = resident()?;
        same = if now == last { same + 1 } else { 0 };
        last = now;
        if same == 3 {
            break;
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_play_in_turn_and_every_other_round_in_reverse() {
        let mut order = Vec::new();
        let figures = in_turn(3, 2, |index| {
            order.push(index);
            Ok(order.len() as f64)
        });
        assert_eq!(order, [0, 1, 2, 2, 1, 0]);
        assert_eq!(figures.unwrap(), [[1.0, 6.0], [2.0, 5.0], [3.0, 4.0]]);
    }
}
