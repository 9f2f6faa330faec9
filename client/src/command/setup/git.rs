//! A credential helper of git for a host, in a section of the user's own configuration. An empty helper before it sets aside
//! those that git would ask first, and that would be told to store what this one gives.

use std::path::{Path, PathBuf};

use clap_complete::ArgValueCandidates;
use rolekeeper::protocol::Failure;

use super::How;
use super::block::{Block, Kind, Maker, Sections};
use super::file::Original;
use super::lines::{Lines, Wrong};
use super::plan::{Change, FileKind, Plan, refused, undone};
use super::program::{self, escaped};
use crate::command::iam::suggest;
use crate::command::lease;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The profile's name in the daemon's configuration
    #[arg(add = ArgValueCandidates::new(suggest::profiles), value_parser = program::profile)]
    pub(super) profile: String,
    /// The host of repositories, with its port if that is not 443; may be given again
    #[arg(long = "host", value_name = "HOST", value_parser = program::host, required_unless_present = "undo")]
    hosts: Vec<String>,
    /// The user name to give with the token
    #[arg(long, value_name = "NAME", value_parser = lease::username)]
    username: Option<String>,
    /// The file [default: $GIT_CONFIG_GLOBAL, else git's own of this user]
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) how: How,
}

const MAKER: Maker = Maker {
    tool: "git",
    option: "--host",
    is_optional: false,
    settings: &["helper"],
    kinds,
};

pub(super) fn plan(arguments: &Arguments, socket: Option<&str>) -> Result<Plan, Failure> {
    let Arguments {
        profile,
        hosts,
        username,
        file,
        how,
    } = arguments;
    let path = match file {
        Some(path) => path.clone(),
        None => default_file()?,
    };
    let original = Original::read(&path)?;
    let refuse = |wrong: Wrong| refused(&original.path, &wrong);
    let mut notes = Vec::new();
    let after = if how.undo {
        match without(original.content(), profile, hosts).map_err(refuse)? {
            Some(left) => undone(&original, left, |_| false, <[u8]>::is_empty),
            None => {
                notes = Sections::read(original.content(), MAKER)
                    .map_err(refuse)?
                    .commands();
                original.bytes.clone()
            }
        }
    } else {
        let program = program::name()?;
        let mut bytes = original.content().to_vec();
        for host in hosts {
            let body = body(&program, profile, host, username.as_deref(), socket);
            let sections = Sections::read(&bytes, MAKER).map_err(refuse)?;
            bytes = sections.with(profile, host, &body).map_err(refuse)?;
        }
        Some(bytes)
    };
    let host = hosts.first().map_or("HOST", String::as_str);
    let usage = format!("git ls-remote https://{host}/PATH/OF/REPOSITORY");
    Ok(Plan {
        changes: vec![Change {
            original,
            after,
            kind: FileKind::Configuration,
        }],
        usage,
        notes,
    })
}

/// The file without the entries of this profile for these hosts, or for all. None if there is no such entry.
fn without(bytes: &[u8], profile: &str, hosts: &[String]) -> Result<Option<Vec<u8>>, Wrong> {
    let is_meant = |block: &Block| {
        block.profile == profile && (hosts.is_empty() || hosts.contains(&block.entry))
    };
    let mut left = None;
    loop {
        let sections = Sections::read(left.as_deref().unwrap_or(bytes), MAKER)?;
        let Some(block) = sections.blocks.iter().find(|block| is_meant(block)) else {
            return Ok(left);
        };
        let next = sections.without(block)?;
        left = Some(next);
    }
}

/// As git finds it.
fn default_file() -> Result<PathBuf, Failure> {
    if let Some(path) = program::path_in("GIT_CONFIG_GLOBAL") {
        return Ok(path);
    }
    let own = program::at_home(".gitconfig")?;
    let shared = match program::path_in("XDG_CONFIG_HOME") {
        Some(folder) => folder.join("git/config"),
        None => program::at_home(".config/git/config")?,
    };
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    Ok(if !is_there(&own) && is_there(&shared) {
        shared
    } else {
        own
    })
}

fn body(
    program: &str,
    profile: &str,
    host: &str,
    username: Option<&str>,
    socket: Option<&str>,
) -> Vec<String> {
    let mut command = format!(
        "{} git-credential {profile} --host {host}",
        escaped(program)
    );
    for (option, value) in [("--username", username), ("--socket", socket)] {
        if let Some(value) = value {
            command += &format!(" {option} {}", escaped(value));
        }
    }
    let quoted = command.replace('\\', "\\\\").replace('"', "\\\"");
    vec![
        format!("[credential \"https://{host}\"]"),
        "\thelper =".into(),
        format!("\thelper = \"{quoted}\""),
    ]
}

