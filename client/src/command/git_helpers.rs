//! The credential helpers that git runs for an address (gitcredentials(7)). git passes a password that was accepted to all of
//! them, and most store it. An empty helper turns off only those before it.

use std::process::{Command, Stdio};

use rolekeeper::protocol::{Code, Failure};
use rolekeeper::shell::quoted;

use super::address::{Origin, Scheme};

/// A `credential` setting.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// The kind of its file: `system`, `global`, `local`, `worktree` or `command`. Empty if it was not requested.
    pub(super) scope: String,
    pub(super) key: String,
    pub(super) value: String,
}

/// The arguments of `git config` for all `credential` settings.
pub(super) const LIST: [&str; 3] = ["--null", "--get-regexp", r"^credential\."];
/// The argument that precedes these, for [`Setting::scope`].
pub(super) const SCOPE: &str = "--show-scope";

/// Parses the output of `git config`, in git's order.
pub(super) fn parse(output: &str, has_scope: bool) -> Vec<Setting> {
    let mut fields = output.split_terminator('\0');
    let mut settings = Vec::new();
    while let Some(first) = fields.next() {
        let (scope, entry) = match has_scope {
            true => (first, fields.next().unwrap_or_default()),
            false => ("", first),
        };
        let (key, value) = entry.split_once('\n').unwrap_or((entry, ""));
        settings.push(Setting {
            scope: scope.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        });
    }

    settings
}

/// The helpers that git runs for this address. Settings for a part of the address's paths are included.
pub(super) fn in_effect<'a>(settings: &'a [Setting], origin: &Origin) -> Vec<&'a Setting> {
    let mut helpers = Vec::new();
    for setting in settings {
        let Some(context) = setting.helper_context() else {
            continue;
        };
        match context.map_or(Match::Full, |pattern| match_origin(pattern, origin)) {
            Match::None => {}
            Match::Full if setting.value.is_empty() => helpers.clear(),
            Match::Part if setting.value.is_empty() => {}
            Match::Full | Match::Part => helpers.push(setting),
        }
    }

    helpers
}

impl Setting {
    /// The address of a helper; `Some(None)` is one for all addresses.
    fn helper_context(&self) -> Option<Option<&str>> {
        let rest = self.key.strip_prefix("credential.")?;
        match rest.rsplit_once('.') {
            None => (rest == "helper").then_some(None),
            Some((context, name)) => (name == "helper").then_some(Some(context)),
        }
    }

    /// Whether it runs rolekeeper.
    pub(super) fn is_rolekeeper(&self) -> bool {
        self.value.contains(" git-credential ")
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Match {
    None,
    /// Some of the paths or users.
    Part,
    Full,
}

fn match_origin(pattern: &str, origin: &Origin) -> Match {
    let (scheme, rest) = match pattern.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, pattern),
    };
    if scheme.is_some_and(|scheme| Scheme::parse(scheme) != Some(origin.scheme)) {
        return Match::None;
    }

    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if !host.is_empty() && !matches_host(host, origin) {
        return Match::None;
    }

    match (user, path) {
        (None, "") => Match::Full,
        _ => Match::Part,
    }
}

/// A `*` stands for one label of the name.
fn matches_host(host: &str, origin: &Origin) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
        _ => (host, Some(origin.scheme.port())),
    };

    let name = name.to_ascii_lowercase();
    let mut labels = name.split('.');
    let mut wanted = origin.name.split('.');
    let matches_name = loop {
        match (labels.next(), wanted.next()) {
            (None, None) => break true,
            (Some(label), Some(wanted)) if matches_label(label, wanted) => {}
            _ => break false,
        }
    };

    matches_name && port == Some(origin.port)
}

fn matches_label(pattern: &str, label: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == label,
        Some((start, rest)) => label.strip_prefix(start).is_some_and(|label| {
            let ends = 0..=label.len();
            ends.filter_map(|end| label.get(end..))
                .any(|label| matches_label(rest, label))
        }),
    }
}

