//! Secrets at rest: AES-256-GCM under a key that is not in the store.

use std::{
    fmt::{self, Debug, Formatter},
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};

use super::IdentityError;

/// The length of the key, in bytes.
const LENGTH: usize = 32;

/// Opens and closes what is kept secret.
pub struct SealingKey(RandomizedNonceKey);

impl SealingKey {
    /// Takes 32 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, IdentityError> {
        let wrong =
            |_| IdentityError::Sealed(format!("a sealing key has {LENGTH} bytes, this one {}", bytes.len()));
        Ok(Self(RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(wrong)?))
    }

    /// Reads the key from a file that nobody else may read; makes one if there is none.
    pub fn from_file(path: &Path) -> Result<Self, IdentityError> {
        let wrong = |problem: String| IdentityError::SealingKey { path: path.to_owned(), problem };
        let bytes = read_or_make(path).map_err(|error| wrong(error.to_string()))?;
        Self::new(&bytes).map_err(|_| {
            wrong(format!("{} bytes, not {LENGTH}; restore the key, or remove it for a new one", bytes.len()))
        })
    }

    /// Closes a secret. `name` says what it is, so that one sealed secret cannot be put in another's place.
    pub(super) fn seal(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, IdentityError> {
        let mut sealed = secret.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut sealed);
        let nonce = nonce.map_err(|_| IdentityError::Signing("sealing failed".to_owned()))?;
        sealed.extend_from_slice(nonce.as_ref());
        Ok(sealed)
    }

    /// Opens a secret.
    pub(super) fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, IdentityError> {
        let wrong = || IdentityError::Sealed(format!("{name} was sealed with another key or is damaged"));
        let (sealed, nonce) = sealed.split_last_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut secret = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length =
            self.0.open_in_place(nonce, Aad::from(name.as_bytes()), &mut secret).map_err(|_| wrong())?.len();
        secret.truncate(length);
        Ok(secret)
    }
}

impl Debug for SealingKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey")
    }
}

fn read_or_make(path: &Path) -> io::Result<Vec<u8>> {
    if !path.try_exists()? {
        make(path)?;
    }
    let found = fs::metadata(path)?;
    let mode = found.mode() & 0o777;
    if mode & forbidden(found.uid(), rustix::process::geteuid().as_raw()) != 0 {
        let problem = format!("others may read it (mode {mode:o}); run `chmod 600` on it");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    }
    fs::read(path)
}

/// Which bits of a key's mode open it to others. A Secret of Kubernetes is root's, and a process that is not root can read
/// it as the pod's group only.
const fn forbidden(owner: u32, own: u32) -> u32 {
    if owner == 0 && own != 0 { 0o037 } else { 0o077 }
}

/// The file gets its name when it is whole: nobody reads half a key, and of two who make one the first wins.
fn make(path: &Path) -> io::Result<()> {
    let mut bytes = [0; LENGTH];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("no random numbers"))?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let unfinished = path.with_extension(format!("new-{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    let named = fs::hard_link(&unfinished, path);
    fs::remove_file(&unfinished)?;
    match named {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        named => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_read_what_is_roots_and_nobody_else_may() {
        let (root, own) = (0, 1000);
        for (mode, owner, open) in [
            (0o440, root, false),
            (0o640, root, false),
            (0o460, root, true),
            (0o444, root, true),
            (0o600, own, false),
            (0o440, own, true),
        ] {
            assert_eq!(mode & forbidden(owner, own) != 0, open, "{mode:o} of {owner}");
        }
        assert_eq!(forbidden(root, root), 0o077);
    }
}
