//! The path of the socket, and requests over it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(not(unix))]
use interprocess::local_socket::ConnectOptions;
use interprocess::local_socket::{GenericFilePath, Name, Stream, prelude::*};

use crate::frame::{self, FrameError};
use crate::places;
use crate::protocol::{
    Code, Failure, Reply, ReplyFrame, Request, RequestFrame, VERSION, WantedConfig,
};
use crate::{socket_owner, waiting};

/// The maximum length of a socket's path in bytes: `sun_path` of `sockaddr_un` without its final NUL.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub const MAX_PATH: usize = 107;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub const MAX_PATH: usize = 103;

/// Names the socket. The client connects to it, and starts no daemon there.
const SOCKET_VARIABLE: &str = "ROLEKEEPER_SOCKET";
/// Names the configuration of a daemon that a person starts. A client that has it is refused by a daemon with another one.
pub const CONFIG_VARIABLE: &str = "ROLEKEEPER_CONFIG";
/// Names the folder of all programs' configurations.
pub const CONFIG_HOME_VARIABLE: &str = "XDG_CONFIG_HOME";
/// Tells a daemon that a client has started it.
pub const STARTED_BY_CLIENT: &str = "ROLEKEEPER_STARTED_BY_CLIENT";
/// Tells it which variables of the client it did not get, although they would matter. Their names are separated by commas.
pub const IGNORED_VARIABLES: &str = "ROLEKEEPER_IGNORED_VARIABLES";

/// The deadline of a reply. The daemon answers within 20 s, even if its upstream does not.
const REPLY_DEADLINE: Duration = Duration::from_secs(25);
const SEND_DEADLINE: Duration = Duration::from_secs(5);
/// The maximum wait for a user's approval, in seconds.
const MAX_APPROVAL_WAIT: u64 = 600;

/// The path of the socket: `--socket`, else `ROLEKEEPER_SOCKET`, else the user's place for it on this machine
/// ([`places::default_socket`]). The result is absolute.
///
/// # Errors
/// [`Code::Configuration`] if there is none, the path is too long, or the variable has a relative one.
pub fn socket_path(flag: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let path = flag
        .map_or_else(socket_of_variable, |flag| Ok(Some(flag)))?
        .or_else(places::default_socket)
        .ok_or_else(|| {
            Failure::new(
                Code::Configuration,
                "no place for the socket: neither the home nor the runtime folder of this user can be written",
                "set ROLEKEEPER_SOCKET to a path in a folder of mode 700",
            )
        })?;
    // A daemon that the client starts has another working directory.
    let path = std::path::absolute(&path).unwrap_or(path);
    let length = path.as_os_str().len();
    if length > MAX_PATH {
        return Err(Failure::new(
            Code::Configuration,
            format!(
                "the socket path {} has {length} bytes, and the system's limit is {MAX_PATH}",
                path.display()
            ),
            "set ROLEKEEPER_SOCKET or --socket to a shorter path",
        ));
    }

    Ok(path)
}

/// The path in `ROLEKEEPER_SOCKET`. The variable may come from a file in the working folder, such as `.env`, so a path in that
/// folder is refused.
fn socket_of_variable() -> Result<Option<PathBuf>, Failure> {
    let path = variable(SOCKET_VARIABLE).map(PathBuf::from);
    match path {
        Some(path) if path.is_relative() => Err(Failure::new(
            Code::Configuration,
            format!(
                "{SOCKET_VARIABLE} is the relative path {}, which is another socket in each folder",
                path.display()
            ),
            format!("set {SOCKET_VARIABLE} to an absolute path, or remove it from the environment"),
        )),
        path => Ok(path),
    }
}

/// Whether `ROLEKEEPER_SOCKET` names this socket.
pub fn is_of_variable(socket: &Path) -> bool {
    variable(SOCKET_VARIABLE).is_some_and(|path| path == socket)
}

/// An environment variable that is set and not empty.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The path as a name of a local socket.
pub fn name(path: &Path) -> io::Result<Name<'_>> {
    path.to_fs_name::<GenericFilePath>()
}

