//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueHint};
use trama_proto::{duration, spiffe::SpiffeId};

use crate::{
    commands::{
        apply, completions, delete, describe, diff, explain, get, join_token, proxy, status, trace, validate,
        watch,
    },
    connect::{DEFAULT_SOCKET, Server},
    exit,
    output::Format,
};

/// For how long is waited where nobody says.
const PATIENCE: Duration = Duration::from_secs(10);

/// Applies policy to the control plane of Trama, and tells what became of it.
#[derive(Debug, Parser)]
#[command(name = "tramactl", version, after_long_help = exit::table(), max_term_width = 120)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

// What every command takes. No documentation: it would be that of whatever it is flattened into; so with the others.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The control plane: the path of its Unix socket, or HOST:PORT, which needs `--certificate`, `--key` and `--ca`.
    #[arg(
        short, long, global = true, env = "TRAMACTL_SERVER", default_value = DEFAULT_SOCKET,
        value_name = "SOCKET|HOST:PORT", value_hint = ValueHint::AnyPath
    )]
    pub(crate) server: Server,
    /// The certificate of an admin, PEM, for HOST:PORT.
    #[arg(long, global = true, env = "TRAMACTL_CERTIFICATE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) certificate: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, global = true, env = "TRAMACTL_KEY", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) key: Option<PathBuf>,
    /// The authorities that the control plane's certificate must come from, PEM.
    #[arg(long, global = true, env = "TRAMACTL_CA", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) ca: Option<PathBuf>,
    /// The SPIFFE id that the control plane's certificate must carry. Left out:
    /// `spiffe://<our own trust domain>/ns/trama-system/sa/trama-control-plane`.
    #[arg(long, global = true, env = "TRAMACTL_SERVER_IDENTITY", value_name = "SPIFFE_ID", value_parser = spiffe_id)]
    pub(crate) server_identity: Option<SpiffeId>,
    /// For how long an answer is waited for, and before it for a connection, also where nobody listens yet. Left out: 10s, and
    /// where nobody listens that is told at once.
    #[arg(long, global = true, env = "TRAMACTL_TIMEOUT", value_name = "TIME", value_parser = length_of_time)]
    pub(crate) timeout: Option<Duration>,
    /// The form of what is answered.
    #[arg(short, long, global = true, env = "TRAMACTL_OUTPUT", default_value = "table", value_enum)]
    pub(crate) output: Format,
}

impl Global {
    /// For how long an answer is waited for, and before it for a connection.
    pub(crate) fn patience(&self) -> Duration {
        self.timeout.unwrap_or(PATIENCE)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Creates or changes resources: all of them or none.
    ///
    /// Somebody who changes one of them at the same moment is not overwritten.
    Apply(apply::Apply),
    /// Shows resources.
    ///
    /// Without names: all of the kind, of every namespace unless one is given. As YAML they can be applied.
    Get(get::Get),
    /// Shows a resource, who has acknowledged it, and who refuses it and why.
    ///
    /// A sidecar that the resource does not concern has acknowledged it, too.
    Describe(describe::Describe),
    /// Deletes resources: all of them or none.
    ///
    /// What something else refers to is not deleted, unless that goes at the same time.
    Delete(delete::Delete),
    /// Says what is wrong with resources, and changes nothing.
    ///
    /// The resources are judged as if they were applied to the policy in force.
    Validate(validate::Validate),
    /// Shows what `apply` would change.
    ///
    /// As a unified diff from what is applied to what the files say. The exit code is 1 if there is a difference. What
    /// is applied and in none of the files is not told: `apply` would not touch it.
    Diff(diff::Diff),
    /// Shows changes as they happen.
    ///
    /// Goes on until it is ended, or the control plane ends. As JSON each change is a line.
    Watch(watch::Watch),
    /// Shows who has acknowledged what, and who refuses what and why.
    ///
    /// The sidecars are those with a stream at this moment.
    Status(status::Status),
    /// Shows traces: on which way requests went, and why.
    Trace(trace::Trace),
    /// Says why a request would go where it would go, or why those of a trace went.
    ///
    /// The sidecar that would send it is asked, over its stream: service, route and why not the others, regions with the
    /// reason each was skipped, endpoint, attempts. Nothing is sent. Whatever becomes of the request, the exit code is 0
    /// when it is explained.
    Explain(explain::Explain),
    /// Shows the sidecars, and has them drain.
    Proxy(proxy::Proxy),
    /// Makes the tokens by which workloads join the mesh.
    JoinToken(join_token::JoinToken),
    /// Writes the completions of a shell.
    ///
    /// Load it with `source <(tramactl completions bash)`, or put it where the shell looks for completions.
    Completions(completions::Completions),
}

// In which namespace.
#[derive(Debug, Args)]
pub(crate) struct Namespace {
    /// The namespace of names without one; without names, the only one that is shown.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

/// A length of time, with its unit.
pub(crate) fn length_of_time(text: &str) -> Result<Duration, String> {
    let read = duration::parse(text).filter(|length| !length.is_zero());
    read.ok_or_else(|| "write a length of time with its unit, such as `30s`, `500ms` or `1m30s`".to_owned())
}

/// A SPIFFE id; the error says which rule it breaks.
pub(crate) fn spiffe_id(text: &str) -> Result<SpiffeId, &'static str> {
    SpiffeId::parse(text)
}

/// A trace's id.
pub(crate) fn trace_id(text: &str) -> Result<String, &'static str> {
    let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = text.to_ascii_lowercase();
    let id = Some(id).filter(|id| is_id && id.bytes().any(|byte| byte != b'0'));
    id.ok_or("write a trace's id as 32 hexadecimal digits, not all of them 0")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn slips_are_told_with_what_was_meant() {
        let told = |line: &str| Arguments::try_parse_from(line.split(' ')).unwrap_err().to_string();
        for (line, remedy) in [
            ("tramactl aply -f x", "apply"),
            ("tramactl apply --fil x", "--file"),
            ("tramactl get rout", "did you mean `Route`?"),
            ("tramactl get route -o jsn", "json"),
            ("tramactl --timeout 5 get route", "with its unit"),
            ("tramactl --timeout 0s get route", "with its unit"),
            ("tramactl trace shw x", "show"),
            ("tramactl trace show 4bf9", "32 hexadecimal digits"),
            ("tramactl trace show 00000000000000000000000000000000", "not all of them 0"),
            ("tramactl explain", "<URL>"),
            ("tramactl explain http://a/ --from x --service y", "--service"),
            ("tramactl explain --trace 4bf9", "32 hexadecimal digits"),
            ("tramactl explain --trace 4bf92f3577b34da6a3ce929d0e0e4736 -X POST", "--method"),
            ("tramactl explain http://a/ --workload orders", "a SPIFFE id begins with spiffe://"),
            ("tramactl proxy drian x", "drain"),
            ("tramactl --server nowhere get route", "HOST:PORT"),
            ("tramactl --server-identity orders get route", "a SPIFFE id begins with spiffe://"),
        ] {
            assert!(told(line).contains(remedy), "{line}: {}", told(line));
        }
    }
}
