//! A profile's lease, for the commands that print it in the form of one kind of tool. Nothing is said beside the result:
//! some tools read standard error as a part of it.

use std::path::PathBuf;

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, Lease, Reply, Request};

use crate::autostart;

/// Asks the daemon, which is started first if none is running, and puts the lease into a form.
pub(super) fn ask<T>(
    profile: &str,
    socket: Option<PathBuf>,
    form: impl Fn(&Lease<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let socket = connect::socket_path(socket)?;
    autostart::ask(&socket, |stream| {
        let text = connect::ask(
            stream,
            Request::Lease {
                profile: profile.into(),
            },
        )?;
        match connect::reply(&text)? {
            Reply::Lease(lease) => form(&lease),
            _ => Err(connect::out_of_place()),
        }
    })
}

/// The session token alone, for tools that know nothing of the keys beside it: it fits a header and a line.
pub(super) fn token<'a>(lease: &'a Lease<'_>) -> Result<&'a str, Failure> {
    if lease.session_token.is_empty() {
        return Err(Failure::new(
            Code::Usage,
            "the profile's credentials have no session token, and this tool knows nothing else",
            "credential-process, env or exec, for tools that sign with keys",
        ));
    }
    if !lease
        .session_token
        .bytes()
        .all(|byte| byte.is_ascii_graphic())
    {
        return Err(Failure::new(
            Code::UpstreamUnavailable,
            "the session token has characters that this tool cannot be given",
            "credential-process, or env --format json",
        ));
    }
    Ok(&lease.session_token)
}

/// A user name that goes beside a token, as Basic authentication takes it (RFC 7617: no colon, no control characters).
pub(super) fn username(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(|each| each.is_control() || each == ':') {
        return Err("a user name has no colon and no control characters, and is not empty".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
pub(super) fn canary() -> Lease<'static> {
    Lease {
        access_key_id: "BYIA1".into(),
        secret_access_key: "canary-secret".into(),
        session_token: "canary-token".into(),
        expires_at: "2026-01-01T00:00:00Z".into(),
        session_id: "s-1".into(),
        session_expires_at: "2026-01-01T00:30:00Z".into(),
        generation: 0,
        view_age_seconds: None,
        region: None,
        account_id: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_would_break_a_header_or_a_line_is_refused_and_not_shown() {
        assert_eq!(token(&canary()).unwrap(), "canary-token");
        for (text, code) in [
            ("", Code::Usage),
            ("canary\ntoken", Code::UpstreamUnavailable),
            ("canary token", Code::UpstreamUnavailable),
            ("canary\0", Code::UpstreamUnavailable),
            ("canary\u{9b}", Code::UpstreamUnavailable),
        ] {
            let failure = token(&Lease {
                session_token: text.into(),
                ..canary()
            })
            .map(str::to_owned)
            .unwrap_err();
            assert_eq!(failure.code, code, "{text:?}");
            assert!(!failure.to_string().contains("canary"));
        }
    }

    #[test]
    fn a_user_name_is_one_that_basic_authentication_takes() {
        assert_eq!(username("oauth2").as_deref(), Ok("oauth2"));
        assert_eq!(username("<token>").as_deref(), Ok("<token>"));
        for text in ["", "a:b", "a\nb", "\0"] {
            assert!(username(text).is_err(), "{text:?}");
        }
    }
}
