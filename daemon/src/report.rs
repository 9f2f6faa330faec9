//! Domain types as the client reads them.

use rolekeeper::protocol::{self, CurrentSession, ProfileUpdate};

use crate::cache::CacheEntry;
use crate::model::{EndCause, SessionEnded, to_rfc3339};

pub(crate) fn profile_update(entry: &CacheEntry, ended: Option<&SessionEnded>) -> ProfileUpdate {
    let snapshot = entry.state.snapshot();

    ProfileUpdate {
        profile: entry.profile.name.to_string(),
        generation: snapshot.generation.number(),
        session: snapshot.session.map(|session| CurrentSession {
            id: session.id().to_owned(),
            expires_at: to_rfc3339(session.issued.expires_at),
        }),
        held: snapshot.hold.as_deref().map(session_ended),
        ended: ended.map(session_ended),
    }
}

pub(crate) fn session_ended(ended: &SessionEnded) -> protocol::SessionEnded {
    protocol::SessionEnded {
        cause: end_cause(ended.cause),
        session_id: ended.session_id.as_deref().map(Into::into),
        by: ended.by.clone(),
        at: ended.at.map(to_rfc3339),
        reason: ended.reason.clone(),
        noticed_at: to_rfc3339(ended.noticed_at),
    }
}

pub(crate) fn end_cause(cause: EndCause) -> protocol::EndCause {
    match cause {
        EndCause::Revoked => protocol::EndCause::Revoked,
        EndCause::AccountDisabled => protocol::EndCause::AccountDisabled,
        EndCause::LoggedOut => protocol::EndCause::LoggedOut,
        EndCause::ScreenLocked => protocol::EndCause::ScreenLocked,
        EndCause::MachineSlept => protocol::EndCause::MachineSlept,
        EndCause::DaemonStopped => protocol::EndCause::DaemonStopped,
    }
}
