//! The reference of `tramactl` is that of its command line. `cargo xtask reference` writes it anew.

use std::fmt::Write;

use clap::{Arg, Command};
use trama_cli::Exit;

use crate::reference::published;

const PAGE: &str = "\
# Commands of tramactl

<!-- Written by `cargo xtask reference` from the command line itself. -->

Every command with its options; [tramactl](../tramactl.md) says what they are for. `--help` tells the same.

## Exit codes

| Code | Meaning |
|---|---|
";

const GLOBAL: &str = "
## Global options

Each command takes them. What the command line says comes before the environment variable.
";

fn page() -> String {
    let mut page = PAGE.to_owned();
    for exit in Exit::ALL {
        let _ = writeln!(page, "| {} | {} |", exit.code(), exit.meaning());
    }
    page += GLOBAL;
    let mut tree = trama_cli::command();
    tree.build();
    let global: Vec<_> = tree.get_arguments().filter(|argument| argument.is_global_set()).collect();
    options(&mut page, global.iter().copied());
    for command in tree.get_subcommands() {
        describe(&mut page, command, "tramactl", 2);
    }
    page
}

fn describe(page: &mut String, command: &Command, parent: &str, depth: usize) {
    let name = format!("{parent} {}", command.get_name());
    // What clap adds by itself tells nothing of ours.
    if command.get_name() == "help" {
        return;
    }
    let about =
        command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string).unwrap_or_default();
    let about = about.trim_end().trim_end_matches('.');
    let _ = writeln!(page, "\n{} {name}\n\n{about}.", "#".repeat(depth));
    let (subcommands, own): (Vec<_>, Vec<_>) = (
        command.get_subcommands().collect(),
        command.get_arguments().filter(|argument| is_own(argument)).collect(),
    );
    if subcommands.is_empty() {
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").lines().map(str::trim).collect::<Vec<_>>().join("\n");
        let _ = writeln!(page, "\n```text\n{usage}\n```");
    }
    if !own.is_empty() {
        options(page, own.into_iter());
    }
    for subcommand in subcommands {
        describe(page, subcommand, &name, depth + 1);
    }
}

fn is_own(argument: &Arg) -> bool {
    !argument.is_global_set() && !["help", "version"].contains(&argument.get_id().as_str())
}

fn options<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let _ = writeln!(page, "\n| Option | Variable | Default | Meaning |\n|---|---|---|---|");
    for argument in arguments.filter(|argument| !argument.is_hide_set()) {
        let variable = argument.get_env().map(|name| format!("`{}`", name.to_string_lossy()));
        let takes = argument.get_action().takes_values();
        let defaults = argument.get_default_values().iter().filter(|_| takes);
        let defaults = defaults.map(|value| format!("`{}`", value.to_string_lossy()));
        let help = argument.get_long_help().or_else(|| argument.get_help()).map(ToString::to_string);
        // clap takes the full stop away.
        let mut meaning = format!("{}.", help.unwrap_or_default().replace('\n', " ").trim_end_matches('.'));
        let values = argument.get_possible_values();
        let values: Vec<_> = values
            .iter()
            .filter(|value| takes && !value.is_hide_set())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if !values.is_empty() {
            meaning = format!("{meaning} One of {}.", values.join(", "));
        }
        let cells =
            [spelt(argument), variable.unwrap_or_default(), defaults.collect::<Vec<_>>().join(", "), meaning];
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        let _ = writeln!(page, "| {} |", cells.join(" | "));
    }
}

/// `` `-f`, `--file FILE` ``
fn spelt(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let value = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let value = match argument.get_action().takes_values() {
        true if argument.is_require_equals_set() => format!("[={value}]"),
        true => format!(" {value}"),
        false => String::new(),
    };
    let short = argument.get_short().map(|short| format!("`-{short}`, "));
    match argument.get_long() {
        Some(long) => format!("{}`--{long}{value}`", short.unwrap_or_default()),
        None => format!("`{}`", value.trim()),
    }
}

#[test]
fn the_published_reference_of_commands_is_the_present_one() {
    published("commands.md", &page());
}

/// A command without words would be a heading over nothing.
#[test]
fn every_command_and_every_option_says_what_it_is_for() {
    fn each(command: &Command, silent: &mut Vec<String>) {
        let arguments = command.get_arguments().filter(|argument| argument.get_help().is_none());
        silent.extend(arguments.map(|argument| format!("{} {}", command.get_name(), argument.get_id())));
        if command.get_about().is_none() {
            silent.push(command.get_name().to_owned());
        }
        command.get_subcommands().for_each(|subcommand| each(subcommand, silent));
    }
    let mut silent = Vec::new();
    each(&trama_cli::command(), &mut silent);
    assert!(silent.is_empty(), "{silent:?}");
}
