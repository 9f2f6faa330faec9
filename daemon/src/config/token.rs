//! What the configuration says of where a principal's token lives.

use std::path::Path;
use std::time::Duration;

use rolekeeper::protocol::is_name;

use super::file::{file_path, time_span};
use super::raw::{Faults, Table};
use super::{LONGEST_SESSION, TokenLocation};

/// How long what a program printed is good for, unless the configuration says so.
const KEEP: Duration = Duration::from_secs(15 * 60);

pub(super) fn source(
    mut table: Table<'_>,
    folder: &Path,
    faults: &mut Faults,
) -> Option<TokenLocation> {
    let (path, span) = (table.path.clone(), table.span.clone());
    let before = faults.0.len();
    let env = table.text("env", faults, |text| match text {
        "" => Err("is no name of a variable".into()),
        _ if text.contains(['=', '\0']) => Err("is no name of a variable".into()),
        _ => Ok(TokenLocation::Env(text.into())),
    });
    let file = table.text("file", faults, |text| {
        file_path(text, folder).map(TokenLocation::File)
    });
    let keyring = table.text("keyring", faults, |text| {
        entry(text, "an entry's name").map(TokenLocation::Keyring)
    });
    let credential = table.text("systemd_credential", faults, |text| {
        entry(text, "a credential's").map(TokenLocation::SystemdCredential)
    });
    let age = age(&mut table, folder, faults);
    let command = command(&mut table, faults);
    table.finish(faults);
    let mut sources = [env, file, keyring, credential, age, command]
        .into_iter()
        .flatten();
    match (sources.next(), sources.next()) {
        (Some(source), None) => Some(source),
        (Some(_), Some(_)) => {
            let kinds = "`keyring`, `age`, `command`, `file`, `env` and `systemd_credential`";
            faults.add(
                &span,
                format!("`{path}` has more than one source; keep one of {kinds}"),
            );
            None
        }
        (None, _) => {
            if faults.0.len() == before {
                let example =
                    "{ keyring = \"NAME\" }, { file = \"PATH\" } or { command = [\"PROGRAM\", …] }";
                faults.add(&span, format!("`{path}` has no source; write {example}"));
            }
            None
        }
    }
}

fn entry(text: &str, what: &str) -> Result<String, String> {
    let rule = "has 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit";
    if is_name(text) {
        Ok(text.into())
    } else {
        Err(format!("is no name: {what} {rule}"))
    }
}

fn age(table: &mut Table<'_>, folder: &Path, faults: &mut Faults) -> Option<TokenLocation> {
    let file = table.text("age", faults, |text| file_path(text, folder));
    let stray = table.span_of("identity").filter(|_| file.is_none());
    let identity = table.text("identity", faults, |text| file_path(text, folder));
    if let Some(span) = stray {
        faults.add(
            &span,
            format!(
                "`{}.identity` belongs to `age`, which is not here",
                table.path
            ),
        );
    }
    Some(TokenLocation::Age {
        file: file?,
        identity,
    })
}

fn command(table: &mut Table<'_>, faults: &mut Faults) -> Option<TokenLocation> {
    let span = table.span_of("command");
    let mut words = Vec::new();
    table.texts("command", faults, |text| match text {
        _ if text.contains('\0') => Err("has a NUL in it".into()),
        _ => {
            words.push(text.into());
            Ok(())
        }
    });
    let stray = table.span_of("keep").filter(|_| span.is_none());
    let keep = table.text("keep", faults, |text| match time_span(text) {
        Ok(span) if span <= LONGEST_SESSION => Ok(span),
        Ok(_) => Err("is out of range; what a program printed is kept for 0s to 12h".into()),
        Err(why) => Err(why),
    });
    if let Some(span) = stray {
        faults.add(
            &span,
            format!(
                "`{}.keep` belongs to `command`, which is not here",
                table.path
            ),
        );
    }
    let span = span?;
    if words.first().is_none_or(String::is_empty) {
        faults.add(
            &span,
            format!(
                "`{}.command` names no program; write [\"op\", \"read\", …]",
                table.path
            ),
        );
        return None;
    }
    Some(TokenLocation::Command {
        words,
        keep: keep.unwrap_or(KEEP),
    })
}
