//! Reload and crash: a new program, a new configuration, or a kill at any moment. No request is
//! lost, no session is fetched twice, no file is truncated.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use rolekeeper_tests::harness::raw_client::{is_lease, lease_request, read_reply};
use rolekeeper_tests::harness::{
    Daemon, Home, SandboxProcess, StopOnDrop, eventually, programs, world,
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Requests leases on open connections until `stopped`, and returns their number. Every sent
/// request must be answered.
fn request_until_stopped(home: &Home, stopped: &AtomicBool) -> usize {
    let mut answered = 0;

    while !stopped.load(Ordering::Relaxed) {
        let mut stream = UnixStream::connect(home.socket())
            .expect("the socket accepts connections at every moment");

        while !stopped.load(Ordering::Relaxed) && stream.write_all(&lease_request("dev")).is_ok() {
            let reply = read_reply(&mut stream).expect("the daemon replies");
            assert!(is_lease(&reply), "{reply}");

            answered += 1;
        }
    }

    answered
}

#[test]
fn reload_under_load_loses_no_request() {
    let (sandbox, home) = world();
    let program = home.copy_of(&programs().rolekeeperd);
    let daemon = home.daemon_from(home.command(&program));

    let pid = daemon.pid();
    let stopped = AtomicBool::new(false);
    let runs = AtomicUsize::new(0);

    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| request_until_stopped(&home, &stopped)))
            .collect();

        scope.spawn(|| {
            while !stopped.load(Ordering::Relaxed) {
                let run = home.rolekeeper(&["credential-process", "dev"]);
                assert_eq!(run.code, 0, "{run:?}");

                runs.fetch_add(1, Ordering::Relaxed);
            }
        });

        let stop = StopOnDrop(&stopped);

        for _ in 0..6 {
            // As package managers do: another file under the same name.
            let newer = home.path().join("newer");
            assert!(
                std::process::Command::new("cp")
                    .arg(&program)
                    .arg(&newer)
                    .status()
                    .unwrap()
                    .success()
            );

            std::fs::rename(&newer, &program).unwrap();
            daemon.reload();
        }

        drop(stop);
        let answered: usize = asking
            .into_iter()
            .map(|asking| asking.join().unwrap())
            .sum();

        assert!(answered > 1000, "{answered}");
    });

    assert!(runs.into_inner() > 0);

    let status = home.rolekeeper(&["status", "--json"]).json();
    assert_eq!(
        status["daemon"]["pid"], pid,
        "the pid stays the same for the service manager"
    );
    assert_eq!(sandbox.calls("assumeRole"), 1, "the session stays the same");
    assert_eq!(daemon.stop(), 0);
    assert!(!home.socket().exists(), "the daemon removes the socket");
}

#[test]
fn request_waiting_during_reload_is_answered() {
    let (sandbox, home) = world();
    let daemon = home.daemon(&[]);

    sandbox.fault(&json!({ "kind": "delay", "ms": 6000 }));

    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| home.rolekeeper(&["credential-process", "dev"]));
        eventually("the request has reached the upstream", || {
            (sandbox.calls("assumeRole") == 1).then_some(())
        });
        sandbox.clear_faults();
        daemon.reload();
        let run = waiting.join().unwrap();
        assert_eq!(run.code, 0, "{run:?}");
    });
}

#[test]
fn reload_keeps_sessions_that_fit_new_configuration() {
    let (sandbox, home) = world();
    let daemon = home.daemon(&[]);

    let session = |profile: &str| {
        assert_eq!(home.rolekeeper(&["credential-process", profile]).code, 0);

        let status = home.rolekeeper(&["status", "--json"]).json();
        let found = status["profiles"]
            .as_array()
            .unwrap()
            .iter()
            .find(|each| each["profile"] == profile)
            .cloned();

        found.unwrap()["session"]["id"].as_str().unwrap().to_owned()
    };

    let before = session("dev");

    home.configure_for(
        &sandbox,
        "dev",
        &[("dev", "S3ReadOnly"), ("more", "S3ReadOnly")],
    );

    daemon.reload();
    assert_eq!(session("dev"), before);
    assert_ne!(session("more"), before);

    // A profile with another role does not get the old session.
    home.configure_for(&sandbox, "dev", &[("dev", "S3BucketAccess")]);
    daemon.reload();
    assert_ne!(session("dev"), before);
}

