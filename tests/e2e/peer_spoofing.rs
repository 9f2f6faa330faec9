//! Processes that pose as another one: with a connection that is not theirs, after an exec, or with
//! a reused pid.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rolekeeper_tests::harness::raw_client::{
    challenge_response, is_lease, lease_request, nonce, read_reply, refusal, request_lease,
};
use rolekeeper_tests::harness::{Daemon, Home, SandboxProcess, eventually, which, world};
use rustix::process::Signal;
use serde_json::Value;

use crate::approve::{pending_approval, run_on_terminal};
use crate::attacker;
use crate::callers::only_for;

fn reply(stream: &mut UnixStream) -> Value {
    read_reply(stream).unwrap()
}

/// A home whose profile `dev` is for some programs only.
struct Target {
    _sandbox: SandboxProcess,
    home: Home,
}

impl Target {
    /// For this test's program and the attacker: their programs are allowed, so that only the
    /// attack can be refused.
    fn for_test_and_attacker() -> Self {
        let test = std::env::current_exe().unwrap();
        let attacker = attacker();

        Self::only_for(&format!(
            "callers = [{{ exe = {test:?} }}, {{ exe = {attacker:?} }}]"
        ))
    }

    fn only_for(rule: &str) -> Self {
        let (sandbox, home) = only_for(rule);
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

    /// An attack on this home's socket; its output is piped.
    fn attack(&self, name: &str, stdin: Stdio) -> Command {
        let mut command = self.home.command(attacker());
        command
            .arg(name)
            .arg(self.home.socket())
            .stdin(stdin)
            .stdout(Stdio::piped());

        command
    }

    /// A connection of a process that runs `timeout` by the time the daemon inspects it. A process
    /// can have that done: one of the same user can stop the daemon for a while.
    fn connected_before_exec(&self, daemon: &Daemon<'_>) -> (UnixStream, Killed) {
        daemon.signal(Signal::STOP);
        let mut attack = self.attack("exec-before-inspection", Stdio::null());
        attack.arg(which("timeout"));
        let (stream, attacker) = connection_of(attack);

        let exe = PathBuf::from(format!("/proc/{}/exe", attacker.0.id()));
        eventually("the attacker runs timeout", || {
            fs::read_link(&exe)
                .ok()
                .filter(|exe| exe.ends_with("timeout"))
        });

        daemon.signal(Signal::CONT);

        (stream, attacker)
    }
}

/// Starts an attack that passes its connection to this process.
fn connection_of(mut attack: Command) -> (UnixStream, Killed) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = attack
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();

    (receive_connection(&ours), Killed(child))
}

/// Receives a descriptor, as `SCM_RIGHTS`.
fn receive_connection(over: &UnixStream) -> UnixStream {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [std::io::IoSliceMut::new(&mut byte)];
    recvmsg(over, &mut data, &mut control, RecvFlags::empty()).unwrap();

    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });

    UnixStream::from(descriptor.expect("the attacker passes its connection"))
}

/// A process that is killed when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn answer_challenge(stream: &mut UnixStream) {
    let challenge = reply(stream);
    let nonce = nonce(&challenge).unwrap_or_else(|| panic!("it is no challenge: {challenge}"));

    stream.write_all(&challenge_response(nonce)).unwrap();
}

/// A process that shares the connection can read the challenge and answer it, but not as the
/// inspected process.
fn assert_connection_is_useless(mut stream: UnixStream) {
    answer_challenge(&mut stream);

    assert!(refusal(&reply(&mut stream)).contains("another process uses the connection"));
}

#[test]
fn wrong_challenge_response_is_refused() {
    let target = Target::for_test_and_attacker();
    let _daemon = target.home.daemon(&[]);

    let mut good = target.connect();
    assert!(is_lease(&request_lease(&mut good).unwrap()));

    good.write_all(&lease_request("dev")).unwrap();
    assert!(
        is_lease(&reply(&mut good)),
        "one challenge for each connection"
    );

    let mut guessing = target.connect();
    guessing.write_all(&lease_request("dev")).unwrap();
    assert!(nonce(&reply(&mut guessing)).is_some());

    guessing
        .write_all(&challenge_response(&"0".repeat(64)))
        .unwrap();

    assert!(refusal(&reply(&mut guessing)).contains("failed the identity challenge"));
}

#[test]
fn connection_passed_to_another_process_is_refused() {
    let target = Target::for_test_and_attacker();
    let _daemon = target.home.daemon(&[]);

    let mut stream = target.connect();
    assert!(is_lease(&request_lease(&mut stream).unwrap()));

    let shared = Stdio::from(OwnedFd::from(stream.try_clone().unwrap()));
    let output = target
        .home
        .command(attacker())
        .arg("reuse-connection")
        .stdin(shared)
        .output()
        .unwrap();

    assert!(
        String::from_utf8_lossy(&output.stdout).contains("requested"),
        "{output:?}"
    );
    assert!(refusal(&reply(&mut stream)).contains("another process uses the connection"));

    stream.write_all(&lease_request("dev")).unwrap();
    assert!(
        refusal(&reply(&mut stream)).contains("another process uses the connection"),
        "from then on also for the process that connected"
    );
}

