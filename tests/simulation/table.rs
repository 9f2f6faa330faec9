//! The tables in `packaging/docs/failures.md`, row by row.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rolekeeper::protocol::{ProfileState, ProfileStatus};
use rolekeeperd::clock::Clock;
use rolekeeperd::config::LeaseLimit;
use rolekeeperd::journal::Journal;

use crate::service::{Fault, REFUSAL};
use crate::with_seeds;
use crate::world::{HOUR, Machine, NEVER, Outcome, sleep};

const PAGE: &str = include_str!("../../packaging/docs/failures.md");
const PROFILE_TABLE: &str =
    "| state | event | upstream | answer (exit code) | next state | calls | test |";
const REVOCATION_TABLE: &str =
    "| state | event | what the daemon does | a request gets (exit code) | next state | test |";
const PROCESS_TABLE: &str = "| event | what the daemon does | what a user sees | test |";

/// The cell for an event that no consumer waits for.
const NO_ANSWER: &str = "-";

#[derive(Debug, Clone)]
struct Row {
    state: String,
    event: String,
    upstream: String,
    answer: String,
    next: String,
    calls: String,
}

/// The cells of the rows below this heading of a table.
fn rows_below(heading: &str) -> Vec<Vec<String>> {
    let Some((_, table)) = PAGE.split_once(heading) else {
        panic!("there is no table {heading}")
    };
    let lines = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));

    lines.map(cells).collect()
}

fn cells(line: &str) -> Vec<String> {
    let cells = line.trim_matches('|').split('|');

    cells.map(|cell| cell.trim().to_owned()).collect()
}

impl Row {
    fn new(cells: Vec<String>) -> Self {
        let [state, event, upstream, answer, next, calls, _test] = cells
            .try_into()
            .unwrap_or_else(|cells| panic!("not seven cells: {cells:?}"));
        // Without the exit code in parentheses.
        let answer = answer.split(" (").next().unwrap_or_default().to_owned();

        Self {
            state,
            event,
            upstream,
            answer,
            next,
            calls,
        }
    }
}