#[test]
fn failed_reload_changes_nothing_and_logs_why() {
    let (sandbox, home) = world();
    let program = home.copy_of(&programs().rolekeeperd);
    let daemon = home.daemon_from(home.command(&program));

    let answers = || home.rolekeeper(&["credential-process", "dev"]).code;
    assert_eq!(answers(), 0);

    let good = std::fs::read_to_string(home.config_path()).unwrap();
    home.configure(&good.replace("role_id", "roel_id"));
    daemon.signal(Signal::HUP);

    eventually("the daemon logs why", || {
        daemon
            .log()
            .contains("did you mean `role_id`?")
            .then_some(())
    });

    home.configure(&good);

    // The program is missing.
    std::fs::remove_file(&program).unwrap();
    daemon.signal(Signal::HUP);
    eventually("the daemon logs why", || {
        daemon.log().contains("No such file").then_some(())
    });

    assert_eq!((answers(), daemon.starts()), (0, 1));
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

fn access_key(home: &Home) -> Value {
    home.rolekeeper(&["credential-process", "dev"]).json()["AccessKeyId"].clone()
}

/// Sends SIGHUP a hundred times, faster than the daemon can reload.
fn reload_a_hundred_times(daemon: &Daemon<'_>) {
    for _ in 0..100 {
        daemon.signal(Signal::HUP);
        std::thread::yield_now();
    }
}

#[test]
fn hundred_reloads_leave_one_serving_daemon() {
    let (sandbox, home) = world();
    let daemon = home.daemon(&[]);

    let key = access_key(&home);

    reload_a_hundred_times(&daemon);
    assert_eq!(access_key(&home), key);

    daemon.reload();
    assert_eq!(access_key(&home), key);
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

/// Only root can read the descriptors of a hidden process.
#[test]
#[ignore = "needs root"]
fn hundred_reloads_leak_no_descriptors() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);

    let key = access_key(&home);

    reload_a_hundred_times(&daemon);
    daemon.reload();
    assert_eq!(access_key(&home), key);

    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let open = descriptors.count();
    assert!(open < 40, "{open} descriptors are open");
}

#[test]
fn clients_survive_kills_at_any_moment() {
    let (sandbox, home) = world();
    let stopped = AtomicBool::new(false);

    let kills = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut runs = 0;

                    while !stopped.load(Ordering::Relaxed) {
                        let mut client = home.client();
                        client.args(["credential-process", "dev"]);
                        let run = home.run(client);
                        assert_eq!(run.code, 0, "{run:?}");

                        let left = run.json()["Expiration"].as_str().unwrap().to_owned();
                        assert!(left.ends_with('Z'));

                        runs += 1;
                    }

                    runs
                })
            })
            .collect();

        let _stop = StopOnDrop(&stopped);
        let mut random = fastrand::Rng::with_seed(4);
        let mut kills = 0_u64;
        let deadline = Instant::now() + Duration::from_secs(60);

        while kills < 60
            && Instant::now() < deadline
            && !asking.iter().any(ScopedJoinHandle::is_finished)
        {
            let started = Instant::now();

            // Half of the kills hit a starting daemon, half a serving one.
            let after = Duration::from_millis(if kills.is_multiple_of(2) { 0 } else { 250 });
            let instant = after + Duration::from_micros(random.u64(0..40_000));
            while started.elapsed() < instant {
                std::thread::yield_now();
            }

            kills += u64::from(kill_daemon_of(&home));
        }

        stopped.store(true, Ordering::Relaxed);
        assert!(
            asking
                .into_iter()
                .map(|asking| asking.join().unwrap())
                .sum::<usize>()
                > 20
        );

        kills
    });

    assert!(kills >= 20, "{kills} kills");

    let calls = sandbox.calls("assumeRole");
    assert!(calls <= kills + 1, "{calls} calls for {kills} daemons");

    // The journal consists of whole lines.
    let record = std::fs::read_to_string(home.journal()).unwrap();
    let broken = record
        .lines()
        .filter(|line| serde_json::from_str::<Value>(line).is_err())
        .count();

    assert_eq!(broken, 0, "{record}");
}

/// Kills the daemon of this home, if there is one.
fn kill_daemon_of(home: &Home) -> bool {
    let socket = home.socket();
    let is_ours = |pid: &i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&words).into_owned();

        text.contains("rolekeeperd") && text.contains(socket.to_str().unwrap())
    };

    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());

    let Some(pid) = pids
        .filter(is_ours)
        .find_map(rustix::process::Pid::from_raw)
    else {
        return false;
    };

    rustix::process::kill_process(pid, Signal::KILL).is_ok()
}

#[test]
fn unwritable_state_does_not_stop_serving() {
    let (_sandbox, home) = world();
    let state = home.path().join("state/rolekeeper");
    std::fs::create_dir_all(state.parent().unwrap()).unwrap();

    // A file instead of the state folder: not even root can write there.
    std::fs::write(&state, "").unwrap();
    // At the default socket, the state would be beside it.
    let socket = home.path().join("s");
    let socket = socket.to_str().unwrap();
    let daemon = home.daemon(&["--socket", socket]);

    let request = ["--socket", socket, "credential-process", "dev"];
    assert_eq!(home.rolekeeper(&request).code, 0);
    let status = home.rolekeeper(&["--socket", socket, "status"]).stdout;
    let problem = ": read and not written, because the folder cannot be locked";
    assert!(status.contains(problem), "{status}");
    assert!(
        daemon
            .log()
            .contains("cannot write the journal: it is lost when this daemon ends"),
        "{}",
        daemon.log()
    );
}

/// Leftover files do not stop the next daemon. `tests/bench` measures how long its start takes.
#[test]
fn files_of_killed_daemon_are_replaced() {
    let (sandbox, home): (SandboxProcess, Home) = world();
    for round in 1..=3 {
        let mut daemon = home.daemon(&[]);

        assert_eq!(home.rolekeeper(&["credential-process", "dev"]).code, 0);
        assert_eq!(
            sandbox.calls("assumeRole"),
            round,
            "one call for each daemon"
        );

        daemon.kill();
        assert!(home.socket().exists());
    }
}
