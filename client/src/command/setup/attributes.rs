//! What a file has besides content, owner and mode: access control lists, extended attributes and flags. A copy has the
//! same, or it is not made.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{
    IFlags, XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, ioctl_getflags,
    ioctl_setflags,
};
use rustix::io::Errno;

/// The maximum length of a value and of all names, in bytes.
const LONGEST: usize = 64 * 1024;

const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

/// The kernel calculates these from the content.
const CALCULATED: [&[u8]; 2] = [b"security.ima", b"security.evm"];

/// Flags that users set, and that a file can get after it has content.
const FLAGS: IFlags = IFlags::NOATIME
    .union(IFlags::NODUMP)
    .union(IFlags::SYNC)
    .union(IFlags::SECURE_REMOVAL)
    .union(IFlags::UNRM);

pub(super) fn copy(from: &Path, to: &File) -> io::Result<()> {
    let from = File::open(from)?;
    let old = names(&from)?;

    // The folder may have given a new file an access control list.
    for name in names(to)? {
        let is_users = name == ACCESS_LIST || name.starts_with(b"user.");
        if is_users && !old.contains(&name) {
            fremovexattr(to, name.as_slice()).map_err(|error| lost(&name, error))?;
        }
    }

    for name in old {
        let wanted = value(&from, &name)?;
        let is_calculated = CALCULATED.contains(&name.as_slice());
        if !is_calculated && value(to, &name).ok().as_ref() != Some(&wanted) {
            fsetxattr(to, name.as_slice(), &wanted, XattrFlags::empty())
                .map_err(|error| lost(&name, error))?;
        }
    }

    copy_flags(&from, to)
}

fn lost(name: &[u8], error: Errno) -> io::Error {
    let name = String::from_utf8_lossy(name);
    let error = io::Error::from(error);
    io::Error::other(format!("its attribute {name} cannot be kept: {error}"))
}

fn copy_flags(from: &File, to: &File) -> io::Result<()> {
    // Other file systems have no flags.
    let (Ok(old), Ok(new)) = (ioctl_getflags(from), ioctl_getflags(to)) else {
        return Ok(());
    };

    let wanted = new.difference(FLAGS) | (old & FLAGS);
    if wanted != new {
        ioctl_setflags(to, wanted)?;
    }

    Ok(())
}

fn names(file: &File) -> io::Result<Vec<Vec<u8>>> {
    let mut names = vec![0; LONGEST];
    let length = match flistxattr(file, names.as_mut_slice()) {
        Err(Errno::NOTSUP) => 0,
        length => length?,
    };

    names.truncate(length);
    let names = names.split(|&byte| byte == 0);

    Ok(names
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect())
}

fn value(file: &File, name: &[u8]) -> io::Result<Vec<u8>> {
    let mut value = vec![0; LONGEST];
    let length = fgetxattr(file, name, value.as_mut_slice())?;
    value.truncate(length);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// An access control list, version 2: owner and user 1 may read and write.
    fn access_list() -> Vec<u8> {
        let entry = |tag: u16, mode: u16, id: u32| {
            let mut bytes = tag.to_le_bytes().to_vec();
            bytes.extend(mode.to_le_bytes());
            bytes.extend(id.to_le_bytes());
            bytes
        };
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, mode, id) in [
            (1, 6, u32::MAX),
            (2, 6, 1),
            (4, 0, u32::MAX),
            (16, 6, u32::MAX),
            (32, 0, u32::MAX),
        ] {
            list.extend(entry(tag, mode, id));
        }

        list
    }

    #[test]
    fn a_copy_has_the_attributes_and_flags_of_the_original_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let none = XattrFlags::empty();
        let old = File::create(folder.path().join("old")).unwrap();
        old.set_permissions(fs::Permissions::from_mode(0o600))
            .unwrap();
        match fsetxattr(&old, "user.note", b"a", none) {
            // This file system has no attributes.
            Err(Errno::NOTSUP) => return,
            set => set.unwrap(),
        }
        let flags = ioctl_getflags(&old).ok();
        if let Some(flags) = flags {
            ioctl_setflags(&old, flags | IFlags::NODUMP).unwrap();
        }

        // Each new file in this folder has an access control list.
        let path = folder.path();
        rustix::fs::setxattr(path, "system.posix_acl_default", &access_list(), none).unwrap();
        let new = File::create(folder.path().join("new")).unwrap();
        fsetxattr(&new, "user.other", b"b", none).unwrap();
        assert!(value(&new, ACCESS_LIST).is_ok());

        copy(&folder.path().join("old"), &new).unwrap();

        assert_eq!(value(&new, b"user.note").unwrap(), b"a");
        assert!(value(&new, b"user.other").is_err());
        assert!(value(&new, ACCESS_LIST).is_err());
        if flags.is_some() {
            assert!(ioctl_getflags(&new).unwrap().contains(IFlags::NODUMP));
        }
    }

    #[test]
    fn a_copy_has_the_access_control_list_of_the_original() {
        let folder = tempfile::tempdir().unwrap();
        let old = File::create(folder.path().join("old")).unwrap();
        match fsetxattr(&old, ACCESS_LIST, &access_list(), XattrFlags::empty()) {
            // This file system has no access control lists.
            Err(Errno::NOTSUP) => return,
            set => set.unwrap(),
        }
        let new = File::create(folder.path().join("new")).unwrap();

        copy(&folder.path().join("old"), &new).unwrap();

        assert_eq!(value(&new, ACCESS_LIST).unwrap(), access_list());
    }
}
