//! `rolekeeper setup aws --all`: another configuration file for AWS tools, in which every section that the daemon serves has
//! `credential_process`. The user's own file stays as it is, and one variable switches between them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rolekeeper::aws_file::{Ini, Section, Value, profile_name};
use rolekeeper::protocol::{AwsFilesStatus, Code, Failure, NotServedSection, ProfileStatus};
use rolekeeper::{connect, places, shell};
use serde::Serialize;

use super::{PROCESS, REGION, credential_process, parse};
use crate::command::setup::Options;
use crate::command::setup::file::{Edit, Original};
use crate::command::setup::plan::Change;
use crate::command::{printable_lines, status};
use crate::{autostart, command};

/// The first line of a file that this has written.
const MARK: &str =
    "# Written by rolekeeper setup aws --all, which replaces it: changes here are lost.";

/// The settings of credentials, which `credential_process` replaces.
const CREDENTIALS: &[&str] = &[
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "role_arn",
    "source_profile",
    "credential_source",
    "external_id",
    "mfa_serial",
    "duration_seconds",
    "role_session_name",
    "web_identity_token_file",
    "login_session",
    PROCESS,
    REGION,
];

/// What the daemon knows of the files of AWS, and what is written because of it.
#[derive(Debug)]
pub(in crate::command::setup) struct All {
    pub(in crate::command::setup) changes: Vec<Change>,
    export: String,
    not_served: Vec<NotServedSection>,
    not_served_count: usize,
}

#[derive(Serialize)]
struct Report<'a> {
    written: bool,
    changes: &'a [Change],
    export: Option<&'a str>,
    not_served_count: usize,
    not_served: &'a [NotServedSection],
}

pub(in crate::command::setup) fn plan(
    options: &Options,
    socket: Option<&str>,
) -> Result<All, Failure> {
    let path = match &options.file {
        Some(file) => PathBuf::from(file),
        None => default_file()?,
    };
    let path = std::path::absolute(&path).unwrap_or(path);
    let original = Original::read(&path)?;
    let old = original.text()?.to_owned();
    if !old.is_empty() && !old.starts_with(MARK) {
        return Err(Failure::new(
            Code::Configuration,
            format!("{} is not a file of setup aws --all", path.display()),
            "choose another file with --file",
        ));
    }

    let export = format!("export AWS_CONFIG_FILE={}", shell::quoted_path(&path));
    if options.undo {
        return Ok(All {
            changes: change(original, &old, None),
            export: String::new(),
            not_served: Vec::new(),
            not_served_count: 0,
        });
    }

    let (files, profiles) = daemon_files(socket)?;
    let config = read(&files.config)?;
    let config = parse(&config, Path::new(&files.config))?;
    let credentials = read(&files.credentials)?;
    let credentials = parse(&credentials, Path::new(&files.credentials))?;

    let mut text = format!("{MARK}\n");
    let mut hides_keys = false;
    let sections = config.profiles().into_iter();
    let sections = sections.map(|(name, section)| (name, Some(section)));
    let only_credentials = credentials.plain_sections().map(|section| &section.header);
    let known: Vec<_> = config
        .profiles()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let others = only_credentials.filter(|name| !known.contains(name));
    let others = others.map(|name| (name.clone(), None));

    for (name, section) in sections.chain(others) {
        let profile = profile_name(&name);
        let served = profiles.iter().find(|each| each.profile == profile);
        let (Some(served), Some(header)) = (served, header(&name)) else {
            continue;
        };
        text += &format!("\n[{header}]\n");
        text += &settings(&config, section, served, socket)?;
        hides_keys |= credentials
            .plain_sections()
            .any(|section| section.header == name);
    }

    for (name, section) in config.named("services") {
        text += &format!("\n[services {name}]\n");
        for (key, value) in config.values(section) {
            text += &setting(key, &value);
        }
    }

    // Tools use keys of a section before its `credential_process`.
    let without_keys = match hides_keys {
        true => " AWS_SHARED_CREDENTIALS_FILE=/dev/null",
        false => "",
    };
    Ok(All {
        changes: change(original, &old, Some(text)),
        export: export + without_keys,
        not_served: files.not_served,
        not_served_count: files.not_served_count,
    })
}

