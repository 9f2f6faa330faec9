//! Which requests are journalled as commands.

use std::borrow::Cow;

use rolekeeper::protocol::Request;

use crate::journal::Command;

/// What the journal records of a request that changes something. A stored token, an approval and a call of `iam` have
/// records of their own.
pub(super) fn journalled_command(request: &Request<'_>) -> Option<Command> {
    let command = match request {
        Request::Refresh { profile } => of_profile("refresh", profile),
        Request::Resume { profile } => of_profile("resume", profile),
        Request::Endpoint { profile, .. } => of_profile("endpoint", profile),
        Request::Logout { profile, revoke } => Command {
            profile: owned(profile),
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
            upstream: owned(upstream),
            target: Some(session_id.to_string()),
            ..Command::new("sessions revoke")
        },
        Request::Unlock { upstream, .. } => Command {
            upstream: owned(upstream),
            ..Command::new("unlock")
        },
        _ => return None,
    };

    Some(command)
}

fn of_profile(name: &str, profile: &str) -> Command {
    Command {
        profile: Some(profile.into()),
        ..Command::new(name)
    }
}

fn owned(name: &Option<Cow<'_, str>>) -> Option<String> {
    name.as_deref().map(Into::into)
}
