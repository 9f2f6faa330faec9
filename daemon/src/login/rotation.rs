//! `rolekeeper login --rotate`: the principal's credential is replaced by a new one. The order is: create the new one, check
//! it with the upstream, store it, read it again, and only then delete the old one. Wherever that is interrupted, the stored
//! credential is valid, and the next rotation deletes what was left.

use std::sync::Arc;

use rolekeeper::protocol::{Code, RotationReport};
use secrecy::SecretString;
use thiserror::Error;

use super::rotation_state::{RotationState, fingerprint};
use super::{LoginService, login_of, token_error};
use crate::access::peer::Peer;
use crate::error::RequestError;
use crate::text::{one_line, printable};
use crate::token_source::TokenErrorKind;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{CredentialInfo, CredentialOwner, CredentialRotation, Login};

/// Why a credential is not rotated. The old one stays valid.
#[derive(Debug, Clone, Error)]
pub enum RotationError {
    #[error("it is not known which of the credentials {} is in use", .0.join(", "))]
    AmbiguousCredential(Vec<String>),
    #[error("the account has no credential {0}")]
    UnknownCredential(String),
    #[error("the state of the rotation cannot be stored: {0}")]
    State(String),
}

impl RotationError {
    /// What the person can do, as an imperative.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::AmbiguousCredential(_) | Self::UnknownCredential(_) => {
                "add --old and the id of the credential to replace; \
                 the method listServiceAccountCredentials of iam prints when each was created"
                    .into()
            }
            Self::State(_) => {
                "make the state folder writable: XDG_STATE_HOME, or ~/.local/state/rolekeeper"
                    .into()
            }
        }
    }
}

impl From<RotationError> for RequestError {
    fn from(error: RotationError) -> Self {
        Self::Rejected {
            code: Code::Usage,
            message: format!("the credential is not replaced: {error}"),
            hint: error.hint(),
        }
    }
}

/// One rotation, and what it works with.
struct Rotation<'a> {
    service: &'a LoginService,
    upstream: &'a Arc<UpstreamHandle>,
    login: &'a dyn Login,
    api: &'a dyn CredentialRotation,
    owner: CredentialOwner,
    state: RotationState,
}

impl LoginService {
    /// Rotates a credential. A rotation that has started continues without its caller.
    pub(crate) async fn rotate(
        self: &Arc<Self>,
        peer: &Peer,
        upstream: Option<&str>,
        old: Option<&str>,
    ) -> Result<RotationReport, RequestError> {
        let (upstream, login) = self.login_of(upstream)?;
        let source = login.token_source();
        if !source.is_writable() {
            return Err(token_error(source.error(TokenErrorKind::ReadOnly)));
        }

        let service = Arc::clone(self);
        let upstream = Arc::clone(upstream);
        let old = old.map(str::to_owned);
        let rotating = self
            .runtime
            .spawn(async move { service.replace_credential(&upstream, old.as_deref()).await });
        let rotated = rotating.await.map_err(|_crashed| RequestError::Aborted)??;

        self.journal.record_login(
            peer.caller(),
            &rotated.upstream,
            Some(&rotated.principal),
            self.clock.now().wall,
        );

        Ok(rotated)
    }

    async fn replace_credential(
        self: &Arc<Self>,
        upstream: &Arc<UpstreamHandle>,
        old: Option<&str>,
    ) -> Result<RotationReport, RequestError> {
        let login = login_of(upstream)?;
        let api = upstream.require(upstream.client.rotation(), "login --rotate")?;
        let _turn = self.rotations.turn.lock().await;
        let current = login.token_source().token().await.map_err(token_error)?;
        let mut rotation = Rotation {
            service: self,
            upstream,
            login,
            api,
            owner: api.owner(current).await?,
            state: self.rotations.of(&upstream.name).map_err(state_error)?,
        };

        let listed = api.credentials(&rotation.owner).await?;
        let owner = &rotation.owner;
        let old = old.or(owner.credential_id.as_deref());
        let in_use = in_use(&mut rotation.state, &listed, &owner.token, old)?;
        // First what was left: a user of AWS has no more than two keys.
        let (mut deleted, _) = rotation.delete_replaced().await;
        rotation.state.known = listed.iter().map(|each| each.id.clone()).collect();
        let new_id = rotation.create_and_store(in_use).await?;
        rotation.state.replaced.push(in_use.id.clone());

        // The new credential is stored: from here on an error is only reported.
        let unsaved = rotation.save().err();
        tracing::info!(upstream = %upstream.name, credential = %new_id, old = %in_use.id, "credential rotated");
        let (replaced, undeleted) = rotation.delete_replaced().await;
        deleted.extend(replaced);
        let unsaved = unsaved.or(rotation.save().err());
        self.refresh.retry_after_login(upstream);

        let principal = upstream.client.name_of(&rotation.owner.id).await;
        Ok(RotationReport {
            upstream: upstream.name.to_string(),
            location: login.token_source().location().to_string(),
            principal: principal.unwrap_or(rotation.owner.principal),
            credential_id: new_id,
            deleted,
            not_deleted: rotation.state.replaced,
            failure: undeleted.or(unsaved.map(|error| error.to_string())),
        })
    }
}

