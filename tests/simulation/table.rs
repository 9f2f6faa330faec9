//! The table in `daemon/failures.md`, row by row.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rolekeeper::protocol::{ProfileState, ProfileStatus};
use rolekeeperd::clock::Clock;
use rolekeeperd::config::LeaseLimit;
use rolekeeperd::journal::Journal;

use crate::service::Weather;
use crate::with_seeds;
use crate::world::{Got, HOUR, Machine, NEVER, pass};

const PAGE: &str = include_str!("../../daemon/failures.md");

#[derive(Debug, Clone)]
struct Row {
    state: String,
    event: String,
    upstream: String,
    answer: String,
    next: String,
    calls: String,
}

/// The cells of the rows below this heading of the table.
fn rows_below(heading: &str) -> Vec<Vec<String>> {
    let table = PAGE
        .split_once(heading)
        .unwrap_or_else(|| panic!("there is no table {heading}"))
        .1;
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.map(|line| {
        line.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    })
    .collect()
}

fn rows() -> Vec<Row> {
    let row = |cells: Vec<String>| {
        let [state, event, upstream, answer, next, calls, _test] = cells
            .try_into()
            .unwrap_or_else(|cells| panic!("not seven cells: {cells:?}"));
        Row {
            state,
            event,
            upstream,
            answer,
            next,
            calls,
        }
    };
    rows_below("| state | event | upstream | answer | next state | calls | test |")
        .into_iter()
        .map(row)
        .collect()
}

