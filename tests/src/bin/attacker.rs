//! The attacks of the end-to-end tests, as a program: the tests start it as another process, user
//! or program.
//!
//! An attack prints what it achieved. A step that has to work before the attack can begin panics if
//! it fails, so that no attack passes for defeated because it was never tried.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use rolekeeper_tests::harness::raw_client::{
    challenge, challenge_response, is_lease, lease_request, nonce, read_reply, refusal,
    request_lease,
};
use rustix::io::{FdFlags, dup, fcntl_setfd};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::stdio::stdin;

/// An attack ends after this at the latest, also if its test does not end it.
const LIFETIME: Duration = Duration::from_secs(20);

/// Attacks on a daemon, for the end-to-end tests.
#[derive(Parser)]
#[command(name = "attacker")]
enum Attack {
    /// Open the memory, environment and descriptors of a process once, and trace it
    InspectProcess { pid: i32 },
    /// Open the memory and descriptors of a process again and again, until standard input ends
    PollProcess { pid: i32 },
    /// Connect as fast as possible, and do this on each connection, until standard input ends
    Flood { kind: FloodKind, socket: PathBuf },
    /// Open as many connections as possible, and hold them until standard input ends
    ExhaustConnections { socket: PathBuf },
    /// Listen for one connection of anybody, and print how many bytes it sent
    Listen { socket: PathBuf },
    /// Request a lease and print the reply
    RequestLease { socket: PathBuf },
    /// Request a lease on a connection of another process: standard input
    ReuseConnection,
    /// Get a lease, then replace this process by a shell, which requests another on the same
    /// connection
    ExecAfterLease {
        socket: PathBuf,
        /// Leave a child behind that shares this process's memory
        #[arg(long)]
        share_memory: bool,
    },
    /// Request a lease, and replace this process by a shell while the approval is pending; the shell
    /// prints the reply
    ExecWhileApproval { socket: PathBuf },
    /// Connect, then replace this process by an allowed shell, which requests a lease and answers
    /// the challenge
    ExecBeforeRequest { socket: PathBuf, shell: PathBuf },
    /// Request a lease, pass the connection to the test over standard input, and wait to be killed
    PassConnection { socket: PathBuf },
    /// Request a lease, pass the connection to the test, then replace this process by an allowed
    /// `timeout`
    ExecBeforeInspection { socket: PathBuf, timeout: PathBuf },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum FloodKind {
    /// Close it
    Close,
    /// Send a part of a frame, and close it
    HalfFrame,
    /// Send what is no frame, and close it
    Junk,
    /// Request a lease of profile `team`, and wait for the reply
    Lease,
}

fn main() {
    match Attack::parse() {
        Attack::InspectProcess { pid } => inspect_process(pid),
        Attack::PollProcess { pid } => poll_process(pid),
        Attack::Flood { kind, socket } => flood(kind, &socket),
        Attack::ExhaustConnections { socket } => exhaust_connections(&socket),
        Attack::Listen { socket } => listen(&socket),
        Attack::RequestLease { socket } => print_reply(&socket),
        Attack::ReuseConnection => reuse_connection(),
        Attack::ExecAfterLease {
            socket,
            share_memory,
        } => exec_after_lease(&socket, share_memory),
        Attack::ExecWhileApproval { socket } => exec_while_approval(&socket),
        Attack::ExecBeforeRequest { socket, shell } => exec_before_request(&socket, &shell),
        Attack::PassConnection { socket } => pass_connection(&socket),
        Attack::ExecBeforeInspection { socket, timeout } => {
            exec_before_inspection(&socket, &timeout);
        }
    }
}

/// Prints `seen:` and the name of each way that worked.
fn inspect_process(pid: i32) {
    let process = PathBuf::from(format!("/proc/{pid}"));
    assert!(process.exists(), "there is no process {pid}");
    let mut seen = Vec::new();

    for file in ["mem", "environ", "maps", "auxv", "pagemap", "syscall"] {
        if File::open(process.join(file)).is_ok() {
            seen.push(file);
        }
    }

    if fs::read_dir(process.join("fd")).is_ok() {
        seen.push("fd");
    }
    if fs::read_link(process.join("exe")).is_ok() {
        seen.push("exe");
    }
    if can_trace(pid) {
        seen.push("ptrace");
    }

    println!("seen: {}", seen.join(" "));
}

/// Attaches to a process as gdb(1) and strace(1) do, and detaches again.
#[allow(unsafe_code, reason = "tracing has no safe form")]
fn can_trace(pid: i32) -> bool {
    // SAFETY: both calls take numbers, and null pointers that are not followed.
    unsafe {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        let attached = libc::ptrace(libc::PTRACE_SEIZE, pid, nothing, nothing) == 0;

        if attached {
            libc::ptrace(libc::PTRACE_INTERRUPT, pid, nothing, nothing);
            let mut status = 0;
            libc::waitpid(pid, &raw mut status, libc::__WALL);
            libc::ptrace(libc::PTRACE_DETACH, pid, nothing, nothing);
        }

        attached
    }
}

/// Prints `polled: N times, seen M`.
fn poll_process(pid: i32) {
    static STOPPED: AtomicBool = AtomicBool::new(false);

    let process = PathBuf::from(format!("/proc/{pid}"));
    let descriptors = process.join("fd");
    let memory = process.join("mem");
    assert!(process.exists(), "there is no process {pid}");

    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        STOPPED.store(true, Ordering::Relaxed);
    });

    let mut polls = 0_u64;
    let mut seen = 0_u64;
    while !STOPPED.load(Ordering::Relaxed) {
        let is_open = fs::read_dir(&descriptors).is_ok() || File::open(&memory).is_ok();
        polls += 1;
        seen += u64::from(is_open);
    }

    println!("polled: {polls} times, seen {seen}");
}

