//! Programs of `tests/peers` that are made of other people's Go modules. They are built here, where modules may be downloaded,
//! and not by the tests, which have no network. Their own `go.sum` pins each module.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};
use crate::process;

use super::go;

/// Such a program, by its folder in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer(pub(super) &'static str);

impl Peer {
    /// Builds it into `folder`.
    pub(super) fn install(self, name: &str, folder: &Path) -> Result<()> {
        eprintln!("building {name} into {} (once; a minute; it takes Go 1.24 or newer)", folder.display());
        let variables = format!("-s -w -X main.version={}", self.version()?);
        go::build(name, &self.source(), ".", &variables, folder)
    }

    /// Another one for each source.
    pub(super) fn version(self) -> Result<String> {
        let folder = self.source();
        let entries = fs::read_dir(&folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        let mut files: Vec<_> =
            entries.map_err(Error::file("read", &folder))?.iter().map(fs::DirEntry::path).collect();
        files.sort();
        let mut hasher = DefaultHasher::new();
        for file in files {
            let text = fs::read(&file).map_err(Error::file("read", &file))?;
            (file.file_name(), text).hash(&mut hasher);
        }
        Ok(format!("{:016x}", hasher.finish()))
    }

    fn source(self) -> PathBuf {
        process::root().join(self.0)
    }
}
