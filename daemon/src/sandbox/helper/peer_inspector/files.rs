//! The files of programs, and whether their file systems can be believed.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatFs, StatxFlags, major, makedev, statx};

/// The type in statfs(2) of a file system that a process serves.
const FUSE: u64 = 0x6573_5546;

/// File systems without a device whose files change on this machine only: tmpfs, ramfs, btrfs, bcachefs, ZFS, overlayfs.
const LOCAL: [u64; 6] = [
    0x0102_1994,
    0x8584_58f6,
    0x9123_683e,
    0xca45_1a4e,
    0x2fc1_2fc1,
    0x794c_7630,
];

#[derive(Debug, Clone, Copy)]
pub(super) struct FileIdentity {
    /// Device and inode.
    pub(super) id: (u64, u64),
    pub(super) uid: u32,
    pub(super) mode: u32,
}

impl FileIdentity {
    /// The attributes that the kernel knows. Others could be asked of a file system that takes its time.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let stat = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::BASIC_STATS).ok()?;

        Some(Self {
            id: (
                makedev(stat.stx_dev_major, stat.stx_dev_minor),
                stat.stx_ino,
            ),
            uid: stat.stx_uid,
            mode: stat.stx_mode.into(),
        })
    }
}

/// Whether a file on this device is on a file system of this machine, as statfs(2) describes it. Of another, such as FUSE
/// or NFS, each reader can be shown other content.
#[allow(
    clippy::unnecessary_cast,
    clippy::cast_sign_loss,
    reason = "the field's type depends on the target"
)]
pub(super) fn is_local(found: &StatFs, device: u64) -> bool {
    is_local_type(found.f_type as u64 & 0xffff_ffff, device)
}

fn is_local_type(filesystem: u64, device: u64) -> bool {
    let has_device = major(device) != 0;
    filesystem != FUSE && (has_device || LOCAL.contains(&filesystem))
}

#[cfg(test)]
mod tests {
    use rustix::fs::statfs;

    use super::*;

    #[test]
    fn local_files_are_believed_and_served_ones_are_not() {
        for (path, want) in [("/proc/self/exe", true), ("/proc/self/status", false)] {
            let device = FileIdentity::at(Path::new(path)).unwrap().id.0;
            assert_eq!(is_local(&statfs(path).unwrap(), device), want, "{path}");
        }

        let disk = makedev(8, 1);
        let none = makedev(0, 40);
        let nfs = 0x6969;
        let ext4 = 0xef53;
        for (filesystem, device, want) in [
            (ext4, disk, true),
            (LOCAL[0], none, true),
            (FUSE, none, false),
            (FUSE, disk, false),
            (nfs, none, false),
        ] {
            assert_eq!(is_local_type(filesystem, device), want, "{filesystem:x}");
        }
    }
}
