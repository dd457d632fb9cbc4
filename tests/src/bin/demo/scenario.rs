//! The story, from the first request to the last: who lives, who dies, and what must be true meanwhile.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::checks::{
    load_flows, no_get_fails, no_order_is_placed_twice, no_request_fails, only_posts_that_arrived_failed,
    the_hints_work, the_sidecar_counted_the_same,
};
use crate::control_acts;
use crate::failure::Result;
use crate::ledger::Ledger;
use crate::mesh::Mesh;
use crate::stage::Stage;
use crate::world::Place;

pub(crate) const PREFERRED: &str = "sao-paulo";
pub(crate) const OTHER: &str = "rio-de-janeiro";
pub(crate) const GETS_PER_SECOND: u32 = 200;
pub(crate) const POSTS_PER_SECOND: u32 = 20;

/// How long each act lasts.
pub(crate) struct Pace {
    pub(crate) calm: Duration,
    /// Without the control plane, while both regions live.
    pub(crate) dark: Duration,
    pub(crate) outage: Duration,
    /// At most, until the preferred region has its traffic back.
    pub(crate) recovery: Duration,
    /// Whether traffic goes on after the last act.
    pub(crate) encore: bool,
}

impl Pace {
    /// Long enough for a person to read along.
    pub(crate) const LIVE: Self = Self {
        calm: Duration::from_secs(20),
        dark: Duration::from_secs(10),
        outage: Duration::from_secs(20),
        recovery: Duration::from_secs(60),
        encore: true,
    };
    pub(crate) const ONCE: Self = Self {
        calm: Duration::from_secs(5),
        dark: Duration::from_secs(2),
        outage: Duration::from_secs(8),
        recovery: Duration::from_secs(60),
        encore: false,
    };
}

/// Before the first request: everything is built, the control plane starts, and the sidecars join it.
pub(crate) async fn open(stage: &mut Stage, place: Place, programs: &Path) -> Result<Mesh> {
    let mut mesh = Mesh::build(place, programs).await?;
    stage.act("the control plane starts, and the sidecars join it");
    control_acts::opening(stage, &mut mesh).await?;
    stage.raise(mesh.start_client()?);
    Ok(mesh)
}

pub(crate) async fn tell(stage: &mut Stage, mesh: &mut Mesh, pace: &Pace) -> Result<()> {
    stage.act("both regions live; sao-paulo is preferred");
    both_regions_live(stage, mesh, pace).await?;

    stage.act("policy changes: from now on every request is traced");
    control_acts::a_policy_changes(stage, mesh).await?;

    stage.act("the control plane is killed; rio-de-janeiro's sidecar is killed, too, and started without it");
    control_acts::the_control_plane_is_lost(stage, mesh, pace.dark).await?;

    stage.act("sao-paulo is killed: the application, then its sidecar once nobody calls it");
    the_preferred_region_dies(stage, mesh, pace).await?;

    stage.act("the control plane is started again");
    control_acts::the_control_plane_is_back(stage, mesh).await?;

    stage.act("sao-paulo is started again");
    the_preferred_region_is_back(stage, mesh, pace).await?;

    if pace.encore {
        stage.act("the story is told; try the lines below, and end the demo by Ctrl-C");
        let encore = stage.watch_until_interrupted(mesh).await?;
        no_request_fails(stage, "after that", &encore)?;
    }
    let rest = stage.finish(mesh).await?;
    no_request_fails(stage, "at the end", &rest)?;
    no_order_is_placed_twice(stage, mesh)?;
    the_sidecar_counted_the_same(stage, mesh, pace.encore).await?;
    the_hints_work(stage, mesh).await
}

async fn the_preferred_region_dies(stage: &mut Stage, mesh: &mut Mesh, pace: &Pace) -> Result<()> {
    let began = Instant::now();
    mesh.kill(PREFERRED).await?;
    let outage = load_flows(stage, mesh, "while the preferred region dies", began, pace.outage).await?;
    no_get_fails(stage, "while the preferred region dies", &outage)?;
    only_posts_that_arrived_failed(stage, mesh, &outage)?;
    let (now, _) = stage.recent();
    let share = now.share(OTHER);
    stage.check("the other region serves it all", share >= 100.0, format!("{share:.1} % {OTHER}"))
}

async fn the_preferred_region_is_back(stage: &mut Stage, mesh: &mut Mesh, pace: &Pace) -> Result<()> {
    mesh.revive(PREFERRED).await?;
    let preferred_serves = |ledger: &Ledger| ledger.recent(Instant::now()).0.share(PREFERRED) >= 100.0;
    let (recovery, took) = stage.watch_until(mesh, pace.recovery, preferred_serves).await?;
    let back =
        took.map_or_else(|| "not within the time".to_owned(), |t| format!("after {:.1} s", t.as_secs_f64()));
    stage.check("the preferred region gets its traffic back", took.is_some(), back)?;
    no_request_fails(stage, "while it comes back", &recovery)?;
    control_acts::all_acknowledge(stage, mesh, "its sidecar follows the control plane again", 3).await
}

async fn both_regions_live(stage: &mut Stage, mesh: &Mesh, pace: &Pace) -> Result<()> {
    let calm = load_flows(stage, mesh, "while both regions live", Instant::now(), pace.calm).await?;
    no_request_fails(stage, "while both regions live", &calm)?;
    let share = calm.share(PREFERRED);
    let first = stage.first_answer_after().as_secs_f64();
    let fact = format!("{share:.1} % {PREFERRED}; the first answer came {first:.1} s after the start");
    stage.check("the preferred region serves it all", share >= 100.0, fact)?;
    let answer = mesh.ask_mesh_port_plainly().await;
    let refused = !["HTTP/", "cannot connect", "did not answer"].iter().any(|sign| answer.contains(sign));
    // Record type 21, then the version (RFC 8446 section 5.1).
    let alert = answer.starts_with("\u{15}\u{3}");
    let shown = if alert { "a TLS alert".to_owned() } else { answer.escape_debug().to_string() };
    stage.check("the mesh port speaks to nobody without a certificate", refused, shown)
}
