//! Notices that a file is no longer at its path, or that it has changed.

use std::io;
use std::path::Path;

/// Waits for changes in the file's folder, and for the removal of that and of every folder above it.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(crate) struct FolderWatch(tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>);

#[cfg(target_os = "linux")]
impl FolderWatch {
    /// Must be called within the runtime.
    pub(crate) fn new(file: &Path) -> io::Result<Self> {
        use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

        let watch = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let removed = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        let entries = WatchFlags::DELETE | WatchFlags::MOVED_FROM;

        for (distance, folder) in file.ancestors().skip(1).enumerate() {
            let flags = if distance == 0 {
                removed | entries
            } else {
                removed
            };
            // A folder above may be closed to this user.
            if let Err(error) = add_watch(&watch, folder, flags)
                && distance == 0
            {
                return Err(error.into());
            }
        }

        Ok(Self(super::descriptors::register(watch)?))
    }

    /// Waits for changes in the folders of these files. Folders that do not exist are left out. Must be called within the
    /// runtime.
    pub(crate) fn of_changes(files: &[std::path::PathBuf]) -> io::Result<Self> {
        use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

        let watch = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let changes = WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO;
        for folder in files.iter().filter_map(|file| file.parent()) {
            match add_watch(&watch, folder, changes) {
                Ok(_) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }

        Ok(Self(super::descriptors::register(watch)?))
    }

    /// Returns after something has changed, which need not be the file.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        let mut events = [0; 4096];
        while rustix::io::read(&self.0, &mut events).is_ok() {}
        ready.clear_ready();

        Ok(())
    }
}

/// Other systems do not say.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(crate) struct FolderWatch;

#[cfg(not(target_os = "linux"))]
impl FolderWatch {
    pub(crate) fn new(_file: &Path) -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) fn of_changes(_files: &[std::path::PathBuf]) -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) async fn changed(&self) -> io::Result<()> {
        std::future::pending().await
    }
}
