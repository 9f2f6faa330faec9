//! A profile of the AWS CLI and AWS SDKs: a section with `credential_process` in `~/.aws/config`. All other lines stay the
//! same to the byte.

pub(super) mod all;
mod section;

use std::path::{Path, PathBuf};

use clap_complete::ArgValueCandidates;
use rolekeeper::aws_file::{Ini, Invalid, Section};
use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};

use self::section::{
    check_outcome, difference, lines_of, with_section, with_settings, without_settings,
};
use super::Options;
use super::file::Original;
use super::plan::{Change, Note, Plan};
use super::program::{self, option};
use crate::command::iam::suggest;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The profile's name in the daemon's configuration
    #[arg(add = ArgValueCandidates::new(suggest::profiles), value_parser = program::profile)]
    #[arg(required_unless_present = "all")]
    pub(super) profile: Option<String>,
    /// Write another file with a profile for every section of ~/.aws/config that the daemon serves [default of --file:
    /// aws-config beside the daemon's configuration]
    #[arg(long, conflicts_with_all = ["profile", "name", "region"])]
    all: bool,
    #[command(flatten)]
    pub(super) options: Options,
    /// The AWS profile, which may be `default` [default: as PROFILE]
    #[arg(long, value_name = "NAME", value_parser = program::profile)]
    name: Option<String>,
    /// The region of the AWS profile [default: the one it has, else that of PROFILE in the running daemon]
    #[arg(long, value_name = "REGION", value_parser = region)]
    region: Option<String>,
}

const PROCESS: &str = "credential_process";
const REGION: &str = "region";

fn region(text: &str) -> Result<String, String> {
    program::profile(text).map_err(|_| "a region is a name such as eu-central-1".into())
}

/// The region is that of `--region`, else the one that the section has, else the daemon's.
pub(super) fn plan(
    arguments: &Arguments,
    profile: &str,
    socket: Option<&str>,
    daemon_region: Option<&str>,
) -> Result<Plan, Failure> {
    let Options { undo, file, .. } = &arguments.options;
    let file = file.as_ref().map(PathBuf::from);
    let name = arguments.name.as_deref().unwrap_or(profile);
    let path = path(file, "AWS_CONFIG_FILE", ".aws/config")?;
    let original = Original::read(&path)?;
    let text = original.text()?.to_owned();
    let ini = parse(&text, &original.path)?;
    let section = find_section(&ini, name, &path, *undo)?;
    let owner = section.and_then(owner);
    let old = lines_of(&ini, section);

    let mut notes = Vec::new();
    let new = match (undo, section) {
        (true, Some(section)) if owner == Some(profile) => without_settings(&ini, section),
        (true, _) => old.iter().map(ToString::to_string).collect(),
        (false, Some(_)) if owner.is_none() => {
            let reason = "already has another profile of this name";
            return Err(taken(&path, name, reason));
        }
        (false, _) => {
            check_credentials_file(name)?;
            let region = section.and_then(|section| section.value(REGION));
            let has_region = region.is_some_and(|region| !region.is_empty());
            let default = daemon_region.filter(|_| !has_region);
            let region = arguments.region.as_deref().or(default);
            notes.extend((region.is_none() && !has_region).then(region_note));
            with_settings(&ini, section, name, &settings(profile, region, socket)?)
        }
    };

    let (removed, added) = difference(&old, &new);
    let edit = if old.concat() == new.concat() {
        None
    } else {
        let content = with_section(&ini, section, &new);
        check_outcome(&ini, section, &content, &original.path)?;
        Some(original.edit(content.into_bytes(), removed, added)?)
    };

    Ok(Plan {
        changes: edit.map(Change::File).into_iter().collect(),
        example: format!("AWS_PROFILE={name} aws sts get-caller-identity"),
        notes,
    })
}

/// Reads a file, or refuses it with the line that AWS tools cannot read.
fn parse<'a>(text: &'a str, path: &Path) -> Result<Ini<'a>, Failure> {
    let parsed = Ini::parse(text).and_then(|ini| {
        // The line ends of old Macs, which botocore knows and SDKs do not.
        match ini.lines.iter().position(|line| line.ends_with('\r')) {
            Some(index) => Err(Invalid {
                line: index + 1,
                reason: "a carriage return without a line feed",
            }),
            None => Ok(ini),
        }
    });

    parsed.map_err(|Invalid { line, reason }| {
        let path = path.display();
        let message = format!("AWS tools cannot read {path}: line {line}: {reason}");
        let hint = format!("fix line {line} of {path}, and run the command again");
        Failure::new(Code::Configuration, message, hint)
    })
}