#[test]
fn every_row_of_the_failure_table_holds() {
    let rows: Vec<Row> = rows_below(PROFILE_TABLE)
        .into_iter()
        .map(Row::new)
        .collect();
    assert!(rows.len() > 30, "{}", rows.len());

    let wrong = Mutex::new(Vec::new());
    with_seeds(1..6, |seed| {
        let rows = &rows;
        let wrong = &wrong;
        async move {
            for row in rows {
                let (answer, next, calls) = run(row).await;
                let is_expected_calls = row.calls == "any" || calls == row.calls;
                if answer != row.answer || next != row.next || !is_expected_calls {
                    let got = format!("{answer}, {next}, {calls}");
                    let message = format!("seed {seed}: {row:?}\n  got {got}");
                    wrong.lock().expect("unpoisoned").push(message);
                }
            }
        }
    });

    let wrong = wrong.into_inner().expect("unpoisoned");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_test_named_in_the_tables_exists() {
    let mut sources = String::new();
    for folder in ["../daemon/src", "."] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        read_all(&folder, &mut sources);
    }

    let mut missing = Vec::new();
    for heading in [PROFILE_TABLE, REVOCATION_TABLE, PROCESS_TABLE] {
        for row in rows_below(heading) {
            let name = row.last().expect("a row has cells").trim_matches('`');
            if !sources.contains(&format!("fn {name}()")) {
                missing.push(name.to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

fn read_all(folder: &Path, sources: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            read_all(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&std::fs::read_to_string(&path).expect("it can be read"));
        }
    }
}

/// Runs the row's event in the row's state. Returns the answer, the next state, and the number of calls.
async fn run(row: &Row) -> (String, String, String) {
    let clock = Clock::virtual_from(Timestamp::UNIX_EPOCH);
    let machine = Machine::with_clock(clock, 4, 1, Journal::in_memory(), NEVER, |_| {
        (HOUR, LeaseLimit::Balanced)
    });
    bring_to(&machine, &row.state).await;

    let is_known_unavailable = row.upstream == "known to be unavailable";
    if is_known_unavailable {
        set_upstream(&machine, "unavailable");
        for other in 1..4 {
            machine.request(other).await;
        }
    } else {
        set_upstream(&machine, &row.upstream);
    }

    let calls_before = calls(&machine);
    let answer = run_event(&machine, row).await;
    let calls = if row.event == "profile is unused" {
        // Refreshes that were due before the profile became unused are not this event's.
        row.calls.clone()
    } else if is_known_unavailable {
        // Except in the first state, one call for the profile brought it there.
        let of_state = usize::from(row.state != "idle");
        (calls_of_first_profile(&machine) - of_state).to_string()
    } else {
        (self::calls(&machine) - calls_before).to_string()
    };

    (answer, state(&machine), calls)
}

async fn run_event(machine: &Machine, row: &Row) -> String {
    match row.event.as_str() {
        "request" => return request(machine).await,
        "request after the pause" => {
            sleep(next_try(machine) + Duration::from_secs(1)).await;
            return request(machine).await;
        }
        "refresh is due" => {
            let consumers = if row.upstream == "known to be unavailable" {
                4
            } else {
                1
            };
            wait_until_due(machine, consumers).await;
        }
        "15 s are left" => {
            wait_until_last_seconds(machine).await;
            if row.answer != NO_ANSWER {
                return request(machine).await;
            }
        }
        "profile is unused" => {
            wait_for_state(machine, &row.next, Duration::from_secs(60), 180).await;
        }
        "machine sleeps 8 h" => {
            sleep(Duration::from_secs(60)).await;
            machine.time().suspend(HOUR * 8);
            sleep(Duration::from_secs(3)).await;
        }
        "wall clock moves by a day" => {
            sleep(Duration::from_secs(90)).await;
            machine.time().step(SignedDuration::from_hours(24));
            sleep(Duration::from_secs(3)).await;
        }
        "lost time is noticed" => {
            sleep(Duration::from_secs(90)).await;
            machine.services[0].truth().uncounted += HOUR * 2;
            machine.time().step(SignedDuration::from_hours(2));
            sleep(Duration::from_secs(3)).await;
        }
        other => panic!("no such event: {other}"),
    }

    NO_ANSWER.into()
}

async fn request(machine: &Machine) -> String {
    let outcome = machine.request(0).await;
    // Calls in the background take less than a second, unless the upstream takes 21 s.
    sleep(Duration::from_secs(1)).await;

    match outcome {
        Outcome::Lease => "lease".into(),
        Outcome::Refused(code) => code.into(),
    }
}

/// Waits for the planned refresh or retry, while this number of profiles is in use.
async fn wait_until_due(machine: &Machine, consumers: usize) {
    let planned = status(machine)
        .session
        .and_then(|session| session.refresh_in_seconds);
    let mut due = planned.map_or_else(|| next_try(machine), Duration::from_secs);

    let minute = Duration::from_secs(60);
    while due > minute {
        sleep(minute).await;
        due -= minute;
        for number in 0..consumers {
            machine.request(number).await;
        }
    }

    // A call takes less than two seconds, unless the upstream takes 21 s.
    sleep(due + Duration::from_secs(2)).await;
}

async fn wait_until_last_seconds(machine: &Machine) {
    while status(machine)
        .session
        .is_some_and(|session| session.expires_in_seconds > 15)
    {
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_secs(1)).await;
}

/// Checks the state every `interval`, and at most `times`.
async fn wait_for_state(machine: &Machine, wanted: &str, interval: Duration, times: usize) {
    for _ in 0..times {
        if state(machine) == wanted {
            return;
        }
        sleep(interval).await;
    }
}

async fn bring_to(machine: &Machine, wanted: &str) {
    let (first, then) = match wanted {
        "idle" => return,
        "fresh" => ("answers", None),
        "refreshing" => ("answers", Some("takes 21 s")),
        "failing" => ("answers", Some("unavailable")),
        "rejected, served" => ("answers", Some("rejects the role")),
        "unused" => ("answers", Some("answers")),
        "waiting" => ("unavailable", None),
        "rejected" => ("rejects the role", None),
        other => panic!("no such state: {other}"),
    };
    set_upstream(machine, first);
    machine.request(0).await;

    if let Some(then) = then {
        set_upstream(machine, then);
        wait_for_state(machine, wanted, Duration::from_secs(1), 7200).await;
    }
    assert_eq!(state(machine), wanted, "the machine reaches the state");
}

fn set_upstream(machine: &Machine, upstream: &str) {
    let fault = match upstream {
        "answers" | "takes 21 s" => Fault::None,
        "unavailable" => Fault::Unreachable,
        "overloaded" => Fault::Overloaded(Some(Duration::from_secs(120))),
        "rejects the token" => Fault::TokenRefused,
        "rejects the role" => Fault::RoleRefused,
        other => panic!("no such upstream: {other}"),
    };
    let latency = if upstream == "takes 21 s" {
        Duration::from_secs(21)
    } else {
        Duration::from_millis(100)
    };

    let mut truth = machine.services[0].truth();
    truth.fault = fault;
    truth.latency = latency..latency;
}

fn calls(machine: &Machine) -> usize {
    machine.services[0].truth().calls.len()
}

fn calls_of_first_profile(machine: &Machine) -> usize {
    let truth = machine.services[0].truth();

    truth.by_role.get("r0").copied().unwrap_or(0)
}

fn status(machine: &Machine) -> ProfileStatus {
    let status = &machine.daemon.services.status;
    let profiles = status.page(machine.peer(0), None, 0).profiles;

    profiles.into_iter().next().expect("there is one")
}

fn next_try(machine: &Machine) -> Duration {
    let failure = status(machine).failure.expect("the profile is failing");

    Duration::from_secs(failure.retry_in_seconds)
}

/// The name of the state, as it follows from the profile's status.
fn state(machine: &Machine) -> String {
    let ProfileStatus {
        state,
        session,
        failure,
        ..
    } = status(machine);
    let is_served = matches!(state, ProfileState::Fresh | ProfileState::Aging);
    let is_unused = session.is_some_and(|session| session.is_unused);
    let is_failing = failure.is_some();
    let is_refused = failure.is_some_and(|failure| failure.message == REFUSAL);

    let name = match (is_served, is_failing, is_refused) {
        (true, false, _) if is_unused => "unused",
        (true, false, _) if state == ProfileState::Fresh => "fresh",
        (true, false, _) => "refreshing",
        (true, true, false) => "failing",
        (true, true, true) => "rejected, served",
        (false, true, false) => "waiting",
        (false, true, true) => "rejected",
        (false, false, _) if machine.is_fetching(0) => "refreshing",
        (false, false, _) => "idle",
    };
    name.into()
}