impl All {
    pub(in crate::command::setup) fn report(&self, options: &Options) -> Result<(), Failure> {
        let Options {
            write, undo, json, ..
        } = options;
        if *json {
            return command::print_json(&Report {
                written: *write && !self.changes.is_empty(),
                changes: &self.changes,
                export: (!undo).then_some(&self.export),
                not_served_count: self.not_served_count,
                not_served: &self.not_served,
            });
        }

        let mut text = String::new();
        if self.changes.is_empty() {
            text += match undo {
                true => "There is no file of setup aws --all.\n",
                false => "The file is already up to date.\n",
            };
        }
        text.extend(self.changes.iter().map(|change| change.prose(*write)));
        if !write && !self.changes.is_empty() {
            text += "Run the command again with --write to make the changes.\n";
        }

        for each in &self.not_served {
            let NotServedSection {
                section,
                file,
                line,
                reason,
            } = each;
            let _ = writeln!(text, "Not served: [{section}] ({file}:{line}): {reason}");
        }
        let more = self.not_served_count - self.not_served.len().min(self.not_served_count);
        if more > 0 {
            let _ = writeln!(
                text,
                "Not served: {more} more; rolekeeperd --check lists all"
            );
        }
        if !undo {
            let _ = writeln!(
                text,
                "To use the file, set its variable in each shell:\n{}",
                self.export
            );
        }

        command::print(&(printable_lines(&text) + "\n"))
    }
}

/// The changes of the file, whose lines have no secret.
fn change(original: Original, old: &str, new: Option<String>) -> Vec<Change> {
    if new.as_deref().unwrap_or_default() == old {
        return Vec::new();
    }

    let lines = |text: &str| -> Vec<String> { text.lines().map(Into::into).collect() };
    let (before, after) = (lines(old), lines(new.as_deref().unwrap_or_default()));
    let removed = before.iter().filter(|line| !after.contains(line)).cloned();
    let added = after.iter().filter(|line| !before.contains(line)).cloned();

    vec![Change::File(Edit {
        file: original.path.display().to_string(),
        // It has nothing that cannot be written again.
        backup: None,
        removed: removed.collect(),
        added: added.collect(),
        original,
        content: new.map(String::into_bytes),
        new_mode: 0o600,
    })]
}

fn default_file() -> Result<PathBuf, Failure> {
    let config = places::default_config().ok_or_else(|| {
        Failure::new(
            Code::Configuration,
            "this user has no folder for configurations",
            "name a file with --file",
        )
    })?;
    Ok(config.with_file_name("aws-config"))
}

/// The files of AWS that a daemon reads, and its profiles. Starts the daemon if none is running.
fn daemon_files(socket: Option<&str>) -> Result<(AwsFilesStatus, Vec<ProfileStatus>), Failure> {
    let socket = connect::socket_path(socket.map(Into::into))?;
    let status = autostart::ask(&socket, status::read)?;
    match status.daemon.aws_files {
        Some(files) => Ok((*files, status.profiles)),
        None => Err(Failure::new(
            Code::Configuration,
            "the configuration of rolekeeperd names no file of AWS",
            format!(
                "add [aws] with config = \"~/.aws/config\" to {}, and reload rolekeeperd",
                status.daemon.launch.config
            ),
        )),
    }
}

/// The text of a file, which may be missing.
fn read(path: &str) -> Result<String, Failure> {
    let path = Path::new(path);
    match path.is_file() {
        true => Original::read_only(path)?.text().map(Into::into),
        false => Ok(String::new()),
    }
}

/// The header of an AWS profile. None for a name that tools read differently.
fn header(name: &str) -> Option<String> {
    let is_odd = |each: char| each.is_control() || "[]\"'\\".contains(each);
    if name.is_empty() || name.contains(is_odd) {
        return None;
    }

    Some(match name {
        "default" => name.into(),
        _ if name.contains(|each: char| each.is_whitespace() || "#;".contains(each)) => {
            format!("profile \"{name}\"")
        }
        _ => format!("profile {name}"),
    })
}

/// The settings of a section: its own, with `credential_process` instead of its credentials.
fn settings(
    config: &Ini<'_>,
    section: Option<&Section>,
    served: &ProfileStatus,
    socket: Option<&str>,
) -> Result<String, Failure> {
    let mut text = String::new();
    if let Some(region) = &served.region {
        text += &format!("{REGION} = {region}\n");
    }
    text += &format!(
        "{PROCESS} = {}\n",
        credential_process(&served.profile, socket)?
    );

    let values = section
        .map(|section| config.values(section))
        .unwrap_or_default();
    let others = values
        .into_iter()
        .filter(|(key, _)| !CREDENTIALS.contains(key) && !key.starts_with("sso_"));
    text.extend(others.map(|(key, value)| setting(key, &value)));

    Ok(text)
}

fn setting(key: &str, value: &Value<'_>) -> String {
    match value {
        Value::Text(text) => format!("{key} = {}\n", text.replace('\n', "\n  ")),
        Value::Nested(settings) => {
            let lines = settings
                .iter()
                .map(|(key, value)| format!("  {key} = {value}\n"));
            format!("{key} =\n{}", lines.collect::<String>())
        }
    }
}
