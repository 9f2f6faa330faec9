//! Commands of other programs that change their own configuration.

use std::io::ErrorKind;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rolekeeper::protocol::{Code, Failure};
use rolekeeper::shell::quoted;

/// How long another program may hold the lock of the configuration.
const BUSY_DEADLINE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// Runs a command and returns its standard output. `git config` exits with 1 and prints no error if it finds no value.
pub(super) fn run(command: &[String]) -> Result<String, Failure> {
    let start = Instant::now();
    loop {
        match run_once(command) {
            Err(Refused::Busy(_)) if start.elapsed() < BUSY_DEADLINE => std::thread::sleep(PAUSE),
            Err(Refused::Busy(failure) | Refused::Other(failure)) => return Err(failure),
            Ok(text) => return Ok(text),
        }
    }
}

enum Refused {
    /// Another program holds the lock, or has left its file.
    Busy(Failure),
    Other(Failure),
}

fn run_once(command: &[String]) -> Result<String, Refused> {
    let program = command.first().map_or("", String::as_str);
    let mut process = Command::new(program);
    process.args(command.iter().skip(1)).stdin(Stdio::null());
    // Its messages are parsed.
    process.env("LC_ALL", "C");
    let output = process.output().map_err(|error| {
        Refused::Other(match error.kind() {
            ErrorKind::NotFound => Failure::new(
                Code::Configuration,
                format!("{program} is not installed: setup needs it to change its configuration"),
                format!("install {program} in a folder on PATH"),
            ),
            _ => failed(command, &error.to_string()),
        })
    })?;

    let has_found_none = output.status.code() == Some(1) && output.stderr.is_empty();
    if output.status.success() || has_found_none {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }

    let errors = String::from_utf8_lossy(&output.stderr);
    let lines = errors.lines().filter(|line| !line.trim().is_empty());
    if let Some(busy) = lines.clone().find(|line| is_busy(line)) {
        let mut failure = failed(command, busy);
        failure.hint = "wait until the other program has changed the file; \
            if none is running, remove its .lock file"
            .into();
        return Err(Refused::Busy(failure));
    }

    let first = lines.clone().next();
    let reason = first.map_or_else(|| output.status.to_string(), str::to_owned);

    Err(Refused::Other(failed(command, &reason)))
}

/// Whether this is the message of git or kubectl about a lock file.
fn is_busy(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    line.contains("file exists") && line.contains("lock")
}

fn failed(command: &[String], reason: &str) -> Failure {
    let hint = match command.first() {
        Some(program) if reason.contains("unknown") => format!("install a newer {program}"),
        _ => "fix this and run the command again".into(),
    };
    let message = format!("{} failed: {reason}", quoted(command));
    Failure::new(Code::Configuration, message, hint)
}
