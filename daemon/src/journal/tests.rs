use std::io::Write;
use std::time::Duration;

use super::*;
use crate::clock::BootTime;

fn caller(uid: u32) -> Caller {
    Caller {
        uid,
        via: Some(Via::Socket),
        inspection: PendingInspection::unavailable(),
    }
}

/// A use at this second of 1970.
fn used(profile: &'static str, session_id: &'static str, second: i64) -> UsedSession<'static> {
    UsedSession {
        profile,
        session_id,
        principal: "user/u-1",
        at: Timestamp::from_second(second).unwrap(),
    }
}

#[tokio::test]
async fn history_survives_restart_and_broken_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let journal = Journal::open(&path, &[]).unwrap();
    journal.record_issuance(caller(7), used("dev", "s-1", 60));
    journal.record_call(caller(8), used("dev", "s-1", 61), "q-1");
    journal.record_issuance(caller(7), used("other", "s-2", 62));

    let written = journal.history_of("dev").await;
    let uses: Vec<_> = written
        .uses
        .iter()
        .map(|usage| {
            (
                usage.caller.uid,
                usage.at.as_str(),
                usage.request_id.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        uses,
        [
            (7, "1970-01-01T00:01:00.000Z", None),
            (8, "1970-01-01T00:01:01.000Z", Some("q-1"))
        ]
    );
    drop(journal);

    crate::platform::private_file::writable()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"\xff\n{\"at\":")
        .unwrap();
    let journal = Journal::open(&path, &[]).unwrap();
    let read = journal.history_of("dev").await;
    assert_eq!(read.uses, written.uses);
    assert_eq!(read.since, written.since);

    let sessions = journal.sessions().await;
    assert_eq!(sessions.len(), 2);
    assert_eq!(sessions["s-1"].at.as_second(), 61);
    assert_eq!(sessions["s-2"].profile, "other");
}

#[tokio::test]
async fn similar_issuances_are_rate_limited() {
    let journal = Journal::in_memory();
    for _ in 0..1_000 {
        journal.record_issuance(caller(7), used("dev", "s-1", 10));
    }
    journal.record_issuance(caller(8), used("dev", "s-1", 11));
    assert_eq!(
        journal.history_of("dev").await.uses.len(),
        21,
        "20 of user 7"
    );

    journal.record_issuance(caller(7), used("dev", "s-1", 90));
    let uses = journal.history_of("dev").await.uses;
    let suppressed: Vec<_> = uses.iter().skip(21).map(|usage| usage.suppressed).collect();
    assert_eq!(
        suppressed,
        [979, 0],
        "980 were suppressed, the last one of them is written"
    );
}

#[tokio::test]
async fn refusals_do_not_displace_issuances() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let journal = Journal::open(&path, &[]).unwrap();
    journal.record_issuance(caller(7), used("dev", "s-1", 10));
    let failure = protocol::Failure::new(protocol::Code::NotAllowed, "no\nway", "ask");
    let now = Now {
        boot: BootTime::ZERO,
        wall: Timestamp::UNIX_EPOCH,
        awake: Duration::ZERO,
    };
    for _ in 0..100 {
        journal.record_refusal(7, || caller(7), "dev", &failure, &now);
    }

    assert_eq!(journal.history_of("dev").await.uses.len(), 1);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches("\"type\":\"refused\"").count(), 20);
    assert!(text.contains("no\\\\nway"), "{text}");
}

#[tokio::test]
async fn session_end_is_recorded_without_a_caller() {
    let journal = Journal::in_memory();
    let ended = model::SessionEnded {
        session_id: Some("s-1".into()),
        ..model::SessionEnded::new(
            model::EndCause::LoggedOut,
            "2026-01-01T00:00:00Z".parse().unwrap(),
        )
    };
    journal.record_session_end("dev", &ended);

    let history = journal.history_of("dev").await;
    assert_eq!(history.ended, [SessionEnded::new("dev", &ended)]);
    assert_eq!(history.since.as_deref(), Some("2026-01-01T00:00:00.000Z"));
}
