//! Many at once: one upstream call, a cap on connections, and no harm from those who leave.

use std::io::Write;
use std::os::unix::net::UnixStream;

use rolekeeper::frame;
use rolekeeper_tests::harness::{Home, eventually, world};
use serde_json::{Value, json};

const REQUEST: &str = r#"{"v":1,"request":{"lease":{"profile":"dev"}}}"#;

fn ask(home: &Home) -> UnixStream {
    let mut stream = UnixStream::connect(home.socket()).expect("it is accepted");
    // A daemon that is full may have answered and hung up by now; what it said can still be read.
    let _ =
        stream.write_all(&frame::encode(&serde_json::from_str::<Value>(REQUEST).unwrap()).unwrap());
    stream
}

fn reply(mut stream: UnixStream) -> Value {
    serde_json::from_slice(&frame::read(&mut stream).unwrap()).unwrap()
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
fn five_thousand_cold_requests_make_one_call_even_when_the_first_leaves() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let many = usize::try_from(raise_descriptor_limit().saturating_sub(200))
        .unwrap()
        .min(5000);
    sandbox.fault(&json!({ "kind": "delay", "ms": 2000 }));

    let first = ask(&home);
    eventually("the upstream is asked", || {
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
fn connections_over_the_cap_are_told_so_and_those_before_go_on() {
    let (_sandbox, home) = world();
    // The daemon keeps 64 of its descriptors for itself.
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -n 96 && exec \"$0\""])
        .arg(&rolekeeper_tests::harness::programs().rolekeeperd);
    let _daemon = home.daemon_from(command);

    let mut held: Vec<_> = (0..32)
        .map(|_| UnixStream::connect(home.socket()).unwrap())
        .collect();
    let refused = eventually("the cap is reached", || {
        let said = reply(ask(&home));
        (said["reply"]["error"]["code"] == "busy").then_some(said)
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
    last.write_all(&frame::encode(&serde_json::from_str::<Value>(REQUEST).unwrap()).unwrap())
        .unwrap();
    assert!(
        reply(last)["reply"]["lease"].is_object(),
        "a connection from before is served"
    );
    drop(held);
    eventually("there is room again", || {
        reply(ask(&home))["reply"]["lease"]
            .is_object()
            .then_some(())
    });
}
