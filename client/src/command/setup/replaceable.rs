//! Whether a rename can replace a file. This is known before anything is done.

use std::io;
use std::path::Path;

use rolekeeper::protocol::{Code, Failure};
use rolekeeper::shell::quoted_path;

const OTHER_FILE: &str = "name another file with --file, or change the file where it comes from";

/// Whether a hint may change it.
#[cfg(target_os = "linux")]
fn is_own(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let me = rustix::process::geteuid().as_raw();
    std::fs::metadata(path).is_ok_and(|metadata| metadata.uid() == me)
}

/// A file with its own mount cannot be replaced, and one that is immutable or append-only must not be.
#[cfg(target_os = "linux")]
pub(super) fn check_attributes(path: &Path) -> Result<(), Failure> {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

    let attributes = |path: &Path| {
        let found = statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS);
        // A kernel without statx has none of these attributes in it.
        found.map_or(StatxAttributes::empty(), |found| found.stx_attributes)
    };

    let refused = |reason: &str, hint: String| {
        let message = format!("cannot change {}: {reason}", path.display());
        Err(Failure::new(Code::Configuration, message, hint))
    };

    if attributes(path).contains(StatxAttributes::MOUNT_ROOT) {
        let hint = "mount the folder of the file instead of the file, or run the command where the file is not a mount";
        return refused(
            "it is a mount of its own, which cannot be replaced",
            hint.into(),
        );
    }

    let folder = path.parent().unwrap_or(path);
    let fixed = [
        (StatxAttributes::IMMUTABLE, "immutable", "i"),
        (StatxAttributes::APPEND, "append-only", "a"),
    ];
    for (attribute, name, letter) in fixed {
        for place in [path, folder] {
            if attributes(place).contains(attribute) {
                let hint = match is_own(place) {
                    true => format!("run chattr -{letter} {} as root", quoted_path(place)),
                    false => OTHER_FILE.into(),
                };
                return refused(&format!("{} is {name}", place.display()), hint);
            }
        }
    }

    Ok(())
}

/// The user can create files in the folder, or in the one where it is going to be created.
#[cfg(unix)]
pub(super) fn check_folder(path: &Path) -> Result<(), Failure> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};

    let folder = path.ancestors().skip(1).find(|folder| folder.exists());
    let folder = folder.unwrap_or(Path::new("/"));
    let access = Access::WRITE_OK | Access::EXEC_OK;

    accessat(CWD, folder, access, AtFlags::EACCESS).map_err(|error| {
        let error = io::Error::from(error);
        let folder = folder.display();
        let message = format!(
            "cannot change {}: its folder {folder} is not writable: {error}",
            path.display()
        );
        Failure::new(Code::Configuration, message, OTHER_FILE)
    })
}