#[test]
fn exec_after_lease_is_refused() {
    let target = Target::for_test_and_attacker();
    let _daemon = target.home.daemon(&[]);

    let mut child = target
        .attack("exec-after-lease", Stdio::null())
        .spawn()
        .unwrap();
    let mut output = Vec::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut output)
        .unwrap();

    child.wait().unwrap();

    let output = String::from_utf8_lossy(&output);
    assert!(output.contains("leased"), "{output}");
    assert!(output.contains("runs another program"), "{output}");
}

/// A child that shares the memory keeps it alive, so that the memory does not show the exec.
#[test]
fn exec_that_leaves_the_memory_in_use_is_refused() {
    let target = Target::for_test_and_attacker();
    let _daemon = target.home.daemon(&[]);

    let mut attack = target.attack("exec-after-lease", Stdio::null());
    let output = attack.arg("--share-memory").output().unwrap();

    let output = String::from_utf8_lossy(&output.stdout);
    assert!(output.contains("leased"), "{output}");
    assert!(output.contains("runs another program"), "{output}");
}

#[test]
fn exec_of_allowed_program_before_request_is_refused() {
    let (sandbox, home) = world();

    // Not the system's shell: of a shell, the daemon would take the program that started it.
    let shell = home.socket().with_file_name("good");
    home.configure_more("", &format!("callers = [{{ exe = {shell:?} }}]"));
    let target = Target {
        _sandbox: sandbox,
        home,
    };
    let _daemon = target.home.daemon(&[]);

    fs::copy(which("sh"), &shell).unwrap();

    let output = target
        .attack("exec-before-request", Stdio::null())
        .arg(&shell)
        .output()
        .unwrap();

    let replies = String::from_utf8_lossy(&output.stdout);
    let inspected = attacker().display();
    assert!(
        replies.contains(&format!("profile dev does not allow {inspected}")),
        "{output:?}"
    );
}

#[test]
fn exec_before_inspection_is_refused() {
    let timeout = which("timeout");
    let target = Target::only_for(&format!("callers = [{{ exe = {timeout:?} }}]"));
    let daemon = target.home.daemon(&[]);

    let (stream, _attacker) = target.connected_before_exec(&daemon);

    assert_connection_is_useless(stream);
}

/// Only root can choose the pid of the next process.
#[test]
#[ignore = "needs root"]
fn reused_pid_is_refused() {
    let timeout = which("timeout");
    let target = Target::only_for(&format!("callers = [{{ exe = {timeout:?} }}]"));
    let daemon = target.home.daemon(&[]);

    daemon.signal(Signal::STOP);
    let (stream, attacker) = connection_of(target.attack("pass-connection", Stdio::null()));
    let pid = attacker.0.id();
    drop(attacker);
    let _reused = start_with_pid(&timeout, pid);
    daemon.signal(Signal::CONT);

    assert_connection_is_useless(stream);
}

/// Starts `timeout` with this pid. Several tries: other processes start meanwhile.
fn start_with_pid(timeout: &Path, pid: u32) -> Killed {
    for _ in 0..2000 {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let mut command = Command::new(timeout);
        let process = Killed(command.args(["20", "sleep", "20"]).spawn().unwrap());
        if process.0.id() == pid {
            return process;
        }
    }

    panic!("no process got the pid {pid}");
}

/// The person approves the program that they are shown: no other process may get the answer.
#[test]
fn passed_connection_never_reaches_approval() {
    let target = Target::only_for("confirm = \"first\"");
    let daemon = target.home.daemon(&[]);

    let (mut stream, _attacker) = target.connected_before_exec(&daemon);
    answer_challenge(&mut stream);
    let mut last = reply(&mut stream);
    if last["reply"]["awaiting_user"].is_object() {
        last = reply(&mut stream);
    }

    assert!(
        refusal(&last).contains("another process uses the connection"),
        "{last}"
    );
    assert_eq!(
        target.home.rolekeeper(&["approve"]).stdout,
        "no pending approvals\n"
    );
}

#[test]
fn exec_while_approval_is_pending_is_refused() {
    let target = Target::only_for("confirm = \"first\"");
    let _daemon = target.home.daemon(&[]);

    let mut child = target
        .attack("exec-while-approval", Stdio::null())
        .spawn()
        .unwrap();
    let id = pending_approval(&target.home)["id"].to_string();
    let exe = PathBuf::from(format!("/proc/{}/exe", child.id()));
    eventually("the attacker has become a shell", || {
        fs::read_link(&exe).ok().filter(|exe| exe != attacker())
    });

    let approved = run_on_terminal(&target.home, &["approve", &id], "allowed", "");
    assert_eq!(approved.code, 0, "{approved:?}");

    let mut output = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_end(&mut output).unwrap();
    child.wait().unwrap();
    let output = String::from_utf8_lossy(&output);
    assert!(output.contains("runs another program"), "{output}");
}
