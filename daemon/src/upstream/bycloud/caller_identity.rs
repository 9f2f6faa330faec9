//! The principal that a token belongs to. The API has no method for it, but the audit log has an entry for every call, with
//! its caller.

use std::time::Duration;

use futures_util::TryStreamExt;
use jiff::Timestamp;

use super::{AuditLogEntry, ByCloud, IamError, ListAuditLogs, ListStsSessions, PrincipalType};
use crate::clock::Clock;

/// How long the audit log is searched.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A principal by its type and id.
#[derive(Debug, Clone)]
pub(super) struct PrincipalRef {
    pub(super) kind: PrincipalType,
    pub(super) id: String,
}

/// What a read-only call reveals about its token.
pub(super) struct CallerIdentity {
    /// Why the call failed, if it did.
    pub(super) error: Option<IamError>,
    pub(super) principal: Option<PrincipalRef>,
    /// The token is a session's, and not a principal's own.
    pub(super) is_session: bool,
}

impl PrincipalRef {
    fn of(entry: AuditLogEntry) -> Option<Self> {
        Some(Self {
            kind: entry.actor_type?,
            id: entry.actor_id?.as_str().into(),
        })
    }

    /// `user/019…`
    pub(super) fn by_type_and_id(&self) -> String {
        format!("{}/{}", self.kind.as_str(), self.id)
    }
}

impl ByCloud {
    /// Makes a read-only call, and looks it up in the audit log.
    pub(super) async fn caller_identity(&self) -> CallerIdentity {
        let one = ListStsSessions {
            limit: Some(1),
            ..ListStsSessions::default()
        };

        let (error, request_id) = match self.send(&one).await {
            Ok(reply) => (None, reply.request_id),
            Err(error) => {
                let request_id = error.request_id().map(Into::into);
                (Some(error), request_id)
            }
        };

        let search = ListAuditLogs {
            action: Some("sts.*".into()),
            ..ListAuditLogs::default()
        };

        let entry = match request_id {
            Some(id) => self.find_call(&id, search).await,
            None => None,
        };

        let is_session = entry
            .as_ref()
            .is_some_and(|entry| entry.session_id.is_some());

        CallerIdentity {
            error,
            principal: entry.and_then(PrincipalRef::of),
            is_session,
        }
    }

    /// The principal that made a call of the last hour, if the audit log can be read.
    pub(super) async fn caller_of(
        &self,
        request_id: &str,
        search: ListAuditLogs,
    ) -> Option<PrincipalRef> {
        let entry = self.find_call(request_id, search).await?;
        PrincipalRef::of(entry)
    }

    async fn find_call(&self, request_id: &str, search: ListAuditLogs) -> Option<AuditLogEntry> {
        let now = Clock::System.now();
        let now = self.server_clock.latest(now.boot).unwrap_or(now.wall);
        let hour_ago = now
            .checked_sub(jiff::SignedDuration::from_hours(1))
            .unwrap_or(Timestamp::MIN);

        let entries = self.items(ListAuditLogs {
            from: Some(hour_ago),
            limit: Some(1000),
            ..search
        });

        let of_call =
            entries.try_filter(|entry| std::future::ready(entry.request_id == request_id));
        let mut of_call = std::pin::pin!(of_call);

        let found = tokio::time::timeout(TIMEOUT, of_call.try_next()).await;

        found.ok().and_then(Result::ok).flatten()
    }
}
