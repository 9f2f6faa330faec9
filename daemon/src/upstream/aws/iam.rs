//! IAM: the access keys of a user, which can replace their own.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::error::{AwsError, Meaning};
use super::keys::Keys;
use super::query::{Call, Done, Members, Reply, reply};
use super::{Aws, Service};
use crate::upstream::{
    CallError, CallErrorKind, CredentialInfo, CredentialOwner, CredentialRotation, NewCredential,
};

/// New keys are known everywhere only after a while.
const NEW_KEYS_LIMIT: Duration = Duration::from_secs(20);
const NEW_KEYS_POLL: Duration = Duration::from_secs(2);

struct ListAccessKeys<'a> {
    user: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AccessKeys {
    access_key_metadata: Members<AccessKey>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AccessKey {
    access_key_id: String,
    create_date: Timestamp,
}

reply! { ListAccessKeysResponse { "ListAccessKeysResult": AccessKeys } }

impl Call for ListAccessKeys<'_> {
    const ACTION: &'static str = "ListAccessKeys";
    const SERVICE: Service = Service::Iam;
    type Reply = ListAccessKeysResponse;

    fn parameters(&self) -> Vec<(String, String)> {
        vec![("UserName".into(), self.user.into())]
    }
}

struct CreateAccessKey<'a> {
    user: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreatedAccessKey {
    access_key: NewAccessKey,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NewAccessKey {
    access_key_id: String,
    secret_access_key: SecretString,
}

reply! { CreateAccessKeyResponse { "CreateAccessKeyResult": CreatedAccessKey } }

impl Call for CreateAccessKey<'_> {
    const ACTION: &'static str = "CreateAccessKey";
    const SERVICE: Service = Service::Iam;
    type Reply = CreateAccessKeyResponse;

    fn parameters(&self) -> Vec<(String, String)> {
        vec![("UserName".into(), self.user.into())]
    }
}

struct DeactivateAccessKey<'a> {
    user: &'a str,
    id: &'a str,
}

impl Call for DeactivateAccessKey<'_> {
    const ACTION: &'static str = "UpdateAccessKey";
    const SERVICE: Service = Service::Iam;
    type Reply = Done;

    fn parameters(&self) -> Vec<(String, String)> {
        vec![
            ("UserName".into(), self.user.into()),
            ("AccessKeyId".into(), self.id.into()),
            ("Status".into(), "Inactive".into()),
        ]
    }
}

struct DeleteAccessKey<'a> {
    user: &'a str,
    id: &'a str,
}

impl Call for DeleteAccessKey<'_> {
    const ACTION: &'static str = "DeleteAccessKey";
    const SERVICE: Service = Service::Iam;
    type Reply = Done;

    fn parameters(&self) -> Vec<(String, String)> {
        vec![
            ("UserName".into(), self.user.into()),
            ("AccessKeyId".into(), self.id.into()),
        ]
    }
}

