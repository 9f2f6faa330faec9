//! A profile of the AWS CLI and AWS SDKs: `credential_process` in a section of `~/.aws/config`. Its command has nothing but
//! plain words, because SDKs split and quote it by rules of their own.

use std::path::{Path, PathBuf};

use clap_complete::ArgValueCandidates;
use rolekeeper::protocol::{Code, Failure};

use super::How;
use super::block::{Kind, Maker, Sections};
use super::file::Original;
use super::lines::{Lines, Wrong};
use super::plan::{Change, FileKind, Plan, refused, undone};
use super::program;
use crate::command::iam::suggest;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The profile's name in the daemon's configuration
    #[arg(add = ArgValueCandidates::new(suggest::profiles), value_parser = program::profile)]
    pub(super) profile: String,
    /// The AWS profile, which may be `default` [default: as PROFILE]
    #[arg(long, value_name = "NAME", value_parser = program::profile)]
    name: Option<String>,
    /// The region that tools are to use with it
    #[arg(long, value_name = "REGION", value_parser = region)]
    region: Option<String>,
    /// The file [default: $AWS_CONFIG_FILE, else ~/.aws/config]
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) how: How,
}

const MAKER: Maker = Maker {
    tool: "aws",
    option: "--name",
    is_optional: true,
    settings: &["credential_process", "region"],
    kinds,
};

fn region(text: &str) -> Result<String, String> {
    program::profile(text).map_err(|_| "a region is letters, digits and `-`: eu-central-1".into())
}

