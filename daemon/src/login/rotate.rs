//! `rolekeeper login --rotate`: a service account's credential is replaced by a new one. In this order: a new one is made,
//! shown to the upstream, put where the old one is, read again, and only then the old one is deleted. Wherever that is
//! interrupted, what is kept is a credential that counts, and the next rotation removes what was left.

use std::sync::Arc;

use jiff::Timestamp;
use rolekeeper::protocol::RotationReport;
use secrecy::SecretString;
use thiserror::Error;

use super::rotation_state::{RotationState, mark};
use crate::access::peer::Peer;
use crate::credentials::{AccessError, Broker};
use crate::iam::error::IamCallError;
use crate::journal::What;
use crate::one_line;
use crate::token_source::TokenErrorKind;
use crate::upstream::bycloud::caller_identity::{Probed, probe};
use crate::upstream::bycloud::{
    ByCloud, CreateServiceAccountCredential, Credential, CredentialId,
    DeleteServiceAccountCredential, IamError, ListServiceAccountCredentials, Method, PrincipalType,
    Route, ServiceAccountId, ServiceError,
};
use crate::upstream::handle::UpstreamHandle;

/// TokenErrorKind a credential is not replaced; the old one counts on.
#[derive(Debug, Clone, Error)]
pub enum NotRotated {
    #[error("it cannot be told whose the token is: its owner may not read the audit log")]
    Unknown,
    #[error("the token belongs to {0}, and only a service account's credentials can be replaced")]
    NotAServiceAccount(String),
    #[error("it cannot be told which of the credentials {} is the one in use", .0.join(", "))]
    WhichOne(Vec<String>),
    #[error("the service account has no credential {0}")]
    NoSuch(String),
    #[error("what was done cannot be remembered: {0}")]
    Forgetful(String),
}

impl NotRotated {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown => "a policy that allows the service account iam:ListAuditLogs".into(),
            Self::NotAServiceAccount(_) => "rolekeeper login with a new token".into(),
            Self::WhichOne(_) | Self::NoSuch(_) => {
                "rolekeeper iam listServiceAccountCredentials, and rolekeeper login --rotate --old ID".into()
            }
            Self::Forgetful(_) => "see the state folder: XDG_STATE_HOME, or ~/.local/state/rolekeeper".into(),
        }
    }
}

impl Broker {
    /// What has begun goes on when nobody waits for it any longer.
    pub async fn rotate(
        self: &Arc<Self>,
        peer: &Peer,
        upstream: Option<&str>,
        old: Option<&str>,
    ) -> Result<RotationReport, AccessError> {
        let (upstream, client) = self.owned(peer, upstream)?;
        if !client.key().is_writable() {
            return Err(super::no_key(client.key().fails(TokenErrorKind::ReadOnly)));
        }
        let (broker, upstream, old) = (
            Arc::clone(self),
            Arc::clone(upstream),
            old.map(str::to_owned),
        );
        let rotating = self
            .background()
            .spawn(async move { broker.replace(&upstream, old.as_deref()).await });
        let rotated: RotationReport =
            rotating.await.map_err(|_crashed| AccessError::BrokeOff)??;
        let (of, principal) = (&rotated.upstream, Some(rotated.principal.clone()));
        self.journal.event(
            peer,
            What::LoggedIn,
            of,
            None,
            principal,
            self.clock.now().wall,
        );
        Ok(rotated)
    }

    async fn replace(
        self: &Arc<Self>,
        upstream: &Arc<UpstreamHandle>,
        old: Option<&str>,
    ) -> Result<RotationReport, AccessError> {
        let _turn = self.logins.turn.lock().await;
        let client = crate::iam::client_of(upstream)?;
        let key = client.key();
        let current = key.token().await.map_err(super::no_key)?;
        let account = Account::of(client.holding(current.clone())).await?;
        let mut record = self.logins.of(&upstream.name).map_err(forgetful)?;
        let write =
            |record: &RotationState| self.logins.set(&upstream.name, record).map_err(forgetful);
        let listed = account.credentials().await?;
        let in_use = in_use(&mut record, &listed, &current, old)?;
        let now = self.clock.now().wall;
        let name = format!("rolekeeper-{}-{:08x}", now.as_second(), fastrand::u32(..));
        record.asked_for = Some(name.clone());
        write(&record)?;
        let lasts = in_use
            .expires_at
            .map(|end| end.duration_since(in_use.created_at));
        let made = account
            .make(name, lasts.and_then(|lasts| now.checked_add(lasts).ok()))
            .await?;
        let id = made.credential.id.to_string();
        record.made.insert(id.clone(), mark(&made.secret));
        record.asked_for = None;
        write(&record)?;
        if let Err(refusal) = self.put_in_place(upstream, client, &made.secret).await {
            // What is kept now is the old one, or else the next rotation finds out.
            if key
                .token()
                .await
                .is_ok_and(|kept| mark(&kept) == mark(&current))
            {
                let _ = account.delete(&id).await;
            }
            return Err(refusal);
        }
        record.replaced.push(in_use.id.to_string());
        // It is in place: from here on nothing is undone, and what fails is told beside it.
        let unwritten = write(&record).err().map(|refusal| refusal.to_string());
        tracing::info!(upstream = %upstream.name, credential = %id, old = %in_use.id, "the credential was replaced");
        let account = Account {
            client: client.holding(made.secret),
            ..account
        };
        let (deleted, undeleted) = account.delete_replaced(&mut record).await;
        let failure = undeleted
            .or(unwritten)
            .or(write(&record).err().map(|refusal| refusal.to_string()));
        self.try_again(upstream);
        Ok(RotationReport {
            upstream: upstream.name.to_string(),
            place: key.source().to_string(),
            principal: account.shown().await,
            credential_id: id,
            deleted,
            left: record.replaced,
            failure,
        })
    }

