//! What becomes of processes that pretend to be another one, or to be what they no longer are.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rolekeeper::frame;
use rolekeeper_tests::harness::{Daemon, Home, SandboxProcess, eventually, which, world};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::approve::{at_terminal, waiting};
use crate::callers::only_for;

fn lease() -> Vec<u8> {
    frame::encode(&json!({ "v": 1, "request": { "lease": { "profile": "dev" } } })).unwrap()
}

fn reply(stream: &mut UnixStream) -> Value {
    serde_json::from_slice(&frame::read(stream).unwrap()).unwrap()
}

/// A lease as a good client gets it, which says the word that it is told.
fn asked(stream: &mut UnixStream) -> Value {
    stream.write_all(&lease()).unwrap();
    let first = reply(stream);
    let Some(word) = first["reply"]["challenge"]["nonce"].as_str() else {
        return first;
    };
    stream.write_all(&proof(word)).unwrap();
    reply(stream)
}

fn proof(word: &str) -> Vec<u8> {
    frame::encode(&json!({ "v": 1, "request": { "challenge_response": { "nonce": word } } }))
        .unwrap()
}

fn is_lease(reply: &Value) -> bool {
    reply["reply"]["lease"].is_object()
}

fn why_not(reply: &Value) -> &str {
    reply["reply"]["error"]["message"]
        .as_str()
        .unwrap_or_else(|| panic!("it was not refused: {reply}"))
}

/// A daemon whose profile is for this test's own program, and a connection of this process to it.
struct Door {
    _sandbox: SandboxProcess,
    home: Home,
}

impl Door {
    fn new() -> Self {
        let me = std::env::current_exe().unwrap();
        let (sandbox, home) = only_for(&format!("callers = [{{ exe = {me:?} }}]"));
        Self {
            _sandbox: sandbox,
            home,
        }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.home.socket()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    /// This program again, as one of the parts below, with a connection of its own or this one as standard input.
    fn part(&self, name: &str, stdin: Stdio) -> Command {
        let mut command = self.home.command(&std::env::current_exe().unwrap());
        command.args(["--exact", &format!("impostors::{name}"), "--nocapture"]);
        command
            .env("ROLEKEEPER_TEST_PART", self.home.socket())
            .stdin(stdin)
            .stdout(Stdio::piped());
        command
    }
}

/// Where a part of a test below finds the socket, if it is run as one.
fn part_socket() -> Option<PathBuf> {
    std::env::var_os("ROLEKEEPER_TEST_PART").map(Into::into)
}

#[test]
fn a_good_client_says_the_word_and_another_does_not_get_on_by_guessing() {
    let door = Door::new();
    let _daemon = door.home.daemon(&[]);
    let mut stream = door.connect();
    assert!(is_lease(&asked(&mut stream)));
    // Once is enough for a connection.
    stream.write_all(&lease()).unwrap();
    assert!(is_lease(&reply(&mut stream)));
    let mut guessing = door.connect();
    guessing.write_all(&lease()).unwrap();
    assert!(reply(&mut guessing)["reply"]["challenge"].is_object());
    guessing.write_all(&proof(&"0".repeat(64))).unwrap();
    assert!(why_not(&reply(&mut guessing)).contains("failed the identity challenge"));
}

#[test]
fn a_connection_that_is_handed_to_another_process_is_good_for_nothing() {
    let door = Door::new();
    let _daemon = door.home.daemon(&[]);
    let mut stream = door.connect();
    assert!(is_lease(&asked(&mut stream)), "it is good here");
    // Another process, of the very same program.
    let heir = door.part(
        "what_the_heir_does",
        Stdio::from(OwnedFd::from(stream.try_clone().unwrap())),
    );
    let output = { heir }.output().unwrap();
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("the heir is done"),
        "{output:?}"
    );
    assert!(why_not(&reply(&mut stream)).contains("another process uses the connection"));
    stream.write_all(&lease()).unwrap();
    assert!(
        why_not(&reply(&mut stream)).contains("another process uses the connection"),
        "nor is it good here any longer"
    );
}

/// A part of the test above.
#[test]
fn what_the_heir_does() {
    if part_socket().is_none() {
        return;
    }
    let inherited = rustix::io::dup(rustix::stdio::stdin()).unwrap();
    UnixStream::from(inherited).write_all(&lease()).unwrap();
    println!("the heir is done");
}

#[test]
fn a_process_that_has_become_another_program_is_refused() {
    let door = Door::new();
    let _daemon = door.home.daemon(&[]);
    let mut child = door
        .part("what_the_changeling_does", Stdio::null())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut said).unwrap();
    child.wait().unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("it was good"), "{said}");
    assert!(said.contains("runs another program"), "{said}");
}

