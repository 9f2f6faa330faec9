//! Revocations under virtual time, with an upstream that follows a script.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::SignedDuration;
use rolekeeper::protocol::UpstreamRevocation;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::config::{LeaseLimit, OnRevoke, Profile};
use crate::error::RequestError;
use crate::model::EndCause;
use crate::sync::lock;
use crate::test_support::{HOUR, ScriptedUpstream, TestDaemon, profile, scripted};
use crate::upstream::{RefusalKind, UpstreamError};

/// More than the interval between two polls, and less than two intervals.
const ONE_POLL: Duration = Duration::from_secs(31);

/// Virtual time would advance while the journal's thread is awaited.
async fn with_time_paused<T>(work: impl Future<Output = T>) -> T {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let blocking = tokio::task::spawn_blocking(move || wait.recv());
    let result = work.await;
    drop(done);
    let _ = blocking.await;

    result
}

/// Why the sessions of `dev` ended, as journalled.
async fn journalled_causes(daemon: &TestDaemon) -> Vec<EndCause> {
    let record = daemon.journal.history_of("dev").await;
    record.ended.iter().map(|ended| ended.cause).collect()
}

#[tokio::test(start_paused = true)]
async fn revoked_profile_is_held_with_details_until_resumed() {
    let daemon = TestDaemon::new(LeaseLimit::Balanced, scripted([]));
    assert_eq!(daemon.leased_id().await.unwrap(), "s-1");
    daemon.upstream.revoke("s-1");
    sleep(ONE_POLL).await;
    let refusal = daemon.leased_id().await.unwrap_err();
    let words = refusal.failure().message;
    assert!(matches!(refusal, RequestError::Held { .. }));
    for word in [
        "dev",
        "s-1",
        "user/admin@example.test",
        "1970-01-01T00:00:00",
        "lost laptop",
    ] {
        assert!(words.contains(word), "{words}");
    }

    sleep(HOUR * 2).await;
    assert!(
        matches!(daemon.leased_id().await, Err(RequestError::Held { .. })),
        "only a person ends the hold"
    );

    assert_eq!(daemon.upstream.calls(), 1);
    daemon.resume().await;
    assert_eq!(daemon.leased_id().await.unwrap(), "s-2");
    assert_eq!(journalled_causes(&daemon).await, [EndCause::Revoked]);
}

#[tokio::test(start_paused = true)]
async fn reassume_profile_gets_a_new_session_at_once() {
    let daemon = TestDaemon::with_profile(
        Profile {
            on_revoke: OnRevoke::Reassume,
            ..profile()
        },
        scripted([]),
    );

    assert_eq!(daemon.leased_id().await.unwrap(), "s-1");
    daemon.upstream.revoke("s-1");
    sleep(ONE_POLL).await;
    assert_eq!(daemon.upstream.calls(), 2, "before a request");
    assert_eq!(daemon.leased_id().await.unwrap(), "s-2");
}

#[tokio::test(start_paused = true)]
async fn upstream_is_polled_only_while_leases_last() {
    let daemon = TestDaemon::new(LeaseLimit::Balanced, scripted([]));
    daemon.leased_id().await.unwrap();
    sleep(Duration::from_secs(16 * 60)).await;
    let looks = daemon.upstream.polls();
    assert!((32..=40).contains(&looks), "{looks} in 16 min");
    sleep(HOUR * 10).await;
    assert!(daemon.upstream.polls() <= looks + 1);
    // A new subscriber gets the current state at once.
    daemon.leased_id().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(daemon.upstream.polls() <= looks + 2);
}

#[tokio::test(start_paused = true)]
async fn fetch_under_way_during_logout_is_discarded_and_revoked() {
    let slow = ScriptedUpstream {
        delay: Duration::from_secs(3),
        ..scripted([])
    };

    let daemon = Arc::new(TestDaemon::new(LeaseLimit::Balanced, slow));
    let asking = tokio::spawn({
        let daemon = Arc::clone(&daemon);
        async move { daemon.leased_id().await }
    });

    sleep(Duration::from_secs(1)).await;
    daemon.logout(false).await;
    assert!(matches!(
        asking.await.unwrap(),
        Err(RequestError::Held { .. })
    ));

    sleep(Duration::from_secs(60)).await;
    assert!(daemon.entry().session().is_none());
    assert!(daemon.upstream.is_revoked("s-1"), "it is never served");
}

