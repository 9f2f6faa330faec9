//! STS: roles are assumed, a user gets a session with MFA, and keys say whose they are.

use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;

use super::error::AwsError;
use super::keys::Keys;
use super::query::{Answer, Call, reply};
use super::{Aws, Service};
use crate::config::AwsRole;
use crate::upstream::SLACK;
use crate::upstream::http::DateStamp;

/// AWS documents 16 to 128 characters.
const LONGEST_ID: usize = 128;

/// A code of an MFA device.
#[derive(Debug, Clone)]
pub(crate) struct MfaCode {
    pub(crate) serial: String,
    pub(crate) code: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Credentials {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: SecretString,
    pub(super) session_token: SecretString,
    pub(super) expiration: Timestamp,
}

/// Keys of a session, from and until when they are valid by the server's clock.
#[derive(Debug)]
pub(super) struct SessionKeys {
    pub(super) keys: Keys,
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

pub(super) struct AssumeRole<'a> {
    pub(super) role: &'a AwsRole,
    pub(super) session_name: &'a str,
    pub(super) duration: Duration,
    pub(super) mfa: Option<&'a MfaCode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AssumedRole {
    credentials: Credentials,
}

reply! { AssumeRoleResponse { "AssumeRoleResult": AssumedRole } }

impl Call for AssumeRole<'_> {
    const ACTION: &'static str = "AssumeRole";
    const SERVICE: Service = Service::Sts;
    type Reply = AssumeRoleResponse;

    fn parameters(&self) -> Vec<(String, String)> {
        let role = self.role;
        let mut parameters = vec![
            ("RoleArn".into(), role.arn.clone()),
            ("RoleSessionName".into(), self.session_name.into()),
            (
                "DurationSeconds".into(),
                self.duration.as_secs().to_string(),
            ),
        ];
        let mut add = |name: &str, value: Option<&str>| {
            parameters.extend(value.map(|value| (name.into(), value.into())));
        };

        add("ExternalId", role.external_id.as_deref());
        add("SourceIdentity", role.source_identity.as_deref());
        add("Policy", role.policy.as_deref());
        add("SerialNumber", self.mfa.map(|mfa| mfa.serial.as_str()));
        add("TokenCode", self.mfa.map(|mfa| mfa.code.as_str()));

        for (number, arn) in (1..).zip(&role.policy_arns) {
            parameters.push((format!("PolicyArns.member.{number}.arn"), arn.clone()));
        }
        for (number, (key, value)) in (1..).zip(&role.tags) {
            parameters.push((format!("Tags.member.{number}.Key"), key.clone()));
            parameters.push((format!("Tags.member.{number}.Value"), value.clone()));
        }
        for (number, key) in (1..).zip(&role.transitive_tags) {
            parameters.push((format!("TransitiveTagKeys.member.{number}"), key.clone()));
        }

        parameters
    }
}

struct GetSessionToken<'a> {
    duration: Duration,
    mfa: &'a MfaCode,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SessionToken {
    credentials: Credentials,
}

reply! { GetSessionTokenResponse { "GetSessionTokenResult": SessionToken } }

impl Call for GetSessionToken<'_> {
    const ACTION: &'static str = "GetSessionToken";
    const SERVICE: Service = Service::Sts;
    type Reply = GetSessionTokenResponse;

    fn parameters(&self) -> Vec<(String, String)> {
        vec![
            (
                "DurationSeconds".into(),
                self.duration.as_secs().to_string(),
            ),
            ("SerialNumber".into(), self.mfa.serial.clone()),
            ("TokenCode".into(), self.mfa.code.clone()),
        ]
    }
}

struct GetCallerIdentity;

/// Whose keys signed a request.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CallerIdentity {
    pub(super) account: String,
    pub(super) arn: String,
    pub(super) user_id: String,
}

reply! { GetCallerIdentityResponse { "GetCallerIdentityResult": CallerIdentity } }

impl Call for GetCallerIdentity {
    const ACTION: &'static str = "GetCallerIdentity";
    const SERVICE: Service = Service::Sts;
    type Reply = GetCallerIdentityResponse;

    fn parameters(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

impl Aws {
    pub(super) async fn assume_role(
        &self,
        call: AssumeRole<'_>,
        keys: &Keys,
    ) -> Result<SessionKeys, AwsError> {
        let answer = self.call(&call, keys).await?;
        self.session_keys(AssumeRole::ACTION, answer, call.duration, |assumed| {
            assumed.credentials
        })
    }

    /// A session of the user, which has passed MFA.
    pub(super) async fn get_session_token(
        &self,
        duration: Duration,
        mfa: &MfaCode,
        keys: &Keys,
    ) -> Result<SessionKeys, AwsError> {
        let call = GetSessionToken { duration, mfa };
        let answer = self.call(&call, keys).await?;
        self.session_keys(GetSessionToken::ACTION, answer, duration, |session| {
            session.credentials
        })
    }

    /// Whoever has keys may ask whose they are.
    pub(super) async fn get_caller_identity(
        &self,
        keys: &Keys,
    ) -> Result<CallerIdentity, AwsError> {
        Ok(self.call(&GetCallerIdentity, keys).await?.result)
    }

    /// A reply says when a session ends. When it was issued is the time of the reply.
    fn session_keys<T>(
        &self,
        action: &'static str,
        answer: Answer<T>,
        asked: Duration,
        credentials: impl FnOnce(T) -> Credentials,
    ) -> Result<SessionKeys, AwsError> {
        let credentials = credentials(answer.result);
        let expires_at = credentials.expiration;
        let issued_at = answer
            .date
            .map_or_else(|| expires_at - asked, DateStamp::date);

        let life = expires_at.duration_since(issued_at);
        let is_plausible = life.is_positive() && life.unsigned_abs() <= asked + SLACK;
        let id = &credentials.access_key_id;
        let is_id = id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_plausible || !is_id {
            let why = match is_id {
                true => format!(
                    "a session of {} s, where {} s were asked for",
                    life.as_secs(),
                    asked.as_secs()
                ),
                false => "no access key id".into(),
            };
            let host = self.sts.endpoint();
            return Err(AwsError::NoAnswer {
                what: format!("{action} at {host}: invalid reply: {why}"),
                retry_after: None,
                hint: None,
            });
        }

        Ok(SessionKeys {
            keys: Keys {
                id: credentials.access_key_id.into(),
                secret: credentials.secret_access_key,
                session_token: Some(credentials.session_token),
            },
            issued_at,
            expires_at,
        })
    }
}
