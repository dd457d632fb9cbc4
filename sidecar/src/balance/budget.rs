//! The retry budget: retries may add a share to a service's requests, and no more, however much fails.
//!
//! Finagle's `RetryBudget` has the idea: each request earns a part of a retry, each retry spends a whole one, and what
//! is not spent fades over ten seconds. The balance is one atomic number, so the bound holds exactly over all workers:
//! in any time T, retries <= percent of the requests + (T + 10 s) x the floor per second.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use super::micros;
use crate::config::snapshot::{RetryBudgetPolicy, state::ClusterState};

/// One retry, in the thousandths that the balance is kept in.
const RETRY: u64 = 1_000;
/// What is not spent in this time has faded, in microseconds.
const WINDOW: u64 = 10_000_000;
/// The floor is paid and the balance faded in steps of this, in microseconds.
const STEP: u64 = WINDOW / 100;

/// A request (not a retry) begins: it earns its part of a retry.
pub fn earn(policy: &RetryBudgetPolicy, state: &ClusterState, now: Duration) {
    refill(policy, state, now);
    state.retry_tokens.fetch_add(earned(policy), Relaxed);
}

/// A retry is wanted: whether there is one left to spend.
pub fn spend(policy: &RetryBudgetPolicy, state: &ClusterState, now: Duration) -> bool {
    refill(policy, state, now);
    state.retry_tokens.fetch_update(Relaxed, Relaxed, |balance| balance.checked_sub(RETRY)).is_ok()
}

/// How many retries are left for a request that begins now, its own part included; nothing is paid or spent.
pub fn left(policy: &RetryBudgetPolicy, state: &ClusterState, now: Duration) -> u64 {
    let balance = state.retry_tokens.load(Relaxed);
    let due = due(state.retry_refilled.load(Relaxed), micros(now).max(1));
    let balance = due.map_or(balance, |elapsed| refilled(policy, balance, elapsed));
    (balance + earned(policy)) / RETRY
}

/// Fades the balance and pays the floor for the time since it was last done. Of several workers one does it.
fn refill(policy: &RetryBudgetPolicy, state: &ClusterState, now: Duration) {
    let now = micros(now).max(1);
    let last = state.retry_refilled.load(Relaxed);
    let Some(elapsed) = due(last, now) else { return };
    if state.retry_refilled.compare_exchange(last, now, Relaxed, Relaxed).is_err() {
        return;
    }
    // The closure always answers: this cannot fail.
    let refilled = |balance| Some(refilled(policy, balance, elapsed));
    let _ = state.retry_tokens.fetch_update(Relaxed, Relaxed, refilled);
}

/// A request's part of a retry.
fn earned(policy: &RetryBudgetPolicy) -> u64 {
    u64::from(policy.percent) * RETRY / 100
}

/// The time that is to be paid for, once it is a step.
fn due(last: u64, now: u64) -> Option<u64> {
    // 0: never. The first request finds the floor of a whole window.
    let elapsed = if last == 0 { WINDOW } else { now.saturating_sub(last).min(WINDOW) };
    (elapsed >= STEP).then_some(elapsed)
}

fn refilled(policy: &RetryBudgetPolicy, balance: u64, elapsed: u64) -> u64 {
    let floor = u64::from(policy.min_per_second) * RETRY * elapsed / 1_000_000;
    // What never empties is capped before it could overflow; two milliards of retries are no budget anyway.
    let balance = balance.min(u64::MAX / WINDOW);
    balance - balance * elapsed / WINDOW + floor
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const POLICY: RetryBudgetPolicy = RetryBudgetPolicy { percent: 20, min_per_second: 10 };

    fn spend_all(state: &ClusterState, now: Duration) -> usize {
        std::iter::repeat_with(|| spend(&POLICY, state, now)).take_while(|spent| *spent).count()
    }

    #[test]
    fn a_quiet_service_has_the_floor_and_no_more() {
        let state = ClusterState::default();
        let at = Duration::from_secs;
        assert_eq!(left(&POLICY, &state, at(1)), 100);
        assert_eq!(spend_all(&state, at(1)), 100, "ten seconds of ten a second");
        assert_eq!((left(&POLICY, &state, at(1)), left(&POLICY, &state, at(2))), (0, 10));
        assert_eq!(spend_all(&state, at(2)), 10);
        assert_eq!(spend_all(&state, at(4)), 20);
        assert_eq!(spend_all(&state, at(1_000)), 100, "it does not gather for longer");
    }

    #[test]
    fn requests_earn_their_share_and_it_fades() {
        let state = ClusterState::default();
        spend_all(&state, Duration::from_secs(1));
        for _ in 0..1_000 {
            earn(&POLICY, &state, Duration::from_secs(1));
        }
        assert_eq!(spend_all(&state, Duration::from_secs(1)), 200);
        for _ in 0..1_000 {
            earn(&POLICY, &state, Duration::from_secs(1));
        }
        assert_eq!(spend_all(&state, Duration::from_secs(100)), 100, "only the floor is left");
    }

    #[test]
    fn a_budget_of_nothing_allows_nothing() {
        let none = RetryBudgetPolicy { percent: 0, min_per_second: 0 };
        let state = ClusterState::default();
        earn(&none, &state, Duration::from_secs(1));
        assert!(!spend(&none, &state, Duration::from_secs(2)));
    }

    #[test]
    fn it_is_exact_over_all_workers() {
        let state = Arc::new(ClusterState::default());
        let worker = || {
            let state = Arc::clone(&state);
            move || {
                let now = Duration::from_secs(1);
                (0..50_000)
                    .filter(|_| {
                        earn(&POLICY, &state, now);
                        spend(&POLICY, &state, now)
                    })
                    .count()
            }
        };
        let workers: Vec<_> = (0..4).map(|_| std::thread::spawn(worker())).collect();
        let spent: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        assert_eq!(spent + spend_all(&state, Duration::from_secs(1)), 40_000 + 100);
    }
}