/// A part of the test above: it gets a lease, and then puts a shell in its own place, with the connection open.
#[test]
fn what_the_changeling_does() {
    let Some(socket) = part_socket() else { return };
    let mut stream = UnixStream::connect(socket).unwrap();
    assert!(is_lease(&asked(&mut stream)));
    println!("it was good");
    panic!("{}", become_a_shell(Path::new("sh"), &stream, ""));
}

/// A shell in this process's place asks on the connection that it has made, and shows what it is told in the end.
fn become_a_shell(shell: &Path, stream: &UnixStream, between: &str) -> std::io::Error {
    rustix::io::fcntl_setfd(stream, rustix::io::FdFlags::empty()).unwrap();
    // The shell itself writes, so that it is the same process; whoever reads does not matter.
    let script = format!(
        "exec 3<&{}; printf '{}' >&3; {between} head -c 200 <&3",
        stream.as_raw_fd(),
        octal(&lease())
    );
    Command::new(shell).args(["-c", &script]).exec()
}

/// For a shell's printf.
fn octal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:03o}")).collect()
}

#[test]
fn a_process_that_has_become_a_good_program_before_it_asks_is_refused() {
    let (_sandbox, home) = world();
    // No shell of the system's, which would pass for whoever has started it.
    let good = home.socket().with_file_name("good");
    home.configure_more("", &format!("callers = [{{ exe = {good:?} }}]"));
    let door = Door { _sandbox, home };
    let _daemon = door.home.daemon(&[]);
    fs::copy(which("sh"), &good).unwrap();
    let output = door
        .part("what_the_early_changeling_does", Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let before = std::env::current_exe().unwrap();
    assert!(
        said.contains(&format!("profile dev does not allow {}", before.display())),
        "{output:?}"
    );
}

/// A part of the test above.
#[test]
fn what_the_early_changeling_does() {
    let Some(socket) = part_socket() else { return };
    let stream = UnixStream::connect(&socket).unwrap();
    // Who connects is looked at in turn: when this is answered, it has been seen.
    assert!(why_not(&asked(&mut UnixStream::connect(&socket).unwrap())).contains("does not allow"));
    let word = "w".repeat(64);
    let told = frame::encode(&json!({ "v": 1, "reply": { "challenge": { "nonce": word } } }))
        .unwrap()
        .len();
    let proof = octal(&proof(&word)).replace(&octal(word.as_bytes()), "%s");
    let between = format!(
        "word=$(head -c {told} <&3 | tail -c 68 | head -c 64); printf '{proof}' \"$word\" >&3;"
    );
    panic!(
        "{}",
        become_a_shell(&socket.with_file_name("good"), &stream, &between)
    );
}

#[test]
fn a_process_that_puts_a_good_program_in_its_place_before_it_is_looked_at_gets_nothing() {
    // Both ways of it: it asks before, or leaves the asking to somebody else.
    let timeout = which("timeout");
    let (_sandbox, home) = only_for(&format!("callers = [{{ exe = {timeout:?} }}]"));
    let door = Door { _sandbox, home };
    let daemon = door.home.daemon(&[]);
    let (stream, _other) = door.masked(&daemon);
    good_for_nothing(stream);
}

/// Needs root, to say which number the next process gets.
#[test]
fn a_process_that_has_the_number_of_one_that_asked_gets_nothing_for_it() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let timeout = which("timeout");
    let (_sandbox, home) = only_for(&format!("callers = [{{ exe = {timeout:?} }}]"));
    let door = Door { _sandbox, home };
    let daemon = door.home.daemon(&[]);
    daemon.signal(Signal::STOP);
    let (stream, asker) = door.connected_by("what_the_short_lived_does");
    let number = asker.0.id();
    drop(asker);
    // Others start processes, too.
    let again = (0..2000).find_map(|_| {
        fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).unwrap();
        let next = Killed(
            Command::new(&timeout)
                .args(["20", "sleep", "20"])
                .spawn()
                .unwrap(),
        );
        (next.0.id() == number).then_some(next)
    });
    let _again = again.expect("a process of the same number");
    daemon.signal(Signal::CONT);
    good_for_nothing(stream);
}

fn say_the_word(stream: &mut UnixStream) {
    let first = reply(stream);
    let word = first["reply"]["challenge"]["nonce"]
        .as_str()
        .unwrap_or_else(|| panic!("{first}"));
    stream.write_all(&proof(word)).unwrap();
}

/// Whoever has the connection can read the word, and say it: but not as the process that was looked at.
fn good_for_nothing(mut stream: UnixStream) {
    say_the_word(&mut stream);
    assert!(why_not(&reply(&mut stream)).contains("another process uses the connection"));
}

