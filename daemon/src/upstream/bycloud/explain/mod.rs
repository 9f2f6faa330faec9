//! Why a role can or cannot be assumed: the conditions of A10, each read through the API and evaluated here, with the
//! statement that decides. What cannot be read is unknown.

mod crn;
mod document;
mod policies;
mod principal;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{ByCloud, GetRole, IamError, RoleId, ServiceError};
use crate::config::RoleRequest;
use crate::upstream::{Check, Explainer, Outcome, RoleExplanation};

pub use crn::Entity;
pub use document::{Decision, Document, Effect, StatementRef, decide};

const ASSUME_ROLE: &str = "sts:AssumeRole";

impl Explainer for ByCloud {
    fn explain<'a>(
        &'a self,
        role: &'a RoleRequest,
        cached_principal: Option<&'a str>,
    ) -> BoxFuture<'a, RoleExplanation> {
        self.explain_role(role, cached_principal).boxed()
    }
}

impl ByCloud {
    async fn explain_role(
        &self,
        role: &RoleRequest,
        cached_principal: Option<&str>,
    ) -> RoleExplanation {
        let role_id = RoleId::from(role.role.id());
        let request = GetRole {
            role_id: role_id.clone(),
        };

        let (role, request_id) = match self.send(&request).await {
            Ok(reply) => (Ok(reply.value), reply.request_id),
            Err(error) => {
                let request_id = error.request_id().map(Into::into);
                (Err(error), request_id)
            }
        };

        let mut principal = self
            .principal_of_token(&role_id, request_id.as_deref(), cached_principal)
            .await;

        let account = self
            .check_account(principal.as_mut(), role.as_ref().err())
            .await;
        let mut checks = vec![account];
        if let Err(error) = &role {
            checks.push(unread_role(error, &role_id));
        }

        let role = role.ok();
        let names = [role_id.to_string()];
        let entity = Entity {
            kind: "role",
            names: names
                .into_iter()
                .chain(role.as_ref().map(|role| role.name.clone()))
                .collect(),
            is_complete: role.is_some(),
            organization: None,
        };

        checks.push(self.check_own_policies(principal.as_ref(), &entity).await);
        checks.push(policies::check_trust(role.as_ref(), principal.as_ref()));

        RoleExplanation {
            role_name: role.map(|role| role.name),
            principal: principal.map(|principal| principal.display()),
            checks,
        }
    }
}

fn check(condition: &'static str, outcome: Outcome, reason: impl Into<String>) -> Check {
    Check {
        condition,
        outcome,
        reason: reason.into(),
        statement: None,
    }
}

fn unread_role(error: &IamError, role_id: &RoleId) -> Check {
    match error.service_error() {
        Some(ServiceError::NotFound) => check(
            "role",
            Outcome::No,
            format!("there is no role {role_id}: {error}"),
        ),
        _ => check(
            "role",
            Outcome::Unknown,
            format!("the role cannot be read: {error}"),
        ),
    }
}