/// Refuses an address for which git runs another helper as well: it would get the token to store. If git does not run
/// rolekeeper by its configuration, nothing is known about the others.
pub(super) fn check_alone(origin: &Origin, profile: &str) -> Result<(), Failure> {
    let mut git = Command::new("git");
    git.arg("config")
        .arg(SCOPE)
        .args(LIST)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let Ok(output) = git.output() else {
        return Ok(());
    };

    let settings = parse(&String::from_utf8_lossy(&output.stdout), true);
    let helpers = in_effect(&settings, origin);
    let other = helpers.iter().find(|helper| !helper.is_rolekeeper());
    let Some(other) = other.filter(|_| helpers.iter().any(|helper| helper.is_rolekeeper())) else {
        return Ok(());
    };

    let Setting { scope, key, .. } = other;
    let message = format!(
        "git has another credential helper for {origin}, which would store the token: \
        {key} in its {scope} configuration"
    );
    Err(Failure::new(
        Code::NotAllowed,
        message,
        hint(other, origin, profile),
    ))
}

/// The hint to remove a setting of this repository.
pub(super) fn unset(scope: &str, key: &str) -> String {
    let scope = format!("--{scope}");
    let command = quoted(&["git", "config", &scope, "--unset-all", key]);
    format!("run {command}")
}

fn hint(other: &Setting, origin: &Origin, profile: &str) -> String {
    let Setting { scope, key, .. } = other;
    let url = origin.to_string();
    let host = url.split_once("://").map_or(url.as_str(), |(_, host)| host);
    match scope.as_str() {
        "local" | "worktree" => unset(scope, key),
        "command" => format!("run git without the option -c {key}"),
        _ if origin.scheme == Scheme::Https => {
            format!("run rolekeeper setup git {profile} --host {host} --write")
        }
        _ => format!("move the helper of rolekeeper behind {key} in the configuration of git"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Origin {
        Origin::of_url(url).unwrap().0
    }

    #[test]
    fn contexts_match_as_in_git() {
        for (pattern, url, want) in [
            ("https://h.test", "https://h.test", Match::Full),
            ("https://h.test/", "https://h.test", Match::Full),
            ("https://H.test:443", "https://h.test", Match::Full),
            ("h.test", "https://h.test", Match::Full),
            ("https://", "https://h.test", Match::Full),
            ("https://*.test", "https://h.test", Match::Full),
            ("https://g*.x.test", "https://git.x.test", Match::Full),
            ("https://me@h.test", "https://h.test", Match::Part),
            ("https://h.test/team", "https://h.test", Match::Part),
            ("https://*.test", "https://a.h.test", Match::None),
            ("http://h.test", "https://h.test", Match::None),
            ("ssh://h.test", "https://h.test", Match::None),
            ("https://h.test:8443", "https://h.test", Match::None),
            ("https://i.test", "https://h.test", Match::None),
            ("https://[::1]:8443", "https://[::1]:8443", Match::Full),
            ("https://[::1]", "https://[::1]", Match::Full),
        ] {
            assert_eq!(match_origin(pattern, &origin(url)), want, "{pattern}");
        }
    }

    #[test]
    fn an_empty_helper_turns_off_those_before_it() {
        let output = "system\0credential.helper\nfirst\0global\0credential.https://h.helper\n\0\
            global\0credential.https://h.helper\nours git-credential dev\0\
            global\0credential.https://h.username\nme\0global\0credential.https://i.helper\nx\0\
            global\0credential.https://h/x.helper\0local\0credential.helper\nlast\0";
        let settings = parse(output, true);
        assert_eq!(settings.len(), 7);

        let helpers = in_effect(&settings, &origin("https://h"));
        let values: Vec<_> = helpers.iter().map(|helper| helper.value.as_str()).collect();
        assert_eq!(values, ["ours git-credential dev", "last"]);
    }
}
