//! Lengths of time as people write them: `1.5s`, `250ms`, `1h30m`.

use std::time::Duration;

/// Reads a length of time. `None` if it is not one, or is too long to be held.
///
/// Both the canonical JSON form of protobuf (`1.5s`) and Gateway API's (`1h30m`, GEP-2257) are understood.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).filter(|end| *end > 0)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        total = total.checked_add(part(number, unit)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

/// A length of time of a message; a negative one is none at all.
pub fn of(message: &pbjson_types::Duration) -> Duration {
    let seconds = u64::try_from(message.seconds).unwrap_or_default();
    let nanos = u32::try_from(message.nanos).unwrap_or_default();
    Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into()))
}

/// A length of time as a message.
pub fn message(duration: Duration) -> pbjson_types::Duration {
    pbjson_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

/// Writes a length of time in protobuf's canonical JSON form.
pub fn format(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    if nanos == 0 {
        return format!("{seconds}s");
    }
    let fraction = format!("{nanos:09}");
    format!("{seconds}.{}s", fraction.trim_end_matches('0'))
}

fn part(number: &str, unit: &str) -> Option<Duration> {
    let nanos_per_unit: u128 = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) | Some(("", _)) => return None,
        Some((whole, fraction)) if fraction.len() <= 9 => (whole, fraction),
        Some(_) => return None,
        None => (number, "0"),
    };
    let whole: u128 = whole.parse::<u64>().ok()?.into();
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = fraction.parse::<u64>().ok()?.into();
    let nanos = whole * nanos_per_unit + fraction * nanos_per_unit / scale;
    // Up to 584 years: it fits the canonical form and every clock.
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_written_canonically() {
        for (text, canonical) in [
            ("1.5s", "1.5s"),
            ("250ms", "0.25s"),
            ("0s", "0s"),
            ("1h30m", "5400s"),
            ("1m0.000000001s", "60.000000001s"),
            ("2ms", "0.002s"),
        ] {
            let duration = parse(text).unwrap_or_else(|| panic!("{text} is a duration"));
            assert_eq!(format(duration), canonical);
            assert_eq!(of(&message(duration)), duration);
            assert_eq!(parse(canonical), Some(duration));
        }
    }

    #[test]
    fn what_is_no_length_of_time_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "+1s",
            "1 s",
            "1.s",
            ".5s",
            "1.2.3s",
            "1d",
            "1e3s",
            "99999999999999999999h",
            "1.0000000000s",
            "6000000h",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
