//! Finds the programs that tests start.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where programs may be that PATH does not name: a non-login shell has no sbin, and Go its own folder.
const MORE: &str = "/usr/sbin:/sbin:/usr/local/go/bin";

/// The program's path: the first that every user can run, else the first at all. What is installed in root's
/// home is of no use to a process with another uid.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(program.into()).filter(|path: &PathBuf| path.is_file());
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(MORE.split(':')).filter(|folder| !folder.is_empty());
    let found: Vec<PathBuf> = folders.map(|f| Path::new(f).join(program)).filter(|p| p.is_file()).collect();
    let for_all = found.iter().find(|path| is_open_to_all(path));
    for_all.or_else(|| found.first()).cloned()
}

/// A program of this workspace as the suites built it: it lies beside the folder of the running test.
pub fn built(name: &str) -> std::io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    let remedy = || std::io::Error::other(format!("{name} is not built: cargo build --workspace --bins"));
    found.ok_or_else(remedy)
}

/// A program that `cargo xtask test` has put into the user's cache, in the version that is pinned.
pub fn installed(name: &str, suite: &str) -> std::io::Result<PathBuf> {
    let path = cache().join("tools/bin").join(name);
    let remedy =
        || std::io::Error::other(format!("{name} is not installed: run `cargo xtask test {suite}` once"));
    Some(path).filter(|path| path.is_file()).ok_or_else(remedy)
}

/// The folder of the user's for what is made or installed once.
#[must_use]
pub fn cache() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    base.unwrap_or_else(std::env::temp_dir).join("trama")
}

/// The same command with its program's whole path, so that it starts wherever PATH does not name it.
#[must_use]
pub fn located(command: &Command) -> Command {
    let program = find(&command.get_program().to_string_lossy());
    let mut found = Command::new(program.unwrap_or_else(|| command.get_program().into()));
    found.args(command.get_args());
    copy_surroundings(command, &mut found);
    found
}

/// Gives a command the environment and the folder of another one.
pub(crate) fn copy_surroundings(from: &Command, to: &mut Command) {
    for (key, value) in from.get_envs() {
        match value {
            Some(value) => to.env(key, value),
            None => to.env_remove(key),
        };
    }
    if let Some(folder) = from.get_current_dir() {
        to.current_dir(folder);
    }
}

/// Whether any user can reach and run the file.
#[must_use]
pub fn is_open_to_all(path: &Path) -> bool {
    let runs = |p: &Path| p.metadata().is_ok_and(|m| m.permissions().mode() & 0o001 != 0);
    path.canonicalize().is_ok_and(|real| real.ancestors().all(runs))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_program_in_a_closed_folder_is_not_open_to_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!is_open_to_all(&file));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(is_open_to_all(&file));
        assert_eq!(find(file.to_str().unwrap()), Some(file));
        assert!(is_open_to_all(&find("sh").unwrap()));
        assert_eq!(find("no-such-program"), None);
    }
}