#[tokio::test(start_paused = true)]
async fn logout_holds_at_once_and_retries_the_revocation() {
    let daemon = TestDaemon::new(LeaseLimit::Balanced, scripted([]));
    daemon.leased_id().await.unwrap();
    daemon.upstream.set_down_for_polls(true);
    let out = with_time_paused(daemon.logout(true)).await;
    let withdrawn = out.profiles[0].sessions[0].clone();
    assert_eq!(
        (withdrawn.session_id.as_str(), withdrawn.at_upstream),
        ("s-1", UpstreamRevocation::Pending)
    );

    assert!(withdrawn.failure.unwrap().contains("revoking is down"));
    assert!(matches!(
        daemon.leased_id().await,
        Err(RequestError::Held { .. })
    ));

    sleep(Duration::from_secs(600)).await;
    assert!(daemon.services.revocation.store.pending("s-1").is_some());
    daemon.upstream.set_down_for_polls(false);
    sleep(Duration::from_secs(301)).await;
    assert!(
        daemon.services.revocation.store.pending("s-1").is_none()
            && daemon.upstream.is_revoked("s-1")
    );
}

#[tokio::test(start_paused = true)]
async fn revocation_is_given_up_when_the_session_expires() {
    let daemon = TestDaemon::new(LeaseLimit::Balanced, scripted([]));
    daemon.leased_id().await.unwrap();
    daemon.upstream.set_down_for_polls(true);
    with_time_paused(daemon.logout(true)).await;
    sleep(HOUR + Duration::from_secs(301)).await;
    assert!(
        daemon.services.revocation.store.pending("s-1").is_none()
            && daemon.timers.earliest().is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn stale_view_refuses_strict_and_marks_balanced_leases() {
    for (lease, strict) in [(LeaseLimit::Strict, true), (LeaseLimit::Balanced, false)] {
        let daemon = TestDaemon::with_profile(Profile { lease, ..profile() }, scripted([]));
        daemon.leased_id().await.unwrap();
        daemon.upstream.set_down_for_polls(true);
        sleep(Duration::from_secs(299)).await;
        assert!(daemon.lease().await.unwrap().stale_view.is_none());
        sleep(Duration::from_secs(2)).await;
        let answer = daemon.lease().await;
        if strict {
            let Err(RequestError::ViewStale { age, reason, .. }) = answer else {
                panic!("{answer:?}")
            };
            assert_eq!((age.as_secs(), reason.as_str()), (301, "the list is down"));
            daemon.upstream.set_down_for_polls(false);
            sleep(Duration::from_secs(5)).await;
            assert!(daemon.lease().await.is_ok(), "the next request polls again");
        } else {
            assert_eq!(answer.unwrap().stale_view.unwrap().as_secs(), 301);
            let status = daemon.status().session.clone().unwrap();
            assert!(
                status.is_view_stale && status.view_failure.unwrap().contains("the list is down")
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn report_rejected_polls_once_for_concurrent_reports() {
    let daemon = Arc::new(TestDaemon::new(LeaseLimit::Balanced, scripted([])));
    daemon.leased_id().await.unwrap();

    let report = daemon.report_rejected().await.unwrap();
    assert!(report.session.is_some());
    assert_eq!(daemon.upstream.polls(), 1);

    let other = Arc::clone(&daemon);
    let other = tokio::spawn(async move { other.report_rejected().await });
    daemon.upstream.revoke("s-1");

    assert!(daemon.report_rejected().await.unwrap().held.is_some());
    assert!(other.await.unwrap().unwrap().held.is_some());
    assert_eq!(
        daemon.upstream.polls(),
        2,
        "concurrent reports share a poll"
    );
}

#[tokio::test(start_paused = true)]
async fn subscriber_gets_the_latest_state_coalesced() {
    let daemon = TestDaemon::new(LeaseLimit::Full, scripted([]));
    let mut watching = daemon.watch().await;
    assert_eq!(
        (
            watching.current().session,
            watching.changed().now_or_never()
        ),
        (None, None)
    );

    daemon.leased_id().await.unwrap();
    watching.changed().await;
    let first = watching.current();
    assert_eq!(first.session.unwrap().id, "s-1");
    daemon.upstream.revoke("s-1");
    sleep(ONE_POLL).await;
    daemon.resume().await;
    daemon.leased_id().await.unwrap();
    watching.changed().await;
    let last = watching.current();
    assert_eq!(
        (last.session.unwrap().id.as_str(), last.held),
        ("s-2", None)
    );

    assert_eq!(
        (last.generation, last.ended.unwrap().session_id.as_deref()),
        (first.generation + 1, Some("s-1"))
    );

    assert_eq!(
        watching.changed().now_or_never(),
        None,
        "changes are told as one"
    );
}

#[tokio::test(start_paused = true)]
async fn disabled_account_ends_sessions_and_recovers_by_itself() {
    let disabled = || {
        Err(UpstreamError::Refused {
            what: "disabled".into(),
            kind: RefusalKind::AccountDisabled,
        })
    };

    let daemon = TestDaemon::new(
        LeaseLimit::Full,
        scripted([Ok(HOUR), disabled(), disabled()]),
    );

    daemon.leased_id().await.unwrap();
    sleep(HOUR * 3 / 4).await;
    assert_eq!(
        daemon.upstream.calls(),
        2,
        "it was refreshed, and by then the account was disabled"
    );

    let answer = daemon.leased_id().await;
    assert!(
        matches!(answer, Err(RequestError::Upstream(..))),
        "{answer:?}"
    );

    assert_eq!(
        journalled_causes(&daemon).await,
        [EndCause::AccountDisabled]
    );

    sleep(Duration::from_secs(31)).await;
    assert_eq!(daemon.leased_id().await.unwrap(), "s-4");
}

#[tokio::test(start_paused = true)]
async fn refresh_on_request_replaces_a_fresh_session() {
    let daemon = TestDaemon::new(LeaseLimit::Full, scripted([]));
    assert_eq!(daemon.leased_id().await.unwrap(), "s-1");
    daemon.fetch_new().await.unwrap();
    assert_eq!(daemon.leased_id().await.unwrap(), "s-2");
}

#[tokio::test(start_paused = true)]
async fn failed_poll_is_not_repeated_for_every_request() {
    let daemon = TestDaemon::with_profile(
        Profile {
            lease: LeaseLimit::Strict,
            ..profile()
        },
        scripted([]),
    );

    daemon.leased_id().await.unwrap();
    daemon.upstream.set_down_for_polls(true);
    sleep(Duration::from_secs(301)).await;
    let before = daemon.upstream.polls();
    for _ in 0..100 {
        assert!(matches!(
            daemon.leased_id().await,
            Err(RequestError::ViewStale { .. })
        ));
    }

    assert!(daemon.upstream.polls() <= before + 1);
}

#[tokio::test(start_paused = true)]
async fn revoking_a_superseded_session_ends_the_current_one() {
    for reassumes in [false, true] {
        let on_revoke = if reassumes {
            OnRevoke::Reassume
        } else {
            OnRevoke::Hold
        };
        let daemon = TestDaemon::with_profile(
            Profile {
                on_revoke,
                ..profile()
            },
            scripted([]),
        );
        assert_eq!(daemon.leased_id().await.unwrap(), "s-1");
        daemon.fetch_new().await.unwrap();
        assert_eq!(daemon.leased_id().await.unwrap(), "s-2");
        let generation = daemon.watch().await.current().generation;
        daemon.upstream.revoke("s-1");
        sleep(ONE_POLL).await;
        let now = daemon.watch().await.current();
        assert_eq!(now.generation, generation + 1);
        if reassumes {
            assert_eq!(daemon.leased_id().await.unwrap(), "s-3");
            // The second one may still be in use.
            daemon.upstream.revoke("s-2");
            sleep(ONE_POLL).await;
            assert_eq!(daemon.leased_id().await.unwrap(), "s-4");
        } else {
            assert_eq!(now.held.unwrap().session_id.as_deref(), Some("s-1"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn unreadable_session_is_revoked_after_two_lists_without_it() {
    let daemon = TestDaemon::new(LeaseLimit::Balanced, scripted([]));
    assert_eq!(daemon.leased_id().await.unwrap(), "s-1");
    lock(&daemon.upstream.hidden).insert("s-1".into());
    sleep(Duration::from_secs(290)).await;
    assert_eq!(
        daemon.leased_id().await.unwrap(),
        "s-1",
        "this upstream does not show it"
    );

    let status = daemon.status().session.clone().unwrap();
    assert!(
        status
            .view_failure
            .unwrap()
            .contains("session s-1 is not listed, and its status cannot be read")
    );

    lock(&daemon.upstream.hidden).clear();
    sleep(ONE_POLL).await;
    lock(&daemon.upstream.hidden).insert("s-1".into());
    let looks = daemon.upstream.polls();
    while daemon.upstream.polls() < looks + 1 {
        sleep(Duration::from_secs(1)).await;
    }

    assert_eq!(
        daemon.leased_id().await.unwrap(),
        "s-1",
        "one list may be late"
    );

    sleep(ONE_POLL).await;
    assert!(matches!(
        daemon.leased_id().await,
        Err(RequestError::Held { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn fast_clock_discards_no_pending_revocation() {
    let daemon = TestDaemon::new(LeaseLimit::Balanced, scripted([]));
    daemon.leased_id().await.unwrap();
    let Clock::Virtual(time) = &daemon.clock else {
        unreachable!()
    };

    time.step(SignedDuration::from_hours(240));
    daemon.upstream.set_down_for_polls(true);
    let out = with_time_paused(daemon.logout(true)).await;
    assert_eq!(
        out.profiles[0].sessions[0].at_upstream,
        UpstreamRevocation::Pending
    );

    daemon.upstream.set_down_for_polls(false);
    sleep(Duration::from_secs(301)).await;
    assert!(daemon.upstream.is_revoked("s-1"));
}

#[tokio::test(start_paused = true)]
async fn screen_lock_without_a_session_is_not_journalled() {
    let daemon = TestDaemon::new(LeaseLimit::Balanced, scripted([]));
    daemon
        .services
        .revocation
        .revoke_on(EndCause::ScreenLocked, |_| true)
        .await;
    assert_eq!(journalled_causes(&daemon).await, []);
}

#[tokio::test(start_paused = true)]
async fn issued_session_is_remembered_until_its_own_expiry() {
    let daemon = TestDaemon::new(LeaseLimit::Balanced, scripted([]));
    let store = &daemon.services.revocation.store;
    let issued = || Vec::from_iter(store.profiles_of_issued().into_keys());

    // Of an upstream that is not configured any more, and whose clock may be hours behind.
    let expires_at = daemon.clock.now().wall + HOUR / 4;
    let other = serde_json::json!({
        "identity": "other", "location": "other", "profile": "old", "expires_at": expires_at,
    });
    store.add_issued("o-1", serde_json::from_value(other).unwrap(), |_| false);

    daemon.fetch_new().await.unwrap();
    assert_eq!(issued(), ["o-1", "s-1"]);

    sleep(HOUR + Duration::from_secs(60)).await;
    daemon.fetch_new().await.unwrap();
    assert_eq!(issued(), ["o-1", "s-2"]);

    sleep(HOUR * 25).await;
    daemon.fetch_new().await.unwrap();
    assert_eq!(issued(), ["s-3"]);
}

/// The attack: a program refreshes in a loop, or logs out and resumes.
#[tokio::test(start_paused = true)]
async fn requests_make_twelve_calls_a_minute_at_most() {
    let daemon = TestDaemon::new(LeaseLimit::Balanced, scripted([]));
    for _ in 0..50 {
        let _ = daemon.fetch_new().await;
        daemon.logout(false).await;
        daemon.resume().await;
        let _ = daemon.leased_id().await;
    }
    assert_eq!(daemon.upstream.calls(), 12);

    let refused = daemon.fetch_new().await.unwrap_err().failure();
    assert!(
        refused.message.contains("too many new sessions"),
        "{refused}"
    );
    assert!(refused.hint.contains("again in 60 s"), "{refused}");

    sleep(Duration::from_secs(61)).await;
    daemon.fetch_new().await.unwrap();
}
