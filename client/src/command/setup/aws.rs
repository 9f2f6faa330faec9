//! A profile of the AWS CLI and AWS SDKs: a section with `credential_process` in `~/.aws/config`. All other lines stay the
//! same to the byte.

use std::path::{Path, PathBuf};

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};

use super::Common;
use super::file::Original;
use super::plan::{Change, Plan};
use super::program::{self, option};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) common: Common,
    /// The AWS profile, which may be `default` [default: as PROFILE]
    #[arg(long, value_name = "NAME", value_parser = program::profile)]
    name: Option<String>,
    /// The region of the AWS profile
    #[arg(long, value_name = "REGION", value_parser = region)]
    region: Option<String>,
}

const PROCESS: &str = "credential_process";
const REGION: &str = "region";

fn region(text: &str) -> Result<String, String> {
    program::profile(text).map_err(|_| "a region is a name such as eu-central-1".into())
}

pub(super) fn plan(arguments: &Arguments, socket: Option<&str>) -> Result<Plan, Failure> {
    let Common { profile, undo, .. } = &arguments.common;
    let file = arguments.common.file.as_ref().map(PathBuf::from);
    let name = arguments.name.as_ref().unwrap_or(profile);
    let path = path(file, "AWS_CONFIG_FILE", ".aws/config")?;
    let original = Original::read(&path)?;
    let text = original.text()?.to_owned();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();

    let start = lines.iter().position(|line| profile_of(line) == Some(name));
    let (before, rest) = lines.split_at(start.unwrap_or(lines.len()));
    let end = rest.iter().skip(1).position(|line| header(line).is_some());
    let (section, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
    let owner = section.iter().find_map(|line| rolekeeper_profile(line));
    let new = match undo {
        true if owner == Some(profile) => without_settings(section),
        true => section.iter().map(ToString::to_string).collect(),
        false if owner.is_none() && !section.is_empty() => {
            let reason = "already has another profile of this name";
            return Err(taken(&path, name, reason));
        }
        false => {
            check_credentials_file(name)?;
            with_settings(section, name, &settings(arguments, socket)?)
        }
    };

    let mut content = before.concat();
    if !content.is_empty() && !content.ends_with('\n') {
        content.push('\n');
    }

    content += &new.concat();
    content += &after.concat();
    let (removed, added) = difference(section, &new);
    let is_changed = !removed.is_empty() || !added.is_empty();
    let edit = is_changed.then(|| original.edit(content.into_bytes(), removed, added));
    Ok(Plan {
        changes: edit.map(Change::File).into_iter().collect(),
        example: format!("AWS_PROFILE={name} aws sts get-caller-identity"),
        notes: Vec::new(),
    })
}

/// A path in a variable may start with `~`, which AWS SDKs expand.
fn path(file: Option<PathBuf>, variable: &str, default: &str) -> Result<PathBuf, Failure> {
    let Some(path) = file.or_else(|| connect::variable(variable).map(PathBuf::from)) else {
        return program::in_home(default);
    };
    match path.strip_prefix("~") {
        Ok(rest) => program::in_home(rest),
        Err(_) => Ok(path),
    }
}

/// The lines of the settings. AWS SDKs split the command by rules of their own, so it consists of plain words.
fn settings(arguments: &Arguments, socket: Option<&str>) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    if let Some(region) = &arguments.region {
        lines.push(format!("{REGION} = {region}\n"));
    }

    let program = program::path(program::is_plain)?;
    let mut words = vec![&program, "credential-process", &arguments.common.profile];
    words.extend(option("--socket", socket));
    if socket.is_some_and(|socket| !program::is_plain(socket)) {
        let message = "AWS SDKs cannot pass this --socket: the path has special characters";
        let hint = "choose a path of letters, digits and `-_./`";
        return Err(Failure::new(Code::Usage, message, hint));
    }

    lines.push(format!("{PROCESS} = {}\n", words.join(" ")));

    Ok(lines)
}

