//! Who may do what. [`Access`] decides every request in one function, and journals every refusal there, whatever the
//! adapter.

pub mod approvals;
mod error;
mod grants;
mod interaction;
pub mod peer;
pub mod policy;

use std::sync::Arc;

use rolekeeper::protocol::Approvals as ApprovalList;

pub use error::{AccessError, NotApprovedReason};
pub use grants::{LeaseGrant, OwnerGrant, ViewGrant};
pub use interaction::{Interaction, Interrupted, NoInteraction};

use crate::cache::{Cache, CacheEntry};
use crate::clock::Clock;
use crate::config::Profile;
use crate::config::callers::Confirm;
use crate::journal::Journal;
use crate::platform::random::unguessable;
use crate::sandbox::helper::peer_inspector::{Inspection, ProcessPin};
use approvals::{Approvals, Decision};
use peer::{Peer, describe, file_id};
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
    /// To know where HTTP clients get the profile's credentials. Each HTTP request is authorized by itself.
    Endpoint,
    Lease,
}

impl Access {
    pub fn new(policy: Policy, cache: Arc<Cache>, journal: Arc<Journal>, clock: Clock) -> Self {
        Self {
            policy,
            approvals: Approvals::new(Arc::clone(&journal), clock.clone()),
            cache,
            journal,
            clock,
        }
    }

    /// May the peer see the profile's status, and watch it?
    pub async fn authorize_view(
        &self,
        peer: &Peer,
        profile: &str,
    ) -> Result<ViewGrant, AccessError> {
        let entry = self
            .authorize(peer, profile, Right::View, &mut NoInteraction)
            .await?;
        Ok(ViewGrant { entry })
    }

    /// May the peer revoke, refresh, audit and explain the profile?
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

    /// May the peer know where HTTP clients get the profile's credentials?
    pub async fn authorize_endpoint(
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

    /// May the peer have the profile's credentials? This waits for a user where the profile requires approval.
    pub async fn authorize_lease(
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
    pub fn authorize_connection(&self, peer: &Peer) -> Result<(), AccessError> {
        let decision = self.policy.check_served(peer);
        decision.map_err(|error| self.refuse(peer, NO_PROFILE, error))
    }

    /// May the peer do what concerns the whole daemon, such as a login?
    pub fn authorize_daemon_owner(&self, peer: &Peer) -> Result<(), AccessError> {
        let decision = self.policy.check_owner(peer);
        decision.map_err(|error| self.refuse(peer, NO_PROFILE, error))
    }

    /// The pending approvals, oldest first.
    pub fn list_approvals(&self, peer: &Peer) -> Result<ApprovalList, AccessError> {
        self.authorize_daemon_owner(peer)?;
        Ok(self.approvals.list())
    }

    /// Answers a pending approval, and returns those that are still pending. The requesting program cannot approve itself,
    /// nor can what it has started.
    pub async fn approve(
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
        let Some(entry) = self.cache.find(name) else {
            return Err(self.unknown_profile(peer, name));
        };
        let profile = &entry.profile;

        match right {
            Right::View | Right::Lease => self.policy.check_user(peer, profile)?,
            Right::Own | Right::Endpoint => self.policy.check_owner(peer)?,
        }
        if matches!(right, Right::View | Right::Own) || !profile.callers.is_guarded() {
            return Ok(Arc::clone(entry));
        }

        let is_over_http = right == Right::Endpoint || peer.is_over_http();
        if is_over_http && profile.callers.asks_for_process() {
            let profile = profile.name.clone();
            return Err(AccessError::NotOverHttp { profile });
        }

        let process = identify(peer, profile).await?;
        if let Some(process) = process {
            challenge(peer, profile, interaction).await?;
            check_program(peer, profile, process).await?;
            // Last, because a process that is refused can make the checks before take their time.
            check_unchanged(peer, profile, process)?;
        }

        if right == Right::Lease && profile.callers.confirm != Confirm::Never {
            self.approvals.require(peer, entry, interaction).await?;
            if let Some(process) = process {
                check_unchanged(peer, profile, process)?;
            }
        }
        Ok(Arc::clone(entry))
    }

    /// Journals a refusal, and returns it.
    fn refuse(&self, peer: &Peer, profile: &str, error: AccessError) -> AccessError {
        if error.is_refusal() {
            self.journal
                .refused(peer, profile, &(&error).into(), &self.clock.now());
        }
        error
    }

    /// The hint names a profile only to a user who may see it.
    fn unknown_profile(&self, peer: &Peer, name: &str) -> AccessError {
        let entries = self.cache.entries().iter();
        let visible = entries.filter(|entry| self.policy.allows_user(peer, &entry.profile.callers));
        let names = visible.map(|entry| entry.profile.name.as_str());
        AccessError::UnknownProfile {
            name: crate::printable(name),
            nearest: crate::config::nearest(name, names).map(Into::into),
        }
    }
}

/// What the peer inspector found out about the calling process. `None` stands for a peer whose process the kernel does
/// not name, such as an HTTP client. The approver of its request reads that.
async fn identify<'a>(
    peer: &'a Peer,
    profile: &Profile,
) -> Result<Option<&'a Inspection>, AccessError> {
    let callers = &profile.callers;
    if !peer.has_process() && !callers.asks_for_process() {
        return Ok(None);
    }
    match peer.handle().inspection().seen().await {
        // A process of another PID namespace can send messages in the name of any process there.
        Some(process) if !process.programs.is_empty() && process.is_here => Ok(Some(process)),
        _ if peer.handle().is_inspector_gone() => Err(AccessError::InspectorUnavailable),
        _ => Err(AccessError::UnknownCaller {
            profile: profile.name.clone(),
        }),
    }
}