/// The folder of a socket.
pub fn folder_of(socket: &Path) -> &Path {
    socket
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// A connection to the daemon at `socket`, or `None` if no daemon is running there. If it is a default place, the daemon
/// may also be at another one.
pub fn open(socket: &Path) -> Result<Option<Stream>, Failure> {
    if let Some(stream) = open_only(socket)? {
        return Ok(Some(stream));
    }

    for other in places::other_default_sockets(socket) {
        // A folder that is open to others matters only if it is the one to be used.
        if let Ok(Some(stream)) = open_only(&other) {
            return Ok(Some(stream));
        }
    }

    Ok(None)
}

fn open_only(socket: &Path) -> Result<Option<Stream>, Failure> {
    socket_owner::check_folder(socket)?;
    match connect(socket) {
        Ok(stream) => {
            socket_owner::check_listener(&stream, socket)?;
            Ok(Some(stream))
        }
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(Failure::new(
            Code::NoDaemon,
            format!("cannot connect to the socket {}: {error}", socket.display()),
            "stop rolekeeperd, remove the socket, and start it again",
        )),
    }
}

/// Identifies this process's network namespace. In another one, other addresses can be reached.
pub fn network() -> Option<String> {
    let link = std::fs::read_link("/proc/self/ns/net").ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// Whether a program listens at the socket.
pub fn is_listening(socket: &Path) -> bool {
    connect(socket).is_ok()
}

fn connect(socket: &Path) -> io::Result<Stream> {
    let stream = connect_within(socket, REPLY_DEADLINE)?;
    stream.set_recv_timeout(Some(REPLY_DEADLINE))?;
    stream.set_send_timeout(Some(SEND_DEADLINE))?;
    Ok(stream)
}

/// A daemon that is stopped accepts no connections, and only a few wait in its socket's queue.
#[cfg(unix)]
fn connect_within(socket: &Path, deadline: Duration) -> io::Result<Stream> {
    use interprocess::os::unix::uds_local_socket::Stream as UdSocket;
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    use rustix::net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
    };

    let address = SocketAddrUnix::new(socket)?;
    let flags = SocketFlags::CLOEXEC;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    set_socket_timeout(&stream, Timeout::Send, Some(deadline))?;

    match connect(&stream, &address) {
        Ok(()) => Ok(Stream::UdSocket(UdSocket::from(stream))),
        Err(rustix::io::Errno::AGAIN) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the daemon does not accept the connection",
        )),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(unix))]
fn connect_within(socket: &Path, _deadline: Duration) -> io::Result<Stream> {
    ConnectOptions::new().name(name(socket)?).connect_sync()
}

/// The first bytes of replies that another reply follows.
const CHALLENGE: &[u8] = br#"{"v":1,"reply":{"challenge":"#;
const AWAITING_USER: &[u8] = br#"{"v":1,"reply":{"awaiting_user":"#;

/// Sends one request and returns the text of its reply, which [`reply`] parses. Answers a challenge, and waits for an
/// approval.
pub fn ask(stream: &mut Stream, request: Request<'_>) -> Result<Vec<u8>, Failure> {
    let mut text = exchange(stream, wanted_config(), request)?;
    if text.starts_with(CHALLENGE)
        && let Reply::Challenge { nonce } = reply(&text)?
    {
        text = exchange(stream, None, Request::ChallengeResponse { nonce })?;
    }

    if text.starts_with(AWAITING_USER)
        && let Reply::AwaitingUser { seconds, mfa_of } = reply(&text)?
    {
        let reason = match mfa_of {
            Some(upstream) => waiting::Reason::MfaCode(seconds, upstream.into_owned()),
            None => waiting::Reason::Approval(seconds),
        };
        let patience = REPLY_DEADLINE + Duration::from_secs(seconds.min(MAX_APPROVAL_WAIT));
        stream
            .set_recv_timeout(Some(patience))
            .map_err(|error| broken(&FrameError::Io(error)))?;
        if !waiting::for_reply(stream, &reason, patience) {
            return Err(timed_out());
        }
        text = next(stream)?;
        stream
            .set_recv_timeout(Some(REPLY_DEADLINE))
            .map_err(|error| broken(&FrameError::Io(error)))?;
    }

    Ok(text)
}

/// The configuration that the environment names, as the daemon names its own.
fn wanted_config() -> Option<WantedConfig<'static>> {
    let named = variable(CONFIG_VARIABLE).map(|path| (CONFIG_VARIABLE, PathBuf::from(path)));
    // A folder without a configuration names none.
    let in_folder = || {
        let path = places::config_in(&places::absolute(CONFIG_HOME_VARIABLE)?);
        path.exists().then_some((CONFIG_HOME_VARIABLE, path))
    };

    let (variable, path) = named.or_else(in_folder)?;
    let path = path.canonicalize().or_else(|_| std::path::absolute(&path));

    Some(WantedConfig {
        path: path.ok()?.to_string_lossy().into_owned().into(),
        variable: variable.into(),
    })
}

/// Sends a request that needs no challenge and no approval, whatever configuration the daemon has.
pub fn ask_any(stream: &mut Stream, request: Request<'_>) -> Result<Vec<u8>, Failure> {
    exchange(stream, None, request)
}

