//! Who may do what. [`Access`] decides every request in one function, and journals every refusal
//! there, whatever the adapter.

pub(crate) mod approvals;
pub(crate) mod error;
mod grants;
mod interaction;
pub mod peer;
pub mod policy;
mod process;

use std::sync::Arc;

use rolekeeper::protocol::Approvals as ApprovalList;

pub(crate) use error::AccessError;
pub use grants::{LeaseGrant, OwnerGrant, ViewGrant};
pub use interaction::{Interaction, Interrupted, NoInteraction, Question};

use crate::cache::{Cache, CacheEntry};
use crate::clock::Clock;
use crate::config::ProfileName;
use crate::config::callers::Confirm;
use crate::journal::Journal;
use crate::platform::signals;
use approvals::{Approvals, Decision};
use peer::Peer;
use policy::Policy;

/// What a journal record is about if its request names no profile. It is not a profile's name.
const NO_PROFILE: &str = "-";

#[derive(Debug)]
pub struct Access {
    pub(crate) policy: Policy,
    pub(crate) approvals: Approvals,
    cache: Arc<Cache>,
    journal: Arc<Journal>,
    clock: Clock,
}

/// What a peer wants to do with a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    View,
    Own,
    /// To know where HTTP clients get the profile's credentials. Each HTTP request is authorized by
    /// itself.
    Endpoint,
    Lease,
}

impl Access {
    pub(crate) fn new(
        policy: Policy,
        cache: Arc<Cache>,
        journal: Arc<Journal>,
        clock: Clock,
    ) -> Self {
        Self {
            policy,
            approvals: Approvals::new(Arc::clone(&journal), clock.clone()),
            cache,
            journal,
            clock,
        }
    }

    /// May the peer watch the profile's status, and report rejected credentials?
    pub(crate) async fn authorize_view(
        &self,
        peer: &Peer,
        profile: &str,
    ) -> Result<ViewGrant, AccessError> {
        let entry = self
            .authorize(peer, profile, Right::View, &mut NoInteraction)
            .await?;
        Ok(ViewGrant { entry })
    }

    /// May the peer log out, resume, refresh, audit and explain the profile?
    pub async fn authorize_owner(
        &self,
        peer: &Peer,
        profile: &str,
    ) -> Result<OwnerGrant, AccessError> {
        let entry = self
            .authorize(peer, profile, Right::Own, &mut NoInteraction)
            .await?;
        Ok(OwnerGrant { entry })
    }

    /// The same for every profile.
    pub(crate) fn authorize_owner_of_all(
        &self,
        peer: &Peer,
    ) -> Result<Vec<OwnerGrant>, AccessError> {
        self.authorize_daemon_owner(peer)?;
        let entries = self.cache.entries().iter();

        Ok(entries
            .map(|entry| OwnerGrant {
                entry: Arc::clone(entry),
            })
            .collect())
    }

    /// Whether the peer's user owns the daemon. This refuses nothing, and journals nothing.
    pub(crate) fn is_owner(&self, peer: &Peer) -> bool {
        self.policy.check_owner(peer).is_ok()
    }

    /// Whether the peer's user may see the profile. This refuses nothing, and journals nothing.
    pub(crate) fn can_view(&self, peer: &Peer, entry: &CacheEntry) -> bool {
        self.policy.allows_user(peer, &entry.profile.callers)
    }

    /// Whether a program waits for a user to approve its use of the profile.
    pub(crate) fn is_waiting_for_approval(&self, entry: &CacheEntry) -> bool {
        entry.profile.callers.confirm != Confirm::Never && self.approvals.is_pending(entry)
    }

    /// A decision on the desktop, which is that of the daemon's owner.
    pub(crate) fn decide_as_owner(&self, id: u64, decision: Decision) {
        let owner = Peer::new(self.policy.owner, None);
        self.approvals.answer(&owner, id, decision);
    }

    /// May the peer know where HTTP clients get the profile's credentials?
    pub(crate) async fn authorize_endpoint(
        &self,
        peer: &Peer,
        profile: &str,
        interaction: &mut impl Interaction,
    ) -> Result<OwnerGrant, AccessError> {
        let entry = self
            .authorize(peer, profile, Right::Endpoint, interaction)
            .await?;
        Ok(OwnerGrant { entry })
    }

    /// May the peer have the profile's credentials? This waits for a user where the profile
    /// requires approval.
    pub(crate) async fn authorize_lease(
        &self,
        peer: &Peer,
        profile: &str,
        interaction: &mut impl Interaction,
    ) -> Result<LeaseGrant, AccessError> {
        let entry = self
            .authorize(peer, profile, Right::Lease, interaction)
            .await?;
        Ok(LeaseGrant { entry })
    }

    /// May the peer connect at all?
    pub(crate) fn authorize_connection(&self, peer: &Peer) -> Result<(), AccessError> {
        let decision = self.policy.check_served(peer);
        decision.map_err(|error| self.refuse(peer, NO_PROFILE, error))
    }

    /// May the peer do what concerns the whole daemon, such as a login?
    pub(crate) fn authorize_daemon_owner(&self, peer: &Peer) -> Result<(), AccessError> {
        let decision = self.policy.check_owner(peer);
        decision.map_err(|error| self.refuse(peer, NO_PROFILE, error))
    }

