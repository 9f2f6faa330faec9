//! V1, V4 and V5 on the real programs: sessions are revoked at the cloud and logged out of here, at every moment, while
//! tools ask, the cloud stumbles and the daemon is replaced. Whatever was answered is compared with the truth afterwards.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rolekeeper::frame;
use rolekeeper_tests::harness::{Home, SandboxProcess};
use rustix::process::Signal;
use serde_json::{Value, json};

const PROFILES: usize = 8;
const TOOLS: usize = 3;
const ACTS: usize = 200;
/// Far more than the second between two looks: how soon it is in force is measured in virtual time and by `tests/bench`.
const AT_ALL: Duration = Duration::from_secs(10);

/// An answer, and when it was asked for and given in the one order of all events.
#[derive(Debug)]
struct Answer {
    profile: usize,
    asked: u64,
    asked_at: Instant,
    given: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Lease(String),
    /// With the session that was ended, and whether somebody else revoked it.
    Held(Option<String>, bool),
    Other(String),
}

/// From a logout's answer to the request to resume.
#[derive(Debug)]
struct Out {
    profile: usize,
    from: u64,
    to: u64,
}

struct World {
    sandbox: SandboxProcess,
    home: Home,
    order: AtomicU64,
    is_over: AtomicBool,
    answers: Mutex<Vec<Answer>>,
    outs: Mutex<Vec<Out>>,
    revoked: Mutex<BTreeMap<String, Instant>>,
    /// The session last seen of each profile.
    current: [Mutex<Option<String>>; PROFILES],
}

fn name(profile: usize) -> String {
    format!("p{profile}")
}

