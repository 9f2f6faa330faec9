//! Which of a peer and its parents asked, and how a user reads that.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rolekeeper::text;

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

/// Names of programs that run scripts, without a version.
const INTERPRETERS: &[&str] = &[
    "awk", "bun", "deno", "gawk", "guile", "java", "julia", "lua", "luajit", "mawk", "node",
    "nodejs", "perl", "php", "pwsh", "pypy", "python", "R", "raku", "Rscript", "ruby", "tclsh",
    "wish",
];

/// Whether a program runs scripts. The kernel does not report which one, and the arguments are the
/// process's own claim.
pub(crate) fn is_interpreter(program: &str) -> bool {
    let path = program.trim_end_matches(" (deleted)");
    let name = path.rsplit('/').next().unwrap_or(path);
    let name = name.trim_end_matches(|each: char| each.is_ascii_digit() || "._-".contains(each));

    INTERPRETERS.contains(&name)
}

/// Device and inode of the file at a path.
pub(crate) fn file_id(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// A program's path, which cannot pass for another part of the sentence. The path is the one that the process sees; a note says if another file is at that path here.
fn display_path(program: &Program) -> String {
    let path = text::display_path(&program.process.program);

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
    fn interpreter_is_recognized_with_and_without_version() {
        for interpreter in [
            "/usr/bin/python3.11",
            "/x/node",
            "/usr/bin/perl5.36.0",
            "ruby (deleted)",
        ] {
            assert!(is_interpreter(interpreter), "{interpreter}");
        }
        for other in [
            "/usr/bin/aws",
            "/usr/bin/python3-config",
            "/node/x",
            "?",
            "",
        ] {
            assert!(!is_interpreter(other), "{other}");
        }
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