/// By git's rules.
fn kinds(lines: &Lines<'_>) -> Result<Vec<Kind>, Wrong> {
    let mut kinds = Vec::with_capacity(lines.len());
    // Whether the last line goes on, and whether within quotes.
    let mut open = None;
    for (line, bytes) in lines.iter().enumerate() {
        let mut scanner = Scanner { rest: bytes };
        let kind = match open.take() {
            Some(in_quotes) => scanner.value(in_quotes).map(|more| (Kind::Setting, more)),
            None => scanner.line(),
        };
        let (kind, more) = kind.map_err(|why| Wrong::new(line + 1, why))?;
        open = more;
        kinds.push(kind);
    }
    match open {
        Some(_) => Err(Wrong::new(
            lines.len(),
            "this goes on in a next line, and there is none",
        )),
        None => Ok(kinds),
    }
}

struct Scanner<'a> {
    rest: &'a [u8],
}

/// Whether a value goes on in the next line, and whether within quotes.
type More = Option<bool>;

impl Scanner<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn skip(&mut self, is_skipped: impl Fn(u8) -> bool) {
        let end = self
            .rest
            .iter()
            .position(|&byte| !is_skipped(byte))
            .unwrap_or(self.rest.len());
        self.rest = self.rest.get(end..).unwrap_or_default();
    }

    /// A line that begins no sooner.
    fn line(&mut self) -> Result<(Kind, More), &'static str> {
        let mut kind = Kind::Nothing;
        loop {
            self.skip(is_space);
            match self.rest.first() {
                None | Some(b'#' | b';') => return Ok((kind, None)),
                Some(b'[') => {
                    self.next();
                    kind = Kind::Section(self.header()?);
                }
                Some(first) if first.is_ascii_alphabetic() => {
                    let kind = if kind == Kind::Nothing {
                        Kind::Setting
                    } else {
                        kind
                    };
                    return Ok((kind, self.setting()?));
                }
                Some(_) => return Err("this is neither a section nor a setting"),
            }
        }
    }

    fn header(&mut self) -> Result<String, &'static str> {
        let mut name = Vec::new();
        loop {
            match self.next() {
                Some(b']') => return Ok(String::from_utf8_lossy(&name).into_owned()),
                Some(byte) if is_space(byte) => break,
                Some(byte) if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.' => {
                    name.push(byte)
                }
                _ => return Err("the name of this section is none"),
            }
        }
        self.skip(is_space);
        if self.next() != Some(b'"') {
            return Err("the name of this section is none");
        }
        name.push(b' ');
        loop {
            match self.next() {
                None => return Err("the name of this section has no end"),
                Some(b'"') => break,
                Some(b'\\') => name.push(self.next().ok_or("the name of this section has no end")?),
                Some(byte) => name.push(byte),
            }
        }
        match self.next() {
            Some(b']') => Ok(String::from_utf8_lossy(&name).into_owned()),
            _ => Err("the name of this section has no end"),
        }
    }

    fn setting(&mut self) -> Result<More, &'static str> {
        self.skip(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        self.skip(|byte| byte == b' ' || byte == b'\t');
        match self.next() {
            None => Ok(None),
            Some(b'=') => self.value(false),
            Some(_) => Err("the name of this setting is none"),
        }
    }

    fn value(&mut self, mut in_quotes: bool) -> Result<More, &'static str> {
        while let Some(byte) = self.next() {
            match byte {
                b'#' | b';' if !in_quotes => return Ok(None),
                b'"' => in_quotes = !in_quotes,
                b'\\' => match self.next() {
                    None => return Ok(Some(in_quotes)),
                    Some(b't' | b'b' | b'n' | b'\\' | b'"') => {}
                    Some(_) => {
                        return Err("there is a backslash before what it does not stand before");
                    }
                },
                _ => {}
            }
        }
        if in_quotes {
            Err("a quote is open at the end of this line")
        } else {
            Ok(None)
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::setup::odd;
    use std::process::Command;

    fn with(bytes: &[u8], host: &str) -> Vec<u8> {
        let body = body("/opt/it's \"a\" $b/rolekeeper", "dev", host, None, None);
        Sections::read(bytes, MAKER)
            .unwrap()
            .with("dev", host, &body)
            .unwrap()
    }

    /// What git reads in a file. None if it refuses it.
    fn read_by_git(folder: &Path, bytes: &[u8]) -> Option<Vec<u8>> {
        let file = folder.join("config");
        std::fs::write(&file, bytes).unwrap();
        let mut git = Command::new("git");
        git.args(["config", "--list", "-z", "--file"])
            .arg(&file)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap());
        let run = git.output().unwrap();
        run.status.success().then_some(run.stdout)
    }

    #[test]
    fn what_was_put_in_and_taken_out_again_leaves_the_same_bytes() {
        let pieces: [&[u8]; 9] = [
            b"\n",
            b"; a comment\n",
            b"[user]\n\tname = \xffn\\\"e\\n\n",
            b"[core] bare = true # why\n",
            b"[alias]\n\tlong = \"a \\\n b\" \\\n  c\n",
            b"[credential \"https://g\\\"it]\"]\n\thelper = store\n",
            b"[a.b][c]\nx\n",
            b"[credential]\n\thelper =\n",
            b"# >>> rolekeeper setup git prod --host p >>>\n[credential \"https://p\"]\n\thelper =\n# <<< rolekeeper setup git prod --host p <<<\n",
        ];
        let mut changed = 0;
        for file in odd::files(&pieces) {
            if Sections::read(&file, MAKER).is_err() {
                continue;
            }
            let (one, both) = (with(&file, "a"), with(&with(&file, "a"), "b:1"));
            assert_eq!(with(&both, "a"), both);
            let hosts = |hosts: &[&str]| {
                hosts
                    .iter()
                    .map(|host| (*host).to_owned())
                    .collect::<Vec<_>>()
            };
            assert!(without(&both, "dev", &hosts(&["b:1"])).unwrap().unwrap() == one);
            let left = without(&both, "dev", &[]).unwrap().unwrap();
            assert!(
                left == file,
                "{:?} became {:?}",
                file.escape_ascii(),
                left.escape_ascii()
            );
            assert_eq!(without(&both, "prod", &hosts(&["a"])).unwrap(), None);
            changed += 1;
        }
        assert!(changed > 1000, "{changed}");
    }

    #[test]
    fn git_reads_the_same_as_before_and_our_helpers_and_what_git_refuses_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for text in [
            &b""[..],
            b"[user]\n\tname = \xe9 # x\n",
            b"[core] bare = true\r\n[x \"y\"]\r\n\tz\r\n",
            b"\xef\xbb\xbf[a.b][c]\nx",
            b"[alias]\n\tlong = \"a \\\n b\" \\\n  c",
            b"[x]\n\ty = a;b \"c;d\"\n",
            b"[credential \"https://a\"]\n\thelper = store\n\n\n",
            b"top = 1\n",
            b"[x]\n\ty = # >>> rolekeeper setup git dev --host a >>>\n",
        ] {
            let before = read_by_git(folder.path(), text).unwrap();
            let after = read_by_git(folder.path(), &with(text, "a")).unwrap();
            let ours: &[u8] = b"credential.https://a.helper\n\0credential.https://a.helper\n\
                /opt/it\\'s\\ \\\"a\\\"\\ \\$b/rolekeeper git-credential dev --host a\0";
            assert_eq!(
                after.escape_ascii().to_string(),
                [&before, ours].concat().escape_ascii().to_string()
            );
        }
        for (text, line) in [
            ("[user\n", 1),
            ("[x]\n\ty = \"open\n", 2),
            ("[x]\n\ty = \\q\n", 2),
            ("[x]\n\ty # none\n", 2),
            ("[x \"y]\n", 1),
            ("[x y]\n", 1),
            ("[x]\n=\n", 2),
            ("[x]\n\n1 = 2\n", 3),
            ("[x] y z\n", 1),
        ] {
            assert_eq!(read_by_git(folder.path(), text.as_bytes()), None, "{text}");
            assert_eq!(
                Sections::read(text.as_bytes(), MAKER).unwrap_err().line,
                line,
                "{text}"
            );
        }
        // A line that was to go on would swallow the first of ours.
        assert_eq!(
            Sections::read(b"[x]\n\ty = a\\", MAKER).unwrap_err().line,
            2
        );
    }

    #[test]
    fn a_setting_behind_ours_is_not_given_to_another_section() {
        let bytes = [
            with(b"[user]\n\tname = n\n", "a"),
            b"\tusername = me\n".to_vec(),
        ]
        .concat();
        assert_eq!(without(&bytes, "dev", &[]).unwrap_err().line, 8);
    }
}