/// The section of an AWS profile. Tools differ in which of several they use, and in spaces around a header.
fn find_section<'a>(
    ini: &'a Ini<'_>,
    name: &str,
    path: &Path,
    undo: bool,
) -> Result<Option<&'a Section>, Failure> {
    let is_meant = |section: &&Section| profile_of(&section.header) == Some(name);
    let mut found = ini.sections.iter().filter(is_meant);
    let section = found.next();
    if let Some(other) = found.next() {
        let line = other.lines.start + 1;
        let reason = format!("has several sections for it, the second in line {line}");
        return Err(taken(path, name, &reason));
    }

    let is_ambiguous = |section: &Section| {
        let header = &section.header;
        header.trim() != header || header.contains(']')
    };
    if !undo && section.is_some_and(is_ambiguous) {
        let reason = "already has a section for it, with a header that tools read differently";
        return Err(taken(path, name, reason));
    }

    Ok(section)
}

fn region_note() -> Note {
    Note {
        message: "the AWS profile has no region, which most AWS commands need".into(),
        hint: "repeat the command with --region and a region of your cloud".into(),
    }
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

/// The settings in their order. AWS SDKs split the command by rules of their own, so it consists of plain words.
fn settings(
    profile: &str,
    region: Option<&str>,
    socket: Option<&str>,
) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut settings = Vec::new();
    settings.extend(region.map(|region| (REGION, region.to_owned())));

    settings.push((PROCESS, credential_process(profile, socket)?));

    Ok(settings)
}

/// The command that prints the credentials of a profile.
fn credential_process(profile: &str, socket: Option<&str>) -> Result<String, Failure> {
    let program = program::path(program::is_plain)?;
    let mut words = vec![&program, "credential-process", profile];
    words.extend(option("--socket", socket));
    if socket.is_some_and(|socket| !program::is_plain(socket)) {
        let message = "AWS SDKs cannot pass this --socket: the path has special characters";
        let hint = "choose a path of letters, digits and `-_./`";
        return Err(Failure::new(Code::Usage, message, hint));
    }

    Ok(words.join(" "))
}

/// Refuses an AWS profile that has access keys: some tools would use these first.
fn check_credentials_file(name: &str) -> Result<(), Failure> {
    let path = path(None, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")?;
    // `/dev/null` stands for a file without keys.
    if !path.is_file() {
        return Ok(());
    }

    let original = Original::read_only(&path)?;
    let ini = parse(original.text()?, &path)?;
    let mut headers = ini.sections.iter().map(|section| section.header.trim());
    if !headers.any(|header| header == name) {
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

/// The profile of rolekeeper to which setup has added this section.
fn owner(section: &Section) -> Option<&str> {
    rolekeeper_profile(section.value(PROCESS)?)
}

/// The profile in a command that setup has added.
fn rolekeeper_profile(command: &str) -> Option<&str> {
    let (program, rest) = command.split_once(" credential-process ")?;
    let profile = rest.split_whitespace().next();
    profile.filter(|_| program::is_rolekeeper(program))
}

/// The AWS profile of a section with this header.
fn profile_of(header: &str) -> Option<&str> {
    // Some tools end it at the first bracket, others at the last.
    let header = header.split(']').next().unwrap_or(header).trim();
    match header.split_once(char::is_whitespace) {
        Some(("profile", name)) => Some(name.trim().trim_matches(['"', '\''])),
        Some(_) => None,
        None => Some(header).filter(|&header| header == "default"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aws_profile_is_found_however_its_header_is_written() {
        for (header, want) in [
            ("profile dev", Some("dev")),
            (" profile \t dev ", Some("dev")),
            ("profile \"dev\"", Some("dev")),
            ("profile 'dev'", Some("dev")),
            ("profile dev] # [x", Some("dev")),
            ("default", Some("default")),
            ("profile default", Some("default")),
            ("dev", None),
            ("profiledev", None),
            ("sso-session dev", None),
        ] {
            assert_eq!(profile_of(header), want, "{header}");
        }
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
                "  Credential_Process : /bin/rolekeeper credential-process dev",
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
                "n =\n  credential_process = /bin/rolekeeper credential-process dev",
                None,
            ),
        ] {
            let text = format!("[profile dev]\n{line}");
            let ini = Ini::parse(&text).unwrap();
            assert_eq!(owner(&ini.sections[0]), want, "{line}");
        }
    }
}