#[test]
fn every_row_of_the_table_of_failures_is_what_happens() {
    let rows = rows();
    assert!(rows.len() > 30, "{}", rows.len());
    let wrong = std::sync::Mutex::new(Vec::new());
    with_seeds(1..6, |seed| {
        let (rows, wrong) = (&rows, &wrong);
        async move {
            for row in rows {
                let (answer, next, calls) = happen(row).await;
                let is_kept = (
                    answer == row.answer,
                    next == row.next,
                    row.calls == "any" || calls == row.calls,
                );
                if is_kept != (true, true, true) {
                    wrong.lock().expect("unpoisoned").push(format!(
                        "seed {seed}: {row:?}\n  got {answer}, {next}, {calls}"
                    ));
                }
            }
        }
    });
    let wrong = wrong.into_inner().expect("unpoisoned");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_test_that_the_tables_name_is_there() {
    let tables = [
        "| state | event | upstream | answer | next state | calls | test |",
        "| state | event | what happens | next state | test |",
        "| event | what happens | test |",
    ];
    let mut sources = String::new();
    for folder in ["../daemon/src", "."] {
        read_all(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join(folder),
            &mut sources,
        );
    }
    for row in tables.into_iter().flat_map(rows_below) {
        let name = row.last().expect("a row has cells").trim_matches('`');
        assert!(
            sources.contains(&format!("fn {name}()")),
            "{name} is not there"
        );
    }
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

/// The row's event in the row's state: what was answered, the state after it, the calls that it cost.
async fn happen(row: &Row) -> (String, String, String) {
    let clock = Clock::virtual_from(Timestamp::UNIX_EPOCH);
    let machine = Machine::on(clock, 4, 1, Journal::in_memory(), NEVER, |_| {
        (HOUR, LeaseLimit::Balanced)
    });
    bring_to(&machine, &row.state).await;
    let is_known = row.upstream == "is known to be away";
    if is_known {
        set(&machine, "away");
        for other in 1..4 {
            machine.ask(other).await;
        }
    } else {
        set(&machine, &row.upstream);
    }
    let before = calls(&machine);
    let ask = || async {
        let got = machine.ask(0).await;
        // What it sets off in the background takes less than a second, unless it takes 21.
        pass(Duration::from_secs(1)).await;
        match got {
            Got::Lease => "lease".into(),
            Got::Refused(code) => code.into(),
        }
    };
    let answer = match row.event.as_str() {
        "a consumer asks" => ask().await,
        "a consumer asks after the pause" => {
            pass(next_try(&machine) + Duration::from_secs(1)).await;
            ask().await
        }
        "its time comes" => {
            let planned = status(&machine)
                .session
                .and_then(|session| session.refresh_in_seconds);
            let mut due = planned.map_or_else(|| next_try(&machine), Duration::from_secs);
            let minute = Duration::from_secs(60);
            while due > minute {
                // It is in use, and so are the others.
                pass(minute).await;
                due -= minute;
                for number in 0..if is_known { 4 } else { 1 } {
                    machine.ask(number).await;
                }
            }
            // A call that is made takes less than two seconds, unless it takes 21.
            pass(due + Duration::from_secs(2)).await;
            "-".into()
        }
        "its last 15 s begin" => {
            while status(&machine)
                .session
                .is_some_and(|session| session.expires_in_seconds > 15)
            {
                pass(Duration::from_secs(1)).await;
            }
            pass(Duration::from_secs(1)).await;
            if row.answer == "-" {
                "-".into()
            } else {
                ask().await
            }
        }
        "nobody uses it" => {
            for _ in 0..180 {
                if state(&machine) == row.next {
                    break;
                }
                pass(Duration::from_secs(60)).await;
            }
            // What is planned before it is left alone is none of this event's.
            return ("-".into(), state(&machine), row.calls.clone());
        }
        "the machine sleeps 8 h" => {
            pass(Duration::from_secs(60)).await;
            machine.time().suspend(HOUR * 8);
            pass(Duration::from_secs(3)).await;
            "-".into()
        }
        "the clock is set by a day" => {
            pass(Duration::from_secs(90)).await;
            machine.time().step(SignedDuration::from_hours(24));
            pass(Duration::from_secs(3)).await;
            "-".into()
        }
        "time passed uncounted" => {
            pass(Duration::from_secs(90)).await;
            machine.services[0].truth().lost += HOUR * 2;
            machine.time().step(SignedDuration::from_hours(2));
            pass(Duration::from_secs(3)).await;
            "-".into()
        }
        other => panic!("no such event: {other}"),
    };
    let calls = if is_known {
        calls_for(&machine, "r0") - calls_for_before(&row.state)
    } else {
        calls(&machine) - before
    };
    (answer, state(&machine), calls.to_string())
}

async fn bring_to(machine: &Machine, state_wanted: &str) {
    let (first, then) = match state_wanted {
        "idle" => return,
        "fresh" => ("answers", None),
        "refreshing" => ("answers", Some("takes 21 s")),
        "failing" => ("answers", Some("away")),
        "refused, served" => ("answers", Some("refuses the role")),
        "unused" => ("answers", Some("answers")),
        "waiting" => ("away", None),
        "refused" => ("refuses the role", None),
        other => panic!("no such state: {other}"),
    };
    set(machine, first);
    machine.ask(0).await;
    if let Some(then) = then {
        set(machine, then);
        for _ in 0..7200 {
            if state(machine) == state_wanted {
                break;
            }
            pass(Duration::from_secs(1)).await;
        }
    }
    assert_eq!(state(machine), state_wanted, "it can be brought there");
}

/// A call for the profile itself was made to bring it there, except from the first state.
fn calls_for_before(state: &str) -> usize {
    usize::from(state != "idle")
}

fn set(machine: &Machine, upstream: &str) {
    let quick = Duration::from_millis(100)..Duration::from_millis(100);
    let (weather, latency) = match upstream {
        "answers" => (Weather::Fair, quick),
        "takes 21 s" => (
            Weather::Fair,
            Duration::from_secs(21)..Duration::from_secs(21),
        ),
        "away" => (Weather::Unreachable, quick),
        "busy" => (Weather::Overloaded(Some(Duration::from_secs(120))), quick),
        "refuses the token" => (Weather::LoggedOut, quick),
        "refuses the role" => (Weather::Refused, quick),
        other => panic!("no such upstream: {other}"),
    };
    let mut truth = machine.services[0].truth();
    (truth.weather, truth.latency) = (weather, latency);
}

fn calls(machine: &Machine) -> usize {
    machine.services[0].truth().calls.len()
}

fn calls_for(machine: &Machine, role: &str) -> usize {
    machine.services[0]
        .truth()
        .by_role
        .get(role)
        .copied()
        .unwrap_or(0)
}

fn status(machine: &Machine) -> ProfileStatus {
    machine
        .daemon
        .services
        .status
        .page(machine.peer(0), None, 0)
        .profiles
        .into_iter()
        .next()
        .expect("there is one")
}

fn next_try(machine: &Machine) -> Duration {
    Duration::from_secs(
        status(machine)
            .failure
            .expect("it is failing")
            .retry_in_seconds,
    )
}

/// The state's name, by what a person can see of it.
fn state(machine: &Machine) -> String {
    let ProfileStatus {
        state,
        session,
        failure,
        ..
    } = status(machine);
    let is_served = matches!(state, ProfileState::Fresh | ProfileState::Aging);
    let is_unused = session.is_some_and(|session| session.is_unused);
    let needs_a_person = failure
        .as_ref()
        .is_some_and(|failure| failure.message == "no");
    match (is_served, failure.is_some(), needs_a_person) {
        (true, false, _) if is_unused => "unused",
        (true, false, _) if state == ProfileState::Fresh => "fresh",
        (true, false, _) => "refreshing",
        (true, true, false) => "failing",
        (true, true, true) => "refused, served",
        (false, true, false) => "waiting",
        (false, true, true) => "refused",
        (false, false, _) if machine.is_fetching(0) => "refreshing",
        (false, false, _) => "idle",
    }
    .into()
}
