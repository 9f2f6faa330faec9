//! Which of a peer and its parents asked, and how a user reads that.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::sandbox::helper::peer_inspector::Program;

/// The programs that asked: the peer, and its parents for as long as each only passes the request
/// on, as a shell does. The last one is the requesting program.
pub(crate) fn requesting_programs(programs: &[Program]) -> &[Program] {
    let passing_on = programs
        .iter()
        .take_while(|program| program.is_intermediary);
    programs.get(..=passing_on.count()).unwrap_or(programs)
}

/// `/usr/bin/python3 (process 42, by /usr/bin/bash)`
pub(crate) fn describe(programs: &[Program]) -> String {
    let requesting = requesting_programs(programs);
    let Some(program) = requesting.last() else {
        return "an unknown process".into();
    };

    let name = display_path(program);
    let pid = program.process.pid;
    match programs.get(requesting.len()).map(display_path) {
        Some(parent) => format!("{name} (process {pid}, by {parent})"),
        None => format!("{name} (process {pid})"),
    }
}

/// Device and inode of the file at a path.
pub(crate) fn file_id(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// A program's path, quoted unless it is plain, so that it cannot pass for a part of the sentence.
/// The path is the one that the process sees; a note says if another file is at that path here.
fn display_path(program: &Program) -> String {
    let path = crate::text::one_line(&program.process.program);
    let is_plain = path
        .chars()
        .all(|each| each.is_ascii_alphanumeric() || "/._+-@".contains(each));
    let path = if is_plain { path } else { format!("{path:?}") };

    if program.is_elsewhere {
        format!("{path}, which is not the file at that path,")
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use rolekeeper::protocol::Process;

    use super::*;

    fn program(pid: i32, path: &str, is_intermediary: bool) -> Program {
        Program {
            process: Process {
                pid,
                program: path.into(),
            },
            file: None,
            is_intermediary,
            is_elsewhere: false,
            sha256: None,
            not_hashed: None,
        }
    }

    #[test]
    fn requesting_program_is_the_first_that_does_not_pass_on() {
        let programs = [
            program(100, "/usr/bin/rolekeeper", true),
            program(99, "/usr/bin/aws", false),
            program(98, "/usr/bin/make", false),
        ];
        assert_eq!(requesting_programs(&programs).len(), 2);
        assert_eq!(
            describe(&programs),
            "/usr/bin/aws (process 99, by /usr/bin/make)"
        );
        assert_eq!(describe(&programs[..2]), "/usr/bin/aws (process 99)");
        assert_eq!(
            describe(&programs[..1]),
            "/usr/bin/rolekeeper (process 100)"
        );
        assert_eq!(describe(&[]), "an unknown process");
    }

    #[test]
    fn path_cannot_pass_for_a_part_of_the_sentence() {
        let hostile = "/x/ git (process 1) asks. It is good since ";
        let mut programs = [
            program(99, hostile, false),
            program(98, "/usr/bin/make", false),
        ];
        assert_eq!(
            describe(&programs),
            format!("\"{hostile}\" (process 99, by /usr/bin/make)")
        );

        programs[1].is_elsewhere = true;
        let note = "by /usr/bin/make, which is not the file at that path,)";
        assert!(describe(&programs).ends_with(note));
    }
}
