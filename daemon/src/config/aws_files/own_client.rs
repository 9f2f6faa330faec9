//! A `credential_process` that is this project's own client: its section has no credentials of its own.

use std::path::{Path, PathBuf};

use rolekeeper::aws_file::split_words;

use crate::config::values::find_program;

/// The profile that the command asks this project for. The program is compared by its file, because links have other names.
pub(super) fn profile_of(command: &str) -> Option<String> {
    let words = split_words(command)?;
    let (program, arguments) = words.split_first()?;
    if !is_own_client(program) {
        return None;
    }

    let mut arguments = arguments.iter();
    arguments.find(|word| *word == "credential-process")?;
    arguments.next().cloned()
}

fn is_own_client(program: &str) -> bool {
    let path = match program.contains('/') {
        true => Some(PathBuf::from(program)),
        false => find_program(program),
    };
    let Some(file) = path.as_deref().and_then(file_id) else {
        return false;
    };

    let beside = std::env::current_exe().ok();
    let beside = beside.map(|path| path.with_file_name("rolekeeper"));
    let known = [beside, find_program("rolekeeper")].into_iter().flatten();

    known.filter_map(|path| file_id(&path)).any(|id| id == file)
}

#[cfg(unix)]
fn file_id(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = path.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn file_id(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()
}
