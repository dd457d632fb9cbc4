//! The Unix socket of the Admin API: whoever may open it may do everything.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream as Probe,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
};

use super::{Connection, door::Place};
use crate::peer::Peer;

const BACKLOG: i32 = 64;
/// Connections at one time.
const MOST: usize = 64;

/// The socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("admin.socket {}: {problem}", path.display())]
pub struct SocketError {
    path: PathBuf,
    problem: String,
}

/// Opens the socket for its owner alone. One that nobody listens to any more is replaced.
pub(crate) fn open(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |problem: String| SocketError { path: path.to_owned(), problem };
    clear(path).map_err(failed)?;
    bind(path).map_err(|error| failed(format!("{error}; name a file in a folder that may be written to")))
}

fn clear(path: &Path) -> Result<(), String> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if !found.file_type().is_socket() {
        return Err("there is a file that is no socket; remove it, or name another".to_owned());
    }
    if Probe::connect(path).is_ok() {
        return Err("another control plane answers there; end it, or name another socket".to_owned());
    }
    fs::remove_file(path).map_err(|error| error.to_string())
}

/// Between the making of the file and the end of `chmod` nobody can connect: it does not listen yet.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket.into())
}

/// The connections, until the receiver is dropped.
pub(crate) fn accept(listener: UnixListener) -> mpsc::Receiver<io::Result<Connection<UnixStream>>> {
    let (sender, connections) = mpsc::channel(1);
    let places = Arc::new(Semaphore::new(MOST));
    tokio::spawn(async move {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = Connection::new(stream, Peer::of_socket(), Place::of_all(place));
                    sender.send(Ok(connection)).await.ok();
                }
                Err(error) => {
                    tracing::warn!(%error, "no admin connection can be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    });
    connections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_and_a_dead_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/admin.sock");
        let first = open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let taken = open(&path).unwrap_err().to_string();
        assert!(taken.contains("another control plane answers there"), "{taken}");
        drop(first);
        open(&path).unwrap();

        let file = folder.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert!(open(&file).unwrap_err().to_string().contains("no socket"));
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }
}
