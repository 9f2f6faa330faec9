//! What was done with a profile's sessions: the upstream's audit log, joined with the daemon's own record of the
//! processes that had their credentials.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use rolekeeper::protocol::{Audit, AuditedCall, Holder};

use crate::broker::{Broker, Refusal, WAIT};
use crate::iam::NoCall;
use crate::journal::shown;
use crate::serve::peer::Peer;
use crate::upstream::bycloud::{AuditLog, ByCloud, IamError, ListAuditLogs, Method, SessionId};

/// The most calls that are shown.
const SHOWN: usize = 5_000;

impl Broker {
    /// The calls that a profile's sessions made at the upstream, each with the processes that may have made it.
    pub async fn audit(&self, peer: &Peer, profile: &str, back: Duration) -> Result<Audit, Refusal> {
        let slot = self.cache.find(profile).ok_or_else(|| self.unknown(profile))?;
        let grant = self.policy.authorize(peer, slot).map_err(Refusal::Denied)?;
        let client = self.bycloud_of(profile)?;
        let since = self.clock.now().wall.saturating_sub(SignedDuration::try_from(back).unwrap_or(SignedDuration::MAX));
        let since = since.unwrap_or(Timestamp::UNIX_EPOCH);
        let holders = self.journal.holders(profile).await;
        let mut sessions: BTreeSet<&str> = holders.iter().map(|holder| holder.session_id.as_str()).collect();
        let mut principals: BTreeSet<&str> = holders.iter().map(|holder| holder.principal.as_str()).collect();
        let current = grant.slot().session();
        if let Some(session) = &current {
            sessions.insert(&session.granted.session_id);
            principals.insert(&session.granted.principal);
        }
        let entries = tokio::time::timeout(WAIT, entries(client, &principals, &sessions, since))
            .await
            .map_err(|_| Refusal::TooSlow)?
            .map_err(|error| NoCall::failed(error, &ListAuditLogs::ROUTE))?;
        let truncated = entries.len() >= SHOWN;
        let calls = entries.into_iter().map(|entry| audited(entry, &holders)).collect();
        Ok(Audit { profile: profile.into(), since: shown(since), calls, truncated, holders })
    }
}

/// The entries of these sessions, oldest first.
async fn entries(
    client: &ByCloud,
    principals: &BTreeSet<&str>,
    sessions: &BTreeSet<&str>,
    since: Timestamp,
) -> Result<Vec<AuditLog>, IamError> {
    let mut found = Vec::new();
    for principal in principals {
        let id = principal.split_once('/').map_or(*principal, |(_, id)| id);
        let request = ListAuditLogs {
            actor_id: Some(id.into()),
            from: Some(since),
            limit: Some(1000),
            ..ListAuditLogs::default()
        };
        let mut entries = std::pin::pin!(client.items(request));
        while let Some(entry) = entries.try_next().await? {
            if entry.session_id.as_ref().is_some_and(|id| sessions.contains(id.as_str())) {
                found.push(entry);
            }
            if found.len() >= SHOWN {
                break;
            }
        }
    }
    found.sort_by_key(|entry| entry.timestamp);
    Ok(found)
}

fn audited(entry: AuditLog, holders: &[Holder]) -> AuditedCall {
    let session_id = entry.session_id.as_ref().map(SessionId::to_string).unwrap_or_default();
    let had_it = |holder: &Holder| {
        let is_earlier = holder.at.parse::<Timestamp>().is_ok_and(|at| at <= entry.timestamp);
        holder.session_id == session_id && is_earlier
    };
    AuditedCall {
        holders: holders.iter().enumerate().filter(|(_, holder)| had_it(holder)).map(|(index, _)| index).collect(),
        at: shown(entry.timestamp),
        resource: entry.resource_id.map_or(entry.resource_type.clone(), |id| format!("{}/{id}", entry.resource_type)),
        action: entry.action,
        status: entry.status.as_str().into(),
        ip_address: entry.ip_address,
        session_id,
        request_id: entry.request_id,
    }
}