fn exchange(
    stream: &mut Stream,
    config: Option<WantedConfig<'_>>,
    request: Request<'_>,
) -> Result<Vec<u8>, Failure> {
    let frame = frame::encode(&RequestFrame {
        v: VERSION,
        config,
        request,
    })
    .map_err(|error| {
        Failure::new(
            Code::Usage,
            format!("cannot send the request: {error}"),
            "use shorter names and documents",
        )
    })?;

    // A daemon that rejects the connection replies and disconnects without reading. Its reply matters more than this error.
    let sent = stream.write_all(&frame);
    if sent.is_ok() && !waiting::for_reply(stream, &waiting::Reason::Request, REPLY_DEADLINE) {
        return Err(timed_out());
    }
    frame::read(stream)
        .map_err(|error| broken(&sent.map_err(FrameError::Io).err().unwrap_or(error)))
}

/// Sends one request that has several replies, and returns the text of the first. [`next`] waits for the next one, without
/// a deadline.
pub fn subscribe(stream: &mut Stream, request: Request<'_>) -> Result<Vec<u8>, Failure> {
    let text = ask(stream, request)?;
    // The next reply may come after days.
    stream
        .set_recv_timeout(None)
        .map_err(|error| broken(&FrameError::Io(error)))?;
    Ok(text)
}

/// The text of the next reply to an earlier request.
pub fn next(stream: &mut Stream) -> Result<Vec<u8>, Failure> {
    frame::read(stream).map_err(|error| broken(&error))
}

/// Sends one request whose reply comes in parts, and joins them.
pub fn document(stream: &mut Stream, request: Request<'_>) -> Result<String, Failure> {
    let mut whole = String::new();
    let mut text = ask(stream, request)?;
    loop {
        let Reply::Part(part) = reply(&text)? else {
            return Err(unexpected_reply());
        };
        whole += &part.text;
        if !part.more {
            return Ok(whole);
        }
        text = next(stream)?;
    }
}

/// Parses a reply. If it is an error, returns that error.
pub fn reply(text: &[u8]) -> Result<Reply<'_>, Failure> {
    match serde_json::from_slice::<ReplyFrame<'_>>(text) {
        Ok(ReplyFrame {
            reply: Reply::Error(failure),
            ..
        }) => Err(failure),
        Ok(frame) if frame.v == VERSION => Ok(frame.reply),
        Ok(frame) => Err(other_version(frame.v)),
        Err(error) => Err(
            match serde_json::from_slice::<crate::protocol::Version>(text) {
                Ok(version) if version.v != VERSION => other_version(version.v),
                _ => broken(&FrameError::Json(error)),
            },
        ),
    }
}

/// The reply is not of the requested kind.
pub fn unexpected_reply() -> Failure {
    Failure::new(
        Code::Unexpected,
        "the daemon sent an unexpected reply",
        RESTART,
    )
}

const RESTART: &str =
    "restart rolekeeperd, and install rolekeeper and rolekeeperd of the same version";

fn other_version(theirs: u32) -> Failure {
    Failure::new(
        Code::UnsupportedVersion,
        format!("the daemon uses protocol version {theirs}, this client version {VERSION}"),
        RESTART,
    )
}

fn timed_out() -> Failure {
    broken(&FrameError::Io(io::ErrorKind::TimedOut.into()))
}

fn broken(error: &FrameError) -> Failure {
    match error {
        FrameError::Io(cause)
            if matches!(
                cause.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ) =>
        {
            Failure::new(
                Code::NoDaemon,
                format!(
                    "the daemon did not answer within {} s",
                    REPLY_DEADLINE.as_secs()
                ),
                "read the log of rolekeeperd, and restart it",
            )
        }
        FrameError::Closed | FrameError::Truncated { .. } | FrameError::Io(_) => Failure::new(
            Code::ShuttingDown,
            format!("the daemon disconnected: {error}"),
            "run the command again",
        ),
        FrameError::TooLarge { .. } | FrameError::Json(_) => {
            Failure::new(Code::Unexpected, error.to_string(), RESTART)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_long_socket_path_is_rejected_with_both_lengths() {
        let failure =
            socket_path(Some(PathBuf::from(format!("/{}", "x".repeat(199))))).unwrap_err();
        assert!(
            failure.message.contains("200 bytes")
                && failure.message.contains(&MAX_PATH.to_string())
        );
        assert_eq!(failure.code.exit_code(), 2);
    }

    #[test]
    fn reply_of_another_version_is_unsupported_version() {
        let failure = reply(br#"{"v":7,"answer":42}"#).unwrap_err();
        assert_eq!(failure.code, Code::UnsupportedVersion);
        assert_eq!(reply(b"{nonsense").unwrap_err().code, Code::Unexpected);
    }
}
