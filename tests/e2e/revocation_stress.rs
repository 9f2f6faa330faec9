//! Sessions are revoked and logged out of at random moments, while clients request leases, upstream
//! calls fail and the daemon is killed and reloaded. Afterwards each reply is checked against the
//! order of events.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rolekeeper_tests::harness::raw_client::{lease_request, read_reply};
use rolekeeper_tests::harness::{Home, SandboxProcess};
use rustix::process::Signal;
use serde_json::json;

const PROFILES: usize = 8;
const CLIENTS: usize = 3;
const ACTIONS: usize = 200;
/// Far more than the second between two polls: the simulation and `tests/bench` measure the real
/// delay.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// A reply, with the positions of its request and its arrival in the order of all events.
#[derive(Debug)]
struct Answer {
    profile: usize,
    sent: u64,
    sent_at: Instant,
    received: u64,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Lease(String),
    /// The revoked session, and whether it was revoked at the upstream.
    Held(Option<String>, bool),
    Other(String),
}

/// From the reply to a logout until the request to resume.
#[derive(Debug)]
struct Logout {
    profile: usize,
    from: u64,
    to: u64,
}

struct World {
    sandbox: SandboxProcess,
    home: Home,
    order: AtomicU64,
    is_stopped: AtomicBool,
    answers: Mutex<Vec<Answer>>,
    logouts: Mutex<Vec<Logout>>,
    revoked: Mutex<BTreeMap<String, Instant>>,
    /// The last session of each profile.
    current: [Mutex<Option<String>>; PROFILES],
}

fn name(profile: usize) -> String {
    format!("p{profile}")
}

impl World {
    /// Sessions last 40 s, so that some are refreshed. Every other profile has `on_revoke =
    /// "reassume"`.
    fn new() -> Self {
        let sandbox = SandboxProcess::start(&["--max-session", "40"]);
        let home = Home::default();
        let names: Vec<_> = (0..PROFILES).map(name).collect();

        home.configure_for(
            &sandbox,
            "dev",
            &names
                .iter()
                .map(|name| (name.as_str(), "S3ReadOnly"))
                .collect::<Vec<_>>(),
        );

        home.configure_more("check_every = \"1s\"", "");
        let mut text = std::fs::read_to_string(home.config_path()).unwrap();
        for profile in (1..PROFILES).step_by(2) {
            let header = format!("[profile.{}]\n", name(profile));
            text = text.replace(&header, &format!("{header}on_revoke = \"reassume\"\n"));
        }

        home.configure(&text);
        sandbox.fault(&json!({ "kind": "delay", "ms": 200 }));

        Self {
            sandbox,
            home,
            order: AtomicU64::default(),
            is_stopped: AtomicBool::default(),
            answers: Mutex::default(),
            logouts: Mutex::default(),
            revoked: Mutex::default(),
            current: std::array::from_fn(|_| Mutex::default()),
        }
    }

    fn now(&self) -> u64 {
        self.order.fetch_add(1, Ordering::SeqCst)
    }

    /// Requests leases until the test stops, and reconnects when the daemon is replaced.
    fn request_until_stopped(&self) {
        let mut random = fastrand::Rng::new();
        while !self.is_stopped.load(Ordering::Relaxed) {
            let Ok(mut stream) = UnixStream::connect(self.home.socket()) else {
                continue;
            };

            while !self.is_stopped.load(Ordering::Relaxed) {
                let profile = random.usize(0..PROFILES);
                let sent = self.now();
                let sent_at = Instant::now();
                let Some(outcome) = ask(&mut stream, profile) else {
                    break;
                };

                if let Outcome::Lease(id) = &outcome {
                    *self.current[profile].lock().unwrap() = Some(id.clone());
                }

                let answer = Answer {
                    profile,
                    sent,
                    sent_at,
                    received: self.now(),
                    outcome,
                };

                self.answers.lock().unwrap().push(answer);
            }
        }
    }

    /// Random actions of users and administrators, one at a time.
    fn act_randomly(&self) {
        let mut logged_out = BTreeMap::new();

        for _ in 0..ACTIONS {
            std::thread::sleep(Duration::from_millis(fastrand::u64(10..100)));
            let profile = fastrand::usize(0..PROFILES);

            match fastrand::u8(0..10) {
                0..3 => self.revoke(profile),
                3..5 => self.log_out(profile, &mut logged_out),
                5..7 => self.resume(profile, &mut logged_out),
                7..9 => {
                    // A client has requested a lease by then, so that a fetch is in progress.
                    self.resume(profile, &mut logged_out);
                    self.log_out(profile, &mut logged_out);
                }
                _ => self.fail_next_call(),
            }
        }

        let to = self.now();

        self.logouts
            .lock()
            .unwrap()
            .extend(
                logged_out
                    .into_iter()
                    .map(|(profile, from)| Logout { profile, from, to }),
            );
    }

    fn log_out(&self, profile: usize, logged_out: &mut BTreeMap<usize, u64>) {
        self.run("logout", profile);
        logged_out.entry(profile).or_insert_with(|| self.now());
    }

    fn resume(&self, profile: usize, logged_out: &mut BTreeMap<usize, u64>) {
        if let Some(from) = logged_out.remove(&profile) {
            self.logouts.lock().unwrap().push(Logout {
                profile,
                from,
                to: self.now(),
            });
        }

        self.run("resume", profile);
    }

    fn run(&self, command: &str, profile: usize) {
        loop {
            let run = self.home.rolekeeper(&[command, &name(profile)]);
            match run.code {
                0 => return,
                // The daemon was killed.
                3 => {}
                _ => panic!("{run:?}"),
            }
        }
    }