pub(super) fn plan(arguments: &Arguments, socket: Option<&str>) -> Result<Plan, Failure> {
    let Arguments {
        profile,
        name,
        region,
        file,
        how,
    } = arguments;
    let name = name.as_ref().unwrap_or(profile);
    let path = match file.clone().or_else(|| program::path_in("AWS_CONFIG_FILE")) {
        Some(path) => path,
        None => program::at_home(".aws/config")?,
    };
    let original = Original::read(&path)?;
    let refuse = |wrong: Wrong| refused(&original.path, &wrong);
    let sections = Sections::read(original.content(), MAKER).map_err(refuse)?;
    let mut notes = Vec::new();
    let after = if how.undo {
        match sections.block(name) {
            Some(block) if block.profile == *profile => {
                let left = sections.without(block).map_err(refuse)?;
                undone(&original, left, |_| false, <[u8]>::is_empty)
            }
            _ => {
                notes = sections.commands();
                original.bytes.clone()
            }
        }
    } else {
        if let Some((line, _)) = sections
            .others()
            .find(|(_, header)| profile_of(header) == Some(name))
        {
            return Err(taken(
                &original.path,
                line,
                name,
                "is there already, and not by rolekeeper",
            ));
        }
        not_among_keys(name)?;
        let body = body(profile, name, region.as_deref(), socket)?;
        Some(sections.with(profile, name, &body).map_err(refuse)?)
    };
    let usage = match name.as_str() {
        "default" => "aws sts get-caller-identity".into(),
        name => format!("aws --profile {name} sts get-caller-identity"),
    };
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

/// The section.
fn body(
    profile: &str,
    name: &str,
    region: Option<&str>,
    socket: Option<&str>,
) -> Result<Vec<String>, Failure> {
    let names = program::names()?;
    let program = names
        .iter()
        .find(|name| program::is_plain(name))
        .ok_or_else(|| {
            Failure::new(
                Code::Configuration,
                format!(
                    "not every AWS SDK can start this program by its path, {}",
                    names.last().map_or("", String::as_str)
                ),
                program::LINK,
            )
        })?;
    let header = if name == "default" {
        "[default]".into()
    } else {
        format!("[profile {name}]")
    };
    let mut process = format!("credential_process = {program} credential-process {profile}");
    if let Some(socket) = socket {
        if !program::is_plain(socket) {
            return Err(Failure::new(
                Code::Usage,
                format!("--socket: not every AWS SDK can pass on the path {socket}"),
                "a path of A-Z a-z 0-9 - _ . and / alone",
            ));
        }
        process += &format!(" --socket {socket}");
    }
    Ok([
        Some(header),
        region.map(|region| format!("region = {region}")),
        Some(process),
    ]
    .into_iter()
    .flatten()
    .collect())
}

/// Keys of a profile of the same name would come first in some SDKs.
fn not_among_keys(name: &str) -> Result<(), Failure> {
    let path = match program::path_in("AWS_SHARED_CREDENTIALS_FILE") {
        Some(path) => path,
        None => match program::at_home(".aws/credentials") {
            Ok(path) => path,
            Err(_) => return Ok(()),
        },
    };
    // Devices say that there are no keys.
    if !path.is_file() {
        return Ok(());
    }
    let original = Original::read(&path)?;
    let headers = original.content().split(|&byte| byte == b'\n').map(header);
    match headers
        .enumerate()
        .find(|(_, header)| header.as_deref() == Some(name))
    {
        Some((line, _)) => Err(taken(
            &original.path,
            line,
            name,
            "has keys here, which some tools would use instead",
        )),
        None => Ok(()),
    }
}

fn taken(path: &Path, line: usize, name: &str, why: &str) -> Failure {
    Failure::new(
        Code::Configuration,
        format!(
            "{}:{}: the AWS profile {name} {why}",
            path.display(),
            line + 1
        ),
        "another one with --name, or take that out first",
    )
}

/// The AWS profile that a section of the configuration is about.
fn profile_of(header: &str) -> Option<&str> {
    if header == "default" {
        return Some(header);
    }
    let name = header
        .strip_prefix("profile")
        .filter(|rest| rest.starts_with(char::is_whitespace))?
        .trim();
    Some(name.trim_matches(['"', '\'']))
}

/// What is between the brackets of a section's first line.
fn header(line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(line);
    let text = text
        .trim_start_matches('\u{feff}')
        .trim()
        .strip_prefix('[')?;
    Some(text.split_once(']')?.0.trim().to_owned())
}

/// By the rules of botocore's parser: what is indented deeper than a setting belongs to it.
fn kinds(lines: &Lines<'_>) -> Result<Vec<Kind>, Wrong> {
    let mut kinds = Vec::with_capacity(lines.len());
    let mut is_in_section = false;
    // How deep the last setting of this section is.
    let mut depth = None;
    for (line, bytes) in lines.iter().enumerate() {
        let text = String::from_utf8_lossy(bytes);
        let rest = text.trim();
        let indent = text.chars().take_while(|each| each.is_whitespace()).count();
        kinds.push(if rest.is_empty() || rest.starts_with(['#', ';']) {
            Kind::Nothing
        } else if depth.is_some_and(|depth| indent > depth) {
            Kind::Setting
        } else if rest.starts_with('[') {
            let header = header(bytes)
                .ok_or_else(|| Wrong::new(line + 1, "the name of this section has no end"))?;
            (is_in_section, depth) = (true, None);
            Kind::Section(header)
        } else if !is_in_section {
            return Err(Wrong::new(line + 1, "this is in no section"));
        } else if rest.contains(['=', ':']) {
            depth = Some(indent);
            Kind::Setting
        } else {
            return Err(Wrong::new(
                line + 1,
                "this is neither a section nor a setting",
            ));
        });
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::setup::odd;

    fn section(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    fn ours(region: &str) -> Vec<String> {
        section(&[
            "[profile dev]",
            region,
            "credential_process = /bin/rolekeeper credential-process dev",
        ])
    }

    #[test]
    fn what_was_put_in_and_taken_out_again_leaves_the_same_bytes() {
        let pieces: [&[u8]; 9] = [
            b"\n",
            b"# a comment\n",
            b"[default]\nregion = a\n",
            b"[profile x]\ns3 =\n  max = 1\n\n  # more\n  min = 2\n",
            b"[ profile  y ] ; why\n\tkey:v\n",
            b"[services z]\nname = \xff\xfe\n",
            b"  ; indented\n\n\n",
            b"[sso-session s]\nempty =\n",
            b"# >>> rolekeeper setup aws prod >>>\n[profile prod]\ncredential_process = x\n# <<< rolekeeper setup aws prod <<<\n",
        ];
        let files = odd::files(&pieces);
        let mut changed = 0;
        for file in &files {
            let Ok(sections) = Sections::read(file, MAKER) else {
                continue;
            };
            let with = sections.with("dev", "dev", &ours("region = a")).unwrap();
            let again = Sections::read(&with, MAKER).unwrap();
            assert_eq!(again.with("dev", "dev", &ours("region = a")).unwrap(), with);
            let other = again.with("dev", "dev", &ours("region = b")).unwrap();
            assert_ne!(other, with);
            for bytes in [with, other] {
                let ours = Sections::read(&bytes, MAKER).unwrap();
                let left = ours.without(ours.block("dev").unwrap()).unwrap();
                assert!(
                    left == *file,
                    "{:?} became {:?}",
                    file.escape_ascii(),
                    left.escape_ascii()
                );
            }
            changed += 1;
        }
        assert!(
            changed > 1000 && changed < files.len(),
            "{changed} of {}",
            files.len()
        );
    }

    #[test]
    fn what_is_no_configuration_is_refused_with_its_line() {
        for (text, line) in [
            ("key = v\n", 1),
            ("\n[default\n", 2),
            ("[default]\nno setting\n", 2),
            ("[default]\nx = 1\n[", 3),
            ("[default]\rx = 1\n", 1),
            ("# >>> rolekeeper setup aws dev >>>\n[profile dev]\n", 1),
            ("# <<< rolekeeper setup aws dev <<<\n", 1),
            (
                "# >>> rolekeeper setup aws a >>>\n# >>> rolekeeper setup aws b >>>\n",
                2,
            ),
            (
                "# >>> rolekeeper setup aws a b >>>\n# <<< rolekeeper setup aws a b <<<\n",
                2,
            ),
        ] {
            assert_eq!(
                Sections::read(text.as_bytes(), MAKER).unwrap_err().line,
                line,
                "{text}"
            );
        }
    }

    #[test]
    fn what_somebody_else_wrote_into_our_part_or_behind_it_is_not_thrown_away() {
        let part = |inside: &str, behind: &str| {
            format!(
                "# >>> rolekeeper setup aws dev >>>\n[profile dev]\n{inside}credential_process = x\n\
                 # <<< rolekeeper setup aws dev <<<\n{behind}"
            )
        };
        for inside in [
            "output = json\n",
            "# mine\n",
            "[profile other]\n",
            "region = a\n  deeper = b\n",
        ] {
            let text = part(inside, "");
            let sections = Sections::read(text.as_bytes(), MAKER).unwrap();
            let wrong = sections
                .without(sections.block("dev").unwrap())
                .unwrap_err();
            assert!(
                wrong.why.contains("not rolekeeper's") && (3..=4).contains(&wrong.line),
                "{inside}"
            );
            assert!(sections.with("dev", "dev", &ours("region = b")).is_err());
        }
        for (behind, is_free) in [
            ("", true),
            ("\n# c\n[default]\n", true),
            ("output = json\n", false),
            ("\n# c\n\noutput = json\n", false),
        ] {
            let text = part("\n", behind);
            let sections = Sections::read(text.as_bytes(), MAKER).unwrap();
            assert_eq!(
                sections.without(sections.block("dev").unwrap()).is_ok(),
                is_free,
                "{behind}"
            );
            assert!(sections.with("dev", "dev", &ours("region = b")).is_ok());
        }
    }

    #[test]
    fn a_profile_is_known_however_its_section_is_written() {
        for (line, want) in [
            ("[profile dev]", Some("dev")),
            ("  [ profile \t dev ] # x", Some("dev")),
            ("[profile \"dev\"]", Some("dev")),
            ("[profile 'dev']", Some("dev")),
            ("[default]", Some("default")),
            ("[profile default]", Some("default")),
            ("[dev]", None),
            ("[profiledev]", None),
            ("[sso-session dev]", None),
        ] {
            let header = header(line.as_bytes()).unwrap();
            assert_eq!(profile_of(&header), want, "{line}");
        }
    }
}
