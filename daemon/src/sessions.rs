//! `rolekeeper sessions`: the principal's sessions at an upstream, listed and revoked by id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::TryStreamExt;
use rolekeeper::protocol::{SessionRevocation, Sessions, UpstreamRevocation, UpstreamSession};

use crate::access::peer::Peer;
use crate::cache::Cache;
use crate::error::{RequestError, WAIT};
use crate::journal::Journal;
use crate::model::to_rfc3339;
use crate::revocation::RevocationService;
use crate::text::printable;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{ActiveSession, CallError, SessionAdmin, Upstreams};

/// The most sessions that are listed.
const MAX_SESSIONS: usize = 1000;

#[derive(Debug)]
pub(crate) struct SessionService {
    cache: Arc<Cache>,
    upstreams: Arc<Upstreams>,
    journal: Arc<Journal>,
    revocation: Arc<RevocationService>,
}

impl SessionService {
    pub(crate) fn new(
        cache: Arc<Cache>,
        upstreams: Arc<Upstreams>,
        journal: Arc<Journal>,
        revocation: Arc<RevocationService>,
    ) -> Arc<Self> {
        Arc::new(Self {
            cache,
            upstreams,
            journal,
            revocation,
        })
    }

    /// The active sessions of the principal, or of all principals if it is not known.
    pub(crate) async fn list(&self, upstream: Option<&str>) -> Result<Sessions, RequestError> {
        let upstream = self.upstreams.choose(upstream)?;
        let admin = session_admin(upstream)?;

        tokio::time::timeout(WAIT, self.list_sessions(upstream, admin))
            .await
            .map_err(|_elapsed| RequestError::too_slow(upstream))?
    }

    async fn list_sessions(
        &self,
        upstream: &Arc<UpstreamHandle>,
        admin: &dyn SessionAdmin,
    ) -> Result<Sessions, RequestError> {
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
        let mut profiles = self.revocation.store.profiles_of_issued();
        let mut principals = BTreeSet::new();
        for entry in self.cache.entries_of(upstream) {
            if let Some(session) = entry.session() {
                let id = session.id().to_owned();
                profiles.insert(id, entry.profile.name.to_string());
                principals.insert(session.issued.principal.to_string());
            }
        }

        // Without a cached session, the principal is that of the last session of a profile.
        if principals.is_empty() {
            let names: BTreeSet<_> = self
                .cache
                .entries_of(upstream)
                .map(|entry| entry.profile.name.as_str())
                .collect();
            let last = issued
                .values()
                .filter(|issued| names.contains(issued.profile.as_str()))
                .max_by_key(|issued| issued.at);
            principals.extend(last.map(|issued| issued.principal.clone()));
        }

        OwnSessions {
            profiles,
            principals,
        }
    }

    /// Revokes a session: if it is one of the daemon's, at once here, and then at the upstream.
    pub(crate) async fn revoke(
        &self,
        peer: &Peer,
        upstream: Option<&str>,
        session_id: &str,
        reason: Option<&str>,
    ) -> Result<SessionRevocation, RequestError> {
        let upstream = self.upstreams.choose(upstream)?;
        let admin = session_admin(upstream)?;

        if let Some(entry) = self.cache.entry_of_session(upstream, session_id) {
            return self
                .revocation
                .revoke_session(peer, entry, session_id, reason)
                .await;
        }

        tokio::time::timeout(WAIT, admin.revoke_session(session_id, reason))
            .await
            .map_err(|_elapsed| RequestError::too_slow(upstream))??;

        Ok(SessionRevocation {
            session_id: printable(session_id),
            profile: None,
            at_upstream: UpstreamRevocation::Confirmed,
            failure: None,
        })
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

fn reported(session: ActiveSession, profile: Option<String>) -> UpstreamSession {
    UpstreamSession {
        id: session.id,
        role_id: session.role_id,
        role_name: session.role_name,
        principal: session.principal,
        issued_at: to_rfc3339(session.issued_at),
        expires_at: to_rfc3339(session.expires_at),
        source_ip: session.source_ip,
        profile,
    }
}