/// Prints `flooding` once it has begun, and then `connected: N`.
fn flood(kind: FloodKind, socket: &Path) {
    let stop = AtomicBool::new(false);
    let connected = AtomicUsize::new(0);
    let threads = match kind {
        FloodKind::Lease => 30,
        _ => 1,
    };

    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    connect_once(kind, socket);
                    if connected.fetch_add(1, Ordering::Relaxed) == 500 {
                        println!("flooding");
                    }
                }
            });
        }
        let _ = std::io::stdin().read(&mut [0]);
        stop.store(true, Ordering::Relaxed);
    });

    println!("connected: {}", connected.load(Ordering::Relaxed));
}

fn connect_once(kind: FloodKind, socket: &Path) {
    let Ok(mut stream) = UnixStream::connect(socket) else {
        return;
    };

    let _ = match kind {
        FloodKind::Close => Ok(()),
        FloodKind::HalfFrame => stream.write_all(&[0, 0]),
        FloodKind::Junk => stream.write_all(b"\xff\xff\xff\xffjunk"),
        FloodKind::Lease => stream
            .write_all(&lease_request("team"))
            .and_then(|()| answer_and_read(&mut stream)),
    };
}

fn answer_and_read(stream: &mut UnixStream) -> std::io::Result<()> {
    let reply = read_reply(stream).map_err(std::io::Error::other)?;
    if let Some(nonce) = nonce(&reply) {
        stream.write_all(&challenge_response(nonce))?;
        read_reply(stream).map_err(std::io::Error::other)?;
    }
    Ok(())
}

/// Prints `connected: N` once no more connections are to be had, or 2,000 are.
fn exhaust_connections(socket: &Path) {
    let mut held = Vec::new();
    while held.len() < 2000
        && let Ok(stream) = UnixStream::connect(socket)
    {
        held.push(stream);
    }

    println!("connected: {}", held.len());
    let _ = std::io::stdin().read(&mut [0]);
}

fn listen(socket: &Path) {
    let listener = UnixListener::bind(socket).expect("the folder is writable");
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666)).expect("it is this process's");
    println!("listening");

    let (mut stream, _) = listener.accept().expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("the connection is open");
    let count = stream.read(&mut [0; 4096]).unwrap_or_default();

    println!("received: {count}");
}

fn print_reply(socket: &Path) {
    let mut stream = UnixStream::connect(socket).expect("the socket accepts connections");

    // The daemon may have replied and closed the connection already; its reply can still be read.
    let _ = stream.write_all(&lease_request("dev"));

    println!("{}", read_reply(&mut stream).expect("the daemon replies"));
}

fn reuse_connection() {
    let inherited = dup(stdin()).expect("standard input is open");
    let mut stream = UnixStream::from(inherited);
    stream
        .write_all(&lease_request("dev"))
        .expect("the connection is open");

    println!("requested");
}

