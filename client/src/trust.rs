//! Who else can decide which file is at a path: the owners of the file, its folders and links, and those who can write there.
//! Root can do anything, so its files are trusted.

use std::path::Path;

/// Checks that only this user and root can replace a program.
///
/// # Errors
/// The reason, as the end of a sentence.
pub fn check_program(program: &Path) -> Result<(), String> {
    system::check_program(program)
}

/// Checks that only this user and root decide which file is at `path`, links included. Root may also use the files of one
/// other user, as with `sudo -E`, if everything on the path is that user's or root's.
///
/// # Errors
/// The reason, as the end of a sentence.
pub fn check_file(path: &Path) -> Result<(), String> {
    system::check_file(path)
}

#[cfg(unix)]
mod system {
    use std::fs::Metadata;
    use std::io;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Component, Path, PathBuf};

    use nix::unistd::{Group, User, geteuid};

    const STICKY: u32 = 0o1000;
    /// As the kernel's limit.
    const MAX_LINKS: usize = 40;

    pub(super) fn check_program(program: &Path) -> Result<(), String> {
        let user = geteuid().as_raw();
        let (program, meta) = resolve(program, user)?;
        let Some(meta) = meta else {
            return Err("it does not exist".into());
        };

        check_owner(&program, &meta, user)?;
        check_folder_of(&program, user)?;
        match others_can_write(&meta, user) {
            true => Err(writable(&program, &meta)),
            false => Ok(()),
        }
    }

    pub(super) fn check_file(path: &Path) -> Result<(), String> {
        let me = geteuid().as_raw();
        let user = match me {
            0 => owner_of_folder(path),
            me => me,
        };

        let (file, meta) = resolve(path, user)?;
        if let Some(meta) = meta {
            check_owner(&file, &meta, user)?;
        }
        check_folder_of(&file, user)
    }

    /// The owner of the folder that the path leads to, or of the nearest one above it that exists.
    fn owner_of_folder(path: &Path) -> u32 {
        let file = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut folders = file.ancestors().skip(1);
        let meta = folders.find_map(|folder| std::fs::metadata(folder).ok());

        meta.map_or(0, |meta| meta.uid())
    }

    /// The path without links, and the file, if it exists. Each folder and link on the way has to be the user's or root's.
    fn resolve(path: &Path, user: u32) -> Result<(PathBuf, Option<Metadata>), String> {
        let unreadable =
            |path: &Path, error: &io::Error| format!("cannot read {}: {error}", path.display());
        let path = std::path::absolute(path).map_err(|error| unreadable(path, &error))?;

        let mut rest: Vec<PathBuf> = reversed(&path);
        let mut here = PathBuf::new();
        let mut links = 0;
        while let Some(step) = rest.pop() {
            match step.components().next() {
                Some(Component::ParentDir) => {
                    here.pop();
                    continue;
                }
                Some(Component::CurDir) | None => continue,
                Some(_) => {}
            }

            let next = here.join(&step);
            let meta = match next.symlink_metadata() {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let missing = rest.iter().rev().fold(next, |path, step| path.join(step));
                    return Ok((missing, None));
                }
                Err(error) => return Err(unreadable(&next, &error)),
            };
            // The end of the path has its own checks.
            if !rest.is_empty() || meta.is_symlink() {
                check_owner(&next, &meta, user)?;
            }

            if meta.is_symlink() {
                links += 1;
                if links > MAX_LINKS {
                    return Err(format!("{} has too many links", path.display()));
                }
                let target = next
                    .read_link()
                    .map_err(|error| unreadable(&next, &error))?;
                rest.extend(reversed(&target));
                continue;
            }

            // In a sticky folder, only the owner of an entry can replace it.
            if meta.is_dir() && meta.mode() & STICKY == 0 && others_can_write(&meta, user) {
                return Err(writable(&next, &meta));
            }
            here = next;
        }

        let meta = here
            .symlink_metadata()
            .map_err(|error| unreadable(&here, &error))?;
        Ok((here, Some(meta)))
    }

    fn reversed(path: &Path) -> Vec<PathBuf> {
        let mut steps: Vec<_> = path
            .components()
            .map(|step| PathBuf::from(step.as_os_str()))
            .collect();
        steps.reverse();

        steps
    }

    /// The folder of a file, or the nearest one above it that exists. Nobody else may create files in it.
    fn check_folder_of(file: &Path, user: u32) -> Result<(), String> {
        let mut folders = file.ancestors().skip(1);
        let found = folders.find_map(|folder| Some((folder, folder.metadata().ok()?)));

        match found {
            Some((folder, meta)) if others_can_write(&meta, user) => Err(writable(folder, &meta)),
            _ => Ok(()),
        }
    }

    fn check_owner(path: &Path, meta: &Metadata, user: u32) -> Result<(), String> {
        if meta.uid() == user || meta.uid() == 0 {
            return Ok(());
        }

        let kind = if meta.is_symlink() { "the link " } else { "" };
        Err(format!(
            "{kind}{} belongs to user {}",
            path.display(),
            meta.uid()
        ))
    }

    fn writable(path: &Path, meta: &Metadata) -> String {
        let mode = meta.mode() & 0o7777;
        format!("other users can write {} (mode {mode:04o})", path.display())
    }

    /// Whether the mode lets others write than the user, root, and the groups that stand for them.
    fn others_can_write(meta: &Metadata, user: u32) -> bool {
        let group_can_write = meta.mode() & 0o020 != 0 && !is_own_group(meta.gid(), user);
        meta.mode() & 0o002 != 0 || group_can_write
    }

    /// Root's group, and the private group that many systems create for each user. On macOS, also the group of
    /// administrators, which Homebrew uses.
    fn is_own_group(group: u32, user: u32) -> bool {
        if group == 0 || (cfg!(target_os = "macos") && group == 80) {
            return true;
        }

        let name = User::from_uid(user.into())
            .ok()
            .flatten()
            .map(|user| user.name);
        let group = Group::from_gid(group.into()).ok().flatten();
        match (name, group) {
            (Some(name), Some(group)) => {
                group.name == name && group.mem.iter().all(|member| *member == name)
            }
            _ => false,
        }
    }
}

#[cfg(not(unix))]
mod system {
    use std::path::Path;

    pub(super) fn check_program(_: &Path) -> Result<(), String> {
        Ok(())
    }

    pub(super) fn check_file(_: &Path) -> Result<(), String> {
        Ok(())
    }
}
