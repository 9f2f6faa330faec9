//! `rolekeeper watch PROFILE`: how things are with a profile, and again whenever they have changed, one line of JSON each.
//! `exec` follows a profile in the same way.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use interprocess::local_socket::Stream;
use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, ProfileUpdate, Reply, Request};

use crate::{autostart, command};

/// Between two looks for the next daemon.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

pub(crate) fn run(profile: &str, socket: Option<PathBuf>) -> Result<(), Failure> {
    let socket = connect::socket_path(socket)?;
    #[cfg(unix)]
    end_with_the_reader();
    let first = autostart::ask_and_keep(
        || autostart::open(&socket),
        |stream| subscribe(stream, profile),
    );
    let (mut watched, stream) = first?;
    let mut following = Following::new(socket, profile, Some(stream));
    loop {
        let line = serde_json::to_string(&watched).map_err(|_| connect::unexpected_reply())? + "\n";
        if !command::print_some(&command::for_standard_output(line))? {
            return Ok(());
        }
        // A daemon that follows another one tells everything again.
        watched = loop {
            let (now, _) = following.next(command::tell);
            if now != watched {
                break now;
            }
        };
    }
}

/// Subscribes to a profile, and returns how things are with it now.
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
        Reply::ProfileUpdate(watched) => Ok(watched),
        _ => Err(connect::unexpected_reply()),
    }
}

/// A subscription that outlives daemons: one that goes away, or refuses it, is followed by the next one. It never starts a
/// daemon, for that would undo that somebody stopped it.
pub(crate) struct Following {
    socket: PathBuf,
    profile: String,
    stream: Option<Stream>,
    /// Since when no daemon has told anything.
    since: Option<Instant>,
    pause: Duration,
    /// Why not, if that has been said.
    said: Option<Code>,
}

impl Following {
    /// Goes on from a connection on which the profile has been subscribed to, if there is one.
    pub(crate) fn new(socket: PathBuf, profile: &str, stream: Option<Stream>) -> Self {
        Self {
            socket,
            profile: profile.into(),
            stream,
            since: None,
            pause: SHORTEST_PAUSE,
            said: None,
        }
    }

    /// Waits until something is told, however long it takes, and returns it, and whether it is the first word of a daemon.
    /// What people should know meanwhile is for `say`.
    pub(crate) fn next(&mut self, say: impl Fn(&str)) -> (ProfileUpdate, bool) {
        loop {
            let is_first = self.stream.is_none();
            let told = match &mut self.stream {
                Some(stream) => connect::next(stream).and_then(|text| read(&text)),
                None => self.find(),
            };
            match told {
                Ok(watched) => {
                    (self.since, self.pause) = (None, SHORTEST_PAUSE);
                    if self.said.take().is_some() {
                        say(&format!(
                            "rolekeeper: revocations and other changes of profile {} are noticed again",
                            self.profile
                        ));
                    }
                    return (watched, is_first);
                }
                Err(failure) => {
                    self.stream = None;
                    self.note_silence(&failure, &say);
                }
            }
        }
    }

    fn find(&mut self) -> Result<ProfileUpdate, Failure> {
        thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        let mut stream =
            connect::open(&self.socket)?.ok_or_else(|| autostart::no_daemon(&self.socket))?;
        let watched = subscribe(&mut stream, &self.profile)?;
        self.stream = Some(stream);
        Ok(watched)
    }

    /// Says once that nothing is told: of a daemon that refuses at once, of one that is away when it should be back.
    fn note_silence(&mut self, failure: &Failure, say: impl Fn(&str)) {
        let is_away = matches!(
            failure.code,
            Code::Busy | Code::NoDaemon | Code::ShuttingDown
        );
        let why = if is_away {
            Code::NoDaemon
        } else {
            failure.code
        };
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.said == Some(why) || (is_away && since.elapsed() < autostart::FOLLOW_DEADLINE) {
            return;
        }
        self.said = Some(why);
        let profile = &self.profile;
        say(&format!(
            "rolekeeper: revocations and other changes of profile {profile} are not noticed until a daemon tells of them \
             again: {failure}"
        ));
    }
}

/// Ends this program, with success, when the program that reads its output has ended: there may be nothing to write for days.
#[cfg(unix)]
fn end_with_the_reader() {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::fs::{FileType, fstat};

    let out = std::io::stdout();
    let kind = fstat(&out).map(|stat| FileType::from_raw_mode(stat.st_mode));
    if !matches!(kind, Ok(FileType::Fifo | FileType::Socket)) {
        return;
    }
    thread::spawn(move || {
        // That nobody reads any more is told unasked, and nothing else is.
        let unread =
            rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&out, PollFlags::empty())], None));
        if unread.is_ok() {
            std::process::exit(0);
        }
    });
}
