//! Says what a person waits for: on a terminal, after a moment, one line on standard error, which is erased afterwards.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use interprocess::local_socket::Stream;

/// Most replies come within a millisecond. A line that only flashes would be worse than none.
const PATIENCE: Duration = Duration::from_millis(300);
const UPDATE: Duration = Duration::from_secs(1);

/// What the daemon does before it answers.
#[derive(Debug)]
pub(crate) enum Reason {
    Request,
    /// A person has this many seconds to approve.
    Approval(u64),
    /// A person has this many seconds to log in at the upstream with a code of the MFA device.
    MfaCode(u64, String),
}

impl Reason {
    fn line(&self, waited: Duration) -> String {
        let waited = waited.as_secs();
        match self {
            Self::Request => format!("waiting for rolekeeperd and the upstream ({waited} s)"),
            Self::Approval(seconds) => format!(
                "waiting for approval: run rolekeeper approve ({} s left)",
                seconds.saturating_sub(waited)
            ),
            Self::MfaCode(seconds, upstream) => format!(
                "waiting for an MFA code: run rolekeeper login {upstream} ({} s left)",
                seconds.saturating_sub(waited)
            ),
        }
    }
}

/// Waits until the daemon's reply begins, and returns whether it did within the deadline. Without a terminal it leaves the
/// wait to the one who reads the reply.
pub(crate) fn for_reply(stream: &Stream, reason: &Reason, deadline: Duration) -> bool {
    if has_reply(stream, PATIENCE) || !io::stderr().is_terminal() {
        return true;
    }

    let start = Instant::now();
    let mut has_begun = false;
    while !has_begun && PATIENCE + start.elapsed() < deadline {
        // A terminal that is gone is no reason to fail.
        let line = reason.line(PATIENCE + start.elapsed());
        let _ = write!(io::stderr(), "\r\x1b[K{line}");
        has_begun = has_reply(stream, UPDATE);
    }
    let _ = write!(io::stderr(), "\r\x1b[K");

    has_begun
}

#[cfg(unix)]
fn has_reply(stream: &Stream, patience: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::os::fd::AsFd;

    let Stream::UdSocket(socket) = stream;
    let mut polled = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
    let Ok(patience) = Timespec::try_from(patience) else {
        return true;
    };
    // An error, such as a signal, is left to the read.
    poll(&mut polled, Some(&patience)).map_or(true, |ready| ready > 0)
}

/// Elsewhere the read waits in silence.
#[cfg(not(unix))]
fn has_reply(_stream: &Stream, _patience: Duration) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_says_for_what_and_how_long() {
        let waited = Duration::from_millis(4300);
        assert_eq!(
            Reason::Request.line(waited),
            "waiting for rolekeeperd and the upstream (4 s)"
        );
        assert_eq!(
            Reason::Approval(55).line(waited),
            "waiting for approval: run rolekeeper approve (51 s left)"
        );
    }
}