impl Rotation<'_> {
    /// Creates a credential with the lifetime of the old one, and stores it. Returns its id.
    async fn create_and_store(&mut self, old: &CredentialInfo) -> Result<String, RequestError> {
        let now = self.service.clock.now().wall;
        let name = format!("rolekeeper-{}-{:08x}", now.as_second(), fastrand::u32(..));
        self.state.requested = Some(name.clone());
        self.save()?;

        let expires_at = old
            .expires_at
            .and_then(|end| now.checked_add(end.duration_since(old.created_at)).ok());
        let new = self.api.create(&self.owner, name, expires_at).await?;
        self.state
            .created
            .insert(new.id.clone(), fingerprint(&new.secret));
        self.state.requested = None;
        self.save()?;

        self.api.wait_until_known(&new.secret).await;
        if let Err(error) = self.check_and_store(&new.secret).await {
            // If the old one is still stored, the new one is useless. Else the next rotation decides.
            let stored = self.login.token_source().token().await;
            if stored.is_ok_and(|stored| fingerprint(&stored) == fingerprint(&self.owner.token)) {
                let _ = self.api.delete(&self.owner, &new.id).await;
            }
            return Err(error);
        }

        self.owner.token = new.secret;

        Ok(new.id)
    }

    async fn check_and_store(&self, secret: &SecretString) -> Result<(), RequestError> {
        let source = self.login.token_source();
        let secret = source.parse(secret).map_err(token_error)?;
        self.service
            .check_token(self.upstream, self.login, &secret)
            .await?;

        source.store(&secret, None).await.map_err(token_error)
    }

    /// Deletes what is replaced. Returns the ids that are deleted, and why one is not.
    async fn delete_replaced(&mut self) -> (Vec<String>, Option<String>) {
        let mut deleted = Vec::new();
        let mut failure = None;
        for old in std::mem::take(&mut self.state.replaced) {
            match self.api.delete(&self.owner, &old).await {
                Ok(()) => {
                    self.state.created.remove(&old);
                    deleted.push(old);
                }
                Err(error) => {
                    failure = Some(one_line(&error.to_string()));
                    self.state.replaced.push(old);
                }
            }
        }

        (deleted, failure)
    }

    fn save(&self) -> Result<(), RotationError> {
        let saved = self.service.rotations.set(&self.upstream.name, &self.state);
        saved.map_err(state_error)
    }
}

/// The credential whose token is stored. What earlier rotations left beside it is noted as replaced.
fn in_use<'a>(
    state: &mut RotationState,
    listed: &'a [CredentialInfo],
    current: &SecretString,
    named: Option<&str>,
) -> Result<&'a CredentialInfo, RotationError> {
    // One that was requested, and whose reply was lost: its secret is unknown.
    if let Some(name) = &state.requested {
        let lost: Vec<_> = listed
            .iter()
            .filter(|each| is_requested(each, name, &state.known))
            .filter(|each| !state.created.contains_key(&each.id))
            .map(|each| each.id.clone())
            .collect();
        state.replaced.extend(lost);
    }

    let in_use = find_in_use(state, listed, current, named)?;

    // The others that were created here are unused.
    state.replaced.extend(state.created.keys().cloned());
    state.replaced.sort();
    state.replaced.dedup();
    state.replaced.retain(|id| *id != in_use.id);

    Ok(in_use)
}

/// Without a name, it is one that was not there before the request.
fn is_requested(credential: &CredentialInfo, name: &str, known: &[String]) -> bool {
    match credential.name.as_str() {
        "" => !known.contains(&credential.id),
        own => own == name,
    }
}

/// The one that the person names, the one of the token's fingerprint, or the only one.
fn find_in_use<'a>(
    state: &RotationState,
    listed: &'a [CredentialInfo],
    current: &SecretString,
    named: Option<&str>,
) -> Result<&'a CredentialInfo, RotationError> {
    let find = |id: &str| listed.iter().find(|each| each.id == id);
    if let Some(id) = named {
        return find(id).ok_or_else(|| RotationError::UnknownCredential(printable(id)));
    }

    let current = fingerprint(current);
    let created = state.created.iter().find(|(_, made)| **made == current);
    if let Some(found) = created.and_then(|(id, _)| find(id)) {
        return Ok(found);
    }

    let mut others = listed
        .iter()
        .filter(|each| !state.created.contains_key(&each.id) && !state.replaced.contains(&each.id));
    match (others.next(), others.next()) {
        (Some(only), None) => Ok(only),
        _ => {
            let ids = listed.iter().map(|each| each.id.clone()).collect();
            Err(RotationError::AmbiguousCredential(ids))
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is passed to map_err")]
fn state_error(error: std::io::Error) -> RotationError {
    RotationError::State(error.to_string())
}
