//! The same records for the system's own logs: the journal of systemd, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL),
//! and syslog, as RFC 3164 has it on a local socket.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::record::Record;
use crate::config::AlsoTo;

const JOURNALD: &str = "/run/systemd/journal/socket";
const SYSLOG: &str = "/dev/log";
/// Facility `authpriv`, severity `notice`.
const PRIORITY: u32 = 10 * 8 + 5;

/// One of them.
#[derive(Debug)]
pub(super) struct Forward {
    to: AlsoTo,
    path: PathBuf,
    socket: Option<UnixDatagram>,
    /// It is told once that it cannot be reached.
    is_silent: bool,
}

impl Forward {
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
            is_silent: false,
        }
    }

    pub(super) fn send(&mut self, record: &Record) {
        if let Err(error) = self.try_send(record) {
            if !self.is_silent {
                tracing::warn!(path = %self.path.display(), %error, "records cannot be sent on");
            }
            self.is_silent = true;
            // It may have been started anew.
            self.socket = None;
        } else {
            self.is_silent = false;
        }
    }

    fn try_send(&mut self, record: &Record) -> io::Result<()> {
        let json = serde_json::to_string(record)?;
        let text = match self.to {
            AlsoTo::Journald => journald(record, &json),
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

/// A line for each field; JSON on one line has no line ends in it, and neither has anything else here.
fn journald(record: &Record, json: &str) -> String {
    let mut text =
        format!("MESSAGE={json}\nPRIORITY=5\nSYSLOG_IDENTIFIER=rolekeeperd\nSYSLOG_FACILITY=10\n");
    for (name, value) in record.fields() {
        text += &format!("ROLEKEEPER_{name}={}\n", crate::one_line(&value));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::{Event, What};
    use rolekeeper::protocol::Process;

    #[test]
    fn each_log_gets_a_record_in_its_own_form_and_again_once_it_was_started_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let processes = vec![Process {
            pid: 42,
            program: "/x\nMESSAGE=forged".into(),
        }];
        let record = Record::Event(Event {
            processes,
            ..Event::example(What::Refused)
        });
        for to in [AlsoTo::Journald, AlsoTo::Syslog] {
            let mut forward = Forward::at(to, &path);
            forward.send(&record);
            for _ in 0..2 {
                let log = UnixDatagram::bind(&path).unwrap();
                forward.send(&record);
                let mut text = [0; 4096];
                let length = log.recv(&mut text).unwrap();
                let text = std::str::from_utf8(&text[..length]).unwrap();
                let json = serde_json::to_string(&record).unwrap();
                match to {
                    AlsoTo::Journald => {
                        let lines: Vec<_> = text.lines().collect();
                        assert_eq!(lines[0], format!("MESSAGE={json}"));
                        for line in [
                            "ROLEKEEPER_EVENT=refused",
                            "ROLEKEEPER_PROFILE=dev",
                            "ROLEKEEPER_PID=42",
                        ] {
                            assert!(lines.contains(&line), "{text}");
                        }
                        assert_eq!(
                            lines
                                .iter()
                                .filter(|line| line.starts_with("MESSAGE="))
                                .count(),
                            1,
                            "{text}"
                        );
                    }
                    AlsoTo::Syslog => assert_eq!(
                        text,
                        format!("<85>rolekeeperd[{}]: {json}", std::process::id())
                    ),
                }
                std::fs::remove_file(&path).unwrap();
            }
        }
    }
}
