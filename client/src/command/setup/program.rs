//! How other tools are to start this program, and where their files are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, is_name};

use crate::command::address::Host;
use crate::command::printable;

/// This program as other tools are to name it: by every name on `PATH` that leads to it, which an upgrade does not change,
/// and then by its own path.
pub(super) fn names() -> Result<Vec<String>, Failure> {
    let lost = || {
        Failure::new(
            Code::Unexpected,
            "it cannot be found out where this program is",
            "start it once more, by its whole path",
        )
    };
    let itself = std::env::current_exe()
        .and_then(|path| path.canonicalize())
        .map_err(|_| lost())?;
    let mut paths: Vec<PathBuf> = search_path()
        .into_iter()
        .map(|folder| folder.join("rolekeeper"))
        .filter(|path| path.canonicalize().is_ok_and(|path| path == itself))
        .collect();
    paths.push(itself);
    let names: Vec<String> = paths
        .iter()
        .filter_map(|path| plain_text(path))
        .map(str::to_owned)
        .collect();
    if names.is_empty() {
        return Err(Failure::new(
            Code::Configuration,
            "the path of this program is no text that can be written to a file",
            LINK,
        ));
    }
    Ok(names)
}

/// What to do about a path that a tool does not take.
pub(super) const LINK: &str = "put a link to it on PATH, by a path of A-Z a-z 0-9 - _ . and / alone such as /usr/local/bin/rolekeeper";

/// The first name.
pub(super) fn name() -> Result<String, Failure> {
    names()?
        .into_iter()
        .next()
        .ok_or_else(|| Failure::new(Code::Configuration, "this program has no name", LINK))
}

/// Where programs are looked for. What is relative depends on where somebody stands, and does not count.
pub(super) fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .collect()
}

/// A path as text in which nothing is hidden.
pub(super) fn plain_text(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| printable(text) == *text)
}

/// Whether it is of the characters that every AWS SDK takes in a command: no quotes, spaces, or variables.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|each| each.is_ascii_alphanumeric() || "-_./".contains(each))
}

/// The socket that was named, which tools are to use too: absolute, and a text.
pub(super) fn socket(named: Option<PathBuf>) -> Result<Option<String>, Failure> {
    let Some(named) = named else { return Ok(None) };
    let path = connect::socket_path(Some(named))?;
    match plain_text(&path) {
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(Failure::new(
            Code::Usage,
            "--socket is no text that can be written to a file",
            "a path without control characters",
        )),
    }
}

/// The path in a variable, in which a shell may have left a `~`.
pub(super) fn path_in(variable: &str) -> Option<PathBuf> {
    connect::variable(variable).map(|value| expanded(&value))
}

pub(super) fn expanded(value: &OsStr) -> PathBuf {
    let path = Path::new(value);
    match (path.strip_prefix("~"), connect::variable("HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.to_owned(),
    }
}

/// A path in the user's folder.
pub(super) fn at_home(rest: &str) -> Result<PathBuf, Failure> {
    connect::variable("HOME")
        .map(|home| Path::new(&home).join(rest))
        .ok_or_else(|| {
            Failure::new(
                Code::Configuration,
                "it is not known which file to change: HOME is not set",
                "name the file with --file",
            )
        })
}

/// The name of a profile, as the daemon has it.
pub(super) fn profile(text: &str) -> Result<String, String> {
    if is_name(text) {
        return Ok(text.into());
    }
    Err("a profile's name has 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit".into())
}

/// A host, with its port if it has one, as the commands that are set up take it.
pub(super) fn host(text: &str) -> Result<String, String> {
    let host = Host::parse(text)?;
    if text.starts_with(['-', '.']) {
        return Err("a host begins with a letter or a digit".into());
    }
    Ok(host.written)
}

/// Text for one line of a file.
pub(super) fn text(text: &str) -> Result<String, String> {
    if text.is_empty() || printable(text) != text {
        return Err("it is to be a text in which every character can be seen".into());
    }
    Ok(text.into())
}

/// A word for a shell, which begins as it is, so that an absolute path still looks like one.
pub(super) fn escaped(word: &str) -> String {
    let mut text = String::new();
    for each in word.chars() {
        if !(each.is_ascii_alphanumeric() || "-_./:@%+=,".contains(each) || !each.is_ascii()) {
            text.push('\\');
        }
        text.push(each);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_cannot_pass_for_an_option_or_break_out_of_what_it_is_written_into() {
        for name in [
            "git.example.test",
            "localhost:5000",
            "127.0.0.1:1",
            "[::1]",
            "[2001:db8::1]:443",
            "A_b",
        ] {
            assert_eq!(host(name).as_deref(), Ok(name));
        }
        for wrong in [
            "",
            "https://a",
            "a/b",
            "a:b",
            "[]",
            "[::1",
            "::1",
            "a b",
            "-a",
            ".a",
            "a\"",
            "a\n",
            "a]",
        ] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_word_is_the_same_word_for_a_shell() {
        for word in [
            "/usr/bin/x",
            "/a b/it's \"$HOME\" `id`; *?[a] \\ #~é/x",
            "~",
            "a=b",
            "(x)|&<>!{a,b}",
        ] {
            let script = format!("printf %s {}", escaped(word));
            let said = std::process::Command::new("/bin/sh")
                .args(["-c", &script])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), word);
        }
    }

    #[test]
    fn only_names_of_profiles_pass_for_one() {
        assert!(profile("dev").is_ok() && profile("a.b-c_1").is_ok());
        for wrong in ["", "-a", "a b", "a/b", "é", "a\n", &"a".repeat(65)] {
            assert!(profile(wrong).is_err(), "{wrong}");
        }
    }
}