/// Refuses an AWS profile that has access keys: some tools would use these first.
fn check_credentials_file(name: &str) -> Result<(), Failure> {
    let path = path(None, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")?;
    // `/dev/null` stands for a file without keys.
    if !path.is_file() {
        return Ok(());
    }

    let original = Original::read(&path)?;
    let mut lines = original.text()?.lines();
    if !lines.any(|line| header(line) == Some(name)) {
        return Ok(());
    }

    let reason = "has access keys for it, which some tools use first";

    Err(taken(&path, name, reason))
}

fn taken(path: &Path, name: &str, reason: &str) -> Failure {
    let path = path.display();
    let message = format!("cannot add the AWS profile {name}: {path} {reason}");
    let hint = "choose another name with --name";
    Failure::new(Code::Configuration, message, hint)
}

/// The section with these settings first.
fn with_settings(section: &[&str], name: &str, settings: &[String]) -> Vec<String> {
    let header = match (section.first(), name) {
        (Some(header), _) => (*header).to_owned(),
        (None, "default") => "[default]\n".to_owned(),
        (None, _) => format!("[profile {name}]\n"),
    };

    let is_kept = |line: &&&str| !settings.iter().any(|new| key(new) == key(line));
    let kept = section
        .iter()
        .skip(1)
        .filter(is_kept)
        .map(ToString::to_string);
    let first = [header].into_iter().chain(settings.iter().cloned());

    first.chain(kept).collect()
}

/// The section without the settings. If it has others, header and region stay for these.
fn without_settings(section: &[&str]) -> Vec<String> {
    let mut keys = section.iter().map(|line| key(line));
    let has_others = keys.any(|key| !matches!(key, "" | "[" | PROCESS | REGION));
    let kept = section.iter().filter(|line| match key(line) {
        PROCESS => false,
        "[" | REGION => has_others,
        _ => true,
    });
    kept.map(ToString::to_string).collect()
}

/// The removed and the added lines.
fn difference(old: &[&str], new: &[String]) -> (Vec<String>, Vec<String>) {
    let old: Vec<String> = old.iter().map(|line| line.trim_end().to_owned()).collect();
    let new: Vec<String> = new.iter().map(|line| line.trim_end().to_owned()).collect();
    let removed = old.iter().filter(|line| !new.contains(line)).cloned();
    let added = new.iter().filter(|line| !old.contains(line)).cloned();
    (removed.collect(), added.collect())
}

/// The key of a setting, `[` for a header, and nothing for a comment. The key of an indented line starts with a space.
fn key(line: &str) -> &str {
    match line.trim_start().chars().next() {
        None | Some('#' | ';') => "",
        Some('[') => "[",
        Some(_) => line.split('=').next().unwrap_or(line).trim_end(),
    }
}

/// The profile of a `credential_process` that setup has added.
fn rolekeeper_profile(line: &str) -> Option<&str> {
    let (_, command) = line.split_once('=').filter(|_| key(line) == PROCESS)?;
    let (program, rest) = command.trim().split_once(" credential-process ")?;
    let profile = rest.split_whitespace().next();
    profile.filter(|_| program::is_rolekeeper(program))
}

/// The AWS profile that starts with this line.
fn profile_of(line: &str) -> Option<&str> {
    match header(line)?.split_once(char::is_whitespace) {
        Some(("profile", name)) => Some(name.trim().trim_matches(['"', '\''])),
        Some(_) => None,
        None => header(line).filter(|&header| header == "default"),
    }
}

/// The text between the brackets of a section's first line.
fn header(line: &str) -> Option<&str> {
    let line = line.trim_start_matches('\u{feff}').trim();
    let (header, _) = line.strip_prefix('[')?.split_once(']')?;
    Some(header.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aws_profile_is_found_however_its_header_is_written() {
        for (line, want) in [
            ("[profile dev]", Some("dev")),
            ("  [ profile \t dev ] # x", Some("dev")),
            ("[profile \"dev\"]", Some("dev")),
            ("[profile 'dev']", Some("dev")),
            ("\u{feff}[default]\r\n", Some("default")),
            ("[profile default]", Some("default")),
            ("[dev]", None),
            ("[profiledev]", None),
            ("[sso-session dev]", None),
            ("profile dev", None),
        ] {
            assert_eq!(profile_of(line), want, "{line}");
        }
    }

    #[test]
    fn a_new_setting_replaces_the_old_one_and_no_other_line() {
        let section = [
            "[profile dev]\n",
            "# a\n",
            "region = x\n",
            "# b\n",
            " n = 1\n",
            " m = 1\n",
        ];
        let new = with_settings(&section, "dev", &["region = y\n".to_owned()]);
        let want = [
            "[profile dev]\n",
            "region = y\n",
            "# a\n",
            "# b\n",
            " n = 1\n",
            " m = 1\n",
        ];
        assert_eq!(new, want);
        let (removed, added) = difference(&section, &new);
        assert_eq!(
            (removed, added),
            (vec!["region = x".into()], vec!["region = y".into()])
        );
    }

    #[test]
    fn only_a_command_of_setup_makes_a_section_ours() {
        for (line, want) in [
            (
                "credential_process = /bin/rolekeeper credential-process dev",
                Some("dev"),
            ),
            (
                "credential_process=/bin/rolekeeper credential-process dev --socket /s\n",
                Some("dev"),
            ),
            (
                "credential_process = /opt/rolekeeper/other credential-process dev",
                None,
            ),
            (
                "# credential_process = /bin/rolekeeper credential-process dev",
                None,
            ),
            (
                "  credential_process = /bin/rolekeeper credential-process dev",
                None,
            ),
        ] {
            assert_eq!(rolekeeper_profile(line), want, "{line}");
        }
    }
}
