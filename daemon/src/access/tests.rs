//! Decisions about connections of this test's own process.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use futures_util::FutureExt;
use jiff::Timestamp;
use serde_json::Value;

use super::error::NotApprovedReason;
use super::*;
use crate::config::Profile;
use crate::config::callers::CallerRule;
use crate::sandbox::helper::peer_inspector::PeerInspector;
use crate::test_support::{self, scripted};

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn profile(confirm: Confirm) -> Profile {
    let mut profile = test_support::profile();
    profile.callers.confirm = confirm;
    profile
}

fn rule(program: impl Into<PathBuf>) -> CallerRule {
    CallerRule {
        exe: Some(program.into()),
        ..CallerRule::default()
    }
}

/// The access to one profile, of a daemon that runs as `owner`.
fn access(owner: u32, profile: Profile, journal: Journal) -> Access {
    let policy = Policy::for_all(owner, [&profile.callers]);
    let upstream = Arc::new(scripted([]));
    let cache = Cache::new([(profile, test_support::handle(&upstream))]);
    let clock = Clock::virtual_from(Timestamp::UNIX_EPOCH);
    Access::new(policy, Arc::new(cache), Arc::new(journal), clock)
}

/// A connection by this process, as the socket adapter accepts it.
fn connect(inspector: &Arc<PeerInspector>) -> Peer {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let connection = OwnedFd::from(ours);
    let mut peer = Peer::of(&connection, inspector, true).unwrap();
    peer.open_pidfd(&connection);
    peer.handle().pin();
    peer
}

fn inspector() -> Arc<PeerInspector> {
    let inspector = PeerInspector::in_thread().unwrap();
    inspector.set_pins_peers(true);
    inspector
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum User {
    Owner,
    Named,
    Stranger,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    Right,
    Wrong,
    Nothing,
    Disconnected,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rules {
    Absent,
    Fit,
    DoNotFit,
}

/// A peer that follows a script, and a user who decides at once.
struct Script<'a> {
    access: &'a Access,
    answer: Answer,
    decision: Decision,
    challenges: usize,
    approvals: usize,
}

impl<'a> Script<'a> {
    fn new(access: &'a Access, answer: Answer, decision: Decision) -> Self {
        Self {
            access,
            answer,
            decision,
            challenges: 0,
            approvals: 0,
        }
    }
}

impl Interaction for Script<'_> {
    async fn challenge(&mut self, nonce: &str) -> Result<Option<String>, Interrupted> {
        self.challenges += 1;
        match self.answer {
            Answer::Right => Ok(Some(nonce.to_owned())),
            Answer::Wrong => Ok(Some("0".repeat(nonce.len()))),
            Answer::Nothing => Ok(None),
            Answer::Disconnected => Err(Interrupted::Disconnected),
        }
    }

    async fn await_user<T: Send>(
        &mut self,
        _question: Question<'_>,
        _limit: std::time::Duration,
        decision: impl Future<Output = T> + Send,
    ) -> Result<T, Interrupted> {
        self.approvals += 1;
        let approvals = &self.access.approvals;
        let pending = approvals.list().pending;
        assert_eq!(pending.len(), 1);
        assert!(approvals.answer(&Peer::new(me(), None), pending[0].id, self.decision));
        Ok(decision.await)
    }
}

/// The first stage that refuses decides: user, challenge, caller rules, approval.
fn expected(
    user: User,
    answer: Answer,
    rules: Rules,
    approval: Option<Decision>,
) -> Option<&'static str> {
    let is_guarded = rules != Rules::Absent || approval.is_some();
    if user == User::Stranger {
        return Some("there is no profile `dev`");
    }

    match answer {
        Answer::Wrong | Answer::Nothing if is_guarded => {
            return Some("the caller failed the identity challenge for profile dev");
        }
        Answer::Disconnected if is_guarded => return Some("the connection failed"),
        _ => {}
    }

    if rules == Rules::DoNotFit {
        return Some("profile dev does not allow /");
    }

    match approval {
        Some(Decision::Deny) => Some("profile dev requires approval: denied"),
        Some(Decision::Timeout | Decision::Withdrawn) => {
            Some("profile dev requires approval: timed out")
        }
        Some(Decision::Allow) | None => None,
    }
}

