//! The search for leaked secrets: in what programs print, and in what they store.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;

use super::{Home, Run};

/// Field names of secrets in leases and in replies of the API.
const SECRET_FIELDS: [&str; 7] = [
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "SecretAccessKey",
    "SessionToken",
    "secret",
    "secret_access_key",
    "session_token",
];

/// Every secret, session token and MFA seed of the sandbox's AWS contains one of these.
const MARKERS: [&str; 2] = ["canary/", "CANARYSEED"];

#[derive(Debug, Default)]
pub(super) struct LeakCheck {
    secrets: Mutex<Vec<String>>,
    outputs: Mutex<Vec<Output>>,
}

/// A text that must contain no secret.
#[derive(Debug)]
struct Output {
    source: String,
    text: String,
    /// Whether leases may be in it. Secrets of other leases may not.
    may_have_leases: bool,
}

impl LeakCheck {
    pub(super) fn add_secret(&self, text: &str) {
        self.secrets.lock().expect("unpoisoned").push(text.into());
    }

    /// Standard error, or a file that a program stores.
    pub(super) fn add_output(&self, source: &str, text: &str) {
        self.add(source, text, false);
    }

    fn add(&self, source: &str, text: &str, may_have_leases: bool) {
        let output = Output {
            source: source.into(),
            text: text.into(),
            may_have_leases,
        };
        self.outputs.lock().expect("unpoisoned").push(output);
    }

    /// A JSON document with secrets, such as a lease, may be on standard output. From then on its
    /// secrets may be nowhere else.
    pub(super) fn add_run(&self, command: &str, run: &Run) {
        self.add_output(command, &run.stderr);

        let secrets = serde_json::from_str(&run.stdout)
            .map_or_else(|_| Vec::new(), |document| secrets_of(&document));
        if secrets.is_empty() {
            self.add(command, &run.stdout, true);
        }
        for secret in &secrets {
            self.add_secret(secret);
        }
    }

    fn add_files(&self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.add_files(&path),
                // Reading a pipe would wait for its writer.
                Ok(kind) if kind.is_file() => {
                    let bytes = fs::read(&path).unwrap_or_default();
                    let text = String::from_utf8_lossy(&bytes);
                    self.add_output(&path.display().to_string(), &text);
                }
                _ => {}
            }
        }
    }

    fn check(&self) {
        let secrets = self.secrets.lock().expect("unpoisoned");

        for output in self.outputs.lock().expect("unpoisoned").iter() {
            let Output { source, text, .. } = output;
            let has_marker = MARKERS.iter().any(|marker| text.contains(marker));
            let leaks = secrets.iter().any(|secret| text.contains(secret))
                || (has_marker && !output.may_have_leases);
            assert!(!leaks, "{source} leaks a secret:\n{text}");
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.kill_autostarted_daemon();
        if std::thread::panicking() {
            return;
        }

        for folder in ["run", "state"] {
            self.leaks.add_files(&self.path().join(folder));
        }
        self.leaks.check();
    }
}

fn secrets_of(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| SECRET_FIELDS.contains(&name.as_str()))
            .filter_map(|(_, value)| value.as_str().map(str::to_owned))
            .chain(fields.values().flat_map(secrets_of))
            .collect(),
        Value::Array(items) => items.iter().flat_map(secrets_of).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stdout: &str, stderr: &str) -> Run {
        Run {
            code: 0,
            stdout: stdout.into(),
            stderr: stderr.into(),
        }
    }

    #[test]
    #[should_panic(expected = "leaks a secret")]
    fn aws_secret_in_standard_error_is_a_leak() {
        let leaks = LeakCheck::default();
        leaks.add_run("tool", &run("", "key canary/+0123"));
        leaks.check();
    }

    #[test]
    fn aws_secret_in_a_lease_is_no_leak() {
        let leaks = LeakCheck::default();
        leaks.add_run(
            "tool",
            &run("export AWS_SECRET_ACCESS_KEY=canary/+0123", ""),
        );
        leaks.check();
    }
}
