//! The files that the configuration names and that must be there once a token is needed. The daemon starts without them,
//! because they may come later. `--check` fails.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::file::ConfigError;
use super::values::is_executable;
use super::{Config, TokenLocation};
use crate::platform::private_file;

/// # Errors
/// A sentence for each token file and each token command that cannot be used now.
pub(crate) fn check_used_files(config: &Config) -> Result<(), ConfigError> {
    let mut problems = Vec::new();
    for upstream in &config.upstreams {
        let found = upstream.token_locations().filter_map(problem);
        problems.extend(found.map(|problem| format!("upstream {}: {problem}", upstream.name)));
    }

    if problems.is_empty() {
        Ok(())
    } else {
        Err(ConfigError::UnusableFiles(problems))
    }
}

fn problem(token: &TokenLocation) -> Option<String> {
    match token {
        TokenLocation::File(path) => {
            let error = private_file::read(path).err()?;
            Some(format!("the token file {error}"))
        }
        TokenLocation::Command { words, .. } => {
            let program = Path::new(words.first()?);
            let reason = if is_executable(program) {
                return None;
            } else if program.exists() {
                "is not an executable file"
            } else {
                "does not exist"
            };
            Some(format!("the token command {} {reason}", program.display()))
        }
        // `rolekeeper login` writes the first two, and the others are the daemon's own, and not of this process.
        TokenLocation::Keyring(_)
        | TokenLocation::Age { .. }
        | TokenLocation::Env(_)
        | TokenLocation::AwsFile { .. }
        | TokenLocation::SystemdCredential(_) => None,
    }
}

/// A sentence for each caller rule whose program is a script: the kernel reports its interpreter, so that no process fits.
pub(crate) fn rules_for_scripts(config: &Config) -> Vec<String> {
    let rules = config.profiles().flat_map(|profile| {
        profile
            .callers
            .rules
            .iter()
            .map(move |rule| (profile, rule))
    });

    rules
        .flat_map(|(profile, rule)| [("exe", &rule.exe), ("under", &rule.under)].map(|(key, path)| (profile, key, path)))
        .filter_map(|(profile, key, path)| {
            let path = path.as_deref().filter(|path| is_script(path))?;
            Some(format!(
                "`{key}` in `callers` of [profile.{}] matches no process: {} is a script (it begins with #!), and the \
                 kernel reports its interpreter\n  try: name a compiled program that starts the script, with `under`",
                profile.name,
                path.display()
            ))
        })
        .collect()
}

fn is_script(path: &Path) -> bool {
    // Opening a pipe blocks until it has a writer.
    let is_file = path.metadata().is_ok_and(|meta| meta.is_file());
    let mut start = [0; 2];

    is_file
        && File::open(path).is_ok_and(|mut file| file.read_exact(&mut start).is_ok())
        && start == *b"#!"
}
