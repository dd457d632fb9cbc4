//! Whole scenarios in virtual time.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{
    Attempts, Decision, Event, Loads, Why, outlier,
    sim::{Behaviour, World, cluster},
};
use crate::{
    config::snapshot::{OutlierPolicy, RetryBudgetPolicy, SkippedRegion, state::Registry},
    error::Reason,
};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const THREE: &[(&str, &[u32])] = &[("sao-paulo", &[1, 1, 1])];
const TWO_REGIONS: &[(&str, &[u32])] = &[("sao-paulo", &[1, 1]), ("rio-de-janeiro", &[1, 1])];
const REFUSES: Behaviour = Behaviour::Refuses(ms(1));

#[test]
fn equals_get_equal_shares_and_weights_are_respected() {
    for weights in [&[1, 1, 1][..], &[1, 2, 3], &[9, 1], &[1, 1, 1, 1, 10]] {
        let mut world = World::new(&[("sao-paulo", weights)], 1);
        world.run(secs(20), 1_000);
        let tally = world.run(secs(50), 1_000);
        let total: u32 = weights.iter().sum();
        for (at, &weight) in weights.iter().enumerate() {
            let (share, wanted) =
                (tally.served[&world.id(0, at)] as f64 / 50_000.0, f64::from(weight) / f64::from(total));
            assert!((share - wanted).abs() < wanted * 0.3, "{weights:?} at {at}: {share}, not {wanted}");
        }
    }
}

#[test]
fn a_slow_endpoint_gets_less() {
    let mut world = World::new(THREE, 2);
    world.set(0, 2, Behaviour::Answers(ms(60)));
    let tally = world.run(secs(60), 500);
    let slow = tally.served[&world.id(0, 2)] as f64 / 30_000.0;
    assert!(slow < 0.05, "{slow}");
    assert!(slow > 0.0, "it is tried now and then");
    world.set(0, 2, Behaviour::Answers(ms(5)));
    world.run(secs(60), 500);
    let tally = world.run(secs(30), 500);
    let back = tally.served[&world.id(0, 2)] as f64 / 15_000.0;
    assert!((0.28..0.39).contains(&back), "once fast again it has its share: {back}");
}

#[test]
fn a_fast_failure_does_not_attract() {
    let mut world = World::new(&[("sao-paulo", &[1, 1])], 3);
    // Never ejected, so that only the load decides.
    world.cluster.outlier = OutlierPolicy { consecutive_failures: 0, ..OutlierPolicy::default() };
    world.set_region(0, Behaviour::Answers(ms(50)));
    world.run(secs(20), 200);
    world.set(0, 1, Behaviour::Unavailable(Duration::from_micros(200)));
    let tally = world.run(secs(60), 200);
    let failing = tally.decisions.iter().filter(|d| d.chosen == world.id(0, 1)).count();
    assert!(failing < tally.requests as usize / 50, "{failing} of {}", tally.requests);
    assert_eq!(tally.errors, 0, "a retry goes to the other one");
}

#[test]
fn a_killed_region_is_left_within_the_retry() {
    for per_region in 1..=6 {
        let weights = vec![1; per_region];
        let mut world = World::new(&[("sao-paulo", &weights), ("rio-de-janeiro", &[1])], per_region as u64);
        let before = world.run(secs(5), 220);
        assert!((world.share(&before, 0) - 1.0).abs() < f64::EPSILON, "the preferred region serves all");
        world.set_region(0, REFUSES);
        let during = world.run(secs(30), 220);
        assert_eq!(during.errors, 0, "{per_region} endpoints: {} attempts", during.attempts);
        assert!((world.share(&during, 1) - 1.0).abs() < f64::EPSILON);
        assert!(during.slowest <= ms(10), "{:?}", during.slowest);
        assert!(during.attempts < during.requests + 200, "{} attempts", during.attempts);
        let why = |why| during.decisions.iter().filter(|d| d.why == why).count();
        assert!(why(Why::Moved) > 0 && why(Why::Failover) > why(Why::Moved), "{per_region}");
        world.set_region(0, Behaviour::Answers(ms(5)));
        world.run(secs(120), 220);
        let after = world.run(secs(5), 220);
        assert!((world.share(&after, 0) - 1.0).abs() < f64::EPSILON, "it is preferred again when it is back");
        assert_eq!(after.errors, 0);
    }
}

