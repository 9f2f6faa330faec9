//! Approval requests and remembered decisions, as functions of the time that is given.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::{PATIENCE, PENDING, QUESTIONS_A_MINUTE, REMEMBERED_FOR};
use crate::access::peer::{Peer, is_interpreter, requesting_programs};
use crate::cache::CacheEntry;
use crate::clock::BootTime;
use crate::config::ProfileName;
use crate::config::callers::Confirm;
use crate::model::ProfileId;
use crate::sandbox::helper::peer_inspector::is_intermediary_name;

/// The most decisions that are remembered.
const REMEMBERED: usize = 4096;

const MINUTE: Duration = Duration::from_secs(60);

/// A user's program that wants a profile. Decisions are remembered by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Requester {
    profile: ProfileId,
    uid: u32,
    /// Its path and file. A program that cannot be identified is never taken for another.
    program: Option<(String, Option<(u64, u64)>)>,
    /// The kernel does not name the process, so that the program is not certain.
    is_uncertain: bool,
    /// The pid of an interactive shell: what a user types in one shell is not what they type in
    /// another. The pid of an interpreter: another process may run another script.
    process: Option<i32>,
    is_interpreter: bool,
}

impl Requester {
    fn user_and_profile(&self) -> (u32, ProfileId) {
        (self.uid, self.profile)
    }

    pub(super) async fn identify(peer: &Peer, entry: &CacheEntry) -> Self {
        let inspection = peer.handle().inspection().result().await;
        let programs = inspection.map_or_else(Default::default, |seen| seen.programs.as_slice());
        let program = requesting_programs(programs).last();
        let path = program.map(|program| program.process.program.as_str());
        let is_interpreter = path.is_some_and(is_interpreter);
        let is_shell = path.is_some_and(is_intermediary_name);
        Self {
            profile: entry.id,
            uid: peer.uid,
            program: program.map(|program| (program.process.program.clone(), program.file)),
            is_uncertain: !peer.has_process(),
            process: program
                .filter(|_| is_shell || is_interpreter)
                .map(|program| program.process.pid),
            is_interpreter,
        }
    }

    /// How long an approval is valid. One for an interpreter would be valid for all of its scripts,
    /// so that it is for one request, whatever the profile configures.
    pub(super) fn confirm(&self, configured: Confirm) -> Confirm {
        match self.is_interpreter {
            true => Confirm::Always,
            false => configured,
        }
    }

