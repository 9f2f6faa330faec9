//! The STS methods: sessions.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::ByCloud;
use crate::config::RoleRequest;
use crate::upstream::{Granted, UpstreamError};

/// The most by which a session may be longer than what was asked for before the reply is taken for nonsense.
const SLACK: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct AssumeRole {
    duration_seconds: u64,
}

/// A7.
#[derive(Deserialize)]
struct Assumed {
    session: Session,
    credentials: Credentials,
}

/// A8, as far as it is needed here.
#[derive(Deserialize)]
struct Session {
    id: String,
    issued_at: Timestamp,
    expires_at: Timestamp,
}

#[derive(Deserialize)]
struct Credentials {
    access_key_id: String,
    secret_access_key: SecretString,
    session_token: SecretString,
    expires_at: Timestamp,
}

impl ByCloud {
    /// `assumeRole`.
    pub(super) async fn assume_role(&self, role: &RoleRequest) -> Result<Granted, UpstreamError> {
        let role_id = role.role_id.as_str();
        let path = format!("/iam/v1/roles/{role_id}/assume");
        let body = AssumeRole { duration_seconds: role.duration.as_secs() };
        let assumed: Assumed = self.send("assumeRole", Method::POST, &path, Some(&body)).await?;
        let life = life(&assumed, role.duration).ok_or_else(|| UpstreamError::Unavailable {
            what: format!(
                "{} granted role {role_id} from {} to {}, which makes no sense for {} s",
                self.endpoint,
                assumed.session.issued_at,
                assumed.credentials.expires_at,
                role.duration.as_secs()
            ),
            retry_after: None,
        })?;
        let Assumed { session, credentials } = assumed;
        Ok(Granted {
            session_id: session.id,
            access_key_id: credentials.access_key_id,
            secret_access_key: credentials.secret_access_key,
            session_token: credentials.session_token,
            life,
        })
    }
}

/// How long the session lives, by the upstream's own two times: no clock of this machine, and no `Date`, has a say.
fn life(assumed: &Assumed, asked: Duration) -> Option<Duration> {
    let end = assumed.session.expires_at.min(assumed.credentials.expires_at);
    let life = Duration::try_from(end.duration_since(assumed.session.issued_at)).ok()?;
    (life <= asked + SLACK).then_some(life)
}
