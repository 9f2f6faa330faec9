//! The request path under virtual time, with an upstream that follows a script.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use crate::access::AccessError;
use crate::access::error::NotApprovedReason;
use crate::access::peer::Peer;
use crate::cache::freshness::Freshness;
use crate::config::callers::Confirm;
use crate::config::{LeaseLimit, Profile, ProfileName, Role, RoleId};
use crate::error::RequestError;
use crate::model::MARGIN;
use crate::sync::lock;
use crate::test_support::{HOUR, ScriptedUpstream, TestDaemon, down, me, profile, scripted};
use crate::token_source::TokenWait;
use crate::upstream::{RefusalKind, UpstreamError};

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn second_request_is_served_from_the_cache() {
    let daemon = TestDaemon::new(LeaseLimit::Full, scripted([]));
    let first = daemon.lease().await.unwrap();
    pass(60).await;
    let second = daemon.lease().await.unwrap();
    assert_eq!(
        first.session.issued.session_id,
        second.session.issued.session_id
    );
    assert_eq!(daemon.upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn five_thousand_cold_requests_make_one_call() {
    let daemon = Arc::new(TestDaemon::new(
        LeaseLimit::Full,
        ScriptedUpstream {
            delay: Duration::from_secs(10),
            ..scripted([])
        },
    ));

    let ask = || {
        let daemon = Arc::clone(&daemon);
        tokio::spawn(async move {
            daemon
                .lease()
                .await
                .map(|lease| lease.session.issued.session_id.clone())
        })
    };

    let first = ask();
    pass(1).await;
    let others: Vec<_> = (0..5000).map(|_| ask()).collect();
    pass(1).await;
    first.abort();
    for other in others {
        assert_eq!(other.await.unwrap().unwrap(), Box::<str>::from("s-1"));
    }

    assert_eq!(daemon.upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiters_on_a_failing_upstream_share_one_failure() {
    let daemon = Arc::new(TestDaemon::new(
        LeaseLimit::Full,
        ScriptedUpstream {
            delay: Duration::from_secs(1),
            ..scripted([down()])
        },
    ));

    let waiters: Vec<_> = (0..20)
        .map(|_| {
            let daemon = Arc::clone(&daemon);
            tokio::spawn(async move { daemon.lease().await })
        })
        .collect();
    for waiter in waiters {
        assert!(matches!(
            waiter.await.unwrap(),
            Err(RequestError::Upstream(..))
        ));
    }

    assert!(
        matches!(daemon.lease().await, Err(RequestError::Upstream(..))),
        "asked again too soon"
    );

    assert_eq!(daemon.upstream.calls(), 1);
    pass(10).await;
    assert!(daemon.lease().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn warm_reads_never_wait_for_a_refresh() {
    let daemon = TestDaemon::new(LeaseLimit::Full, scripted([]));
    daemon.lease().await.unwrap();
    for _ in 0..24 * 60 {
        pass(60).await;
        let lease = daemon
            .lease()
            .now_or_never()
            .expect("a warm read does not wait")
            .unwrap();
        let left = lease.expires_at.duration_since(daemon.clock.now().wall);
        assert!(
            left.as_secs() > 15 * 60,
            "below this botocore asks at every signing: {left}"
        );
    }

    let calls = daemon.upstream.calls();
    assert!(
        (24 * 60 / 42..=24 * 60 / 32).contains(&calls),
        "{calls} calls in a day"
    );
}

#[tokio::test(start_paused = true)]
async fn outage_serves_until_the_margin_then_fails_closed() {
    let script = std::iter::once(Ok(HOUR)).chain(std::iter::repeat_with(down).take(500));
    let daemon = TestDaemon::new(LeaseLimit::Full, scripted(script));
    let end = daemon.lease().await.unwrap().session.ends_at();
    loop {
        pass(1).await;
        let now = daemon.clock.now().boot;
        let answer = daemon.lease().await;
        if now.plus(MARGIN) < end {
            assert!(answer.is_ok(), "refused with {:?} left", end.since(now));
        } else {
            assert!(answer.is_err(), "served with {:?} left", end.since(now));
        }
        if now > end.plus(HOUR) {
            break;
        }
    }

    let calls = lock(&daemon.upstream.calls).clone();
    for window in calls.windows(13) {
        assert!(
            window[12] - window[0] >= Duration::from_secs(60),
            "more than 12 calls in a minute"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn failed_refresh_is_retried_without_a_request() {
    let daemon = TestDaemon::new(LeaseLimit::Full, scripted([Ok(HOUR), down(), down()]));
    daemon.lease().await.unwrap();
    pass(50 * 60).await;
    assert_eq!(
        daemon.upstream.calls(),
        4,
        "no request came, and the fourth call succeeded"
    );

    assert!(matches!(
        daemon.entry().lookup(daemon.clock.now().boot),
        Freshness::Fresh(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn refusal_is_not_retried_and_keeps_the_session() {
    let refused = || {
        Err(UpstreamError::Refused {
            what: "trust policy".into(),
            kind: RefusalKind::Other,
        })
    };

    let daemon = TestDaemon::new(
        LeaseLimit::Full,
        scripted([Ok(HOUR), refused(), refused(), refused()]),
    );

    daemon.lease().await.unwrap();
    pass(50 * 60).await;
    assert_eq!(daemon.upstream.calls(), 2);
    assert!(
        daemon.lease().await.is_ok(),
        "the session still has its time"
    );
}

#[tokio::test(start_paused = true)]
async fn advertised_expiry_is_limited_by_lease_and_session() {
    let cases = [
        (LeaseLimit::Full, 3600),
        (LeaseLimit::Balanced, 960),
        (LeaseLimit::Strict, 600),
    ];

    for (limit, want) in cases {
        let daemon = TestDaemon::new(limit, scripted([]));
        let lease = daemon.lease().await.unwrap();
        assert_eq!(
            lease
                .expires_at
                .duration_since(daemon.clock.now().wall)
                .as_secs(),
            want
        );
    }

    let daemon = TestDaemon::new(
        LeaseLimit::Balanced,
        scripted([Ok(Duration::from_secs(100))]),
    );

    let lease = daemon.lease().await.unwrap();
    assert_eq!(
        lease
            .expires_at
            .duration_since(daemon.clock.now().wall)
            .as_secs(),
        100
    );
}

#[tokio::test(start_paused = true)]
async fn too_short_session_is_refused_without_a_new_call() {
    let daemon = TestDaemon::new(LeaseLimit::Full, scripted([Ok(Duration::from_secs(29))]));
    for _ in 0..3 {
        let refusal = daemon.lease().await.unwrap_err();
        assert!(
            refusal.to_string().contains("granted for 29 s;"),
            "{refusal}"
        );
    }
    assert_eq!(daemon.upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn slow_token_is_named_and_not_the_upstream() {
    let upstream = ScriptedUpstream {
        delay: Duration::from_secs(25),
        ..scripted([])
    };
    *lock(&upstream.token_wait) = Some(TokenWait {
        location: "the program /opt/token".into(),
        hint: "run it by hand".into(),
    });
    let daemon = TestDaemon::new(LeaseLimit::Full, upstream);

    let failure = daemon.lease().await.unwrap_err().failure();
    assert_eq!(
        (failure.message.as_str(), failure.hint.as_str()),
        (
            "the program /opt/token has given no token within 20 s",
            "run it by hand"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn slow_fetch_times_out_after_20_s_and_continues() {
    let daemon = TestDaemon::new(
        LeaseLimit::Full,
        ScriptedUpstream {
            delay: Duration::from_secs(25),
            ..scripted([])
        },
    );

    assert!(matches!(
        daemon.lease().await,
        Err(RequestError::StillWaiting)
    ));

    pass(6).await;
    assert!(
        daemon
            .lease()
            .now_or_never()
            .expect("it has landed")
            .is_ok()
    );

    assert_eq!(daemon.upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn unanswered_approval_denies_without_a_fetch() {
    let mut profile = profile();
    profile.callers.confirm = Confirm::First;
    let daemon = TestDaemon::with_profile(profile, scripted([]));
    let mut asking = std::pin::pin!(daemon.lease());
    let almost = crate::access::approvals::PATIENCE - Duration::from_secs(1);
    assert!(
        tokio::time::timeout(almost, &mut asking).await.is_err(),
        "it waits for the user"
    );

    let refused = asking.await.unwrap_err();
    assert!(
        matches!(
            refused,
            RequestError::Access(AccessError::NotApproved {
                reason: NotApprovedReason::TimedOut,
                ..
            })
        ),
        "{refused}"
    );

    assert_eq!(daemon.upstream.calls(), 0);
    assert!(
        daemon
            .services
            .access
            .list_approvals(&me())
            .unwrap()
            .pending
            .is_empty(),
        "the request is still pending"
    );
}

#[tokio::test(start_paused = true)]
async fn other_user_is_denied_and_unknown_profile_names_the_nearest() {
    let daemon = TestDaemon::new(LeaseLimit::Full, scripted([]));
    let stranger = Peer::new(1001, None);
    assert!(matches!(
        daemon.lease_as(&stranger, "dev").await,
        Err(RequestError::Access(AccessError::UnknownProfile {
            refused_uid: Some(1001),
            nearest: None,
            ..
        }))
    ));

    let refusal = daemon.lease_as(&me(), "dve").await.unwrap_err();
    assert!(
        matches!(refusal, RequestError::Access(AccessError::UnknownProfile { nearest: Some(name), .. }) if name == "dev")
    );

    let hostile = daemon
        .lease_as(&me(), "\u{1b}[31m\n")
        .await
        .unwrap_err()
        .to_string();
    assert!(!hostile.contains(char::is_control), "{hostile:?}");
    assert_eq!(daemon.upstream.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn status_pages_list_each_profile_once_and_fit_a_frame() {
    use rolekeeper::protocol::{Reply, ReplyFrame, VERSION};
    let refused = || {
        Err(UpstreamError::Refused {
            what: "\u{1F600}".repeat(5000),
            kind: RefusalKind::Other,
        })
    };

    let profiles = (0..1000).map(|number| {
        let mut longest = Profile {
            upstream: "u".repeat(64).into(),
            name: ProfileName::parse(&format!("{number:0>64}")).unwrap(),
            ..profile()
        };
        longest.role.role = Role::ByCloud(RoleId::parse(&"r".repeat(64)).unwrap());
        longest
    });

    let script = std::iter::repeat_with(refused).take(1000);
    let daemon = TestDaemon::with_profiles(profiles, scripted(script));

    let names: Vec<String> = daemon
        .cache
        .entries()
        .iter()
        .map(|entry| entry.profile.name.as_str().to_owned())
        .collect();
    for name in &names {
        assert!(daemon.lease_as(&me(), name).await.is_err());
    }

    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = daemon.services.status.page(&me(), after.as_deref(), 8192);
        seen.extend(page.profiles.iter().map(|profile| profile.profile.clone()));
        after.clone_from(&page.next);
        rolekeeper::frame::encode(&ReplyFrame {
            v: VERSION,
            reply: Reply::Status(page),
        })
        .expect("it fits");
        if after.is_none() {
            break;
        }
    }

    assert_eq!(seen, names);
}
