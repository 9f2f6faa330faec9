//! The principal's sessions at an upstream: listed, and ended by their ids.

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
use crate::iam::error::IamCallError;
use crate::journal::shown;
use crate::upstream::bycloud::{ListStsSessions, Method, RevokeStsSession, active_of};
use crate::upstream::handle::UpstreamHandle;
use crate::{one_line, printable};

/// The most sessions that are shown.
const SHOWN: usize = 1000;

impl Broker {
    /// The active sessions of the principal, or of everybody where it is not known who that is.
    pub async fn sessions(
        &self,
        peer: &Peer,
        upstream: Option<&str>,
    ) -> Result<Sessions, AccessError> {
        self.policy.admit_owner(peer).map_err(AccessError::Denied)?;
        tokio::time::timeout(WAIT, self.all_sessions(upstream))
            .await
            .map_err(|_elapsed| AccessError::TooSlow)?
    }

    async fn all_sessions(&self, upstream: Option<&str>) -> Result<Sessions, AccessError> {
        let upstream = self.upstream_named(upstream)?;
        let client = crate::iam::client_of(upstream)?;
        let handed = self.journal.sessions().await;
        let mut of: BTreeMap<&str, &str> = handed
            .iter()
            .map(|(id, handed)| (id.as_str(), handed.profile.as_str()))
            .collect();
        let held: Vec<_> = self
            .cache
            .entries()
            .iter()
            .filter_map(|entry| Some((entry, entry.session()?)))
            .collect();
        of.extend(
            held.iter().map(|(entry, session)| {
                (&*session.granted.session_id, entry.profile.name.as_str())
            }),
        );
        let at_upstream = |entry: &&Arc<CacheEntry>| Arc::ptr_eq(&entry.upstream, upstream);
        let mut principals: BTreeSet<&str> = held
            .iter()
            .filter(|(entry, _)| at_upstream(entry))
            .map(|(_, session)| &*session.granted.principal)
            .collect();
        if principals.is_empty() {
            let names: BTreeSet<_> = self
                .cache
                .entries()
                .iter()
                .filter(at_upstream)
                .map(|entry| entry.profile.name.as_str())
                .collect();
            let last = handed
                .values()
                .filter(|handed| names.contains(handed.profile.as_str()));
            principals.extend(
                last.max_by_key(|handed| handed.last_at)
                    .map(|handed| handed.principal.as_str()),
            );
        }
        let mut requests: Vec<_> = principals.into_iter().map(active_of).collect();
        if requests.is_empty() {
            requests.push(ListStsSessions {
                active_only: Some(true),
                ..ListStsSessions::default()
            });
        }
        let (mut sessions, mut truncated) = (Vec::new(), false);
        for request in requests {
            let mut items = std::pin::pin!(client.items(request));
            while let Some(session) = items
                .try_next()
                .await
                .map_err(|error| IamCallError::failed(error, &ListStsSessions::ROUTE))?
            {
                if sessions.len() == SHOWN {
                    truncated = true;
                    break;
                }
                sessions.push(UpstreamSession {
                    profile: of.get(session.id.as_str()).map(|&profile| profile.into()),
                    id: session.id.to_string(),
                    role_id: session.role_id.to_string(),
                    role_name: session.role_name,
                    principal: format!(
                        "{}/{}",
                        session.principal_type.as_str(),
                        session.principal_id
                    ),
                    issued_at: shown(session.issued_at),
                    expires_at: shown(session.expires_at),
                    source_ip: session.source_ip,
                });
            }
        }
        sessions.sort_by(|one, other| one.issued_at.cmp(&other.issued_at));
        Ok(Sessions {
            upstream: upstream.name.to_string(),
            sessions,
            truncated,
        })
    }

    /// Ends a session: here at once, if it is one of ours, and then at the upstream.
    pub async fn revoke_session(
        self: &Arc<Self>,
        peer: &Peer,
        upstream: Option<&str>,
        session_id: &str,
        reason: Option<&str>,
    ) -> Result<SessionRevocation, AccessError> {
        self.policy.admit_owner(peer).map_err(AccessError::Denied)?;
        let upstream = self.upstream_named(upstream)?;
        let client = crate::iam::client_of(upstream)?;
        let Some(entry) = self.entry_of(upstream, session_id) else {
            let request = RevokeStsSession {
                session_id: session_id.into(),
                reason: reason.map(Into::into),
            };
            let call = tokio::time::timeout(WAIT, client.revoke_sts_session(&request));
            call.await
                .map_err(|_| AccessError::TooSlow)?
                .map_err(|error| IamCallError::failed(error, &RevokeStsSession::ROUTE))?;
            let at_upstream = UpstreamRevocation::Confirmed;
            return Ok(SessionRevocation {
                session_id: printable(session_id),
                profile: None,
                at_upstream,
                failure: None,
            });
        };
        let known = Known {
            by: Some(this(peer)),
            reason: reason.map(one_line),
            ..Known::only(EndCause::Revoked)
        };
        // An earlier one ends no later than one that would be granted now.
        let end = upstream
            .upstream_time(&self.clock.now())
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
        let mut at_upstream = self
            .cache
            .entries()
            .iter()
            .filter(|entry| Arc::ptr_eq(&entry.upstream, upstream));
        let is_its = |entry: &&Arc<CacheEntry>| {
            entry
                .session()
                .is_some_and(|session| *session.granted.session_id == *id)
                || entry
                    .state
                    .earlier()
                    .iter()
                    .any(|earlier| *earlier.session_id == *id)
        };
        at_upstream.find(is_its).cloned()
    }
}