#[tokio::test]
async fn lease_is_refused_by_the_first_stage_that_refuses() {
    let inspector = inspector();
    let program = std::env::current_exe().unwrap();
    let mut cases = Vec::new();
    for user in [User::Owner, User::Named, User::Stranger] {
        for answer in [
            Answer::Right,
            Answer::Wrong,
            Answer::Nothing,
            Answer::Disconnected,
        ] {
            for rules in [Rules::Absent, Rules::Fit, Rules::DoNotFit] {
                for approval in [
                    None,
                    Some(Decision::Allow),
                    Some(Decision::Deny),
                    Some(Decision::Timeout),
                ] {
                    cases.push((user, answer, rules, approval));
                }
            }
        }
    }

    for (user, answer, rules, approval) in cases {
        let case = format!("{user:?} {answer:?} {rules:?} {approval:?}");
        let owner = if user == User::Owner { me() } else { me() + 1 };
        let confirm = approval.map_or(Confirm::Never, |_| Confirm::First);
        let mut profile = profile(confirm);
        if user == User::Named {
            profile.callers.users.push(me());
        }
        match rules {
            Rules::Absent => {}
            Rules::Fit => profile.callers.rules = vec![rule("/no/program"), rule(&program)],
            Rules::DoNotFit => profile.callers.rules = vec![rule("/no/program")],
        }
        let access = access(owner, profile, Journal::in_memory());
        let decision = approval.unwrap_or(Decision::Allow);
        let mut script = Script::new(&access, answer, decision);

        let outcome = access
            .authorize_lease(&connect(&inspector), "dev", &mut script)
            .await;

        match expected(user, answer, rules, approval) {
            None => assert!(outcome.is_ok(), "{case}: {outcome:?}"),
            Some(want) => {
                let refusal = outcome.unwrap_err().to_string();
                assert!(refusal.starts_with(want), "{case}: {refusal}");
            }
        }
        let is_guarded = rules != Rules::Absent || approval.is_some();
        let is_challenged = user != User::Stranger && is_guarded;
        assert_eq!(script.challenges, usize::from(is_challenged), "{case}");
        let is_satisfied = expected(user, answer, rules, None).is_none();
        let is_asked =
            approval.is_some() && is_satisfied && user != User::Stranger && answer == Answer::Right;
        assert_eq!(script.approvals, usize::from(is_asked), "{case}");
    }
}

#[tokio::test]
async fn challenge_is_sent_once_per_connection() {
    let inspector = inspector();
    let mut profile = profile(Confirm::Never);
    profile.callers.rules = vec![rule(std::env::current_exe().unwrap())];
    let access = access(me(), profile, Journal::in_memory());
    let peer = connect(&inspector);
    let mut script = Script::new(&access, Answer::Right, Decision::Allow);
    for _ in 0..3 {
        let grant = access.authorize_lease(&peer, "dev", &mut script).await;
        assert_eq!(grant.unwrap().entry().profile.name.as_str(), "dev");
    }

    assert_eq!(script.challenges, 1);
}

#[tokio::test]
async fn passed_on_connection_is_refused_before_approval() {
    let inspector = inspector();
    let access = access(me(), profile(Confirm::First), Journal::in_memory());
    let peer = connect(&inspector);
    peer.check_sender(me(), 1);
    let mut script = Script::new(&access, Answer::Right, Decision::Allow);
    let refusal = access.authorize_lease(&peer, "dev", &mut script).await;
    assert!(matches!(
        refusal,
        Err(AccessError::ConnectionPassedOn { .. })
    ));

    assert_eq!(script.approvals, 0);
}

#[tokio::test]
async fn unidentified_caller_is_refused_by_rules_and_needs_approval() {
    let unknown = Peer::new(me(), None);
    let mut ruled = profile(Confirm::Never);
    ruled.callers.rules = vec![rule(std::env::current_exe().unwrap())];
    let access_by_rules = access(me(), ruled, Journal::in_memory());
    let refusal = access_by_rules
        .authorize_lease(&unknown, "dev", &mut NoInteraction)
        .await;
    assert!(matches!(refusal, Err(AccessError::UnknownCaller { .. })));

    for (decision, is_granted) in [(Decision::Deny, false), (Decision::Allow, true)] {
        let access = access(me(), profile(Confirm::First), Journal::in_memory());
        let mut script = Script::new(&access, Answer::Nothing, decision);
        let outcome = access.authorize_lease(&unknown, "dev", &mut script).await;
        assert_eq!(outcome.is_ok(), is_granted, "{outcome:?}");
        assert_eq!((script.challenges, script.approvals), (0, 1));
    }
}

#[tokio::test]
async fn rights_depend_on_the_user_alone_unless_they_give_credentials() {
    let mut profile = profile(Confirm::First);
    profile.callers.users.push(1001);
    profile.callers.rules = vec![rule("/no/program")];
    let access = access(1000, profile, Journal::in_memory());
    for (uid, may_view, may_own) in [
        (1000, true, true),
        (1001, true, false),
        (1002, false, false),
        (0, false, false),
    ] {
        let peer = Peer::new(uid, None);
        let view = access.authorize_view(&peer, "dev").await;
        let owner = access.authorize_owner(&peer, "dev").await;
        assert_eq!(view.is_ok(), may_view, "{uid}");
        assert_eq!(owner.is_ok(), may_own, "{uid}");
        let daemon_owner = access.authorize_daemon_owner(&peer);
        assert_eq!(daemon_owner.is_ok(), may_own, "{uid}");
        assert_eq!(access.list_approvals(&peer).is_ok(), may_own, "{uid}");
        assert_eq!(access.authorize_connection(&peer).is_ok(), may_view);
    }
}

