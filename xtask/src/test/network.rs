//! The network that the tests have: as root none but loopback, so that a test which needs more fails here, and not on the
//! machine of whoever has no internet.
//!
//! A namespace of its own costs a suite some milliseconds. Other users have to have one made for them, and go without: a
//! user namespace would give them one and call them root, which is another lie.

use std::process::Command;

use crate::tools;

/// Which network a suite's tests have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// Loopback alone.
    Own,
    /// All that the machine has.
    Machine,
}

impl Network {
    /// What can be had here. Root may still lack the right to make namespaces, in a container.
    pub(crate) fn available() -> Self {
        let permitted = || own(&Command::new("true")).output().is_ok_and(|output| output.status.success());
        if tools::is_root() && permitted() { Self::Own } else { Self::Machine }
    }

    pub(crate) const fn describe(self) -> &'static str {
        match self {
            Self::Own => "the tests have a network of their own, which leads nowhere",
            Self::Machine => {
                "the tests have the machine's network; as root they would have one that leads nowhere"
            }
        }
    }

    /// The command, as it is to be started.
    pub(crate) fn around(self, command: Command) -> Command {
        match self {
            Self::Own => own(&command),
            Self::Machine => command,
        }
    }
}

/// In a network namespace of its own, with loopback up.
fn own(command: &Command) -> Command {
    let mut outer = Command::new("unshare");
    outer.args(["--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    outer.arg(command.get_program()).args(command.get_args());
    tools::with_path(&mut outer);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    outer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_root_may_make_one_nothing_but_loopback_is_there() {
        let mut links = Command::new("cat");
        links.arg("/proc/net/dev");
        let network = Network::available();
        let output = network.around(links).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("lo:"), "{text}");
        // Two lines of titles and one of `lo`.
        assert!(network == Network::Machine || text.lines().count() == 3, "{text}");
    }
}
