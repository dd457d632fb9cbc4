//! A program's own log, in words for people, on the standard error. The control plane's is of it too.

use std::{env::VarError, io::IsTerminal};

use tracing_subscriber::EnvFilter;
use trama_proto::did_you_mean;

/// Says what is logged.
const VARIABLE: &str = "TRAMA_LOG";

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// Starts it, with what `TRAMA_LOG` says, else with `info`. An error names the variable, its value and the remedy.
pub fn start() -> Result<(), String> {
    let filter = match std::env::var(VARIABLE) {
        Ok(text) => filter(&text)?,
        Err(VarError::NotPresent) => filter("")?,
        Err(VarError::NotUnicode(text)) => return Err(refused("not UTF-8", &text.to_string_lossy(), None)),
    };
    // Colours are for who looks at it now: in a file or a collector they are noise.
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    Ok(())
}

fn filter(text: &str) -> Result<EnvFilter, String> {
    let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
    if parts().next().is_none() {
        return Ok(EnvFilter::new("info"));
    }
    // The library takes a lone word for a target that everything is wanted of, and nothing of any other: a slip in a level
    // would silence the log.
    let level = |word: &str| LEVELS.contains(&word.to_lowercase().as_str());
    if let Some(word) = parts().find(|part| !part.contains(['=', '[']) && !level(part)) {
        return Err(refused("no level", word, did_you_mean(word, LEVELS)));
    }
    EnvFilter::try_new(parts().collect::<Vec<_>>().join(","))
        .map_err(|error| refused(&error.to_string(), text, None))
}

fn refused(problem: &str, value: &str, near: Option<&str>) -> String {
    let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    format!(
        "{VARIABLE}: {problem}, got {value:?}; {near}Write {}, or targets with theirs, such as `warn,trama_sidecar=debug`",
        LEVELS.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_targets_are_taken() {
        for good in
            ["", " ", "info", "WARN", "off", "warn,trama_sidecar=debug", "trama_sidecar::app=trace, info"]
        {
            assert!(filter(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn what_would_silence_the_log_by_mistake_is_an_error() {
        for (bad, said) in [
            ("inof", "TRAMA_LOG: no level, got \"inof\"; did you mean `info`? Write error, warn, "),
            ("verbose", "TRAMA_LOG: no level, got \"verbose\"; Write error, "),
            ("info,trama_sidecar", "got \"trama_sidecar\"; "),
            ("trama_sidecar=loud", "got \"trama_sidecar=loud\"; Write error, "),
        ] {
            let told = filter(bad).map(drop).unwrap_err();
            assert!(told.contains(said), "{bad}: {told}");
        }
    }
}
