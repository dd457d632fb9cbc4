//! Finds the programs that tests start.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

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