    async fn put_in_place(
        &self,
        upstream: &Arc<UpstreamHandle>,
        client: &ByCloud,
        secret: &SecretString,
    ) -> Result<(), AccessError> {
        let secret = client.key().parse(secret).map_err(super::no_key)?;
        self.check(upstream, client, &secret).await?;
        client
            .key()
            .store(&secret, None)
            .await
            .map_err(super::no_key)
    }
}

/// The credential whose token is kept. Whatever earlier rotations left beside it is put down as replaced.
fn in_use<'a>(
    record: &mut RotationState,
    listed: &'a [Credential],
    current: &SecretString,
    named: Option<&str>,
) -> Result<&'a Credential, AccessError> {
    // One that was asked for, and whose reply nobody read: its secret is lost.
    if let Some(name) = &record.asked_for {
        let lost =
            |each: &&Credential| each.name == *name && !record.made.contains_key(each.id.as_str());
        let lost: Vec<_> = listed
            .iter()
            .filter(lost)
            .map(|each| each.id.to_string())
            .collect();
        record.replaced.extend(lost);
    }
    let in_use = kept(record, listed, current, named)?;
    // Those that were made here, and are not what is kept, are nobody's.
    record.replaced.extend(record.made.keys().cloned());
    record.replaced.sort();
    record.replaced.dedup();
    record.replaced.retain(|id| *id != in_use.id.as_str());
    Ok(in_use)
}

/// The one of the token's mark, the one that a person names, or the only one there is.
fn kept<'a>(
    record: &RotationState,
    listed: &'a [Credential],
    current: &SecretString,
    named: Option<&str>,
) -> Result<&'a Credential, AccessError> {
    let find = |id: &str| listed.iter().find(|each| each.id.as_str() == id);
    let by_mark = record
        .made
        .iter()
        .find(|(_, made)| **made == mark(current))
        .map(|(id, _)| id.as_str());
    if let Some(id) = named.or(by_mark.filter(|id| find(id).is_some())) {
        return find(id).ok_or_else(|| NotRotated::NoSuch(crate::printable(id)).into());
    }
    let known = |each: &&Credential| {
        !record.made.contains_key(each.id.as_str())
            && !record.replaced.iter().any(|id| *id == each.id.as_str())
    };
    let mut others = listed.iter().filter(known);
    match (others.next(), others.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(
            NotRotated::WhichOne(listed.iter().map(|each| each.id.to_string()).collect()).into(),
        ),
    }
}

/// A service account that acts for itself.
struct Account {
    client: ByCloud,
    id: ServiceAccountId,
}

impl Account {
    async fn of(client: ByCloud) -> Result<Self, AccessError> {
        let Probed {
            refused, principal, ..
        } = probe(&client).await;
        match (principal, refused) {
            (Some((PrincipalType::ServiceAccount, id)), _) => Ok(Self {
                client,
                id: id.as_str().into(),
            }),
            (Some((kind, id)), _) => {
                Err(NotRotated::NotAServiceAccount(format!("{}/{id}", kind.as_str())).into())
            }
            (None, Some(error)) if error.said() != Some(&ServiceError::AccessDenied) => {
                Err(failed(error, &ListServiceAccountCredentials::ROUTE))
            }
            (None, _) => Err(NotRotated::Unknown.into()),
        }
    }

    async fn credentials(&self) -> Result<Vec<Credential>, AccessError> {
        let request = ListServiceAccountCredentials {
            service_account_id: self.id.clone(),
        };
        let listed = self.client.list_service_account_credentials(&request).await;
        Ok(listed
            .map_err(|error| failed(error, &ListServiceAccountCredentials::ROUTE))?
            .items)
    }

    async fn make(
        &self,
        name: String,
        expires_at: Option<Timestamp>,
    ) -> Result<crate::upstream::bycloud::NewCredential, AccessError> {
        let request = CreateServiceAccountCredential {
            service_account_id: self.id.clone(),
            name,
            expires_at,
        };
        let made = self
            .client
            .create_service_account_credential(&request)
            .await;
        made.map_err(|error| failed(error, &CreateServiceAccountCredential::ROUTE))
    }

    /// One that is not there is as good as deleted.
    async fn delete(&self, id: &str) -> Result<(), IamError> {
        let request = DeleteServiceAccountCredential {
            service_account_id: self.id.clone(),
            credential_id: CredentialId::from(id),
        };
        match self
            .client
            .delete_service_account_credential(&request)
            .await
        {
            Err(IamError::Service {
                said: ServiceError::NotFound,
                ..
            }) => Ok(()),
            other => other,
        }
    }

    /// Deletes what is replaced, and tells what is deleted and why something is not.
    async fn delete_replaced(&self, record: &mut RotationState) -> (Vec<String>, Option<String>) {
        let (mut deleted, mut failure) = (Vec::new(), None);
        for old in std::mem::take(&mut record.replaced) {
            match self.delete(&old).await {
                Ok(()) => {
                    record.made.remove(&old);
                    deleted.push(old);
                }
                Err(error) => {
                    failure = Some(one_line(&error.to_string()));
                    record.replaced.push(old);
                }
            }
        }
        (deleted, failure)
    }

    async fn shown(&self) -> String {
        use crate::upstream::Upstream as _;
        let id = self.id.to_string();
        self.client
            .name_of(&id)
            .await
            .unwrap_or(format!("service_account/{id}"))
    }
}

fn failed(error: IamError, route: &Route) -> AccessError {
    IamCallError::failed(error, route).into()
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "it stands where a function of it is wanted"
)]
fn forgetful(error: std::io::Error) -> AccessError {
    NotRotated::Forgetful(error.to_string()).into()
}