impl World {
    /// Sessions live for 40 s, so that some are refreshed. Every other profile is one that nobody sits at.
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
            is_over: AtomicBool::default(),
            answers: Mutex::default(),
            outs: Mutex::default(),
            revoked: Mutex::default(),
            current: std::array::from_fn(|_| Mutex::default()),
        }
    }

    fn now(&self) -> u64 {
        self.order.fetch_add(1, Ordering::SeqCst)
    }

    /// Asks until it is over. A daemon that goes away is followed by another.
    fn ask_without_end(&self) {
        let mut random = fastrand::Rng::new();
        while !self.is_over.load(Ordering::Relaxed) {
            let Ok(mut stream) = UnixStream::connect(self.home.socket()) else {
                continue;
            };

            while !self.is_over.load(Ordering::Relaxed) {
                let profile = random.usize(0..PROFILES);
                let asked = self.now();
                let asked_at = Instant::now();
                let Some(what) = ask(&mut stream, profile) else {
                    break;
                };

                if let What::Lease(id) = &what {
                    *self.current[profile].lock().unwrap() = Some(id.clone());
                }

                let answer = Answer {
                    profile,
                    asked,
                    asked_at,
                    given: self.now(),
                    what,
                };

                self.answers.lock().unwrap().push(answer);
            }
        }
    }

    /// What people do, one thing after the other.
    fn act(&self) {
        let mut logged_out = BTreeMap::new();

        for _ in 0..ACTS {
            std::thread::sleep(Duration::from_millis(fastrand::u64(10..100)));
            let profile = fastrand::usize(0..PROFILES);

            match fastrand::u8(0..10) {
                0..3 => self.revoke(profile),
                3..5 => self.log_out(profile, &mut logged_out),
                5..7 => self.resume(profile, &mut logged_out),
                7..9 => {
                    // By now somebody's session is being fetched.
                    self.resume(profile, &mut logged_out);
                    self.log_out(profile, &mut logged_out);
                }
                _ => self.stumble(),
            }
        }

        let to = self.now();

        self.outs
            .lock()
            .unwrap()
            .extend(
                logged_out
                    .into_iter()
                    .map(|(profile, from)| Out { profile, from, to }),
            );
    }

    fn log_out(&self, profile: usize, logged_out: &mut BTreeMap<usize, u64>) {
        self.tell("logout", profile);
        logged_out.entry(profile).or_insert_with(|| self.now());
    }

    fn resume(&self, profile: usize, logged_out: &mut BTreeMap<usize, u64>) {
        if let Some(from) = logged_out.remove(&profile) {
            self.outs.lock().unwrap().push(Out {
                profile,
                from,
                to: self.now(),
            });
        }

        self.tell("resume", profile);
    }

    fn tell(&self, command: &str, profile: usize) {
        loop {
            let run = self.home.rolekeeper(&[command, &name(profile)]);
            match run.code {
                0 => return,
                // Its daemon was killed.
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

        // It may have ended by itself.
        if status == 204 {
            self.revoked
                .lock()
                .unwrap()
                .entry(id)
                .or_insert_with(Instant::now);
        }
    }

    fn stumble(&self) {
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

/// `None` if the daemon goes away.
fn ask(stream: &mut UnixStream, profile: usize) -> Option<What> {
    let request = json!({ "v": 1, "request": { "lease": { "profile": name(profile) } } });
    stream.write_all(&frame::encode(&request).unwrap()).ok()?;
    let reply: Value = serde_json::from_slice(&frame::read(stream).ok()?).unwrap();
    if let Some(id) = reply["reply"]["lease"]["session_id"].as_str() {
        return Some(What::Lease(id.into()));
    }

    let message = reply["reply"]["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();

    match reply["reply"]["error"]["code"].as_str().unwrap() {
        "held" => {
            let words: Vec<_> = message.split([' ', ':', ',']).collect();
            let at = words.iter().position(|word| *word == "session");
            Some(What::Held(
                at.map(|at| words[at + 1].to_owned()),
                message.contains("was revoked"),
            ))
        }
        "shutting_down" => None,
        code => Some(What::Other(code.into())),
    }
}

#[test]
fn session_revoked_at_any_moment_is_never_served_again() {
    let world = World::new();

    std::thread::scope(|scope| {
        let mut daemon = world.home.daemon(&[]);

        for _ in 0..TOOLS {
            scope.spawn(|| world.ask_without_end());
        }

        let people = scope.spawn(|| world.act());
        let mut turns = 0;

        while !people.is_finished() {
            std::thread::sleep(Duration::from_secs(2));
            turns += 1;

            if turns % 3 == 0 {
                daemon.kill();
                daemon = world.home.daemon(&[]);
            } else {
                daemon.signal(Signal::HUP);
            }
        }

        world.is_over.store(true, Ordering::Relaxed);
        people.join().unwrap();
    });

    check(world);
}

fn check(world: World) {
    let mut answers = world.answers.into_inner().unwrap();
    let outs = world.outs.into_inner().unwrap();
    let revoked = world.revoked.into_inner().unwrap();
    answers.sort_by_key(|answer| answer.given);

    // Who is out is given nothing; what had been given by then is never given again.
    for Out { profile, from, to } in &outs {
        let of = || answers.iter().filter(|answer| answer.profile == *profile);

        for answer in of().filter(|answer| answer.asked > *from && answer.given < *to) {
            assert!(
                matches!(answer.what, What::Held(..)),
                "logged out from {from} to {to}: {answer:?}"
            );
        }

        let before: Vec<_> = of()
            .filter(|answer| answer.given < *from)
            .filter_map(lease)
            .collect();

        for answer in of().filter(|answer| answer.asked > *from) {
            assert!(
                lease(answer).is_none_or(|id| !before.contains(&id)),
                "logged out at {from}: {answer:?}"
            );
        }
    }

    // What somebody was refused is not given to anybody who asks later.
    let mut over: BTreeMap<&str, u64> = BTreeMap::new();

    for answer in &answers {
        match &answer.what {
            What::Held(Some(id), by_others) => {
                assert!(
                    !by_others || revoked.contains_key(id),
                    "nobody revoked it: {answer:?}"
                );

                over.entry(id).or_insert(answer.given);
            }
            What::Lease(id) => {
                assert!(
                    over.get(id.as_str())
                        .is_none_or(|since| answer.asked < *since),
                    "it is over: {answer:?}"
                );

                let late = revoked
                    .get(id)
                    .map(|at| answer.asked_at.saturating_duration_since(*at));
                assert!(
                    late.is_none_or(|late| late < AT_ALL),
                    "{late:?} after it was revoked: {answer:?}"
                );
            }
            What::Held(None, _) | What::Other(_) => {}
        }
    }

    let leases = answers.iter().filter_map(lease).count();
    let held = over.len();
    let mut others: BTreeMap<&str, usize> = BTreeMap::new();
    for answer in &answers {
        if let What::Other(code) = &answer.what {
            *others.entry(code).or_default() += 1;
        }
    }

    println!(
        "{leases} leases, {held} sessions ended, {} of them by others; {others:?}",
        revoked.len()
    );

    assert!(
        leases > 1000 && held > 5 && revoked.len() > 5 && outs.len() > 5,
        "much was tried"
    );
}

fn lease(answer: &Answer) -> Option<&str> {
    if let What::Lease(id) = &answer.what {
        Some(id)
    } else {
        None
    }
}