/// Sends a nonce once the inspection is complete. A process that called `exec` before the inspection cannot know it, and
/// one that the connection was passed to answers in its own name.
async fn challenge(
    peer: &Peer,
    profile: &Profile,
    interaction: &mut impl Interaction,
) -> Result<(), AccessError> {
    if !peer.has_passed_challenge() {
        match unguessable() {
            Ok(nonce) => {
                let answer = interaction.challenge(&nonce).await?;
                if answer.is_some_and(|answer| answer == *nonce) {
                    peer.set_challenge_passed();
                }
            }
            Err(error) => tracing::error!(%error, "no nonce for a challenge"),
        }
    }

    let profile = || profile.name.clone();
    if peer.is_passed_on() {
        Err(AccessError::ConnectionPassedOn { profile: profile() })
    } else if !peer.has_passed_challenge() {
        Err(AccessError::ChallengeFailed { profile: profile() })
    } else {
        Ok(())
    }
}

/// The program as it was at the inspection fits one of the profile's rules.
async fn check_program(
    peer: &Peer,
    profile: &Profile,
    process: &Inspection,
) -> Result<(), AccessError> {
    let callers = &profile.callers;
    let hashed = if callers.asks_for_hash() {
        peer.handle().inspection_with_hashes().seen().await
    } else {
        None
    };
    let inspected = hashed.unwrap_or(process);
    if callers.rules.is_empty() || policy::fits_any(&callers.rules, inspected, file_id) {
        return Ok(());
    }
    Err(AccessError::ProgramNotAllowed {
        profile: profile.name.clone(),
        program: describe(&process.programs),
    })
}

/// The process that connected still runs, and runs the program that was inspected.
fn check_unchanged(
    peer: &Peer,
    profile: &Profile,
    process: &Inspection,
) -> Result<(), AccessError> {
    let runs_same_program = process.pin.as_ref().is_some_and(ProcessPin::holds);
    if runs_same_program && peer.is_alive() {
        return Ok(());
    }
    Err(AccessError::ProcessReplaced {
        profile: profile.name.clone(),
    })
}

#[cfg(test)]
mod tests;
