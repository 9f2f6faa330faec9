//! The principal of the token, and whether its account is enabled.

use super::check;
use super::crn::Entity;
use crate::upstream::bycloud::{
    ByCloud, GetServiceAccount, GetUser, IamError, ListAuditLogs, PrincipalType, RoleId,
    ServiceError,
};
use crate::upstream::{Check, Outcome};

/// The caller, as far as it is known.
pub(super) struct Principal {
    pub(super) kind: PrincipalType,
    pub(super) id: String,
    /// The id, and the names that could be read.
    names: Vec<String>,
    has_all_names: bool,
    /// It is the principal of the cached session. The token may have been replaced since.
    is_from_session: bool,
}

impl Principal {
    fn new(kind: PrincipalType, id: &str, is_from_session: bool) -> Self {
        Self {
            kind,
            id: id.into(),
            names: vec![id.into()],
            has_all_names: false,
            is_from_session,
        }
    }

    pub(super) fn entity(&self) -> Entity {
        let kind = match self.kind {
            PrincipalType::ServiceAccount => "service-account",
            _ => "user",
        };

        Entity {
            kind,
            names: self.names.clone(),
            is_complete: self.has_all_names,
            organization: None,
        }
    }

    /// `user/dev@example.test`
    pub(super) fn display(&self) -> String {
        let name = self.names.last().unwrap_or(&self.id);
        format!("{}/{name}", self.kind.as_str())
    }
}

impl ByCloud {
    /// The caller of the `getRole` that was just made, or else the principal of the cached session.
    pub(super) async fn principal_of_token(
        &self,
        role_id: &RoleId,
        request_id: Option<&str>,
        cached_principal: Option<&str>,
    ) -> Option<Principal> {
        if let Some(request_id) = request_id {
            let search = ListAuditLogs {
                action: Some("iam.getRole".into()),
                resource_id: Some(role_id.to_string()),
                ..ListAuditLogs::default()
            };
            if let Some(caller) = self.caller_of(request_id, search).await {
                return Some(Principal::new(caller.kind, &caller.id, false));
            }
        }

        let (kind, id) = cached_principal?.split_once('/')?;

        Some(Principal::new(kind.to_owned().into(), id, true))
    }

    /// Whether the token is valid and its account enabled. It also reads the principal's names.
    pub(super) async fn check_account(
        &self,
        principal: Option<&mut Principal>,
        error: Option<&IamError>,
    ) -> Check {
        const CONDITION: &str = "account";
        if let Some((outcome, error)) = error.and_then(rejected_token) {
            return check(CONDITION, outcome, error.to_string());
        }

        let Some(principal) = principal else {
            return check(
                CONDITION,
                Outcome::Yes,
                "the token is valid; its owner is unknown, because the token may not read the audit log",
            );
        };

        let names = self.names_of(principal).await;
        let source = if principal.is_from_session {
            ", the principal of the cached session"
        } else {
            ""
        };

        match names {
            Ok(names) => {
                principal.names.extend(names);
                principal.has_all_names = true;
                let reason = format!("the token is valid: {}{source}", principal.display());
                check(CONDITION, Outcome::Yes, reason)
            }
            Err(error) => {
                let shown = principal.display();
                let reason = format!(
                    "the token is valid: {shown}{source}; its names cannot be read: {error}"
                );
                check(CONDITION, Outcome::Yes, reason)
            }
        }
    }

    async fn names_of(&self, principal: &Principal) -> Result<Vec<String>, IamError> {
        let id = principal.id.as_str();
        if principal.kind == PrincipalType::ServiceAccount {
            let request = GetServiceAccount {
                service_account_id: id.into(),
            };
            let account = self.get_service_account(&request).await?;
            return Ok(vec![account.name]);
        }

        let user = self.get_user(&GetUser { user_id: id.into() }).await?;

        Ok(vec![user.name, user.email])
    }
}

/// The outcome for an error that is about the token. A call that is denied has a valid token.
fn rejected_token(error: &IamError) -> Option<(Outcome, &IamError)> {
    let outcome = match (error, error.service_error()) {
        (
            _,
            Some(
                ServiceError::AccessDenied | ServiceError::NotFound | ServiceError::InvalidRequest,
            ),
        ) => return None,
        (IamError::NoToken(_), _)
        | (
            _,
            Some(
                ServiceError::PrincipalDisabled
                | ServiceError::InvalidToken
                | ServiceError::TokenExpired
                | ServiceError::SessionRevoked,
            ),
        ) => Outcome::No,
        _ => Outcome::Unknown,
    };

    Some((outcome, error))
}
