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
        if !old.contains(&name) && !name.starts_with(b"security.") {
            fremovexattr(to, name.as_slice())?;
        }
    }

    for name in old {
        let value = value(&from, &name)?;
        if !CALCULATED.contains(&name.as_slice())
            && self::value(to, &name).ok() != Some(value.clone())
        {
            fsetxattr(to, name.as_slice(), &value, XattrFlags::empty())?;
        }
    }

    copy_flags(&from, to)
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
