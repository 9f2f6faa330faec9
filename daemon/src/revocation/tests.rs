//! Revocations under virtual time, with an upstream that follows a script.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::SignedDuration;
use rolekeeper::protocol::{EndCause, UpstreamRevocation};
use tokio::time::sleep;

use crate::clock::Clock;
use crate::config::{LeaseLimit, OnRevoke, Profile, ProfileName, RoleId, RoleRequest};
use crate::credentials::tests::{HOUR, Scripted, broker, broker_for, lease_for, me, scripted};
use crate::credentials::{Broker, RequestError};
use crate::sync::lock;
use crate::upstream::{RefusalKind, UpstreamError};

/// More than the interval between two looks, and less than two.
const A_LOOK: Duration = Duration::from_secs(31);

fn profile() -> Profile {
    let role = RoleRequest {
        role_id: RoleId::parse("r-1").unwrap(),
        duration: HOUR,
    };
    Profile::new(ProfileName::parse("dev").unwrap(), "bycloud".into(), role)
}

fn with(profile: Profile) -> (Arc<Broker>, Arc<Scripted>) {
    broker_for(profile, Arc::new(scripted([])))
}

/// Virtual time would run ahead while the record's thread is waited for.
async fn standing_still<T>(doing: impl Future<Output = T>) -> T {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let blocking = tokio::task::spawn_blocking(move || wait.recv());
    let result = doing.await;
    drop(done);
    let _ = blocking.await;
    result
}

async fn id(broker: &Arc<Broker>) -> Result<String, RequestError> {
    Ok(lease_for(broker, &me(), "dev")
        .await?
        .session
        .granted
        .session_id
        .to_string())
}

fn revoke(upstream: &Scripted, id: &str) {
    lock(&upstream.revoked).insert(id.into());
}

