//! The file of a unix socket: ownership, replacement, removal.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{self, Path, PathBuf},
    time::Duration,
};

use async_io::Timer;
use socket2::{Domain, SockAddr, Socket, Type};

/// The number of attempts, and the pause between them, while another process replaces a file in the folder.
const LOCK_ATTEMPTS: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The file of one of our sockets. Dropping this removes the file, unless another file has taken its place. It must be
/// dropped before the socket: while the socket is open, no other file gets the same inode number.
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// The device and inode numbers of a file.
type Identity = (u64, u64);

impl SocketFile {
    /// Binds the socket to this path. If `replace` is set, replaces a file that no socket is bound to any more.
    pub(super) async fn bind(socket: &Socket, path: &Path, replace: bool) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        match socket.bind(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && replace => {
                let lock = lock_folder(path).await?;
                remove_abandoned(path, error)?;
                socket.bind(&address)?;
                drop(lock);
            }
            bound => bound?,
        }
        Ok(Self { path: path::absolute(path)?, identity: identity(path)? })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn remove(&self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Keeps other servers of this crate from replacing a file in the same folder. Programs that do not take the lock still
/// can. If the folder cannot be locked, there is no protection.
async fn lock_folder(path: &Path) -> io::Result<Option<File>> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let Ok(folder) = File::open(folder) else { return Ok(None) };
    for _ in 0..LOCK_ATTEMPTS {
        match folder.try_lock() {
            Ok(()) => return Ok(Some(folder)),
            Err(TryLockError::WouldBlock) => Timer::after(LOCK_PAUSE).await,
            Err(TryLockError::Error(_)) => return Ok(None),
        };
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        "another process keeps the folder of the abandoned socket locked",
    ))
}

/// Removes the file of a socket that is gone, or returns `in_use`.
fn remove_abandoned(path: &Path, in_use: io::Error) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(in_use),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    // A stream connection is refused both if no socket is bound to the file and if the bound socket does not listen
    // yet. A datagram socket tells these apart: a bound stream socket is of the wrong type for it. The stream is tried
    // as well, for systems that answer differently.
    for r#type in [Type::DGRAM, Type::STREAM] {
        let probe = Socket::new(Domain::UNIX, r#type, None)?;
        // A listener whose queue is full must not block this call.
        probe.set_nonblocking(true)?;
        match probe.connect(&SockAddr::unix(path)?) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            _ => return Err(in_use),
        }
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
