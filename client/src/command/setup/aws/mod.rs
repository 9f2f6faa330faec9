//! A profile of the AWS CLI and AWS SDKs: a section with `credential_process` in `~/.aws/config`. All other lines stay the
//! same to the byte.

mod ini;

use std::path::{Path, PathBuf};

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};

use self::ini::{Ini, Invalid, Section, Setting};
use super::Common;
use super::file::Original;
use super::plan::{Change, Note, Plan};
use super::program::{self, option};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) common: Common,
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
    socket: Option<&str>,
    daemon_region: Option<&str>,
) -> Result<Plan, Failure> {
    let Common { profile, undo, .. } = &arguments.common;
    let file = arguments.common.file.as_ref().map(PathBuf::from);
    let name = arguments.name.as_ref().unwrap_or(profile);
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
            notes.extend((region.is_none() && !has_region).then(|| region_note(profile)));
            with_settings(&ini, section, name, &settings(arguments, region, socket)?)
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
    Ini::parse(text).map_err(|Invalid { line, reason }| {
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

fn lines_of<'a>(ini: &Ini<'a>, section: Option<&Section>) -> Vec<&'a str> {
    let lines = section.and_then(|section| ini.lines.get(section.lines.clone()));
    lines.unwrap_or_default().to_vec()
}

/// The file with these lines in place of the section, or at the end.
fn with_section(ini: &Ini<'_>, section: Option<&Section>, new: &[String]) -> String {
    let end = ini.lines.len();
    let range = section.map_or(end..end, |section| section.lines.clone());
    let before = ini.lines.get(..range.start).unwrap_or_default();
    let after = ini.lines.get(range.end..).unwrap_or_default();

    let mut content = before.concat();
    if !content.is_empty() && !content.ends_with(['\n', '\r']) {
        content.push('\n');
    }

    content + &new.concat() + &after.concat()
}

/// Refuses a change after which an AWS tool could not read the file, or would read something else in another section or in
/// another setting.
fn check_outcome(
    ini: &Ini<'_>,
    section: Option<&Section>,
    content: &str,
    path: &Path,
) -> Result<(), Failure> {
    let new = parse(content, path)?;
    let others = |section: &Section| -> Vec<(String, String)> {
        let settings = section.settings.iter();
        settings
            .filter(|setting| ![PROCESS, REGION].contains(&setting.key.as_str()))
            .map(|setting| (setting.key.clone(), setting.value.clone()))
            .collect()
    };
    let all = |ini: &Ini<'_>, skipped: Option<&str>| -> Vec<_> {
        let sections = ini.sections.iter();
        let sections = sections.filter(|section| Some(section.header.as_str()) != skipped);
        sections
            .map(|section| (section.header.clone(), values(section)))
            .collect()
    };

    let mut added = new.sections.iter().map(|section| section.header.as_str());
    let changed = match section {
        Some(section) => Some(section.header.as_str()),
        None => added.next_back(),
    };
    let find = |header| new.sections.iter().find(|section| section.header == header);
    let after = section
        .map(|section| section.header.as_str())
        .and_then(find);
    let keeps_section = match (section, after) {
        (Some(before), Some(after)) => others(before) == others(after),
        (Some(before), None) => others(before).is_empty(),
        (None, _) => true,
    };

    if keeps_section && all(ini, changed) == all(&new, changed) {
        return Ok(());
    }

    let message = format!(
        "cannot change {} without changing other settings in it",
        path.display()
    );
    let hint = "remove the indentation of the settings in the section, and run the command again";
    Err(Failure::new(Code::Configuration, message, hint))
}

fn values(section: &Section) -> Vec<(String, String)> {
    let settings = section.settings.iter();
    settings
        .map(|setting| (setting.key.clone(), setting.value.clone()))
        .collect()
}

