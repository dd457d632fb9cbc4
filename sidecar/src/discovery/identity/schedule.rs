//! When a certificate is renewed, and how long to wait after a failure. Pure: time and draws are arguments.

use std::time::Duration;

/// Renewal begins when half of the life is over, or up to this part of it earlier, by chance: sidecars that were started
/// together do not stay together.
const JITTER: f64 = 0.1;
/// The longest pause between two attempts to renew, where much time is left; else a tenth of what is left.
const LONGEST: Duration = Duration::from_secs(300);
/// No certificate is so short that it would be asked for more often than so.
const SHORTEST: Duration = Duration::from_millis(200);
/// The pause after a proof was refused, unless there is another one. It would be refused again.
const REFUSED: Duration = Duration::from_secs(300);

/// The life of a certificate, in time since 1970.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Term {
    /// When we were given it, by our own clock.
    pub(super) since: Duration,
    /// When it ends.
    pub(super) until: Duration,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Nothing, for so long.
    Wait(Duration),
    /// Have a new certificate by the one that holds.
    Renew,
    /// Have one by a token.
    Join,
}

/// What is to be done at `now`. `draw` is a random number from 0 to 1, one for each certificate.
pub(super) fn step(term: Option<Term>, now: Duration, draw: f64) -> Step {
    let Some(Term { since, until }) = term else { return Step::Join };
    if now >= until {
        return Step::Join;
    }
    let life = until.saturating_sub(since);
    let due = since + life.mul_f64(0.5 - JITTER * draw);
    // A clock that was set back must not make the wait longer than it was at the beginning.
    match due.saturating_sub(now).min(life / 2) {
        Duration::ZERO => Step::Renew,
        left => Step::Wait(left),
    }
}

/// The longest pause before it is tried again to renew what holds until then.
pub(super) fn longest_pause(term: Term, now: Duration) -> Duration {
    (term.until.saturating_sub(now) / 10).clamp(SHORTEST, LONGEST)
}

/// The pause after a proof was refused.
pub(super) fn pause_refused(draw: f64) -> Duration {
    REFUSED.mul_f64(1.0 - draw / 2.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const TERM: Term =
        Term { since: Duration::from_secs(1_795_000_000), until: Duration::from_secs(1_795_086_400) };

    #[test]
    fn it_is_renewed_at_half_of_its_life_or_a_little_earlier() {
        assert_eq!(step(Some(TERM), TERM.since, 0.0), Step::Wait(DAY / 2));
        assert_eq!(step(Some(TERM), TERM.since, 1.0), Step::Wait(DAY.mul_f64(0.4)));
        let before = TERM.since + DAY / 2 - Duration::from_secs(1);
        assert_eq!(step(Some(TERM), before, 0.0), Step::Wait(Duration::from_secs(1)));
        assert_eq!(step(Some(TERM), before, 1.0), Step::Renew);
        assert_eq!(step(Some(TERM), TERM.since + DAY / 2, 0.0), Step::Renew);
        assert_eq!(step(Some(TERM), TERM.until - Duration::from_secs(1), 0.5), Step::Renew);
        assert_eq!(step(Some(TERM), TERM.until, 0.5), Step::Join);
        assert_eq!(step(None, TERM.since, 0.5), Step::Join);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_put_it_off_for_years() {
        assert_eq!(step(Some(TERM), TERM.since - 365 * DAY, 0.3), Step::Wait(DAY / 2));
        assert_eq!(step(Some(TERM), TERM.since + 365 * DAY, 0.3), Step::Join);
        // One that began after its end was given by a clock that differs.
        let odd = Term { since: TERM.until, until: TERM.since };
        assert_eq!(step(Some(odd), TERM.since - DAY, 0.3), Step::Renew);
    }

    /// Ten thousand sidecars that were started in one moment.
    #[test]
    fn renewals_are_spread() {
        let draws = (0..10_000).map(|number| f64::from(number) / 10_000.0);
        let mut hours = [0; 24];
        for draw in draws {
            let Step::Wait(wait) = step(Some(TERM), TERM.since, draw) else { panic!("at once") };
            hours[wait.as_secs() as usize / 3600] += 1;
        }
        assert!(hours.iter().all(|renewals| *renewals < 4_500), "{hours:?}");
        assert_eq!(hours[9..12].iter().sum::<i32>(), 9_999, "{hours:?}");
    }

    #[test]
    fn pauses_follow_what_is_left() {
        assert_eq!(longest_pause(TERM, TERM.since), LONGEST);
        assert_eq!(longest_pause(TERM, TERM.until - Duration::from_secs(60)), Duration::from_secs(6));
        assert_eq!(longest_pause(TERM, TERM.until), SHORTEST);
        assert_eq!((pause_refused(0.0), pause_refused(1.0)), (REFUSED, REFUSED / 2));
    }

    proptest! {
        /// In virtual time, with a control plane that fails for a while: there is always an attempt left before the end.
        #[test]
        fn an_outage_shorter_than_half_of_the_life_costs_nothing(
            life in 2u64..200_000,
            draw in 0.0..1.0f64,
            down in 0.0..0.45f64,
            begin in 0.0..1.0f64,
        ) {
            let life = Duration::from_secs(life);
            let term = Term { since: TERM.since, until: TERM.since + life };
            let outage = life.mul_f64(begin * 0.5);
            let down = (term.since + outage, term.since + outage + life.mul_f64(down));
            let (mut now, mut attempts) = (term.since, 0);
            loop {
                match step(Some(term), now, draw) {
                    Step::Wait(wait) => now += wait,
                    Step::Join => prop_assert!(false, "it ended"),
                    Step::Renew if now >= down.0 && now < down.1 => {
                        attempts += 1;
                        now += longest_pause(term, now);
                    }
                    Step::Renew => break,
                }
            }
            prop_assert!(attempts < 2_000, "{attempts} attempts");
        }
    }
}
