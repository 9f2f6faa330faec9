//! Forwarding of records to the system's logs: to journald by its native protocol
//! (systemd.io/JOURNAL_NATIVE_PROTOCOL), and to syslog by RFC 3164 over the local socket.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::record::Record;
use crate::config::AlsoTo;

const JOURNALD: &str = "/run/systemd/journal/socket";
const SYSLOG: &str = "/dev/log";
/// Facility `authpriv`, severity `notice`.
const PRIORITY: u32 = 10 * 8 + 5;

/// Sends records to one of the system's logs.
#[derive(Debug)]
pub(super) struct Forwarder {
    to: AlsoTo,
    path: PathBuf,
    socket: Option<UnixDatagram>,
    /// The failure is in the daemon's log.
    is_failing: bool,
}

impl Forwarder {
    pub(super) fn new(to: AlsoTo) -> Self {
        let path = match to {
            AlsoTo::Journald => JOURNALD,
            AlsoTo::Syslog => SYSLOG,
        };
        Self::at(to, Path::new(path))
    }

    fn at(to: AlsoTo, path: &Path) -> Self {
        Self {
            to,
            path: path.into(),
            socket: None,
            is_failing: false,
        }
    }

    pub(super) fn send(&mut self, record: &Record) {
        let Err(error) = self.try_send(record) else {
            self.is_failing = false;
            return;
        };

        if !self.is_failing {
            tracing::warn!(path = %self.path.display(), %error, "cannot forward the journal");
        }

        self.is_failing = true;
        // The next record connects again: the log may have restarted.
        self.socket = None;
    }

    fn try_send(&mut self, record: &Record) -> io::Result<()> {
        let json = serde_json::to_string(record)?;
        let text = match self.to {
            AlsoTo::Journald => journald_entry(record, &json)?,
            AlsoTo::Syslog => format!("<{PRIORITY}>rolekeeperd[{}]: {json}", std::process::id()),
        };

        if let Some(socket) = &self.socket
            && socket.send(text.as_bytes()).is_ok()
        {
            return Ok(());
        }

        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect(&self.path)?;
        socket.send(text.as_bytes())?;
        self.socket = Some(socket);

        Ok(())
    }
}

/// One line for each field: the record as JSON, its fields, and the first process. No value contains a line break.
fn journald_entry(record: &Record, json: &str) -> io::Result<String> {
    let mut entry =
        format!("MESSAGE={json}\nPRIORITY=5\nSYSLOG_IDENTIFIER=rolekeeperd\nSYSLOG_FACILITY=10\n");
    let value = serde_json::to_value(record)?;
    let mut add = |name: &str, value: &Value| {
        let text = match value {
            Value::String(text) => crate::text::one_line(text),
            Value::Number(number) => number.to_string(),
            _ => return,
        };
        entry += &format!("ROLEKEEPER_{}={text}\n", name.to_uppercase());
    };

    for (name, value) in value.as_object().into_iter().flatten() {
        add(name, value);
    }

    if let Some(process) = value.pointer("/processes/0") {
        for (name, value) in process.as_object().into_iter().flatten() {
            add(name, value);
        }
    }

    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::Process;

    /// A log that receives one record.
    fn receive(forwarder: &mut Forwarder, record: &Record) -> String {
        let log = UnixDatagram::bind(&forwarder.path).unwrap();
        forwarder.send(record);
        std::fs::remove_file(&forwarder.path).unwrap();

        let mut text = [0; 4096];
        let length = log.recv(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    }

    fn record() -> Record {
        let mut record = Record::refused("no");
        record.caller_mut().unwrap().processes.push(Process {
            pid: 42,
            program: "/x\nMESSAGE=forged".into(),
        });
        record
    }

    #[test]
    fn journald_gets_json_and_fields() {
        let dir = tempfile::tempdir().unwrap();
        let mut forwarder = Forwarder::at(AlsoTo::Journald, &dir.path().join("log"));

        let text = receive(&mut forwarder, &record());
        let lines: Vec<_> = text.lines().collect();
        let json = serde_json::to_string(&record()).unwrap();
        assert_eq!(lines[0], format!("MESSAGE={json}"));
        for line in [
            "ROLEKEEPER_TYPE=refused",
            "ROLEKEEPER_PROFILE=dev",
            "ROLEKEEPER_UID=1000",
            "ROLEKEEPER_CODE=not_allowed",
            "ROLEKEEPER_PID=42",
            "ROLEKEEPER_PROGRAM=/x\\nMESSAGE=forged",
        ] {
            assert!(lines.contains(&line), "{text}");
        }
        let messages = lines.iter().filter(|line| line.starts_with("MESSAGE="));
        assert_eq!(messages.count(), 1, "{text}");
    }

    #[test]
    fn syslog_gets_json_with_a_priority() {
        let dir = tempfile::tempdir().unwrap();
        let mut forwarder = Forwarder::at(AlsoTo::Syslog, &dir.path().join("log"));

        let text = receive(&mut forwarder, &record());
        let json = serde_json::to_string(&record()).unwrap();
        assert_eq!(
            text,
            format!("<85>rolekeeperd[{}]: {json}", std::process::id())
        );
    }

    #[test]
    fn forwarding_resumes_after_the_log_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let mut forwarder = Forwarder::at(AlsoTo::Syslog, &dir.path().join("log"));
        forwarder.send(&record());

        for _ in 0..2 {
            assert!(receive(&mut forwarder, &record()).starts_with("<85>"));
        }
    }
}
