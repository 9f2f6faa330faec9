//! The caller of a request, and what it may do.

use std::sync::Arc;

use super::arn;
use super::context::Context;
use super::error::AwsError;
use super::policy::{Decision, Policy, PrincipalNames, Request, Trust, decide};
use super::store::{AccessKey, Role, Session, SessionOf, Store, User};
use crate::sandbox::clock::{Millis, to_rfc3339};

#[derive(Debug, Clone)]
pub(in crate::sandbox) struct Caller {
    pub(in crate::sandbox) arn: String,
    pub(super) user_id: String,
    pub(super) access_key_id: String,
    pub(super) names: PrincipalNames,
    /// If the caller is a user, also by temporary keys.
    pub(super) user_name: Option<String>,
    policies: Vec<Arc<Policy>>,
    /// Absent for long-term keys.
    pub(super) session: Option<Session>,
}

impl Caller {
    pub(super) fn with_key(store: &Store, key: &AccessKey) -> Option<Self> {
        let user = store.user(&key.user_id)?;
        Some(Self::user(user, &key.id, None))
    }

    pub(super) fn with_session(store: &Store, session: &Session) -> Option<Self> {
        match &session.of {
            SessionOf::User { user_id } => {
                let user = store.user(user_id)?;
                Some(Self::user(user, &session.access_key_id, Some(session)))
            }
            SessionOf::Role {
                role_id,
                account,
                role_name,
                session_name,
            } => {
                let arn = arn::role_session(account, role_name, session_name);
                let names = PrincipalNames {
                    account: account.clone(),
                    principal: arn::role(account, role_name),
                    session: Some(arn.clone()),
                };
                // A deleted role has no policies.
                let policies = store
                    .role(role_id)
                    .map(|role| role.policies.values().cloned().collect());

                Some(Self {
                    arn,
                    user_id: format!("{role_id}:{session_name}"),
                    access_key_id: session.access_key_id.clone(),
                    names,
                    user_name: None,
                    policies: policies.unwrap_or_default(),
                    session: Some(session.clone()),
                })
            }
        }
    }

    fn user(user: &User, access_key_id: &str, session: Option<&Session>) -> Self {
        Self {
            arn: user.arn(),
            user_id: user.id.clone(),
            access_key_id: access_key_id.into(),
            names: PrincipalNames {
                account: user.account.clone(),
                principal: user.arn(),
                session: None,
            },
            user_name: Some(user.name.clone()),
            policies: user.policies.clone(),
            session: session.cloned(),
        }
    }

    /// The condition keys of every request of this caller.
    pub(super) fn context(&self, region: &str, now: Millis) -> Context {
        let mut context = Context::default();
        context.set("aws:PrincipalArn", &*self.names.principal);
        context.set("aws:PrincipalAccount", &*self.names.account);
        context.set("aws:userid", &*self.user_id);
        context.set_opt("aws:username", self.user_name.as_deref());
        context.set("aws:RequestedRegion", region);
        context.set("aws:CurrentTime", to_rfc3339(now));
        context.set("aws:EpochTime", (now / 1000).to_string());

        if let Some(session) = &self.session {
            context.set("aws:TokenIssueTime", to_rfc3339(session.issued_at));
            context.set_opt("aws:SourceIdentity", session.source_identity.as_deref());
            for (key, value) in &session.tags {
                context.set(&format!("aws:PrincipalTag/{key}"), &**value);
            }
            // Absent for long-term keys.
            let present = session.mfa_at.is_some().to_string();
            context.set("aws:MultiFactorAuthPresent", present);
            if let Some(at) = session.mfa_at {
                set_mfa_age(&mut context, at, now);
            }
        }
        context
    }

    /// Checks the caller's own policies.
    pub(super) fn authorize(&self, request: &Request<'_>) -> Result<(), AwsError> {
        let reason = match (
            self.identity_decision(request),
            self.session_decision(request),
        ) {
            (Decision::ExplicitDeny, _) => {
                "with an explicit deny in an identity-based policy".into()
            }
            (_, Decision::ExplicitDeny) => "with an explicit deny in a session policy".into(),
            (Decision::ImplicitDeny, _) => no_policy("identity-based", request.action),
            (_, Decision::ImplicitDeny) => no_policy("session", request.action),
            (Decision::Allow, Decision::Allow) => return Ok(()),
        };

        Err(self.denied(request, Some(&reason)))
    }

    /// Checks the caller's own policies for an action without condition keys of its own.
    pub(in crate::sandbox) fn authorize_resource(
        &self,
        action: &str,
        resource: &str,
        region: &str,
        now: Millis,
    ) -> Result<(), AwsError> {
        let context = self.context(region, now);
        self.authorize(&Request {
            action,
            resource,
            context: &context,
        })
    }

    /// Checks the trust policy of a role and the caller's own policies. Like AWS, it gives a reason
    /// for explicit denials only.
    pub(super) fn authorize_role(
        &self,
        role: &Role,
        request: &Request<'_>,
    ) -> Result<(), AwsError> {
        let identity = self.identity_decision(request);
        let session = self.session_decision(request);
        let trust = role.trust.trust(request, &self.names);

        if identity == Decision::ExplicitDeny {
            let reason = "with an explicit deny in an identity-based policy";
            return Err(self.denied(request, Some(reason)));
        }
        if session == Decision::ExplicitDeny {
            let reason = "with an explicit deny in a session policy";
            return Err(self.denied(request, Some(reason)));
        }

        let is_same_account = role.account == self.names.account;
        let is_allowed = match trust {
            Trust::ExplicitDeny | Trust::None => false,
            Trust::Session if is_same_account => true,
            Trust::Principal if is_same_account => session == Decision::Allow,
            Trust::Account | Trust::Principal | Trust::Session => {
                identity == Decision::Allow && session == Decision::Allow
            }
        };
        if is_allowed {
            Ok(())
        } else {
            Err(self.denied(request, None))
        }
    }

    fn identity_decision(&self, request: &Request<'_>) -> Decision {
        decide(self.policies.iter().map(Arc::as_ref), request)
    }

    /// Without session policies, everything is allowed.
    fn session_decision(&self, request: &Request<'_>) -> Decision {
        let limits = self
            .session
            .as_ref()
            .and_then(|session| session.policies.as_ref());
        limits.map_or(Decision::Allow, |policies| {
            decide(policies.iter().map(Arc::as_ref), request)
        })
    }

    pub(super) fn denied(&self, request: &Request<'_>, reason: Option<&str>) -> AwsError {
        let Request {
            action, resource, ..
        } = request;
        let mut message = format!("User: {} is not authorized to perform: {action}", self.arn);
        if *resource != "*" {
            message += &format!(" on resource: {resource}");
        }
        if let Some(reason) = reason {
            message += &format!(" {reason}");
        }

        AwsError::denied(message)
    }
}

pub(super) fn set_mfa_age(context: &mut Context, at: Millis, now: Millis) {
    let seconds = (now - at).max(0) / 1000;
    context.set("aws:MultiFactorAuthAge", seconds.to_string());
}

fn no_policy(kind: &str, action: &str) -> String {
    format!("because no {kind} policy allows the {action} action")
}