    /// May the daemon's owner make a call that could bypass the rules of this profile? A user
    /// approves each.
    pub(crate) async fn authorize_call(
        &self,
        peer: &Peer,
        guarded: &CacheEntry,
        call: &str,
        interaction: &mut impl Interaction,
    ) -> Result<(), AccessError> {
        let approved = self.approve_call(peer, guarded, call, interaction).await;
        approved.map_err(|error| self.refuse(peer, guarded.profile.name.as_str(), error))
    }

    async fn approve_call(
        &self,
        peer: &Peer,
        guarded: &CacheEntry,
        call: &str,
        interaction: &mut impl Interaction,
    ) -> Result<(), AccessError> {
        let profile = &guarded.profile;

        // The user reads which program asks.
        let process = process::identify(peer, profile).await?;
        if process.is_some() {
            process::challenge(peer, profile, interaction).await?;
        }

        self.approvals
            .require(peer, guarded, Some(call), interaction)
            .await?;

        match process {
            Some(_) => process::check_unchanged(peer, profile).await,
            None => Ok(()),
        }
    }

    /// Refuses a request whose HTTP token is not the profile's, or that has none.
    pub(crate) fn refuse_token(
        &self,
        peer: &Peer,
        profile: ProfileName,
        has_token: bool,
    ) -> AccessError {
        let name = profile.to_string();
        let error = match has_token {
            true => AccessError::WrongToken { profile },
            false => AccessError::NoToken { profile },
        };

        self.refuse(peer, &name, error)
    }

    /// The pending approvals, oldest first.
    pub(crate) fn list_approvals(&self, peer: &Peer) -> Result<ApprovalList, AccessError> {
        self.authorize_daemon_owner(peer)?;
        Ok(self.approvals.list())
    }

    /// Answers a pending approval, and returns those that are still pending. The requesting program
    /// cannot approve itself, nor can what it has started.
    pub(crate) async fn approve(
        &self,
        peer: &Peer,
        id: u64,
        allow: bool,
    ) -> Result<ApprovalList, AccessError> {
        self.authorize_daemon_owner(peer)?;
        let request = self.approvals.find(id)?;
        if allow && !request.is_independent_of(peer).await {
            let error = AccessError::ApproverNotIndependent;
            return Err(self.refuse(peer, request.profile.as_str(), error));
        }

        let decision = if allow {
            Decision::Allow
        } else {
            Decision::Deny
        };

        if !self.approvals.answer(peer, id, decision) {
            return Err(AccessError::NoPendingApproval { id });
        }

        Ok(self.approvals.list())
    }

    /// The one way to a grant.
    async fn authorize(
        &self,
        peer: &Peer,
        profile: &str,
        right: Right,
        interaction: &mut impl Interaction,
    ) -> Result<Arc<CacheEntry>, AccessError> {
        let decision = self.decide(peer, profile, right, interaction).await;
        decision.map_err(|error| self.refuse(peer, profile, error))
    }

    /// The policy, in its order: user, challenge, caller rules, approval.
    async fn decide(
        &self,
        peer: &Peer,
        name: &str,
        right: Right,
        interaction: &mut impl Interaction,
    ) -> Result<Arc<CacheEntry>, AccessError> {
        // Before the look-up, so that the answer tells nothing about the profile.
        if matches!(right, Right::Own | Right::Endpoint) {
            self.policy.check_owner(peer)?;
        }

        let entry = self.cache.find(name);
        let visible = entry.filter(|entry| self.can_view(peer, entry));
        let Some(entry) = visible else {
            // The next configuration may have it. The client asks the next daemon.
            if signals::is_reloading_soon().await {
                return Err(Interrupted::Reloading.into());
            }
            return Err(self.unknown_profile(peer, name, entry.is_some()));
        };

        let profile = &entry.profile;

        if matches!(right, Right::View | Right::Own) || !profile.callers.is_guarded() {
            return Ok(Arc::clone(entry));
        }

        let is_over_http = right == Right::Endpoint || peer.is_over_http();
        if is_over_http && profile.callers.asks_for_process() {
            let profile = profile.name.clone();
            return Err(AccessError::NotOverHttp { profile });
        }

        let process = process::identify(peer, profile).await?;
        if let Some(process) = process {
            process::challenge(peer, profile, interaction).await?;
            process::check_program(peer, profile, process).await?;
            // Last, because the process decides how long the checks before take.
            process::check_unchanged(peer, profile).await?;
        }

        if right == Right::Lease && profile.callers.confirm != Confirm::Never {
            self.approvals
                .require(peer, entry, None, interaction)
                .await?;
            if process.is_some() {
                process::check_unchanged(peer, profile).await?;
            }
        }

        Ok(Arc::clone(entry))
    }

    /// Journals a refusal, and returns it.
    fn refuse(&self, peer: &Peer, profile: &str, error: AccessError) -> AccessError {
        if error.is_refusal() {
            let failure = error.for_journal();
            self.journal.record_refusal(
                peer.uid,
                || peer.caller(),
                profile,
                &failure,
                &self.clock.now(),
            );
        }
        error
    }

    /// The hint names a profile only to a user who may see it.
    fn unknown_profile(&self, peer: &Peer, name: &str, is_of_others: bool) -> AccessError {
        let entries = self.cache.entries().iter();
        let visible = entries.filter(|entry| self.policy.allows_user(peer, &entry.profile.callers));
        let names = visible.map(|entry| entry.profile.name.as_str());
        AccessError::UnknownProfile {
            name: crate::text::printable(name),
            nearest: crate::config::nearest(name, names).map(Into::into),
            refused_uid: is_of_others.then_some(peer.uid),
            may_configure: self.is_owner(peer),
        }
    }
}

#[cfg(test)]
mod tests;