    /// A decision about one call is for no other one, even of the same program.
    pub(super) async fn of_one_call(peer: &Peer, entry: &CacheEntry) -> Self {
        Self {
            program: None,
            ..Self::identify(peer, entry).await
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Allow,
    Deny,
    /// No answer arrived in time.
    Timeout,
    /// No client waits for an answer any more.
    Withdrawn,
}

/// May this program have this profile? Or may it make this call, which could bypass the rules of
/// this profile?
#[derive(Debug)]
pub(crate) struct ApprovalSubject {
    pub(crate) profile: ProfileName,
    /// `/usr/bin/python3 (process 42, by /usr/bin/bash)`
    pub(crate) program: String,
    /// `attachRolePolicy (role_id=019…, policy_id=019…)`
    pub(crate) call: Option<String>,
}

impl ApprovalSubject {
    /// For the journal.
    pub(super) fn in_words(&self) -> String {
        match &self.call {
            None => self.program.clone(),
            Some(call) => format!("{}, to call {call}", self.program),
        }
    }
}

/// A question to the user, until it is answered.
#[derive(Debug)]
pub(crate) struct ApprovalRequest {
    pub(crate) id: u64,
    subject: ApprovalSubject,
    pub(crate) uid: u32,
    pub(crate) asked_at: BootTime,
    /// The requesting program's process.
    pid: Option<i32>,
    requester: Requester,
    confirm: Confirm,
    /// How many requests for credentials wait. It changes under the store's lock.
    waiting: AtomicUsize,
    decision: watch::Sender<Option<Decision>>,
}

impl Deref for ApprovalRequest {
    type Target = ApprovalSubject;

    fn deref(&self) -> &ApprovalSubject {
        &self.subject
    }
}

impl ApprovalRequest {
    fn has_waiters(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn settle(&self, decision: Decision) {
        self.decision.send_replace(Some(decision));
    }

    /// Waits until the request is answered, or ends without an answer.
    pub(crate) async fn decision(&self) -> Decision {
        let mut decision = self.decision.subscribe();
        let settled = decision.wait_for(Option::is_some).await;
        settled
            .ok()
            .and_then(|decision| *decision)
            .unwrap_or(Decision::Timeout)
    }

    /// Whether the peer has a terminal that the requesting program did not start. A peer whose
    /// parents are not all known may be started by it.
    pub(crate) async fn is_independent_of(&self, approver: &Peer) -> bool {
        let Some(process) = approver.handle().inspection().result().await else {
            return false;
        };
        let mut programs = process.programs.iter();
        let is_started_by_requester = programs.any(|program| Some(program.process.pid) == self.pid);
        process.has_terminal && process.is_complete && !is_started_by_requester
    }
}

/// What is known of a requester.
#[derive(Debug)]
pub(super) enum ApprovalState {
    Allowed,
    /// A question for the same user and profile had this outcome a moment ago.
    Quiet(Decision),
    Pending(Arc<ApprovalRequest>),
    Unknown,
}

#[derive(Debug, Clone, Copy)]
enum RememberedDecision {
    /// Until the daemon ends.
    Allowed,
    AllowedUntil(BootTime),
    /// For one request before this time.
    AllowedOnce(BootTime),
}

#[derive(Debug, Default)]
pub(super) struct ApprovalStore {
    requests: BTreeMap<u64, Arc<ApprovalRequest>>,
    decisions: HashMap<Requester, RememberedDecision>,
    /// A user and a profile without further questions until then, because of that decision. It is not about one program: a
    /// program could ask under another path.
    quiet: HashMap<(u32, ProfileId), (BootTime, Decision)>,
    /// When each user's programs had a question asked, in the last minute.
    asked: HashMap<u32, VecDeque<BootTime>>,
    last_id: u64,
}

impl ApprovalStore {
    pub(super) fn state(
        &self,
        requester: &Requester,
        confirm: Confirm,
        now: BootTime,
    ) -> ApprovalState {
        match self.decisions.get(requester) {
            Some(RememberedDecision::Allowed) => return ApprovalState::Allowed,
            Some(RememberedDecision::AllowedUntil(end) | RememberedDecision::AllowedOnce(end))
                if now < *end =>
            {
                return ApprovalState::Allowed;
            }
            _ => {}
        }

        let joinable = self.pending(now).find(|request| {
            // A decision for one request goes to the one that waits for it.
            let is_free = confirm != Confirm::Always || !request.has_waiters();
            request.requester == *requester && requester.program.is_some() && is_free
        });

        match (joinable, self.quiet.get(&requester.user_and_profile())) {
            (Some(request), _) => ApprovalState::Pending(Arc::clone(request)),
            (None, Some((end, decision))) if now < *end => ApprovalState::Quiet(*decision),
            (None, _) => ApprovalState::Unknown,
        }
    }

    pub(super) fn ask(
        &mut self,
        requester: Requester,
        confirm: Confirm,
        subject: ApprovalSubject,
        peer: &Peer,
        now: BootTime,
    ) -> Arc<ApprovalRequest> {
        self.requests.retain(|_, request| is_pending(request, now));
        self.asked.entry(peer.uid).or_default().push_back(now);
        self.last_id += 1;

        let inspection = peer.handle().inspection().get();
        let requesting = inspection.and_then(|seen| requesting_programs(&seen.programs).last());
        let request = Arc::new(ApprovalRequest {
            id: self.last_id,
            subject,
            uid: peer.uid,
            asked_at: now,
            pid: requesting.map(|program| program.process.pid),
            requester,
            confirm,
            waiting: AtomicUsize::new(0),
            decision: watch::Sender::new(None),
        });

        self.requests.insert(self.last_id, Arc::clone(&request));

        request
    }

    /// Ends a request, and remembers the decision. Returns the request if it was still there.
    pub(super) fn answer(
        &mut self,
        id: u64,
        decision: Decision,
        now: BootTime,
    ) -> Option<Arc<ApprovalRequest>> {
        let request = self.requests.remove(&id)?;
        match decision {
            Decision::Allow => self.allow(&request, now),
            Decision::Deny | Decision::Timeout => self.be_quiet(&request, decision, now),
            Decision::Withdrawn => {}
        }
        request.settle(decision);
        Some(request)
    }

    /// One more request for credentials waits for the decision.
    pub(super) fn join(&mut self, request: &ApprovalRequest) {
        request.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// One waits no more. Returns whether it was the last one.
    pub(super) fn leave(&mut self, request: &ApprovalRequest) -> bool {
        request.waiting.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// For the time that the profile configures.
    fn allow(&mut self, request: &ApprovalRequest, now: BootTime) {
        let decision = match request.confirm {
            Confirm::First => RememberedDecision::Allowed,
            Confirm::For(span) => RememberedDecision::AllowedUntil(now.plus(span)),
            // The waiting request takes it.
            _ if request.has_waiters() => return,
            _ => RememberedDecision::AllowedOnce(now.plus(REMEMBERED_FOR)),
        };
        self.remember(&request.requester, decision);
    }

    fn be_quiet(&mut self, request: &ApprovalRequest, decision: Decision, now: BootTime) {
        let end = now.plus(REMEMBERED_FOR);
        self.quiet.retain(|_, (end, _)| now < *end);
        self.quiet
            .insert(request.requester.user_and_profile(), (end, decision));
    }

    fn remember(&mut self, requester: &Requester, decision: RememberedDecision) {
        if requester.program.is_none() {
            return;
        }
        if self.decisions.len() >= REMEMBERED {
            self.decisions.clear();
        }
        self.decisions.insert(requester.clone(), decision);
    }

    /// A request is served by the remembered decision.
    pub(super) fn use_up(&mut self, requester: &Requester) {
        if let Some(RememberedDecision::AllowedOnce(_)) = self.decisions.get(requester) {
            self.decisions.remove(requester);
        }
    }

    pub(super) fn find(&self, id: u64, now: BootTime) -> Option<Arc<ApprovalRequest>> {
        self.pending(now).find(|request| request.id == id).cloned()
    }

    /// Whether all users together have as many pending requests as they may have, or this one has had as many in the last
    /// minute.
    pub(super) fn is_full(&mut self, uid: u32, now: BootTime) -> bool {
        self.asked.retain(|_, times| {
            times.retain(|asked_at| now.since(*asked_at) < MINUTE);
            !times.is_empty()
        });
        let of_user = self.asked.get(&uid).map_or(0, VecDeque::len);

        of_user >= QUESTIONS_A_MINUTE || self.pending(now).count() >= PENDING
    }

    pub(super) fn pending(&self, now: BootTime) -> impl Iterator<Item = &Arc<ApprovalRequest>> {
        let requests = self.requests.values();
        requests.filter(move |request| is_pending(request, now))
    }
}

fn is_pending(request: &ApprovalRequest, now: BootTime) -> bool {
    now.since(request.asked_at) < PATIENCE
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const UID: u32 = 1000;

    fn requester(program: Option<&str>) -> Requester {
        Requester {
            profile: ProfileId::new(0),
            uid: UID,
            program: program.map(|program| (program.to_owned(), Some((1, 2)))),
            is_uncertain: false,
            process: None,
            is_interpreter: false,
        }
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::ZERO.plus(Duration::from_secs(seconds))
    }

    fn is_allowed(store: &ApprovalStore, requester: &Requester, seconds: u64) -> bool {
        let state = store.state(requester, Confirm::First, at(seconds));
        matches!(state, ApprovalState::Allowed)
    }

    fn is_quiet(store: &ApprovalStore, requester: &Requester, seconds: u64) -> bool {
        let state = store.state(requester, Confirm::First, at(seconds));
        matches!(state, ApprovalState::Quiet(_))
    }

    /// The id of the pending request that this requester would wait for.
    fn joins(
        store: &ApprovalStore,
        requester: &Requester,
        confirm: Confirm,
        seconds: u64,
    ) -> Option<u64> {
        match store.state(requester, confirm, at(seconds)) {
            ApprovalState::Pending(request) => Some(request.id),
            _ => None,
        }
    }

    fn ask(
        store: &mut ApprovalStore,
        requester: &Requester,
        confirm: Confirm,
        seconds: u64,
    ) -> Arc<ApprovalRequest> {
        let subject = ApprovalSubject {
            profile: ProfileName::parse("dev").unwrap(),
            program: "vim".into(),
            call: None,
        };
        let peer = Peer::new(UID, None);
        store.ask(requester.clone(), confirm, subject, &peer, at(seconds))
    }

    #[test]
    fn allow_lasts_as_configured_and_for_one_program() {
        let vim = requester(Some("/usr/bin/vim"));
        let emacs = requester(Some("/usr/bin/emacs"));
        let span = Duration::from_secs(900);
        for (confirm, table) in [
            (
                Confirm::First,
                [(0, true), (899, true), (901, true), (1_000_000, true)],
            ),
            (
                Confirm::For(span),
                [(0, true), (899, true), (900, false), (1_000_000, false)],
            ),
            (
                Confirm::Always,
                [(0, true), (29, true), (30, false), (1_000_000, false)],
            ),
        ] {
            let mut store = ApprovalStore::default();
            let request = ask(&mut store, &vim, confirm, 0);
            store.answer(request.id, Decision::Allow, at(0)).unwrap();
            for (seconds, want) in table {
                let allowed = is_allowed(&store, &vim, seconds);
                assert_eq!(allowed, want, "{confirm:?} {seconds}");
                assert!(!is_allowed(&store, &emacs, seconds));
            }

            store.use_up(&vim);
            let is_kept = confirm != Confirm::Always;
            assert_eq!(is_allowed(&store, &vim, 1), is_kept, "{confirm:?}");
        }
    }

    #[test]
    fn after_a_no_or_no_answer_nobody_is_asked_for_a_while() {
        let vim = requester(Some("/usr/bin/vim"));
        for decision in [Decision::Deny, Decision::Timeout] {
            let mut store = ApprovalStore::default();
            let allowed = requester(Some("/usr/bin/git"));
            let request = ask(&mut store, &allowed, Confirm::First, 0);
            store.answer(request.id, Decision::Allow, at(0)).unwrap();
            let request = ask(&mut store, &vim, Confirm::First, 0);
            assert_eq!(joins(&store, &vim, Confirm::First, 1), Some(request.id));
            store.answer(request.id, decision, at(0)).unwrap();

            // Under another path, or as an unknown program, it gets no question either.
            for program in [Some("/usr/bin/vim"), Some("/tmp/vim"), None] {
                let program = requester(program);
                assert!(is_quiet(&store, &program, 29) && !is_quiet(&store, &program, 30));
            }
            assert!(is_allowed(&store, &allowed, 1));

            let mut of_another = requester(None);
            of_another.uid += 1;
            assert!(!is_quiet(&store, &of_another, 1));
        }
    }

    #[test]
    fn unidentified_program_is_asked_about_each_time() {
        let mut store = ApprovalStore::default();
        let unknown = requester(None);
        let request = ask(&mut store, &unknown, Confirm::First, 0);
        assert_eq!(joins(&store, &unknown, Confirm::First, 1), None);
        store.answer(request.id, Decision::Allow, at(0)).unwrap();
        assert!(!is_allowed(&store, &unknown, 1) && !is_quiet(&store, &unknown, 1));
    }

    #[test]
    fn last_waiter_withdraws_a_request_that_may_then_be_asked_again() {
        let mut store = ApprovalStore::default();
        let vim = requester(Some("/usr/bin/vim"));
        let request = ask(&mut store, &vim, Confirm::First, 0);
        store.join(&request);
        store.join(&request);
        assert_eq!([0, 1].map(|_| store.leave(&request)), [false, true]);

        let withdrawn = store.answer(request.id, Decision::Withdrawn, at(1));
        assert!(withdrawn.is_some() && store.pending(at(1)).count() == 0);
        assert!(!is_quiet(&store, &vim, 1));
    }

    #[test]
    fn unanswered_request_expires() {
        let mut store = ApprovalStore::default();
        let request = ask(&mut store, &requester(None), Confirm::First, 0);
        assert_eq!(store.pending(at(54)).count(), 1);
        assert_eq!(store.pending(at(55)).count(), 0);
        assert!(store.find(request.id, at(54)).is_some());
        assert!(store.find(request.id, at(55)).is_none());
    }

    #[test]
    fn allow_for_one_request_goes_to_the_one_that_waits() {
        let mut store = ApprovalStore::default();
        let vim = requester(Some("/usr/bin/vim"));
        let always = Confirm::Always;
        let request = ask(&mut store, &vim, always, 0);
        store.join(&request);
        assert_eq!(joins(&store, &vim, always, 1), None, "another request asks");
        store.answer(request.id, Decision::Allow, at(1)).unwrap();
        assert!(!is_allowed(&store, &vim, 1));

        store.leave(&request);
        let request = ask(&mut store, &vim, always, 2);
        let joined = joins(&store, &vim, always, 3);
        assert_eq!(joined, Some(request.id), "the program asks again");
        store.answer(request.id, Decision::Allow, at(3)).unwrap();
        assert!(is_allowed(&store, &vim, 4));
        store.use_up(&vim);
        assert!(!is_allowed(&store, &vim, 4));
    }

    #[test]
    fn questions_of_one_user_are_limited() {
        let mut store = ApprovalStore::default();
        for number in 0..QUESTIONS_A_MINUTE {
            assert!(!store.is_full(UID, at(0)));
            let program = requester(Some(&format!("/bin/{number}")));
            let request = ask(&mut store, &program, Confirm::Always, 0);
            // The client asks and goes away.
            store
                .answer(request.id, Decision::Withdrawn, at(0))
                .unwrap();
        }
        assert!(store.is_full(UID, at(59)));
        assert!(!store.is_full(UID + 1, at(59)));
        assert!(!store.is_full(UID, at(60)));
    }
}