#[test]
fn a_region_that_is_still_dead_is_found_out_by_few_requests() {
    let mut world = World::new(TWO_REGIONS, 5);
    // Nobody answers: a connection attempt costs a second.
    world.set_region(0, Behaviour::Refuses(secs(1)));
    world.run(secs(5), 200);
    let tally = world.run(secs(60), 200);
    let tried = tally.decisions.iter().filter(|d| d.region_rank == 0).count();
    assert!(tried < 20, "{tried} requests waited for the dead region");
    assert_eq!(tally.errors, 0);
}

#[test]
fn when_everything_is_ejected_the_first_region_is_used_anyway() {
    let mut registry = Registry::default();
    let mut cluster = cluster(&mut registry, TWO_REGIONS);
    cluster.outlier.max_ejected_percent = 100;
    for endpoint in cluster.regions.iter().flat_map(|r| &r.endpoints) {
        for _ in 0..cluster.outlier.consecutive_failures {
            outlier::failed(&cluster, endpoint, ms(1));
        }
    }
    let mut loads = Loads::default();
    let choice = loads.pick(&cluster, &Attempts::default(), ms(2), 1).unwrap();
    assert_eq!((choice.decision.why, choice.decision.region_rank), (Why::Panic, 0));
    let mut attempts = Attempts::default();
    attempts.failed(&choice, true);
    let second = loads.pick(&cluster, &attempts, ms(2), 1).unwrap();
    assert_ne!(second.decision.chosen, choice.decision.chosen, "what was not tried first");
    let later = loads.pick(&cluster, &Attempts::default(), secs(11), 1).unwrap();
    assert_eq!(later.decision.why, Why::Preferred, "an ejection ends");
}

#[test]
fn a_retry_takes_another_endpoint_then_another_region_then_the_same_again() {
    let mut registry = Registry::default();
    let cluster = cluster(&mut registry, TWO_REGIONS);
    let mut loads = Loads::default();
    let mut walk = |unreachable, attempts: &mut Attempts| -> Vec<(u16, Why)> {
        let next = || {
            let choice = loads.pick(&cluster, attempts, ms(1), 7).unwrap();
            attempts.failed(&choice, unreachable);
            (choice.decision.region_rank, choice.decision.why)
        };
        std::iter::repeat_with(next).take(5).collect()
    };
    let mut attempts = Attempts::default();
    let preferred = (0, Why::Preferred);
    let unreachable = [preferred, preferred, (1, Why::Moved), (1, Why::Moved), preferred];
    let seen = walk(true, &mut attempts);
    assert_eq!(seen[..4], unreachable[..4]);
    assert_eq!(seen[4].1, Why::Again);
    assert_eq!(attempts.tried.iter().map(|t| t.endpoint).collect::<HashSet<_>>().len(), 4);
    let answered = [preferred, preferred, (1, Why::Moved), (1, Why::Moved), (0, Why::Again)];
    assert_eq!(walk(false, &mut Attempts::default()), answered);
    let mut last = Attempts::default();
    assert_eq!(walk(true, &mut last)[0], preferred);
    last.tried.truncate(1);
    last.last_chance = true;
    assert_eq!(walk(true, &mut last)[0], (1, Why::Moved), "the last chance goes where nothing failed");
}

#[test]
fn nobody_is_told_apart_from_forbidden() {
    let mut registry = Registry::default();
    let mut cluster = cluster(&mut registry, &[]);
    let pick =
        |cluster: &_| Loads::default().pick(cluster, &Attempts::default(), ms(1), 1).map(|c| c.decision.why);
    assert_eq!(pick(&cluster), Err(Reason::NoEndpoint));
    cluster.skipped.push(SkippedRegion { region: "us".into(), why: "residency" });
    assert_eq!(pick(&cluster), Err(Reason::ResidencyExhausted));
    cluster.skipped.push(SkippedRegion { region: "rio".into(), why: "no_ready_endpoint" });
    assert_eq!(pick(&cluster), Err(Reason::NoEndpoint));
}

