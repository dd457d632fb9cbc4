//! The story, from the first request to the last: who lives, who dies, and what must be true of the traffic.

use std::time::Duration;

use crate::failure::Result;
use crate::ledger::Tally;
use crate::mesh::Mesh;
use crate::stage::Stage;

pub(crate) const PREFERRED: &str = "sao-paulo";
pub(crate) const OTHER: &str = "rio-de-janeiro";
pub(crate) const GETS_PER_SECOND: u32 = 200;
pub(crate) const POSTS_PER_SECOND: u32 = 20;

/// How long each act lasts.
pub(crate) struct Pace {
    pub(crate) calm: Duration,
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
        outage: Duration::from_secs(20),
        recovery: Duration::from_secs(60),
        encore: true,
    };
    pub(crate) const ONCE: Self = Self {
        calm: Duration::from_secs(5),
        outage: Duration::from_secs(8),
        recovery: Duration::from_secs(60),
        encore: false,
    };
}

pub(crate) async fn tell(stage: &mut Stage, mesh: &mut Mesh, pace: &Pace) -> Result<()> {
    stage.act("both regions live; sao-paulo is preferred");
    let calm = stage.watch(mesh, pace.calm).await?;
    served_at_the_asked_rate(stage, &calm, pace.calm);
    nothing_lost(stage, "while both regions live", &calm);
    let share = calm.share(PREFERRED);
    stage.check("the preferred region serves it all", share >= 100.0, format!("{share:.1} % {PREFERRED}"));
    let answer = mesh.ask_mesh_port_plainly().await;
    let refused = !answer.contains("HTTP/") && !answer.contains("cannot connect");
    // Record type 21, then the version (RFC 8446 section 5.1).
    let alert = answer.starts_with("\u{15}\u{3}");
    let shown = if alert { "a TLS alert".to_owned() } else { answer.escape_debug().to_string() };
    stage.check("the mesh port speaks to nobody without a certificate", refused, shown);

    stage.act("sao-paulo is killed: the application, then its sidecar once nobody calls it");
    mesh.kill(PREFERRED).await?;
    let outage = stage.watch(mesh, pace.outage).await?;
    nothing_lost(stage, "while the preferred region dies", &outage);
    only_posts_that_arrived_failed(stage, mesh, &outage)?;
    let (now, _) = stage.recent();
    let share = now.share(OTHER);
    stage.check("the other region serves it all", share >= 100.0, format!("{share:.1} % {OTHER}"));

    stage.act("sao-paulo is started again");
    mesh.revive(PREFERRED).await?;
    let (recovery, took) =
        stage.watch_until(mesh, pace.recovery, |now| now.share(PREFERRED) >= 100.0).await?;
    let back =
        took.map_or_else(|| "not within the time".to_owned(), |t| format!("after {:.1} s", t.as_secs_f64()));
    stage.check("the preferred region gets its traffic back", took.is_some(), back);
    nothing_lost(stage, "while it comes back", &recovery);

    if pace.encore {
        stage.act("the story is told; try the lines below, and end the demo by Ctrl-C");
        let encore = stage.watch_until_interrupted(mesh).await?;
        nothing_lost(stage, "after that", &encore);
    }
    let rest = stage.finish(mesh).await?;
    nothing_lost(stage, "at the end", &rest);
    no_order_is_placed_twice(stage, mesh)?;
    the_sidecar_counted_the_same(stage, mesh).await?;
    the_hints_work(stage, mesh).await
}

fn served_at_the_asked_rate(stage: &mut Stage, tally: &Tally, time: Duration) {
    let asked = f64::from(GETS_PER_SECOND + POSTS_PER_SECOND) * time.as_secs_f64();
    let (p50, p99) = (tally.latency(0.5), tally.latency(0.99));
    let fact = format!("{} of about {asked:.0} requests, p50 {p50:.1} ms, p99 {p99:.1} ms", tally.total());
    stage.check("the traffic flows at the rate asked for", tally.total() as f64 >= asked * 0.9, fact);
}

/// A GET whose answer had begun may break off: nobody can take back what the client has seen.
fn nothing_lost(stage: &mut Stage, when: &str, tally: &Tally) {
    let lost = &tally.lost_gets;
    let example = lost.first().map_or_else(String::new, |first| format!(", such as: {first}"));
    let broken = match tally.broken_gets.len() {
        0 => String::new(),
        count => format!(", {count} broke off after their answer had begun"),
    };
    let fact = format!("{} of {} GETs failed{broken}{example}", lost.len(), tally.gets);
    stage.check(&format!("no GET fails {when}"), lost.is_empty() && tally.gets > 0, fact);
}

fn only_posts_that_arrived_failed(stage: &mut Stage, mesh: &Mesh, tally: &Tally) -> Result<()> {
    let journal = mesh.journal()?;
    let innocent: Vec<_> =
        tally.lost_posts.iter().filter(|(order, _)| !journal.contains_key(order)).collect();
    let example =
        innocent.first().map_or_else(String::new, |(order, why)| format!(", such as {order}: {why}"));
    let (failed, all) = (tally.lost_posts.len(), tally.posts);
    let fact = format!(
        "{failed} of {all} POSTs failed, {} of them before their bytes had arrived{example}",
        innocent.len()
    );
    stage.check("a POST fails only if its bytes had reached the application", innocent.is_empty(), fact);
    Ok(())
}

fn no_order_is_placed_twice(stage: &mut Stage, mesh: &Mesh) -> Result<()> {
    let journal = mesh.journal()?;
    let twice: Vec<_> = journal.iter().filter(|(_, times)| **times > 1).map(|(order, _)| order).collect();
    let example = twice.first().map_or_else(String::new, |order| format!(", such as {order}"));
    let fact = format!("{} of {} orders{example}", twice.len(), journal.len());
    stage.check("no order reached an application twice", twice.is_empty() && !journal.is_empty(), fact);
    let missing = stage.placed().iter().filter(|order| !journal.contains_key(order)).count();
    let fact = format!("{missing} of {} confirmed orders are missing", stage.placed().len());
    stage.check("every confirmed order is in a journal", missing == 0 && !stage.placed().is_empty(), fact);
    Ok(())
}

/// The client's sidecar agrees, and says that every answer came over mutual TLS.
async fn the_sidecar_counted_the_same(stage: &mut Stage, mesh: &Mesh) -> Result<()> {
    let answered = [r#"direction="outbound""#, r#"service="shop/orders""#, r#"reason="""#];
    let [outbound, service, without_failure] = answered;
    let sealed = [outbound, service, without_failure, r#"tls="mutual""#];
    let all = mesh.counted("trama_requests_total", &answered).await?;
    let over_tls = mesh.counted("trama_requests_total", &sealed).await?;
    let seen = stage.answered() as f64;
    let fact = format!("{over_tls} of {all} answers; the client saw {seen}");
    stage.check("every answer came over mutual TLS", all > 0.0 && over_tls == all && all == seen, fact);
    Ok(())
}

async fn the_hints_work(stage: &mut Stage, mesh: &Mesh) -> Result<()> {
    for hint in mesh.hints() {
        let (worked, fact) = mesh.try_hint(&hint).await?;
        stage.check(&format!("this works: {hint}"), worked, fact);
    }
    Ok(())
}