    fn revoke(&self, profile: usize) {
        let Some(id) = self.current[profile].lock().unwrap().clone() else {
            return;
        };
        let admin = self.sandbox.token("admin");
        let status = self
            .sandbox
            .api(admin, "DELETE", &format!("/sts/sessions/{id}"), None)
            .0;

        // The session may have expired.
        if status == 204 {
            self.revoked
                .lock()
                .unwrap()
                .entry(id)
                .or_insert_with(Instant::now);
        }
    }

    fn fail_next_call(&self) {
        let method = ["listSTSSessions", "getSTSSession"][fastrand::usize(0..2)];

        let fault = [
            json!({ "kind": "reset" }),
            json!({ "kind": "html" }),
            json!({ "kind": "delay", "ms": 300 }),
        ];

        let fault = &fault[fastrand::usize(0..3)];
        self.sandbox.control(
            "POST",
            "/faults",
            Some(json!({ "method": method, "fault": fault, "times": 1 })),
        );
    }
}

/// `None` if the daemon stops.
fn ask(stream: &mut UnixStream, profile: usize) -> Option<Outcome> {
    stream.write_all(&lease_request(&name(profile))).ok()?;
    let reply = read_reply(stream).ok()?;
    if let Some(id) = reply["reply"]["lease"]["session_id"].as_str() {
        return Some(Outcome::Lease(id.into()));
    }

    let message = reply["reply"]["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();

    match reply["reply"]["error"]["code"].as_str().unwrap() {
        "held" => {
            let words: Vec<_> = message.split([' ', ':', ',']).collect();
            let at = words.iter().position(|word| *word == "session");
            Some(Outcome::Held(
                at.map(|at| words[at + 1].to_owned()),
                message.contains("was revoked"),
            ))
        }
        "shutting_down" => None,
        code => Some(Outcome::Other(code.into())),
    }
}

#[test]
fn session_revoked_at_any_moment_is_never_served_again() {
    let world = World::new();

    std::thread::scope(|scope| {
        let mut daemon = world.home.daemon(&[]);

        for _ in 0..CLIENTS {
            scope.spawn(|| world.request_until_stopped());
        }

        let actions = scope.spawn(|| world.act_randomly());
        let mut rounds = 0;

        while !actions.is_finished() {
            std::thread::sleep(Duration::from_secs(2));
            rounds += 1;

            if rounds % 3 == 0 {
                daemon.kill();
                daemon = world.home.daemon(&[]);
            } else {
                daemon.signal(Signal::HUP);
            }
        }

        world.is_stopped.store(true, Ordering::Relaxed);
        actions.join().unwrap();
    });

    check(world);
}

fn check(world: World) {
    let mut answers = world.answers.into_inner().unwrap();
    let logouts = world.logouts.into_inner().unwrap();
    let revoked = world.revoked.into_inner().unwrap();
    answers.sort_by_key(|answer| answer.received);

    // During a logout every request is refused, and sessions from before it are never served again.
    for Logout { profile, from, to } in &logouts {
        let of_profile = || answers.iter().filter(|answer| answer.profile == *profile);

        for answer in of_profile().filter(|answer| answer.sent > *from && answer.received < *to) {
            assert!(
                matches!(answer.outcome, Outcome::Held(..)),
                "logged out from {from} to {to}: {answer:?}"
            );
        }

        let before: Vec<_> = of_profile()
            .filter(|answer| answer.received < *from)
            .filter_map(lease)
            .collect();

        for answer in of_profile().filter(|answer| answer.sent > *from) {
            assert!(
                lease(answer).is_none_or(|id| !before.contains(&id)),
                "logged out at {from}: {answer:?}"
            );
        }
    }

    // A session that one client was refused is not served to a later request.
    let mut refused: BTreeMap<&str, u64> = BTreeMap::new();

    for answer in &answers {
        match &answer.outcome {
            Outcome::Held(Some(id), at_upstream) => {
                assert!(
                    !at_upstream || revoked.contains_key(id),
                    "the upstream did not revoke it: {answer:?}"
                );

                refused.entry(id).or_insert(answer.received);
            }
            Outcome::Lease(id) => {
                assert!(
                    refused
                        .get(id.as_str())
                        .is_none_or(|since| answer.sent < *since),
                    "it was already refused: {answer:?}"
                );

                let late = revoked
                    .get(id)
                    .map(|at| answer.sent_at.saturating_duration_since(*at));
                assert!(
                    late.is_none_or(|late| late < MAX_DELAY),
                    "{late:?} after it was revoked: {answer:?}"
                );
            }
            Outcome::Held(None, _) | Outcome::Other(_) => {}
        }
    }

    let leases = answers.iter().filter_map(lease).count();
    let held = refused.len();
    let mut others: BTreeMap<&str, usize> = BTreeMap::new();
    for answer in &answers {
        if let Outcome::Other(code) = &answer.outcome {
            *others.entry(code).or_default() += 1;
        }
    }

    println!(
        "{leases} leases, {held} sessions ended, {} of them at the upstream; {others:?}",
        revoked.len()
    );

    assert!(
        leases > 1000 && held > 5 && revoked.len() > 5 && logouts.len() > 5,
        "the test tried enough"
    );
}

fn lease(answer: &Answer) -> Option<&str> {
    if let Outcome::Lease(id) = &answer.outcome {
        Some(id)
    } else {
        None
    }
}
