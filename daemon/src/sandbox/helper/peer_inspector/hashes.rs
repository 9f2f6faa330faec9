//! SHA-256 of programs, cached by the identity of their files.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use ring::digest::{Context, SHA256};
use rustix::fs::fstatfs;

use super::files::is_local;
use super::inspection::NotHashed;
use super::procfs::exe;

/// The largest program that is hashed, in bytes.
const MAX_SIZE: u64 = 512 * 1024 * 1024;

/// The most hashes that are cached.
const CAPACITY: usize = 256;

#[derive(Default)]
pub(super) struct Hashes(HashMap<FileVersion, [u8; 32]>);

/// A process cannot set the change time of a file.
#[derive(PartialEq, Eq, Hash)]
struct FileVersion {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Hashes {
    /// The hash of the program that a process runs.
    pub(super) fn of_process(&mut self, pid: i32) -> Result<[u8; 32], NotHashed> {
        let mut file = File::open(exe(pid)).map_err(|_| NotHashed::Unreadable)?;
        let meta = file.metadata().map_err(|_| NotHashed::Unreadable)?;
        let is_local = fstatfs(&file).is_ok_and(|found| is_local(&found, meta.dev()));
        if !meta.is_file() || !is_local {
            return Err(NotHashed::FileSystem);
        }
        if meta.len() > MAX_SIZE {
            return Err(NotHashed::TooLarge);
        }

        let version = FileVersion {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        };

        if let Some(hash) = self.0.get(&version) {
            return Ok(*hash);
        }

        let hash = hash(&mut file).map_err(|_| NotHashed::Unreadable)?;
        if self.0.len() >= CAPACITY {
            self.0.clear();
        }

        self.0.insert(version, hash);

        Ok(hash)
    }
}

fn hash(file: &mut File) -> io::Result<[u8; 32]> {
    let mut context = Context::new(&SHA256);
    let mut chunk = vec![0; 256 * 1024];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            length => context.update(chunk.get(..length).unwrap_or_default()),
        }
    }

    let digest = context.finish();

    digest.as_ref().try_into().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_hashed_once() {
        let me = i32::try_from(std::process::id()).unwrap();
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let mut digest = Context::new(&SHA256);
        digest.update(&program);

        let mut hashes = Hashes::default();
        let first = hashes.of_process(me).unwrap();
        assert_eq!(first, digest.finish().as_ref());
        assert_eq!((hashes.of_process(me), hashes.0.len()), (Ok(first), 1));
    }
}
