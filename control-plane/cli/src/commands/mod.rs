//! The commands, a file for each.

pub(crate) mod apply;
pub(crate) mod completions;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod join_token;
pub(crate) mod proxy;
pub(crate) mod status;
pub(crate) mod trace;
pub(crate) mod validate;
pub(crate) mod watch;

use crate::{
    arguments::{Arguments, Command},
    exit::Exit,
    failure::Failure,
};

/// Does what was asked for.
pub(crate) async fn run(Arguments { global, command }: Arguments) -> Result<Exit, Failure> {
    match command {
        Command::Apply(apply) => apply.run(&global).await,
        Command::Get(get) => get.run(&global).await,
        Command::Describe(describe) => describe.run(&global).await,
        Command::Delete(delete) => delete.run(&global).await,
        Command::Validate(validate) => validate.run(&global).await,
        Command::Diff(diff) => diff.run(&global).await,
        Command::Watch(watch) => watch.run(&global).await,
        Command::Status(status) => status.run(&global).await,
        Command::Trace(trace) => trace.run(&global).await,
        Command::Explain(explain) => explain.run(&global).await,
        Command::Proxy(proxy) => proxy.run(&global).await,
        Command::JoinToken(join_token) => join_token.run(&global).await,
        Command::Completions(completions) => completions.run(),
    }
}
