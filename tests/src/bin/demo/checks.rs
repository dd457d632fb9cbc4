//! What must be true of the traffic.

use std::time::{Duration, Instant};

use crate::failure::Result;
use crate::ledger::{Ledger, Tally};
use crate::mesh::Mesh;
use crate::scenario::{GETS_PER_SECOND, POSTS_PER_SECOND};
use crate::stage::Stage;

/// The share of what is asked for that has ended when it is counted; the rest may be under way.
const IN_TIME: f64 = 0.9;

/// Watches an act that began then, for at least so long. The offered load does not wait for answers: what a busy machine
/// was late with is made up for, and the act goes on until it is, three times as long at most.
pub(crate) async fn load_flows(
    stage: &mut Stage,
    mesh: &Mesh,
    when: &str,
    began: Instant,
    at_least: Duration,
) -> Result<Tally> {
    let keeps_up = |ledger: &Ledger| {
        let elapsed = began.elapsed();
        let due = |per_second: u32| elapsed.as_secs_f64() * f64::from(per_second) * IN_TIME;
        let (gets, posts) = ledger.so_far();
        elapsed >= at_least && gets as f64 >= due(GETS_PER_SECOND) && posts as f64 >= due(POSTS_PER_SECOND)
    };
    let (act, took) = stage.watch_until(mesh, at_least * 3, keeps_up).await?;
    let (p50, p99) = (act.latency(0.5), act.latency(0.99));
    let (gets, posts, seconds) = (act.gets, act.posts, began.elapsed().as_secs_f64());
    let fact =
        format!("{gets} GETs and {posts} POSTs ended in {seconds:.1} s, p50 {p50:.1} ms, p99 {p99:.1} ms");
    let claim = format!("{GETS_PER_SECOND} GET/s and {POSTS_PER_SECOND} POST/s flow {when}");
    stage.check(&claim, took.is_some(), fact)?;
    Ok(act)
}

/// A GET whose answer had begun may break off: nobody can take back what the client has seen.
pub(crate) fn no_get_fails(stage: &mut Stage, when: &str, tally: &Tally) -> Result<()> {
    let broken = match tally.broken_gets.len() {
        0 => String::new(),
        count => format!(", {count} broke off after their answer had begun"),
    };
    let (lost, all) = (tally.lost_gets.len(), tally.gets);
    let fact = format!("{lost} of {all} GETs failed{broken}{}", example(tally.lost_gets.first()));
    stage.check(&format!("no GET fails {when}"), lost == 0 && all > 0, fact)
}

/// For acts in which nobody dies.
pub(crate) fn no_request_fails(stage: &mut Stage, when: &str, tally: &Tally) -> Result<()> {
    let failed: Vec<_> =
        tally.lost_gets.iter().chain(&tally.broken_gets).chain(tally.lost_posts.values()).collect();
    let (count, all) = (failed.len(), tally.total());
    let fact = format!("{count} of {all} requests failed{}", example(failed.first().copied()));
    stage.check(&format!("no request fails {when}"), failed.is_empty() && all > 0, fact)
}

fn example(failure: Option<&String>) -> String {
    failure.map_or_else(String::new, |why| format!(", such as: {why}"))
}

pub(crate) fn only_posts_that_arrived_failed(stage: &mut Stage, mesh: &Mesh, tally: &Tally) -> Result<()> {
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
    stage.check("a POST fails only if its bytes had reached the application", innocent.is_empty(), fact)
}

pub(crate) fn no_order_is_placed_twice(stage: &mut Stage, mesh: &Mesh) -> Result<()> {
    let journal = mesh.journal()?;
    let twice: Vec<_> = journal.iter().filter(|(_, times)| **times > 1).map(|(order, _)| order).collect();
    let example = twice.first().map_or_else(String::new, |order| format!(", such as {order}"));
    let fact = format!("{} of {} orders{example}", twice.len(), journal.len());
    stage.check("no order reached an application twice", twice.is_empty() && !journal.is_empty(), fact)?;
    let missing = stage.placed().iter().filter(|order| !journal.contains_key(order)).count();
    let fact = format!("{missing} of {} confirmed orders are missing", stage.placed().len());
    stage.check("every confirmed order is in a journal", missing == 0 && !stage.placed().is_empty(), fact)
}

/// The client's sidecar agrees, and says that every answer came over mutual TLS. Where somebody watches, they may have
/// tried requests of their own.
pub(crate) async fn the_sidecar_counted_the_same(
    stage: &mut Stage,
    mesh: &Mesh,
    watched: bool,
) -> Result<()> {
    let answered = [r#"direction="outbound""#, r#"service="shop/orders""#, r#"reason="""#];
    let [outbound, service, without_failure] = answered;
    let sealed = [outbound, service, without_failure, r#"tls="mutual""#];
    let all = mesh.counted("trama_requests_total", &answered).await?;
    let over_tls = mesh.counted("trama_requests_total", &sealed).await?;
    let seen = stage.answered() as f64;
    let fact = format!("{over_tls} of {all} answers; the client saw {seen}");
    let agrees = all == seen || (watched && all > seen);
    stage.check("every answer came over mutual TLS", all > 0.0 && over_tls == all && agrees, fact)
}

pub(crate) async fn the_hints_work(stage: &mut Stage, mesh: &Mesh) -> Result<()> {
    for hint in mesh.hints() {
        let (worked, fact) = mesh.try_hint(&hint).await?;
        stage.check(&format!("this works: {hint}"), worked, fact)?;
    }
    Ok(())
}