#[tokio::test(start_paused = true)]
async fn what_somebody_revoked_is_noticed_held_and_explained_until_a_person_resumes_it() {
    let (broker, upstream) = broker(LeaseLimit::Balanced, scripted([]));
    assert_eq!(id(&broker).await.unwrap(), "s-1");
    revoke(&upstream, "s-1");
    sleep(A_LOOK).await;
    let refusal = id(&broker).await.unwrap_err();
    let words = refusal.to_string();
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
        matches!(id(&broker).await, Err(RequestError::Held { .. })),
        "nothing but a person ends it"
    );
    assert_eq!(upstream.calls(), 1);
    broker.resume(&me(), "dev").await.unwrap();
    assert_eq!(id(&broker).await.unwrap(), "s-2");
    let endings = broker.journal.of("dev").await.endings;
    assert_eq!(
        endings
            .iter()
            .map(|ending| ending.cause)
            .collect::<Vec<_>>(),
        [EndCause::Revoked]
    );
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_nobody_sits_at_assumes_the_role_again() {
    let (broker, upstream) = with(Profile {
        on_revoke: OnRevoke::Reassume,
        ..profile()
    });
    assert_eq!(id(&broker).await.unwrap(), "s-1");
    revoke(&upstream, "s-1");
    sleep(A_LOOK).await;
    assert_eq!(upstream.calls(), 2, "before anybody asks");
    assert_eq!(id(&broker).await.unwrap(), "s-2");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_is_looked_at_once_an_interval_while_somebody_has_a_lease_and_not_at_all_afterwards()
 {
    let (broker, upstream) = broker(LeaseLimit::Balanced, scripted([]));
    id(&broker).await.unwrap();
    sleep(Duration::from_secs(16 * 60)).await;
    let looks = *lock(&upstream.looks);
    assert!((32..=40).contains(&looks), "{looks} in 16 min");
    sleep(HOUR * 10).await;
    assert!(*lock(&upstream.looks) <= looks + 1);
    // Whoever comes back is told at once what was missed.
    id(&broker).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(*lock(&upstream.looks) <= looks + 2);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_was_under_way_when_the_revocation_came_is_thrown_away_and_its_session_ended()
{
    let slow = Scripted {
        delay: Duration::from_secs(3),
        ..scripted([])
    };
    let (broker, upstream) = broker(LeaseLimit::Balanced, slow);
    let asking = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { id(&broker).await }
    });
    sleep(Duration::from_secs(1)).await;
    broker.logout(&me(), Some("dev"), false).await.unwrap();
    assert!(matches!(
        asking.await.unwrap(),
        Err(RequestError::Held { .. })
    ));
    sleep(Duration::from_secs(60)).await;
    assert!(broker.cache.find("dev").unwrap().session().is_none());
    assert!(
        lock(&upstream.revoked).contains("s-1"),
        "nobody ever sees it"
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_user_logs_out_of_is_over_at_once_and_revoked_as_soon_as_the_upstream_can_be_told()
{
    let (broker, upstream) = broker(LeaseLimit::Balanced, scripted([]));
    id(&broker).await.unwrap();
    *lock(&upstream.is_blind) = true;
    let out = standing_still(broker.logout(&me(), None, true))
        .await
        .unwrap();
    let withdrawn = out.profiles[0].sessions[0].clone();
    assert_eq!(
        (withdrawn.session_id.as_str(), withdrawn.at_upstream),
        ("s-1", UpstreamRevocation::Pending)
    );
    assert!(withdrawn.failure.unwrap().contains("it cannot be told"));
    assert!(matches!(id(&broker).await, Err(RequestError::Held { .. })));
    sleep(Duration::from_secs(600)).await;
    assert!(broker.revocations.pending("s-1").is_some());
    *lock(&upstream.is_blind) = false;
    sleep(Duration::from_secs(301)).await;
    assert!(broker.revocations.pending("s-1").is_none() && lock(&upstream.revoked).contains("s-1"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_revoked_before_it_expires_is_given_up_then() {
    let (broker, upstream) = broker(LeaseLimit::Balanced, scripted([]));
    id(&broker).await.unwrap();
    *lock(&upstream.is_blind) = true;
    standing_still(broker.logout(&me(), None, true))
        .await
        .unwrap();
    sleep(HOUR + Duration::from_secs(301)).await;
    assert!(broker.revocations.pending("s-1").is_none() && broker.timer_queue.earliest().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_strict_profile_is_refused_on_an_old_view_and_another_is_served_with_its_age() {
    for (lease, strict) in [(LeaseLimit::Strict, true), (LeaseLimit::Balanced, false)] {
        let (broker, upstream) = with(Profile { lease, ..profile() });
        id(&broker).await.unwrap();
        *lock(&upstream.is_blind) = true;
        sleep(Duration::from_secs(299)).await;
        assert!(
            lease_for(&broker, &me(), "dev")
                .await
                .unwrap()
                .stale_view
                .is_none()
        );
        sleep(Duration::from_secs(2)).await;
        let answer = lease_for(&broker, &me(), "dev").await;
        if strict {
            let Err(RequestError::ViewStale { age, why, .. }) = answer else {
                panic!("{answer:?}")
            };
            assert_eq!((age.as_secs(), why.as_str()), (301, "it cannot be seen"));
            *lock(&upstream.is_blind) = false;
            sleep(Duration::from_secs(5)).await;
            assert!(
                lease_for(&broker, &me(), "dev").await.is_ok(),
                "it is looked at when somebody asks"
            );
        } else {
            assert_eq!(answer.unwrap().stale_view.unwrap().as_secs(), 301);
            let status = broker.status(&me(), None, 0).profiles[0]
                .session
                .clone()
                .unwrap();
            assert!(
                status.is_view_stale && status.view_failure.unwrap().contains("it cannot be seen")
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_makes_the_upstream_be_looked_at_now_but_not_again_and_again() {
    let (broker, upstream) = broker(LeaseLimit::Balanced, scripted([]));
    id(&broker).await.unwrap();
    let looks = || *lock(&upstream.looks);
    assert!(
        broker
            .report_rejected(&me(), "dev")
            .await
            .unwrap()
            .session
            .is_some()
    );
    assert_eq!(looks(), 1);
    let (one, other) = (broker.clone(), broker.clone());
    let both = tokio::spawn(async move { one.report_rejected(&me(), "dev").await });
    revoke(&upstream, "s-1");
    assert!(
        other
            .report_rejected(&me(), "dev")
            .await
            .unwrap()
            .held
            .is_some()
    );
    assert!(both.await.unwrap().unwrap().held.is_some());
    assert_eq!(looks(), 2, "two reports of one moment are one look");
}

#[tokio::test(start_paused = true)]
async fn who_watches_is_told_of_everything_and_who_is_slow_of_the_last_state_only() {
    let (broker, upstream) = broker(LeaseLimit::Full, scripted([]));
    let mut watching = broker.watch(&me(), "dev").await.unwrap();
    assert_eq!(
        (watching.look().session, watching.changed().now_or_never()),
        (None, None)
    );
    id(&broker).await.unwrap();
    watching.changed().await;
    let first = watching.look();
    assert_eq!(first.session.unwrap().id, "s-1");
    revoke(&upstream, "s-1");
    sleep(A_LOOK).await;
    broker.resume(&me(), "dev").await.unwrap();
    id(&broker).await.unwrap();
    watching.changed().await;
    let last = watching.look();
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
async fn a_disabled_account_ends_its_sessions_and_needs_nobody_here_once_it_is_enabled() {
    let disabled = || {
        Err(UpstreamError::Refused {
            what: "disabled".into(),
            why: RefusalKind::AccountDisabled,
        })
    };
    let (broker, upstream) = broker(
        LeaseLimit::Full,
        scripted([Ok(HOUR), disabled(), disabled()]),
    );
    id(&broker).await.unwrap();
    sleep(HOUR * 3 / 4).await;
    assert_eq!(
        upstream.calls(),
        2,
        "it was refreshed, and by then the account was disabled"
    );
    let answer = id(&broker).await;
    assert!(
        matches!(answer, Err(RequestError::BackoffState(..))),
        "{answer:?}"
    );
    let endings = broker.journal.of("dev").await.endings;
    assert_eq!(
        endings
            .iter()
            .map(|ending| ending.cause)
            .collect::<Vec<_>>(),
        [EndCause::AccountDisabled]
    );
    sleep(Duration::from_secs(31)).await;
    assert_eq!(id(&broker).await.unwrap(), "s-4");
}

#[tokio::test(start_paused = true)]
async fn a_new_session_on_request_replaces_the_one_that_is_fresh() {
    let (broker, _) = broker(LeaseLimit::Full, scripted([]));
    assert_eq!(id(&broker).await.unwrap(), "s-1");
    broker.refresh_now(&me(), "dev").await.unwrap();
    assert_eq!(id(&broker).await.unwrap(), "s-2");
}

#[tokio::test(start_paused = true)]
async fn a_failed_look_is_not_repeated_for_everybody_who_asks() {
    let (broker, upstream) = with(Profile {
        lease: LeaseLimit::Strict,
        ..profile()
    });
    id(&broker).await.unwrap();
    *lock(&upstream.is_blind) = true;
    sleep(Duration::from_secs(301)).await;
    let before = *lock(&upstream.looks);
    for _ in 0..100 {
        assert!(matches!(
            id(&broker).await,
            Err(RequestError::ViewStale { .. })
        ));
    }
    assert!(*lock(&upstream.looks) <= before + 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_revokes_a_session_that_another_has_replaced_ends_that_one_too() {
    for reassumes in [false, true] {
        let on_revoke = if reassumes {
            OnRevoke::Reassume
        } else {
            OnRevoke::Hold
        };
        let (broker, upstream) = with(Profile {
            on_revoke,
            ..profile()
        });
        assert_eq!(id(&broker).await.unwrap(), "s-1");
        broker.refresh_now(&me(), "dev").await.unwrap();
        assert_eq!(id(&broker).await.unwrap(), "s-2");
        let generation = broker.watch(&me(), "dev").await.unwrap().look().generation;
        revoke(&upstream, "s-1");
        sleep(A_LOOK).await;
        let now = broker.watch(&me(), "dev").await.unwrap().look();
        assert_eq!(now.generation, generation + 1);
        if reassumes {
            assert_eq!(id(&broker).await.unwrap(), "s-3");
            // The second one may still be used by somebody.
            revoke(&upstream, "s-2");
            sleep(A_LOOK).await;
            assert_eq!(id(&broker).await.unwrap(), "s-4");
        } else {
            assert_eq!(now.held.unwrap().session_id.as_deref(), Some("s-1"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_neither_listed_nor_can_be_read_is_over_only_if_it_has_been_listed_before() {
    let (broker, upstream) = broker(LeaseLimit::Balanced, scripted([]));
    assert_eq!(id(&broker).await.unwrap(), "s-1");
    lock(&upstream.hidden).insert("s-1".into());
    sleep(Duration::from_secs(290)).await;
    assert_eq!(
        id(&broker).await.unwrap(),
        "s-1",
        "this upstream does not show it"
    );
    let status = broker.status(&me(), None, 0).profiles[0]
        .session
        .clone()
        .unwrap();
    assert!(
        status
            .view_failure
            .unwrap()
            .contains("session s-1 is not listed, and cannot be read either")
    );
    lock(&upstream.hidden).clear();
    sleep(A_LOOK).await;
    lock(&upstream.hidden).insert("s-1".into());
    let looks = *lock(&upstream.looks);
    while *lock(&upstream.looks) < looks + 1 {
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(id(&broker).await.unwrap(), "s-1", "one list may be late");
    sleep(A_LOOK).await;
    assert!(matches!(id(&broker).await, Err(RequestError::Held { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_ahead_discards_nothing_that_is_to_be_revoked() {
    let (broker, upstream) = broker(LeaseLimit::Balanced, scripted([]));
    id(&broker).await.unwrap();
    let Clock::Virtual(time) = &broker.clock else {
        unreachable!()
    };
    time.step(SignedDuration::from_hours(240));
    *lock(&upstream.is_blind) = true;
    let out = standing_still(broker.logout(&me(), None, true))
        .await
        .unwrap();
    assert_eq!(
        out.profiles[0].sessions[0].at_upstream,
        UpstreamRevocation::Pending
    );
    *lock(&upstream.is_blind) = false;
    sleep(Duration::from_secs(301)).await;
    assert!(lock(&upstream.revoked).contains("s-1"));
}

#[tokio::test(start_paused = true)]
async fn a_lock_of_the_screen_is_no_event_for_profiles_without_a_session() {
    let (broker, _) = broker(LeaseLimit::Balanced, scripted([]));
    broker.revoke_on(EndCause::Locked, |_| true).await;
    assert_eq!(broker.journal.of("dev").await.endings, []);
}
