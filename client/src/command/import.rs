//! `rolekeeper import aws`: moves access keys from a file of AWS into the keyring or the age file of an upstream. It never
//! changes the file of AWS: a person deletes the lines once everything works.

use std::path::{Path, PathBuf};

use rolekeeper::aws_file::{Ini, Invalid, profile_name};
use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, TokenSourceInfo};

use super::{login, prompt};
use crate::command;

pub(crate) const HELP: &str = "\
The upstream needs a place for keys that rolekeeper can write. For [NAME] of ~/.aws/credentials it is, unless --upstream names
another one:

    [upstream.\"aws.NAME\"]
    kind = \"aws\"
    region = \"eu-central-1\"
    keys = { keyring = \"aws.NAME\" }

Sections of ~/.aws/config with source_profile = NAME then use its keys.";

/// Where the tokens come from.
#[derive(clap::Subcommand)]
pub(crate) enum Source {
    /// Store access keys of ~/.aws/credentials at an upstream, once AWS has accepted them
    #[command(after_help = HELP)]
    Aws(Arguments),
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The section with the keys
    #[arg(long, value_name = "NAME", default_value = "default")]
    profile: String,
    /// The upstream that gets the keys [default: aws.NAME]
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// The file with the keys [default: ~/.aws/credentials]
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Print JSON instead of prose
    #[arg(long)]
    json: bool,
}

/// The keys of a section, and the lines that have them.
struct Found {
    keys: String,
    lines: Vec<(usize, &'static str)>,
}

pub(crate) fn run(source: &Source, socket: Option<PathBuf>) -> Result<(), Failure> {
    prompt::disable_core_dumps();
    let Source::Aws(arguments) = source;
    let Arguments {
        profile,
        upstream,
        file,
        json,
    } = arguments;

    let file = match file {
        Some(file) => file.clone(),
        None => default_file()?,
    };
    let found = read(&file, profile)?;
    let upstream = upstream.clone().unwrap_or_else(|| profile_name(profile));

    let socket = connect::socket_path(socket)?;
    let source = login::token_source(&socket, Some(&upstream))?;
    if !source.is_writable {
        return Err(not_writable(&source));
    }
    login::store(&socket, Some(&upstream), &source, &found.keys, *json)?;
    if *json {
        return Ok(());
    }

    let mut text = "Delete these lines once your tools work:\n".to_owned();
    for (line, key) in &found.lines {
        text += &format!("  {}:{line}: {key}\n", file.display());
    }
    command::print(&text)
}

fn default_file() -> Result<PathBuf, Failure> {
    let home = rolekeeper::places::home().ok_or_else(|| {
        Failure::new(
            Code::Configuration,
            "this user has no home",
            "name the file with --file",
        )
    })?;
    Ok(home.join(".aws/credentials"))
}

fn read(path: &Path, profile: &str) -> Result<Found, Failure> {
    let failed = |reason: String, hint: String| {
        let message = format!("{}: {reason}", path.display());
        Failure::new(Code::Configuration, message, hint)
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        let hint = "name the file with --file, and make it readable";
        failed(error.to_string(), hint.into())
    })?;
    let ini = Ini::parse(&text).map_err(|Invalid { line, reason }| {
        let hint = format!("fix line {line}");
        failed(
            format!("AWS tools cannot read it: line {line}: {reason}"),
            hint,
        )
    })?;
    let section = ini.plain_sections().find(|section| {
        let header = section.header.as_str();
        header == profile
            || ini
                .profiles()
                .iter()
                .any(|(name, each)| name == profile && each.header == header)
    });
    let Some(section) = section else {
        let hint = "name a section with --profile".into();
        return Err(failed(format!("there is no section {profile}"), hint));
    };

    let setting = |key: &'static str| {
        let setting = section
            .setting(key)
            .filter(|setting| !setting.value.is_empty());
        setting.ok_or_else(|| {
            let hint = "name a section with access keys with --profile";
            failed(format!("[{profile}] has no {key}"), hint.into())
        })
    };
    let (id_key, secret_key) = ("aws_access_key_id", "aws_secret_access_key");
    let (id, secret) = (setting(id_key)?, setting(secret_key)?);
    if section.setting("aws_session_token").is_some() {
        let hint = "import the keys of a user, which do not expire";
        return Err(failed(
            format!("the keys of [{profile}] are those of a session"),
            hint.into(),
        ));
    }

    Ok(Found {
        keys: format!("{}:{}", id.value, secret.value),
        lines: vec![
            (id.lines.start + 1, id_key),
            (secret.lines.start + 1, secret_key),
        ],
    })
}

fn not_writable(source: &TokenSourceInfo) -> Failure {
    let name = &source.upstream;
    Failure::new(
        Code::Usage,
        format!("rolekeeper cannot write {}", source.location),
        format!(
            "add [upstream.\"{name}\"] with kind, region and keys = {{ keyring = \"{name}\" }} to the daemon's configuration, and restart rolekeeperd"
        ),
    )
}
