//! The files that the configuration names and that must be there once a token is needed. The daemon starts without them,
//! because they may come later. `--check` fails.

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
        | TokenLocation::SystemdCredential(_) => None,
    }
}
