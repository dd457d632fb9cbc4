//! Where the time goes: perf over a row's load, for ours. Machines of clouds have no hardware counters, so it
//! samples by the CPU clock, which needs none.

use std::process::{Command, Stdio};

use super::row::Row;
use super::running::Running;
use super::site::Site;
use crate::error::{Error, Result};
use crate::{process, tools};

/// Samples the processes while the load runs, and writes the costliest objects and functions to ROW-profile.txt.
pub(crate) fn record(row: &Row, processes: &[Running], load: &Command, site: &Site) -> Result<()> {
    let ids: Vec<String> = processes.iter().map(|process| process.id().to_string()).collect();
    let data = site.path(&format!("{}.perf", row.name));
    let ids = ids.join(",");
    let sampled = ["record", "-q", "-e", "cpu-clock", "-F", "1999", "-o", &data, "-p", &ids, "--"];
    let mut record = tools::command(tools::PERF, &sampled)?;
    record.arg(load.get_program()).args(load.get_args());
    output(&mut record)?;
    let mut text = Vec::new();
    for keys in ["overhead,dso", "overhead,dso,symbol"] {
        let shown =
            ["report", "-q", "--stdio", "--no-children", "--percent-limit", "0.4", "--sort", keys, "-i"];
        let table = output(tools::command(tools::PERF, &shown)?.arg(&data))?;
        // perf fills columns that it has no figures for with dashes.
        let table = String::from_utf8_lossy(&table).into_owned();
        let lines =
            table.lines().map(|line| line.trim_end_matches([' ', '-'])).filter(|line| !line.is_empty());
        text.extend(lines.map(|line| format!("{line}\n")));
        text.push("\n".to_owned());
    }
    let path = site.write(&format!("{}-profile.txt", row.name), text.concat())?;
    eprintln!("  profile: {}", path.display());
    Ok(())
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|source| Error::Start { command: process::spell(command), source })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    Err(Error::Failed { command: process::spell(command), status: output.status })
}
