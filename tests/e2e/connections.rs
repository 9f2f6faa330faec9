//! Many connections at once: one upstream call for all, and a limit that does not affect open
//! connections.

use std::io::Write;
use std::os::unix::net::UnixStream;

use rolekeeper_tests::harness::raw_client::{lease_request, read_reply};
use rolekeeper_tests::harness::{Home, eventually, world};
use serde_json::{Value, json};

fn ask(home: &Home) -> UnixStream {
    let mut stream = UnixStream::connect(home.socket()).expect("the daemon accepts the connection");

    // A daemon at its limit may have replied and closed the connection already; its reply can still
    // be read.
    let _ = stream.write_all(&lease_request("dev"));

    stream
}

fn reply(mut stream: UnixStream) -> Value {
    read_reply(&mut stream).unwrap()
}

fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);

    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .unwrap();

    maximum.unwrap_or(u64::MAX)
}

#[test]
fn concurrent_cold_requests_make_one_call() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let many = usize::try_from(raise_descriptor_limit().saturating_sub(200))
        .unwrap()
        .min(5000);
    sandbox.fault(&json!({ "kind": "delay", "ms": 2000 }));

    let first = ask(&home);
    eventually("the upstream is called", || {
        (sandbox.calls("assumeRole") == 1).then_some(())
    });
    drop(first);
    let waiting: Vec<_> = (1..many).map(|_| ask(&home)).collect();

    let sessions: std::collections::BTreeSet<_> = waiting
        .into_iter()
        .map(|stream| {
            reply(stream)["reply"]["lease"]["session_id"]
                .as_str()
                .expect("a lease")
                .to_owned()
        })
        .collect();

    assert_eq!(sessions.len(), 1);
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn connections_over_the_limit_get_busy() {
    let (_sandbox, home) = world();

    // The daemon reserves 64 of its descriptors: 32 connections are left.
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -n 96 && exec \"$0\""])
        .arg(&rolekeeper_tests::harness::programs().rolekeeperd);
    let _daemon = home.daemon_from(command);

    let mut held: Vec<_> = (0..32)
        .map(|_| UnixStream::connect(home.socket()).unwrap())
        .collect();
    let refused = eventually("the limit is reached", || {
        let answer = reply(ask(&home));
        (answer["reply"]["error"]["code"] == "busy").then_some(answer)
    });

    assert!(
        refused["reply"]["error"]["hint"]
            .as_str()
            .unwrap()
            .contains("retry in a moment")
    );

    let run = home.rolekeeper(&["credential-process", "dev"]);
    assert!(run.code == 3 && run.stderr.contains("(busy)"), "{run:?}");

    let mut last = held.pop().unwrap();
    last.write_all(&lease_request("dev")).unwrap();

    assert!(
        reply(last)["reply"]["lease"].is_object(),
        "an open connection is still served"
    );

    drop(held);

    eventually("connections are accepted again", || {
        reply(ask(&home))["reply"]["lease"]
            .is_object()
            .then_some(())
    });
}

/// The attack: a program refreshes in a loop.
#[test]
fn refreshes_make_twelve_calls_a_minute_at_most() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let runs: Vec<_> = (0..20)
        .map(|_| home.rolekeeper(&["refresh", "dev"]))
        .collect();
    assert!(sandbox.calls("assumeRole") <= 13, "13 if it took a minute");
    let last = runs.last().unwrap();
    assert!(
        last.code == 7
            && last
                .stderr
                .contains("has had too many new sessions within a minute")
            && last.stderr.contains("try: run the command again in "),
        "{last:?}"
    );
    assert_eq!(home.rolekeeper(&["credential-process", "dev"]).code, 0);
}
