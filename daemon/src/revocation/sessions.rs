//! `rolekeeper sessions`: the principal's sessions at an upstream, listed and revoked by id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::TryStreamExt;
use jiff::Timestamp;
use rolekeeper::protocol::{
    EndCause, SessionRevocation, Sessions, UpstreamRevocation, UpstreamSession,
};

use super::commands::this;
use super::store::PendingRevocation;
use super::{Known, Which};
use crate::access::peer::Peer;
use crate::cache::CacheEntry;
use crate::credentials::{AccessError, Broker, WAIT};
use crate::journal::shown;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{ActiveSession, CallError, SessionAdmin};
use crate::{one_line, printable};

/// The most sessions that are listed.
const MAX_SESSIONS: usize = 1000;

impl Broker {
    /// The active sessions of the principal, or of everybody if the principal is not known.
    pub async fn sessions(
        &self,
        peer: &Peer,
        upstream: Option<&str>,
    ) -> Result<Sessions, AccessError> {
        self.policy.admit_owner(peer).map_err(AccessError::Denied)?;
        let upstream = self.upstream_named(upstream)?;
        let admin = session_admin(upstream)?;

        tokio::time::timeout(WAIT, self.list_sessions(upstream, admin))
            .await
            .map_err(|_elapsed| AccessError::TooSlow)?
    }

    async fn list_sessions(
        &self,
        upstream: &Arc<UpstreamHandle>,
        admin: &dyn SessionAdmin,
    ) -> Result<Sessions, AccessError> {
        let OwnSessions {
            profiles,
            principals,
        } = self.own_sessions(upstream).await;

        let mut listed = Vec::new();
        let mut truncated = false;
        let mut sessions = admin.sessions(&principals);
        while let Some(session) = sessions.try_next().await? {
            if listed.len() == MAX_SESSIONS {
                truncated = true;
                break;
            }
            let profile = profiles.get(&session.id).cloned();
            listed.push(reported(session, profile));
        }
        listed.sort_by(|one, other| one.issued_at.cmp(&other.issued_at));

        Ok(Sessions {
            upstream: upstream.name.to_string(),
            sessions: listed,
            truncated,
        })
    }

    /// What the journal and the cache know of sessions at an upstream.
    async fn own_sessions(&self, upstream: &Arc<UpstreamHandle>) -> OwnSessions {
        let issued = self.journal.sessions().await;
        let mut profiles: BTreeMap<String, String> = issued
            .iter()
            .map(|(id, issued)| (id.clone(), issued.profile.clone()))
            .collect();
        let mut principals = BTreeSet::new();
        for entry in self.entries_of(upstream) {
            if let Some(session) = entry.session() {
                let id = session.granted.session_id.to_string();
                profiles.insert(id, entry.profile.name.to_string());
                principals.insert(session.granted.principal.to_string());
            }
        }

        // Without a cached session, the principal is that of the last session of a profile.
        if principals.is_empty() {
            let names: BTreeSet<_> = self
                .entries_of(upstream)
                .map(|entry| entry.profile.name.as_str())
                .collect();
            let last = issued
                .values()
                .filter(|issued| names.contains(issued.profile.as_str()))
                .max_by_key(|issued| issued.last_at);
            principals.extend(last.map(|issued| issued.principal.clone()));
        }

        OwnSessions {
            profiles,
            principals,
        }
    }

    /// Revokes a session: if it is one of the daemon's, at once here, and then at the upstream.
    pub async fn revoke_session(
        self: &Arc<Self>,
        peer: &Peer,
        upstream: Option<&str>,
        session_id: &str,
        reason: Option<&str>,
    ) -> Result<SessionRevocation, AccessError> {
        self.policy.admit_owner(peer).map_err(AccessError::Denied)?;
        let upstream = self.upstream_named(upstream)?;
        let admin = session_admin(upstream)?;
        let Some(entry) = self.entry_of(upstream, session_id) else {
            tokio::time::timeout(WAIT, admin.revoke_session(session_id, reason))
                .await
                .map_err(|_elapsed| AccessError::TooSlow)??;

            return Ok(SessionRevocation {
                session_id: printable(session_id),
                profile: None,
                at_upstream: UpstreamRevocation::Confirmed,
                failure: None,
            });
        };

        let known = Known {
            by: Some(this(peer)),
            reason: reason.map(one_line),
            ..Known::only(EndCause::Revoked)
        };
        // A superseded session ends no later than one that is issued now.
        let end = upstream
            .server_time(&self.clock.now())
            .saturating_add(entry.profile.role.duration)
            .unwrap_or(Timestamp::MAX);
        self.revocations.add(
            session_id,
            PendingRevocation::of(&entry, reason.unwrap_or("revoked by rolekeeper"), end),
        );
        self.revoke(&entry, Which::These(&[session_id.into()]), known);

        self.withdraw_soon();
        self.revocations.flush().await;
        self.await_withdrawals(&[session_id.to_owned()]).await;
        Ok(self.withdrawn(
            session_id.into(),
            Some(entry.profile.name.to_string()),
            true,
        ))
    }

    /// The profile whose session this is, or was and may still be used.
    pub(crate) fn entry_of(
        &self,
        upstream: &Arc<UpstreamHandle>,
        id: &str,
    ) -> Option<Arc<CacheEntry>> {
        self.entries_of(upstream)
            .find(|entry| has_session(entry, id))
            .cloned()
    }
}

/// The daemon's own sessions at an upstream.
struct OwnSessions {
    /// By session id.
    profiles: BTreeMap<String, String>,
    principals: BTreeSet<String>,
}

fn session_admin(upstream: &UpstreamHandle) -> Result<&dyn SessionAdmin, CallError> {
    upstream.require(upstream.client.session_admin(), "sessions")
}

fn has_session(entry: &CacheEntry, id: &str) -> bool {
    let current = entry.session();
    let is_current = current.is_some_and(|session| *session.granted.session_id == *id);
    let earlier = entry.state.earlier();

    is_current || earlier.iter().any(|earlier| *earlier.session_id == *id)
}

fn reported(session: ActiveSession, profile: Option<String>) -> UpstreamSession {
    UpstreamSession {
        id: session.id,
        role_id: session.role_id,
        role_name: session.role_name,
        principal: session.principal,
        issued_at: shown(session.issued_at),
        expires_at: shown(session.expires_at),
        source_ip: session.source_ip,
        profile,
    }
}