impl CredentialRotation for Aws {
    fn owner(&self, token: SecretString) -> BoxFuture<'_, Result<CredentialOwner, CallError>> {
        async move { self.owner_of(token).await }.boxed()
    }

    fn credentials<'a>(
        &'a self,
        owner: &'a CredentialOwner,
    ) -> BoxFuture<'a, Result<Vec<CredentialInfo>, CallError>> {
        async move {
            let call = ListAccessKeys { user: &owner.id };
            let listed = self.manage(&call, owner).await;
            let listed =
                listed.map_err(|error| error.into_call_error(&self.token_source, false))?;

            Ok(listed
                .access_key_metadata
                .member
                .into_iter()
                .map(Into::into)
                .collect())
        }
        .boxed()
    }

    fn create<'a>(
        &'a self,
        owner: &'a CredentialOwner,
        _name: String,
        _expires_at: Option<Timestamp>,
    ) -> BoxFuture<'a, Result<NewCredential, CallError>> {
        async move {
            let call = CreateAccessKey { user: &owner.id };
            match self.manage(&call, owner).await {
                Ok(created) => Ok(created.access_key.into()),
                Err(error) => Err(too_many_keys(&error)
                    .unwrap_or(error.into_call_error(&self.token_source, true))),
            }
        }
        .boxed()
    }

    fn wait_until_known<'a>(&'a self, secret: &'a SecretString) -> BoxFuture<'a, ()> {
        async move {
            let Ok(keys) = Keys::parse(secret) else {
                return;
            };
            let known = async {
                while let Err(error) = self.get_caller_identity(&keys).await
                    && error.meaning() == Some(Meaning::KeysInvalid)
                {
                    tokio::time::sleep(NEW_KEYS_POLL).await;
                }
            };
            // If they are not known by then, their check says so.
            let _ = tokio::time::timeout(NEW_KEYS_LIMIT, known).await;
        }
        .boxed()
    }

    /// A key is made inactive first, as AWS advises.
    fn delete<'a>(
        &'a self,
        owner: &'a CredentialOwner,
        id: &'a str,
    ) -> BoxFuture<'a, Result<(), CallError>> {
        async move {
            let user = &*owner.id;
            let deactivate = DeactivateAccessKey { user, id };
            let done = match self.manage(&deactivate, owner).await {
                Ok(()) => self.manage(&DeleteAccessKey { user, id }, owner).await,
                Err(error) => Err(error),
            };

            match done {
                Err(error) if error.meaning() == Some(Meaning::NotFound) => Ok(()),
                done => done.map_err(|error| error.into_call_error(&self.token_source, true)),
            }
        }
        .boxed()
    }
}

impl Aws {
    async fn owner_of(&self, token: SecretString) -> Result<CredentialOwner, CallError> {
        let keys = Keys::parse(&token).map_err(|why| {
            let what = format!("what {} has {why}", self.token_source.location());
            AwsError::NotKeys { what }.into_call_error(&self.token_source, false)
        })?;
        let identity = self
            .get_caller_identity(&keys)
            .await
            .map_err(|error| error.into_call_error(&self.token_source, false))?;

        let user = identity
            .arn
            .split_once(":user/")
            .and_then(|(_, path)| path.rsplit('/').next());
        match user {
            Some(user) => Ok(CredentialOwner {
                token,
                id: user.into(),
                principal: identity.arn.clone(),
                credential_id: Some(keys.id.into()),
            }),
            None => Err(CallError::new(
                CallErrorKind::Invalid,
                format!(
                    "the keys belong to {}, and only a user's keys can be rotated",
                    identity.arn
                ),
                "use the keys of a user",
            )),
        }
    }

    /// A call about the owner's own keys, which accounts often allow with MFA only.
    async fn manage<C: Call>(
        &self,
        call: &C,
        owner: &CredentialOwner,
    ) -> Result<<C::Reply as Reply>::Result, AwsError> {
        let session = match &self.mfa {
            Some(mfa) => mfa.settings.session.map(|length| (mfa, length)),
            None => None,
        };
        let keys = match session {
            Some((mfa, length)) => self.mfa_session(mfa, length).await?,
            None => Keys::parse(&owner.token).map_err(|what| AwsError::NotKeys { what })?,
        };

        Ok(self.call(call, &keys).await?.result)
    }
}

/// A user has two keys at most.
fn too_many_keys(error: &AwsError) -> Option<CallError> {
    let service = error.service()?;
    (service.code == "LimitExceeded").then(|| {
        CallError::new(
            CallErrorKind::Refused,
            format!("the user has two access keys already: {error}"),
            "delete the one that is not in use, in the console or with aws iam delete-access-key",
        )
    })
}

impl From<AccessKey> for CredentialInfo {
    fn from(key: AccessKey) -> Self {
        Self {
            id: key.access_key_id,
            name: String::new(),
            created_at: key.create_date,
            expires_at: None,
        }
    }
}

impl From<NewAccessKey> for NewCredential {
    fn from(key: NewAccessKey) -> Self {
        let secret = format!(
            "{}:{}",
            key.access_key_id,
            key.secret_access_key.expose_secret()
        );

        Self {
            id: key.access_key_id,
            secret: secret.into(),
        }
    }
}
