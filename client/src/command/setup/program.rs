//! The path of this program as other tools start it, and values that are safe in their configuration.

use std::path::{Path, PathBuf};

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, is_name};

use crate::command::address::Host;

/// The path of this program that is usable: a link on `PATH` if there is one, because an upgrade does not change it.
pub(super) fn path(is_usable: fn(&str) -> bool) -> Result<String, Failure> {
    let refused = |reason: &str| {
        let message = format!("the tool cannot start rolekeeper: {reason}");
        let hint = "put a link to rolekeeper on PATH, such as /usr/local/bin/rolekeeper";
        Failure::new(Code::Configuration, message, hint)
    };

    let itself = std::env::current_exe().and_then(|path| path.canonicalize());
    let itself = itself.map_err(|error| refused(&error.to_string()))?;

    let name = format!("rolekeeper{}", std::env::consts::EXE_SUFFIX);
    let links = search_path().into_iter().map(|folder| folder.join(&name));
    let links = links.filter(|path| path.canonicalize().is_ok_and(|target| target == itself));
    let paths = links
        .chain([itself.clone()])
        .filter_map(|path| path.into_os_string().into_string().ok());
    let reason = format!("its path {} has special characters", itself.display());
    paths
        .into_iter()
        .find(|path| is_usable(path))
        .ok_or_else(|| refused(&reason))
}

/// Whether this is the path of rolekeeper, of this version or another.
pub(super) fn is_rolekeeper(program: &str) -> bool {
    let name = program.rsplit(['/', '\\']).next().unwrap_or(program);
    name.starts_with("rolekeeper") || path(|_| true).is_ok_and(|own| own == program)
}

/// The absolute folders of `PATH`.
pub(super) fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .collect()
}

/// The absolute path of `--socket`, which the tool passes to rolekeeper.
pub(super) fn socket(option: Option<PathBuf>) -> Result<Option<String>, Failure> {
    let Some(option) = option else {
        return Ok(None);
    };
    let path = connect::socket_path(Some(option))?.into_os_string();
    path.into_string().map(Some).map_err(|_| {
        let message = "the path of --socket is not text in UTF-8";
        Failure::new(Code::Usage, message, "choose another path")
    })
}

/// A path in the user's home folder.
pub(super) fn in_home(rest: impl AsRef<Path>) -> Result<PathBuf, Failure> {
    let home = connect::variable("HOME").ok_or_else(|| {
        let message = "cannot find the configuration file: HOME is not set";
        Failure::new(
            Code::Configuration,
            message,
            "set HOME, or name the file with --file",
        )
    })?;
    Ok(Path::new(&home).join(rest))
}

/// Whether every AWS SDK reads this as one word of a command: SDKs differ in quotes, spaces and variables.
pub(super) fn is_plain(word: &str) -> bool {
    word.chars()
        .all(|each| each.is_ascii_alphanumeric() || "-_./".contains(each))
}

/// An option of rolekeeper with its values.
pub(super) fn option<'a>(name: &'a str, values: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    values.into_iter().flat_map(|value| [name, value]).collect()
}

/// Parses the name of a profile.
pub(super) fn profile(text: &str) -> Result<String, String> {
    if is_name(text) {
        return Ok(text.into());
    }
    Err(
        "a name has 1 to 64 letters, digits, `-`, `_` and `.`, and starts with a letter or digit"
            .into(),
    )
}

/// Parses a host with an optional port.
pub(super) fn host(text: &str) -> Result<String, String> {
    let host = Host::parse(text)?;
    if text.starts_with(['-', '.']) {
        return Err("a host starts with a letter or a digit".into());
    }
    Ok(host.written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_never_an_option_or_syntax() {
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
    fn a_profile_name_has_only_letters_digits_and_three_signs() {
        assert!(profile("dev").is_ok() && profile("a.b-c_1").is_ok());
        for wrong in ["", "-a", "a b", "a/b", "é", "a\n", &"a".repeat(65)] {
            assert!(profile(wrong).is_err(), "{wrong}");
        }
    }
}