/// Prints `leased`, and then what the daemon replies to the shell.
fn exec_after_lease(socket: &Path, share_memory: bool) {
    let mut stream = UnixStream::connect(socket).expect("the socket accepts connections");
    let reply = request_lease(&mut stream).expect("the connection is open");
    assert!(is_lease(&reply), "{reply}");
    println!("leased");

    if share_memory {
        start_child_in_same_memory();
    }
    become_shell(Path::new("sh"), &stream, "");
}

/// The memory outlives this process's exec. The child ends with this process.
#[allow(unsafe_code, reason = "a process that shares memory has no safe form")]
fn start_child_in_same_memory() {
    extern "C" fn wait(_: *mut libc::c_void) -> i32 {
        // SAFETY: both calls read and write no memory of this process.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::pause()
        }
    }

    let stack = Box::leak(vec![0_u8; 64 * 1024].into_boxed_slice());
    let flags = libc::CLONE_VM | libc::SIGCHLD;
    // SAFETY: the child runs on a stack of its own, which is never freed, and only waits.
    let child = unsafe {
        let top = stack.as_mut_ptr().add(stack.len() - 16).cast();
        libc::clone(wait, top, flags, std::ptr::null_mut())
    };
    assert!(child > 0, "the child starts");
}

/// Prints what the daemon replies to the shell.
fn exec_while_approval(socket: &Path) {
    let mut stream = UnixStream::connect(socket).expect("the socket accepts connections");
    let reply = request_lease(&mut stream).expect("the connection is open");
    assert!(reply["reply"]["awaiting_user"].is_object(), "{reply}");

    fcntl_setfd(&stream, FdFlags::empty()).expect("the descriptor survives exec");
    let script = format!("head -c 150 <&{}", stream.as_raw_fd());
    let error = Command::new("sh").args(["-c", &script]).exec();

    panic!("sh does not start: {error}");
}

/// Prints what the daemon replies to the shell.
fn exec_before_request(socket: &Path, shell: &Path) {
    let stream = UnixStream::connect(socket).expect("the socket accepts connections");

    // The daemon inspects processes in the order of their connections. When it replies to the
    // second one, it has inspected the first.
    let mut second = UnixStream::connect(socket).expect("the socket accepts connections");
    let reply = request_lease(&mut second).expect("the connection is open");
    assert!(refusal(&reply).contains("does not allow"), "{reply}");

    become_shell(shell, &stream, &answer_challenge());
}

/// A shell script that reads the daemon's challenge from descriptor 3 and answers it.
fn answer_challenge() -> String {
    let nonce = "w".repeat(64);
    let length = challenge(&nonce).len();
    let response = octal(&challenge_response(&nonce)).replace(&octal(nonce.as_bytes()), "%s");

    format!(
        "nonce=$(head -c {length} <&3 | tail -c 68 | head -c 64); printf '{response}' \"$nonce\" >&3;"
    )
}

/// Replaces this process by a shell, which requests a lease on its connection, runs `then`, and
/// prints the reply.
fn become_shell(shell: &Path, stream: &UnixStream, then: &str) -> ! {
    fcntl_setfd(stream, FdFlags::empty()).expect("the descriptor survives exec");
    let descriptor = stream.as_raw_fd();
    let request = octal(&lease_request("dev"));

    // The shell itself writes, so that the request comes from this very process. Any process may
    // read.
    let script = format!("exec 3<&{descriptor}; printf '{request}' >&3; {then} head -c 200 <&3");
    let error = Command::new(shell).args(["-c", &script]).exec();

    panic!("{} does not start: {error}", shell.display());
}

/// Bytes as escapes of a shell's printf.
fn octal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:03o}")).collect()
}

fn pass_connection(socket: &Path) {
    request_and_pass(socket);
    thread::sleep(LIFETIME);
}

fn exec_before_inspection(socket: &Path, timeout: &Path) {
    request_and_pass(socket);

    let lifetime = LIFETIME.as_secs().to_string();
    let error = Command::new(timeout)
        .args([&lifetime, "sleep", &lifetime])
        .stdout(Stdio::null())
        .exec();

    panic!("{} does not start: {error}", timeout.display());
}

/// Requests a lease and passes the connection over standard input, as `SCM_RIGHTS`.
fn request_and_pass(socket: &Path) {
    let mut stream = UnixStream::connect(socket).expect("the socket accepts connections");
    stream
        .write_all(&lease_request("dev"))
        .expect("the connection is open");

    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [stream.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));

    let data = [std::io::IoSlice::new(b"x")];
    sendmsg(stdin(), &data, &mut control, SendFlags::empty()).expect("the test receives it");
}
