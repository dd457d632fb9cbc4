//! The identity's files, read again when they change. A new certificate that cannot be used leaves the old one in force.

use std::{sync::Arc, time::Duration};

use tokio::time;

use super::fingerprint::{Fingerprint, of};
use crate::tls::{Identity, IdentityFiles};

/// How often the files are looked at. Certificates are renewed hours before they end.
const LOOK: Duration = Duration::from_secs(1);

/// Watches for ever; `sink` gets each identity that can be used.
pub async fn watch_identity(files: IdentityFiles, first: Arc<Identity>, mut sink: impl FnMut(Arc<Identity>)) {
    let mut seen = look(&files);
    let mut revision = first.revision;
    loop {
        time::sleep(LOOK).await;
        let now = look(&files);
        if now == seen {
            continue;
        }
        seen = now;
        match Identity::load(&files, revision + 1) {
            Ok(identity) => {
                revision += 1;
                tracing::info!(id = %identity.id, not_after = identity.not_after, "a new identity in use");
                sink(Arc::new(identity));
            }
            // Three files change one after another: what does not fit together yet may fit at the next look.
            Err(error) => tracing::warn!(%error, "identity refused, the one before it stays"),
        }
    }
}

fn look(files: &IdentityFiles) -> [Option<Fingerprint>; 3] {
    [of(&files.certificate), of(&files.key), of(&files.bundle)]
}
