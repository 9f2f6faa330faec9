//! `token` of `[upstream.NAME]`: where the token of the principal is.

use std::path::Path;
use std::time::Duration;

use rolekeeper::protocol::is_name;

use super::raw::{Errors, Table};
use super::values::{NAME_RULE, duration_within, path, program};
use super::{LONGEST_SESSION, TokenLocation};

/// How long the output of a token command is cached by default.
const DEFAULT_KEEP: Duration = Duration::from_secs(15 * 60);

pub(super) fn parse(
    mut table: Table<'_>,
    folder: &Path,
    errors: &mut Errors,
) -> Option<TokenLocation> {
    let name = table.path.clone();
    let span = table.span.clone();
    let errors_before = errors.0.len();
    let env = table.string("env", errors, |text| {
        if text.is_empty() || text.contains(['=', '\0']) {
            Err("is not the name of an environment variable".into())
        } else {
            Ok(TokenLocation::Env(text.into()))
        }
    });

    let file = table.string("file", errors, |text| {
        path(text, folder).map(TokenLocation::File)
    });

    let keyring = table.string("keyring", errors, |text| {
        entry_name(text).map(TokenLocation::Keyring)
    });

    let credential = table.string("systemd_credential", errors, |text| {
        entry_name(text).map(TokenLocation::SystemdCredential)
    });

    let age = age(&mut table, folder, errors);
    let command = command(&mut table, folder, errors);
    table.finish(errors);

    let locations = [env, file, keyring, credential, age, command];
    let mut locations = locations.into_iter().flatten();
    match (locations.next(), locations.next()) {
        (Some(location), None) => Some(location),
        (Some(_), Some(_)) => {
            let keys = "`keyring`, `age`, `command`, `file`, `env` and `systemd_credential`";
            errors.add(
                &span,
                format!("`{name}` has more than one location; set one of {keys}"),
            );
            None
        }
        (None, _) => {
            if errors.0.len() == errors_before {
                let example =
                    "{ keyring = \"NAME\" }, { file = \"PATH\" } or { command = [\"PROGRAM\", …] }";
                errors.add(&span, format!("`{name}` has no location; set {example}"));
            }
            None
        }
    }
}

fn entry_name(text: &str) -> Result<String, String> {
    if is_name(text) {
        Ok(text.into())
    } else {
        Err(format!("is not a valid name: use {NAME_RULE}"))
    }
}

fn age(table: &mut Table<'_>, folder: &Path, errors: &mut Errors) -> Option<TokenLocation> {
    let file = table.string("age", errors, |text| path(text, folder));
    let identity_span = table.span_of("identity");
    let identity = table.string("identity", errors, |text| path(text, folder));
    if let Some(span) = identity_span
        && file.is_none()
    {
        errors.add(
            &span,
            format!("`{}.identity` needs `age` beside it", table.path),
        );
    }

    Some(TokenLocation::Age {
        file: file?,
        identity,
    })
}

pub(super) fn command(
    table: &mut Table<'_>,
    folder: &Path,
    errors: &mut Errors,
) -> Option<TokenLocation> {
    let span = table.span_of("command");
    let mut words = Vec::new();
    let mut is_first = true;
    table.strings("command", errors, |text| {
        let is_program = std::mem::take(&mut is_first);
        if text.contains('\0') {
            return Err("contains a NUL character".into());
        }

        if is_program && !text.is_empty() {
            let program = program(text, folder)?;
            words.push(program.to_string_lossy().into_owned());
        } else {
            words.push(text.to_owned());
        }
        Ok(())
    });

    let keep_span = table.span_of("keep");
    let keep = table.string("keep", errors, |text| {
        duration_within(text, Duration::ZERO..=LONGEST_SESSION, "0s to 12h")
    });

    if let Some(keep_span) = keep_span
        && span.is_none()
    {
        errors.add(
            &keep_span,
            format!("`{}.keep` needs `command` beside it", table.path),
        );
    }

    let span = span?;
    // A wrong name of the program has its own error.
    if words.is_empty() && !is_first {
        return None;
    }
    if words.first().is_none_or(String::is_empty) {
        let message = format!(
            "`{}.command` names no program; set, for example, [\"/usr/bin/op\", \"read\", …]",
            table.path
        );
        errors.add(&span, message);
        return None;
    }

    Some(TokenLocation::Command {
        words,
        keep: keep.unwrap_or(DEFAULT_KEEP),
    })
}