/// A person is shown who asks: it has to be who is answered.
#[test]
fn a_profile_that_wants_a_persons_word_is_not_given_over_a_connection_that_was_handed_on() {
    let (_sandbox, home) = only_for("confirm = \"first\"");
    let door = Door { _sandbox, home };
    let daemon = door.home.daemon(&[]);
    let (stream, _other) = door.masked(&daemon);
    let mut stream = stream;
    say_the_word(&mut stream);
    let next = reply(&mut stream);
    let next = if next["reply"]["awaiting_user"].is_object() {
        reply(&mut stream)
    } else {
        next
    };
    assert!(
        why_not(&next).contains("another process uses the connection"),
        "{next}"
    );
    assert_eq!(
        door.home.rolekeeper(&["approve"]).stdout,
        "no pending approvals\n"
    );
}

#[test]
fn exec_while_approval_is_pending_is_refused() {
    let (_sandbox, home) = only_for("confirm = \"first\"");
    let door = Door { _sandbox, home };
    let _daemon = door.home.daemon(&[]);
    let mut child = door
        .part("what_becomes_a_shell_while_it_waits", Stdio::piped())
        .spawn()
        .unwrap();
    let id = waiting(&door.home)["id"].to_string();
    let exe = PathBuf::from(format!("/proc/{}/exe", child.id()));
    let before = std::env::current_exe().unwrap();
    eventually("it is another program", || {
        fs::read_link(&exe).ok().filter(|exe| *exe != before)
    });

    let approved = at_terminal(&door.home, &["approve", &id], "allowed", "");
    assert_eq!(approved.code, 0, "{approved:?}");

    let mut output = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_end(&mut output).unwrap();
    child.wait().unwrap();
    let output = String::from_utf8_lossy(&output);
    assert!(output.contains("runs another program"), "{output}");
}

/// A part of the test above: it waits for approval, and puts a shell in its own place meanwhile.
#[test]
fn what_becomes_a_shell_while_it_waits() {
    let Some(socket) = part_socket() else { return };
    let mut stream = UnixStream::connect(socket).unwrap();
    let first = asked(&mut stream);
    assert!(first["reply"]["awaiting_user"].is_object(), "{first}");
    rustix::io::fcntl_setfd(&stream, rustix::io::FdFlags::empty()).unwrap();
    let script = format!("head -c 150 <&{}", stream.as_raw_fd());
    panic!("{}", Command::new("sh").args(["-c", &script]).exec());
}

/// A process that is ended when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Door {
    /// The same by a process that puts `timeout` in its own place before it is looked at: the daemon cannot look while it stands
    /// still, and a process of the same user may do that to it.
    fn masked(&self, daemon: &Daemon<'_>) -> (UnixStream, Killed) {
        daemon.signal(Signal::STOP);
        let (stream, other) = self.connected_by("what_the_masked_does");
        let exe = PathBuf::from(format!("/proc/{}/exe", other.0.id()));
        eventually("it is another program", || {
            fs::read_link(&exe)
                .ok()
                .filter(|exe| exe.ends_with("timeout"))
        });
        daemon.signal(Signal::CONT);
        (stream, other)
    }

    /// A connection that another process has made, and asked over; this process has it, too.
    fn connected_by(&self, part: &str) -> (UnixStream, Killed) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = Killed(
            self.part(part, Stdio::from(OwnedFd::from(theirs)))
                .spawn()
                .unwrap(),
        );
        (receive(&ours), child)
    }
}

/// A part of the test above.
#[test]
fn what_the_short_lived_does() {
    let Some(socket) = part_socket() else { return };
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(&lease()).unwrap();
    send(&rustix::stdio::stdin(), &stream);
    std::thread::sleep(Duration::from_secs(20));
}

/// A part of the test before that.
#[test]
fn what_the_masked_does() {
    let Some(socket) = part_socket() else { return };
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(&lease()).unwrap();
    send(&rustix::stdio::stdin(), &stream);
    let error = Command::new(which("timeout"))
        .args(["20", "sleep", "20"])
        .stdout(Stdio::null())
        .exec();
    panic!("{error}");
}

/// Hands a descriptor over a socket.
fn send(over: &impl std::os::fd::AsFd, what: &UnixStream) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::os::fd::AsFd;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let rights = [what.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
    sendmsg(
        over,
        &[std::io::IoSlice::new(b"x")],
        &mut control,
        SendFlags::empty(),
    )
    .unwrap();
}

fn receive(over: &UnixStream) -> UnixStream {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        over,
        &mut [std::io::IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::empty(),
    )
    .unwrap();
    let rights = |message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    };
    control
        .drain()
        .find_map(rights)
        .map(UnixStream::from)
        .unwrap()
}
