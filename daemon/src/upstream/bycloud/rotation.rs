//! Credentials of service accounts, which can replace their own.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use secrecy::SecretString;

use super::caller_identity::CallerIdentity;
use super::{
    ByCloud, CreateServiceAccountCredential, Credential, DeleteServiceAccountCredential,
    ListServiceAccountCredentials, Method, PrincipalType, ServiceError,
};
use crate::upstream::{
    CallError, CallErrorKind, CredentialInfo, CredentialOwner, CredentialRotation, NewCredential,
};

impl CredentialRotation for ByCloud {
    fn owner(&self, token: SecretString) -> BoxFuture<'_, Result<CredentialOwner, CallError>> {
        self.service_account_of(token).boxed()
    }

    fn credentials<'a>(
        &'a self,
        owner: &'a CredentialOwner,
    ) -> BoxFuture<'a, Result<Vec<CredentialInfo>, CallError>> {
        async move {
            let request = ListServiceAccountCredentials {
                service_account_id: owner.id.as_str().into(),
            };
            let client = self.with_token(owner.token.clone());
            let listed = client.list_service_account_credentials(&request).await;

            match listed {
                Ok(page) => Ok(page.items.into_iter().map(Into::into).collect()),
                Err(error) => {
                    Err(error.to_call_error(&ListServiceAccountCredentials::ROUTE, false))
                }
            }
        }
        .boxed()
    }

    fn create<'a>(
        &'a self,
        owner: &'a CredentialOwner,
        name: String,
        expires_at: Option<Timestamp>,
    ) -> BoxFuture<'a, Result<NewCredential, CallError>> {
        async move {
            let request = CreateServiceAccountCredential {
                service_account_id: owner.id.as_str().into(),
                name,
                expires_at,
            };
            let client = self.with_token(owner.token.clone());
            let created = client.create_service_account_credential(&request).await;

            match created {
                Ok(created) => Ok(NewCredential {
                    id: created.credential.id.to_string(),
                    secret: created.secret,
                }),
                Err(error) => {
                    Err(error.to_call_error(&CreateServiceAccountCredential::ROUTE, false))
                }
            }
        }
        .boxed()
    }

    fn delete<'a>(
        &'a self,
        owner: &'a CredentialOwner,
        id: &'a str,
    ) -> BoxFuture<'a, Result<(), CallError>> {
        async move {
            let request = DeleteServiceAccountCredential {
                service_account_id: owner.id.as_str().into(),
                credential_id: id.into(),
            };
            let client = self.with_token(owner.token.clone());
            let deleted = client.delete_service_account_credential(&request).await;

            match deleted {
                Err(error) if error.service_error() != Some(&ServiceError::NotFound) => {
                    Err(error.to_call_error(&DeleteServiceAccountCredential::ROUTE, false))
                }
                _ => Ok(()),
            }
        }
        .boxed()
    }
}

impl ByCloud {
    async fn service_account_of(&self, token: SecretString) -> Result<CredentialOwner, CallError> {
        let CallerIdentity {
            error, principal, ..
        } = self.with_token(token.clone()).caller_identity().await;

        match (principal, error) {
            (Some(principal), _) if principal.kind == PrincipalType::ServiceAccount => {
                Ok(CredentialOwner {
                    token,
                    principal: principal.by_type_and_id(),
                    id: principal.id,
                    credential_id: None,
                })
            }
            (Some(principal), _) => Err(CallError::new(
                CallErrorKind::Invalid,
                format!(
                    "the token belongs to {}, and only a service account's credentials can be rotated",
                    principal.by_type_and_id()
                ),
                self.token_source.new_token_hint(),
            )),
            (None, Some(error)) if error.service_error() != Some(&ServiceError::AccessDenied) => {
                Err(error.to_call_error(&ListServiceAccountCredentials::ROUTE, false))
            }
            (None, _) => Err(CallError::new(
                CallErrorKind::Invalid,
                "the token's owner is unknown: it may not read the audit log",
                "attach a policy that allows the service account iam:ListAuditLogs",
            )),
        }
    }
}

impl From<Credential> for CredentialInfo {
    fn from(credential: Credential) -> Self {
        Self {
            id: credential.id.to_string(),
            name: credential.name,
            created_at: credential.created_at,
            expires_at: credential.expires_at,
        }
    }
}
