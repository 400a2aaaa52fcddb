//! The operators' socket: a file that only its owner and its group may write to.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::api::Ask;
use super::connections::{self, Bounds};
use super::descriptors;
use super::operators::{DIFF_BYTES_MAX, on_socket};

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process listens there.
    #[error("another process listens on {0}")]
    InUse(PathBuf),
    /// Something is there that is no socket.
    #[error("{0} is there and is no socket")]
    NoSocket(PathBuf),
    /// The system does not give it.
    #[error("cannot make the socket {path}")]
    System {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// The socket's file; dropped, it is taken away.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(%error, "the socket was not there any more");
        }
    }
}

/// Makes the socket now and serves it until `stop`.
///
/// # Errors
/// When it cannot be had. A socket that nobody listens on is replaced.
pub fn serve_socket(
    path: &Path,
    asks: mpsc::Sender<Ask>,
    stop: CancellationToken,
) -> Result<(SocketFile, impl Future<Output = ()> + Send + use<>), SocketError> {
    let listener = bind(path)?;
    let bounds = Bounds {
        body_bytes: DIFF_BYTES_MAX,
        ..Bounds::for_connections(descriptors::shares().1)
    };
    let server = connections::serve(
        "the operators' socket",
        listener,
        on_socket(asks),
        bounds,
        stop,
    );
    Ok((SocketFile(path.to_owned()), server))
}

fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::System {
        path: path.to_owned(),
        source,
    };
    // The folder of a path that is a name alone is empty: where we are.
    let missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    if let Some(folder) = path.parent().filter(missing) {
        let made = fs::DirBuilder::new().mode(0o750).create(folder);
        made.map_err(failed)?;
    }
    remove_stale(path)?;
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

/// What an instance that was killed left behind.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::System {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NoSocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/p.sock");
        let first = bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert!(matches!(bind(&path), Err(SocketError::InUse(_))));
        drop(first);
        assert!(path.exists(), "left behind, as by a kill");
        drop(bind(&path).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        assert!(matches!(bind(&path), Err(SocketError::NoSocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        let deep = folder.path().join("no/such/p.sock");
        assert!(matches!(bind(&deep), Err(SocketError::System { .. })));
    }
}