#[test]
fn a_new_endpoint_starts_slowly() {
    let mut world = World::new(THREE, 6);
    world.run(secs(20), 500);
    // As if the third had just come: nothing is known of it.
    let newcomer = Arc::clone(&world.cluster.regions[0].endpoints[2]);
    world.forget(&newcomer);
    let at_first = world.run(secs(1), 500).served.get(&newcomer.health.id).copied().unwrap_or(0);
    world.run(secs(15), 500);
    let later = world.run(secs(1), 500).served[&newcomer.health.id];
    assert!(at_first < 80, "{at_first} of 500 in its first second");
    assert!(later > 120, "{later} of 500 when it is warm");
}

#[test]
fn retries_stay_within_the_budget_however_much_fails() {
    let mut world = World::new(TWO_REGIONS, 8);
    world.set_region(0, Behaviour::Unavailable(ms(1)));
    world.set_region(1, Behaviour::Unavailable(ms(1)));
    let tally = world.run(secs(60), 1_000);
    let floor = 10.0 * (60.0 + 10.0);
    let bound = tally.requests as f64 * 1.2 + floor;
    assert!(tally.attempts as f64 <= bound, "{} attempts of at most {bound}", tally.attempts);
    assert!(tally.attempts as f64 > tally.requests as f64 * 1.15, "and what is allowed is used");
    world.cluster.retry_budget = RetryBudgetPolicy { percent: 0, min_per_second: 0 };
    world.run(secs(60), 100);
    let tally = world.run(secs(10), 1_000);
    assert!(tally.attempts <= tally.requests + 5, "{} of {}", tally.attempts, tally.requests);
}

#[test]
fn the_same_draws_give_the_same_decisions() {
    let decisions = |seed, rate| {
        let mut world = World::new(&[("sao-paulo", &[1, 2, 3]), ("rio-de-janeiro", &[1, 1])], seed);
        let mut all = world.run(secs(50), rate).decisions;
        world.set(0, 0, Behaviour::Unavailable(ms(1)));
        all.extend(world.run(secs(50), rate).decisions);
        world.set_region(0, REFUSES);
        all.extend(world.run(secs(150), rate).decisions);
        all
    };
    let million = decisions(9, 4_000);
    assert!(million.len() >= 1_000_000, "{}", million.len());
    assert!(million == decisions(9, 4_000));
    assert!(decisions(9, 40) != decisions(10, 40), "and others others");
}

#[test]
fn what_nobody_holds_is_forgotten() {
    let mut loads = Loads::default();
    let mut registry = Registry::default();
    let cluster = cluster(&mut registry, THREE);
    for endpoint in &cluster.regions[0].endpoints {
        loads.observe(endpoint, Event::Started, ms(1));
    }
    let kept = Arc::clone(&cluster.regions[0].endpoints[0]);
    loads.sweep();
    assert_eq!(loads.len(), 3);
    drop(cluster);
    loads.sweep();
    assert_eq!(loads.len(), 1, "a request still holds {}", kept.address);
}

#[test]
fn a_decision_record_is_small() {
    assert!(size_of::<Decision>() <= 64, "{}", size_of::<Decision>());
}

/// Clocks, sleep and chance come from outside, or no decision could be replayed.
#[test]
fn decisions_ask_no_clock_and_throw_no_dice() {
    let banned = ["Instant::", "SystemTime::", "sleep(", "fastrand::", "std::fs", "std::net::Tcp", "tokio::"];
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for folder in ["balance", "route"] {
        for file in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name == "tests.rs" || name == "sim.rs" {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for word in banned {
                assert!(!text.contains(word), "{folder}/{name} names {word}");
            }
        }
    }
}