#[tokio::test]
async fn unknown_profile_names_the_nearest_that_the_user_may_see() {
    let access = access(1000, profile(Confirm::Never), Journal::in_memory());
    for (uid, nearest) in [(1000, Some("dev")), (1001, None)] {
        let peer = Peer::new(uid, None);
        let refusal = access.authorize_view(&peer, "dve").await.unwrap_err();
        let AccessError::UnknownProfile { nearest: named, .. } = refusal else {
            panic!("{refusal}")
        };
        assert_eq!(named.as_deref(), nearest);
    }

    let hostile = access
        .authorize_view(&Peer::new(1000, None), "\u{1b}[31m\n")
        .await;
    let message = hostile.unwrap_err().to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
}

/// A journal in a file, for its lines of refusals.
struct JournalFile {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl JournalFile {
    fn create() -> (Self, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let journal = Journal::open(&path, &[]).unwrap();
        let file = Self {
            _folder: folder,
            path,
        };
        (file, journal)
    }

    /// What each refusal is about, by which user, and its code.
    async fn refusals(&self, access: &Access) -> Vec<(String, u64, String)> {
        access.journal.flush().await;
        let text = std::fs::read_to_string(&self.path).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let refusals = lines.filter(|line: &Value| line["type"] == "refused");
        refusals
            .map(|line| {
                (
                    line["profile"].as_str().unwrap().to_owned(),
                    line["uid"].as_u64().unwrap(),
                    line["code"].as_str().unwrap().to_owned(),
                )
            })
            .collect()
    }
}

#[tokio::test]
async fn every_refusal_is_journalled_once() {
    let (file, journal) = JournalFile::create();
    let mut profile = profile(Confirm::Never);
    profile.callers.rules = vec![rule("/no/program")];
    let access = access(1000, profile, journal);
    let owner = Peer::new(1000, None);
    let stranger = Peer::new(1001, None);
    let mut none = NoInteraction;

    assert!(access.authorize_view(&stranger, "dev").await.is_err());
    assert!(access.authorize_owner(&stranger, "dev").await.is_err());
    let endpoint = access.authorize_endpoint(&owner, "dev", &mut none).await;
    assert!(matches!(endpoint, Err(AccessError::NotOverHttp { .. })));
    let lease = access.authorize_lease(&owner, "dev", &mut none).await;
    assert!(lease.is_err());
    let unknown = access.authorize_lease(&owner, "dve", &mut none).await;
    assert!(unknown.is_err());
    assert!(access.authorize_daemon_owner(&stranger).is_err());
    assert!(access.authorize_connection(&stranger).is_err());

    let want = [
        ("dev", 1001, "not_allowed"),
        ("dev", 1001, "not_allowed"),
        ("dev", 1000, "not_allowed"),
        ("dev", 1000, "not_allowed"),
        ("dve", 1000, "unknown_profile"),
        ("-", 1001, "not_allowed"),
        ("-", 1001, "not_allowed"),
    ];

    let want = want.map(|(of, uid, code)| (of.to_owned(), uid, code.to_owned()));
    assert_eq!(file.refusals(&access).await, want);
}

#[tokio::test]
async fn grants_and_lost_connections_are_no_refusals() {
    let inspector = inspector();
    let (file, journal) = JournalFile::create();
    let access = access(me(), profile(Confirm::First), journal);
    let peer = connect(&inspector);
    let mut lost = Script::new(&access, Answer::Disconnected, Decision::Allow);
    assert!(
        access
            .authorize_lease(&peer, "dev", &mut lost)
            .await
            .is_err()
    );

    let mut good = Script::new(&access, Answer::Right, Decision::Allow);
    assert!(
        access
            .authorize_lease(&peer, "dev", &mut good)
            .await
            .is_ok()
    );

    assert!(access.authorize_view(&peer, "dev").await.is_ok());
    let none = access.approve(&peer, 7, true).await;
    assert_eq!(none.unwrap_err(), AccessError::NoPendingApproval { id: 7 });
    assert_eq!(file.refusals(&access).await, []);
}

#[tokio::test]
async fn approver_without_a_terminal_is_refused_but_may_deny() {
    let (file, journal) = JournalFile::create();
    let access = access(1000, profile(Confirm::First), journal);
    let requester = Peer::new(1000, None);
    let approver = Peer::new(1000, None);
    let mut none = NoInteraction;
    let mut lease = Box::pin(access.authorize_lease(&requester, "dev", &mut none));
    assert!(lease.as_mut().now_or_never().is_none());

    let refusal = access.approve(&approver, 1, true).await;
    assert_eq!(refusal.unwrap_err(), AccessError::ApproverNotIndependent);
    let stranger = access.approve(&Peer::new(1001, None), 1, false).await;
    assert_eq!(stranger.unwrap_err(), AccessError::NotOwner { uid: 1001 });
    let left = access.approve(&approver, 1, false).await.unwrap();
    assert!(left.pending.is_empty());
    assert!(matches!(
        lease.await,
        Err(AccessError::NotApproved {
            reason: NotApprovedReason::Denied,
            ..
        })
    ));

    let refusals = file.refusals(&access).await;
    let about: Vec<_> = refusals.iter().map(|(of, uid, _)| (&**of, *uid)).collect();
    assert_eq!(about, [("dev", 1000), ("-", 1001), ("dev", 1000)]);
}