fn region_note(profile: &str) -> Note {
    Note {
        message: "the AWS profile has no region, which most AWS commands need".into(),
        hint: format!("run rolekeeper setup aws {profile} --region REGION --write"),
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
    arguments: &Arguments,
    region: Option<&str>,
    socket: Option<&str>,
) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut settings = Vec::new();
    settings.extend(region.map(|region| (REGION, region.to_owned())));

    let program = program::path(program::is_plain)?;
    let mut words = vec![&program, "credential-process", &arguments.common.profile];
    words.extend(option("--socket", socket));
    if socket.is_some_and(|socket| !program::is_plain(socket)) {
        let message = "AWS SDKs cannot pass this --socket: the path has special characters";
        let hint = "choose a path of letters, digits and `-_./`";
        return Err(Failure::new(Code::Usage, message, hint));
    }

    settings.push((PROCESS, words.join(" ")));

    Ok(settings)
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

/// The section with these settings. A new one is first, unless the settings there are indented: it would change them to
/// continuation lines. Some tools ignore an indented setting, one with a colon, and one with a key in other letters.
fn with_settings(
    ini: &Ini<'_>,
    section: Option<&Section>,
    name: &str,
    settings: &[(&str, String)],
) -> Vec<String> {
    let line = |(key, value): &(&str, String)| format!("{key} = {value}\n");
    let Some(section) = section else {
        let header = match name {
            "default" => "[default]\n".to_owned(),
            _ => format!("[profile {name}]\n"),
        };
        return [header]
            .into_iter()
            .chain(settings.iter().map(line))
            .collect();
    };

    let wanted = |setting: &Setting| settings.iter().find(|(key, _)| *key == setting.key);
    let is_moved = |setting: &&Setting| setting.is_indented && wanted(setting).is_some();
    let is_missing = |(key, _): &&(&str, String)| {
        section
            .setting(key)
            .filter(|each| !is_moved(each))
            .is_none()
    };
    let missing: Vec<String> = settings.iter().filter(is_missing).map(line).collect();

    let mut kept = section.settings.iter().filter(|setting| !is_moved(setting));
    let first_line = section.lines.start;
    let insert_after = match kept.next() {
        Some(first) if first.is_indented => kept.next_back().unwrap_or(first).last_line(),
        _ => first_line,
    };

    let mut new = Vec::new();
    for index in section.lines.clone() {
        let old = ini.lines.get(index).copied().unwrap_or_default();
        let setting = section.setting_at(index);
        let change = setting.and_then(|setting| Some((setting, wanted(setting)?)));

        match change {
            Some((setting, wanted)) if setting.is_written_as(old, wanted) => {
                new.push(old.to_owned())
            }
            Some((setting, wanted)) if setting.lines.start == index => {
                new.extend((!setting.is_indented).then(|| line(wanted)));
            }
            Some(_) if !is_comment(old) => {}
            _ => new.push(old.to_owned()),
        }

        if index == insert_after && !missing.is_empty() {
            if let Some(last) = new.last_mut().filter(|last| !last.ends_with(['\n', '\r'])) {
                last.push('\n');
            }
            new.extend(missing.iter().cloned());
        }
    }

    new
}

/// The section without the settings. If it has others, header and region stay for these.
fn without_settings(ini: &Ini<'_>, section: &Section) -> Vec<String> {
    let mut keys = section.settings.iter().map(|setting| setting.key.as_str());
    let has_others = keys.any(|key| ![PROCESS, REGION].contains(&key));
    let is_kept = |index: &usize| match section.setting_at(*index) {
        Some(setting) if setting.key == PROCESS || !has_others => {
            ini.lines.get(*index).is_some_and(|line| is_comment(line))
        }
        None if *index == section.lines.start => has_others,
        _ => true,
    };

    let kept = section.lines.clone().filter(is_kept);
    kept.filter_map(|index| ini.lines.get(index).map(ToString::to_string))
        .collect()
}

/// Whether the line is a comment or empty.
fn is_comment(line: &str) -> bool {
    matches!(line.trim_start().chars().next(), None | Some('#' | ';'))
}

/// The removed and the added lines.
fn difference(old: &[&str], new: &[String]) -> (Vec<String>, Vec<String>) {
    let old: Vec<String> = old.iter().map(|line| line.trim_end().to_owned()).collect();
    let new: Vec<String> = new.iter().map(|line| line.trim_end().to_owned()).collect();
    let removed = old.iter().filter(|line| !new.contains(line)).cloned();
    let added = new.iter().filter(|line| !old.contains(line)).cloned();
    (removed.collect(), added.collect())
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

    /// The file with these settings in its first section.
    fn changed(text: &str, settings: &[(&str, &str)]) -> String {
        let ini = Ini::parse(text).unwrap();
        let section = ini.sections.first();
        let settings: Vec<_> = settings
            .iter()
            .map(|&(key, value)| (key, value.to_owned()))
            .collect();
        let new = with_settings(&ini, section, "dev", &settings);
        let content = with_section(&ini, section, &new);
        check_outcome(&ini, section, &content, Path::new("x")).unwrap();

        content
    }

    #[test]
    fn a_setting_changes_in_its_place_and_no_other_line() {
        for (text, want) in [
            (
                "[profile dev]\n# a\nregion = x\n# b\nn =\n m = 1",
                "[profile dev]\n# a\nregion = y\n# b\nn =\n m = 1",
            ),
            (
                "[profile dev]\nRegion : x\n # c\n  more\nn = 1\n",
                "[profile dev]\nregion = y\n # c\nn = 1\n",
            ),
            (
                "[profile dev]\n  n = 1\n  region=x\n[b]\n",
                "[profile dev]\n  n = 1\nregion = y\n[b]\n",
            ),
            (
                "[profile dev]\n  region = y\n  n = 1\n  m = 1\n\n[b]\n",
                "[profile dev]\n  n = 1\n  m = 1\nregion = y\n\n[b]\n",
            ),
            (
                "[profile dev]\n  region = y\n # c\n   more\nn = 1",
                "[profile dev]\nregion = y\n # c\nn = 1",
            ),
            (
                "[profile dev]\nregion: y\nn = 1\n",
                "[profile dev]\nregion = y\nn = 1\n",
            ),
            (
                "[profile dev]\nregion =y # \nRegion2 = y\n",
                "[profile dev]\nregion = y\nRegion2 = y\n",
            ),
            (
                "[profile dev]\nn = 1\nregion=y\n",
                "[profile dev]\nn = 1\nregion=y\n",
            ),
            (
                "[profile dev]\n  n = 1\n  m = 2\n\n[b]\n",
                "[profile dev]\n  n = 1\n  m = 2\nregion = y\n\n[b]\n",
            ),
            (
                "[profile dev]\n  n = 1",
                "[profile dev]\n  n = 1\nregion = y\n",
            ),
            ("[profile dev]", "[profile dev]\nregion = y\n"),
            (
                "[profile dev]\nn = 1\n",
                "[profile dev]\nregion = y\nn = 1\n",
            ),
        ] {
            assert_eq!(changed(text, &[(REGION, "y")]), want);
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
