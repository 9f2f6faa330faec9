//! A profile's lease, for the commands that print it in the format of a tool. They print nothing to standard error on
//! success, because some tools read it as a part of the result.

use std::path::PathBuf;

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, Lease, Reply, Request};

use crate::autostart;

/// Requests a lease and converts it. Starts the daemon if none is running.
pub(super) fn ask<T>(
    profile: &str,
    socket: Option<PathBuf>,
    convert: impl Fn(&Lease<'_>) -> Result<T, Failure>,
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
            Reply::Lease(lease) => convert(&lease),
            _ => Err(connect::unexpected_reply()),
        }
    })
}

/// The session token, for tools that use only a bearer token. It has no characters that would break a header or a line.
pub(super) fn token<'a>(lease: &'a Lease<'_>) -> Result<&'a str, Failure> {
    if lease.session_token.is_empty() {
        return Err(Failure::new(
            Code::Usage,
            "the profile's credentials have no session token, which this tool requires",
            "use credential-process, env or exec, for tools that sign with keys",
        ));
    }

    if !lease
        .session_token
        .bytes()
        .all(|byte| byte.is_ascii_graphic())
    {
        return Err(Failure::new(
            Code::UpstreamUnavailable,
            "the session token has characters that this tool does not support",
            "use credential-process, or env --format json",
        ));
    }

    Ok(&lease.session_token)
}

/// A user name for Basic authentication (RFC 7617): no colon, no control characters.
pub(super) fn username(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(|each| each.is_control() || each == ':') {
        return Err("expected a user name without colons and control characters".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
pub(super) fn example() -> Lease<'static> {
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
    fn debug_of_a_lease_hides_secrets() {
        assert!(!format!("{:?}", example()).contains("canary"));
    }

    #[test]
    fn token_with_unprintable_characters_is_rejected() {
        assert_eq!(token(&example()).unwrap(), "canary-token");
        for (text, code) in [
            ("", Code::Usage),
            ("canary\ntoken", Code::UpstreamUnavailable),
            ("canary token", Code::UpstreamUnavailable),
            ("canary\0", Code::UpstreamUnavailable),
            ("canary\u{9b}", Code::UpstreamUnavailable),
        ] {
            let failure = token(&Lease {
                session_token: text.into(),
                ..example()
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
