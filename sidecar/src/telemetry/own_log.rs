//! A program's own log, in words for people or as JSON for collectors, on the standard error. The control plane's is of it too.

use std::{
    env::VarError,
    io::{IsTerminal, stderr},
    sync::OnceLock,
};

use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt, layer::SubscriberExt, registry, reload, util::SubscriberInitExt,
};
use trama_proto::did_you_mean;

/// Says what is logged.
const LEVEL: &str = "TRAMA_LOG";
/// Says in which form.
const FORMAT: &str = "TRAMA_LOG_FORMAT";

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
const FORMATS: [&str; 2] = ["text", "json"];

/// What is logged by this process. A log is started once.
static IN_USE: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts it, with what `TRAMA_LOG` says, else with `info`, in the form that `TRAMA_LOG_FORMAT` names, else in words. An error
/// names the variable, its value and the remedy.
pub fn start() -> Result<(), String> {
    let filter = filter(LEVEL, &variable(LEVEL, levels)?)?;
    let json = is_json(&variable(FORMAT, formats)?)?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_writer(stderr);
    let lines = if json {
        // The fields in a group of their own: one that is called `level` would else be there twice.
        lines.json().boxed()
    } else {
        // Colours are for who looks at it now: in a file or a collector they are noise.
        lines.with_ansi(stderr().is_terminal()).boxed()
    };
    registry().with(filter).with(lines).init();
    IN_USE.set(handle).map_err(|_| "the log is started twice".to_owned())
}

/// What is logged now; `None`: this process has no log of its own.
pub fn level() -> Option<String> {
    IN_USE.get()?.with_current(ToString::to_string).ok()
}

/// Changes what is logged, until it is changed again or the process ends. An error names value and remedy.
pub fn set_level(text: &str) -> Result<(), String> {
    let none = || "this process has no log of its own".to_owned();
    let handle = IN_USE.get().ok_or_else(none)?;
    if text.trim().is_empty() {
        return Err(refused("level", "empty", text, levels(None)));
    }
    let filter = filter("level", text)?;
    handle.reload(filter).map_err(|error| error.to_string())?;
    tracing::info!(level = text.trim(), "what is logged has changed");
    Ok(())
}

/// A variable's text; empty where it is not set.
fn variable(name: &str, remedy: fn(Option<&str>) -> String) -> Result<String, String> {
    match std::env::var(name) {
        Ok(text) => Ok(text),
        Err(VarError::NotPresent) => Ok(String::new()),
        Err(VarError::NotUnicode(text)) => {
            Err(refused(name, "not UTF-8", &text.to_string_lossy(), remedy(None)))
        }
    }
}

fn is_json(text: &str) -> Result<bool, String> {
    match text.trim() {
        "" | "text" => Ok(false),
        "json" => Ok(true),
        other => Err(refused(FORMAT, "no format", other, formats(did_you_mean(other, FORMATS)))),
    }
}

/// `what`: where the text comes from.
fn filter(what: &str, text: &str) -> Result<EnvFilter, String> {
    let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
    if parts().next().is_none() {
        return Ok(EnvFilter::new("info"));
    }
    // The library takes a lone word for a target that everything is wanted of, and nothing of any other: a slip in a level
    // would silence the log.
    let level = |word: &str| LEVELS.contains(&word.to_lowercase().as_str());
    if let Some(word) = parts().find(|part| !part.contains(['=', '[']) && !level(part)) {
        return Err(refused(what, "no level", word, levels(did_you_mean(word, LEVELS))));
    }
    EnvFilter::try_new(parts().collect::<Vec<_>>().join(","))
        .map_err(|error| refused(what, &error.to_string(), text, levels(None)))
}

fn refused(what: &str, problem: &str, value: &str, remedy: String) -> String {
    format!("{what}: {problem}, got {value:?}; {remedy}")
}

fn levels(near: Option<&str>) -> String {
    format!(
        "{}Write {}, or targets with theirs, such as `warn,trama_sidecar=debug`",
        meant(near),
        LEVELS.join(", ")
    )
}

fn formats(near: Option<&str>) -> String {
    format!("{}Write {}", meant(near), FORMATS.join(" or "))
}

fn meant(near: Option<&str>) -> String {
    near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_targets_are_taken() {
        for good in
            ["", " ", "info", "WARN", "off", "warn,trama_sidecar=debug", "trama_sidecar::app=trace, info"]
        {
            assert!(filter(LEVEL, good).is_ok(), "{good:?}");
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
            let told = filter(LEVEL, bad).map(drop).unwrap_err();
            assert!(told.contains(said), "{bad}: {told}");
        }
    }

    #[test]
    fn there_are_two_forms() {
        assert_eq!(["", "text", "json"].map(is_json), [Ok(false), Ok(false), Ok(true)]);
        let told = is_json("jsno").unwrap_err();
        assert_eq!(
            told,
            "TRAMA_LOG_FORMAT: no format, got \"jsno\"; did you mean `json`? Write text or json"
        );
    }
}
