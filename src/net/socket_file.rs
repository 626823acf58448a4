//! The file by which a unix socket is found: whose it is, and when it goes.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{self, Path, PathBuf},
    time::Duration,
};

use async_io::Timer;
use socket2::{Domain, SockAddr, Socket, Type};

/// How often, and after which pause, another attempt is made while another process replaces a file in the folder.
const LOCK_ATTEMPTS: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The file of a socket of ours. Dropped, it is removed, unless another one has taken its place. To be dropped before the
/// socket: as long as that is open, no other file gets the same number.
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// The device, and the number of the file on it.
type Identity = (u64, u64);

impl SocketFile {
    /// Binds the socket to this path. A file that no socket is bound to any more is replaced, if that is allowed.
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

/// Keeps other servers of this crate from replacing a file in the same folder. Programs that do not ask for the lock can
/// still do so. Where the folder cannot be locked, nothing is kept from anything.
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

/// Removes the file of a socket that is gone, or gives back the error.
fn remove_abandoned(path: &Path, in_use: io::Error) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(in_use),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    // A stream is refused both where no socket is bound to the file, and where one is that does not listen yet. A
    // datagram tells them apart: to a socket of another type that is there, it is the wrong type. The stream is tried
    // as well, for systems that answer otherwise.
    for r#type in [Type::DGRAM, Type::STREAM] {
        let probe = Socket::new(Domain::UNIX, r#type, None)?;
        // A listener whose queue is full must not hold us up.
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
