//! `rolekeeper watch PROFILE`: prints a profile's status on every change, one line of JSON each. `exec --on-revoke` uses the
//! same subscription.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use interprocess::local_socket::Stream;
use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, ProfileUpdate, Reply, Request};

use crate::{autostart, command};

/// The interval between two attempts to connect, which doubles up to a maximum.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(2);

pub(crate) fn run(profile: &str, socket: Option<PathBuf>) -> Result<(), Failure> {
    let socket = connect::socket_path(socket)?;
    #[cfg(unix)]
    exit_with_the_reader();
    let first = autostart::ask_and_keep(
        || autostart::open(&socket),
        |stream| subscribe(stream, profile),
    );

    let (mut update, stream) = first?;
    let mut subscription = Subscription::new(socket, profile, Some(stream));
    loop {
        let line = serde_json::to_string(&update).map_err(|_| connect::unexpected_reply())? + "\n";
        if !command::print_part(&command::escaped_json(&line))? {
            return Ok(());
        }
        // The next daemon repeats the same status.
        update = loop {
            let (now, _) = subscription.next(command::print_error);
            if now != update {
                break now;
            }
        };
    }
}

/// Subscribes to a profile, and returns its current status.
pub(crate) fn subscribe(stream: &mut Stream, profile: &str) -> Result<ProfileUpdate, Failure> {
    read(&connect::subscribe(
        stream,
        Request::Watch {
            profile: profile.into(),
        },
    )?)
}

fn read(text: &[u8]) -> Result<ProfileUpdate, Failure> {
    match connect::reply(text)? {
        Reply::ProfileUpdate(update) => Ok(update),
        _ => Err(connect::unexpected_reply()),
    }
}

/// A subscription that reconnects when the daemon restarts. It does not start a daemon, because the user may have stopped
/// it.
pub(crate) struct Subscription {
    socket: PathBuf,
    profile: String,
    stream: Option<Stream>,
    /// Since when it is disconnected.
    disconnected_since: Option<Instant>,
    pause: Duration,
    /// The reported cause of the disconnection.
    reported: Option<Code>,
}

impl Subscription {
    /// Continues on a connection with a subscription to the profile, if there is one.
    pub(crate) fn new(socket: PathBuf, profile: &str, stream: Option<Stream>) -> Self {
        Self {
            socket,
            profile: profile.into(),
            stream,
            disconnected_since: None,
            pause: MIN_PAUSE,
            reported: None,
        }
    }

    /// Waits for the next update. Returns it, and whether it is the first of a connection. `print` gets the warnings.
    pub(crate) fn next(&mut self, print: impl Fn(&str)) -> (ProfileUpdate, bool) {
        loop {
            let is_first = self.stream.is_none();
            let update = match &mut self.stream {
                Some(stream) => connect::next(stream).and_then(|text| read(&text)),
                None => self.reconnect(),
            };
            match update {
                Ok(update) => {
                    self.disconnected_since = None;
                    self.pause = MIN_PAUSE;
                    if self.reported.take().is_some() {
                        print(&format!(
                            "rolekeeper: reconnected; changes of profile {} are reported again",
                            self.profile
                        ));
                    }
                    return (update, is_first);
                }
                Err(failure) => {
                    self.stream = None;
                    self.report_disconnection(&failure, &print);
                }
            }
        }
    }

    fn reconnect(&mut self) -> Result<ProfileUpdate, Failure> {
        thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        let mut stream =
            connect::open(&self.socket)?.ok_or_else(|| autostart::no_daemon(&self.socket))?;
        let update = subscribe(&mut stream, &self.profile)?;
        self.stream = Some(stream);
        Ok(update)
    }

    /// Warns once per cause: at once of a refusal, and of a stopped daemon after [`autostart::FOLLOW_DEADLINE`].
    fn report_disconnection(&mut self, failure: &Failure, print: impl Fn(&str)) {
        let is_away = matches!(
            failure.code,
            Code::Busy | Code::NoDaemon | Code::ShuttingDown
        );

        let cause = if is_away {
            Code::NoDaemon
        } else {
            failure.code
        };

        let since = *self.disconnected_since.get_or_insert_with(Instant::now);
        let may_return = is_away && since.elapsed() < autostart::FOLLOW_DEADLINE;
        if self.reported == Some(cause) || may_return {
            return;
        }

        self.reported = Some(cause);
        let profile = &self.profile;
        print(&format!(
            "rolekeeper: disconnected; changes of profile {profile} are not reported until the daemon is back: {failure}"
        ));
    }
}

/// Exits with success when the reader of standard output exits, even if there is no output for days.
#[cfg(unix)]
fn exit_with_the_reader() {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::fs::{FileType, fstat};

    let out = std::io::stdout();
    let kind = fstat(&out).map(|stat| FileType::from_raw_mode(stat.st_mode));
    if !matches!(kind, Ok(FileType::Fifo | FileType::Socket)) {
        return;
    }

    thread::spawn(move || {
        // Without requested events, poll returns when the reader has exited.
        let closed =
            rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&out, PollFlags::empty())], None));
        if closed.is_ok() {
            std::process::exit(0);
        }
    });
}
