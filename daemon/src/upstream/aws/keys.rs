//! Access keys: the long-term ones of a user, which a token source keeps as `KEYID:SECRET`, and those of a session.

use secrecy::{ExposeSecret, SecretString};

use crate::platform::memory::lock_in_memory;
use crate::upstream::IssuedSession;

/// What signs a request.
#[derive(Debug, Clone)]
pub struct Keys {
    pub(crate) id: Box<str>,
    pub(crate) secret: SecretString,
    /// Of a session.
    pub(crate) session_token: Option<SecretString>,
}

impl From<&IssuedSession> for Keys {
    fn from(session: &IssuedSession) -> Self {
        Self {
            id: session.access_key_id.clone(),
            secret: session.secret_access_key.clone(),
            session_token: Some(session.session_token.clone()),
        }
    }
}

impl Keys {
    /// Without a session token, they are a user's.
    pub fn new(id: &str, secret: &str, session_token: Option<&str>) -> Self {
        Self {
            id: id.into(),
            secret: secret.into(),
            session_token: session_token.map(Into::into),
        }
    }

    /// A user's keys, from the text of a token source. The error is a predicate: what was stored is its subject.
    pub(crate) fn parse(text: &SecretString) -> Result<Self, String> {
        let Some((id, secret)) = text.expose_secret().split_once(':') else {
            return Err("is not KEYID:SECRET, the access key id and the secret access key".into());
        };

        // Of all ids, those of temporary keys begin so. They expire within hours, and need a session token.
        if id.starts_with("ASIA") {
            return Err(format!(
                "has the temporary key {id}; use a user's long-term keys, whose id begins with AKIA"
            ));
        }
        let is_id =
            (16..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_id {
            return Err(
                "has no access key id before the colon, such as AKIA and 16 letters and digits"
                    .into(),
            );
        }
        if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("has no secret access key behind the colon".into());
        }

        Ok(Self::new(id, secret, None))
    }

    /// As far as the limits allow.
    pub(super) fn lock_in_memory(&self) {
        lock_in_memory(self.secret.expose_secret().as_bytes());
        if let Some(token) = &self.session_token {
            lock_in_memory(token.expose_secret().as_bytes());
        }
    }

    pub(crate) fn are_temporary(&self) -> bool {
        self.session_token.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_an_id_and_a_secret() {
        let keys = Keys::parse(&"AKIAIOSFODNN7EXAMPLE:wJal/rXUtn+FEMI:x".into()).unwrap();
        assert_eq!(&*keys.id, "AKIAIOSFODNN7EXAMPLE");
        assert_eq!(keys.secret.expose_secret(), "wJal/rXUtn+FEMI:x");

        for bad in [
            "AKIAIOSFODNN7EXAMPLE",
            "AKIAIOSFODNN7EXAMPLE:",
            ":secret",
            "AKIA:secret",
            "AKIAIOSFODNN7EXAMPLE:a b",
            "ASIAIOSFODNN7EXAMPLE:secret",
        ] {
            assert!(Keys::parse(&bad.into()).is_err(), "{bad}");
        }
    }
}
