//! Which requests are journalled as commands.

use rolekeeper::protocol::Request;

use crate::journal::Command;

/// What the journal records of a request that changes something.
pub(super) fn journalled_command(request: &Request<'_>) -> Option<Command> {
    let command = match request {
        Request::Refresh { profile } => of_profile("refresh", profile),
        Request::Resume { profile } => of_profile("resume", profile),
        Request::Endpoint { profile, .. } => of_profile("endpoint", profile),
        Request::Logout { profile, revoke } => Command {
            profile: profile.as_deref().map(Into::into),
            ..Command::new(match revoke {
                true => "logout --revoke",
                false => "logout",
            })
        },
        Request::RevokeSession {
            upstream,
            session_id,
            ..
        } => Command {
            target: Some(session_id.to_string()),
            ..of_upstream("sessions revoke", upstream.as_deref())
        },
        Request::Unlock { upstream, .. } => of_upstream("unlock", upstream.as_deref()),
        Request::StartMfaSession { upstream, .. } => {
            of_upstream("login with MFA", upstream.as_deref())
        }
        // These change nothing, or have records of their own.
        Request::Lease { .. }
        | Request::Status { .. }
        | Request::Iam(_)
        | Request::Explain { .. }
        | Request::Audit { .. }
        | Request::Watch { .. }
        | Request::ReportRejected { .. }
        | Request::Journal { .. }
        | Request::Approvals
        | Request::Approve { .. }
        | Request::ChallengeResponse { .. }
        | Request::TokenSource { .. }
        | Request::Login { .. }
        | Request::Rotate { .. }
        | Request::Sessions { .. } => return None,
    };

    Some(command)
}

fn of_profile(name: &str, profile: &str) -> Command {
    Command {
        profile: Some(profile.into()),
        ..Command::new(name)
    }
}

fn of_upstream(name: &str, upstream: Option<&str>) -> Command {
    Command {
        upstream: upstream.map(Into::into),
        ..Command::new(name)
    }
}
