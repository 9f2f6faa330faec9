//! Whose a token is. The API has no method that says so, but the audit log has an entry for every call, with who made it.

use std::time::Duration;

use futures_util::TryStreamExt;
use jiff::Timestamp;

use crate::clock::Clock;
use crate::upstream::Upstream;
use crate::upstream::bycloud::{
    AuditLog, ByCloud, IamError, ListAuditLogs, ListStsSessions, PrincipalType,
};

/// How long the audit log is searched for the call that was just made.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a call that changes nothing told of a token.
pub(crate) struct Probed {
    /// RefusalKind the call was refused, if it was.
    pub(crate) refused: Option<IamError>,
    pub(crate) principal: Option<(PrincipalType, String)>,
    /// It is a session's, which ends, and not the principal's own.
    pub(crate) is_of_session: bool,
}

/// Makes such a call.
pub(crate) async fn probe(client: &ByCloud) -> Probed {
    let one = ListStsSessions {
        limit: Some(1),
        ..ListStsSessions::default()
    };
    let (refused, request_id) = match client.send_noted(&one).await {
        Ok((_, request_id)) => (None, request_id),
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
        Some(id) => entry_of(client, &id, search).await,
        None => None,
    };
    let is_of_session = entry
        .as_ref()
        .is_some_and(|entry| entry.session_id.is_some());
    Probed {
        refused,
        principal: entry.and_then(who),
        is_of_session,
    }
}

/// Who made a call of the last hour that the audit log names so, if that can be read.
pub(crate) async fn actor(
    client: &ByCloud,
    request_id: &str,
    search: ListAuditLogs,
) -> Option<(PrincipalType, String)> {
    entry_of(client, request_id, search).await.and_then(who)
}

fn who(entry: AuditLog) -> Option<(PrincipalType, String)> {
    entry
        .actor_type
        .zip(entry.actor_id)
        .map(|(kind, id)| (kind, id.as_str().to_owned()))
}

async fn entry_of(client: &ByCloud, request_id: &str, search: ListAuditLogs) -> Option<AuditLog> {
    let now = Clock::System.now();
    let now = client.server_clock().latest(now.boot).unwrap_or(now.wall);
    let hour_ago = now
        .checked_sub(jiff::SignedDuration::from_hours(1))
        .unwrap_or(Timestamp::MIN);
    let entries = client.items(ListAuditLogs {
        from: Some(hour_ago),
        limit: Some(1000),
        ..search
    });
    let ours = entries.try_filter(|entry| std::future::ready(entry.request_id == request_id));
    let found = tokio::time::timeout(PATIENCE, std::pin::pin!(ours).try_next()).await;
    found.ok().and_then(Result::ok).flatten()
}
