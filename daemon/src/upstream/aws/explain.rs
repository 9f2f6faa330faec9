//! Why a role can or cannot be assumed, as far as the user's own keys may know it. What they may not read is unknown.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;

use super::error::Meaning;
use super::keys::Keys;
use super::mfa::Mfa;
use super::query::{Call, Members, reply};
use super::sts::CallerIdentity;
use super::{Aws, Service};
use crate::config::{AwsRole, Role, RoleRequest};
use crate::upstream::{Check, Explainer, Outcome, PolicyStatement, RoleExplanation};

struct SimulatePrincipalPolicy<'a> {
    principal: &'a str,
    role: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Simulation {
    evaluation_results: Members<Evaluation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Evaluation {
    eval_decision: String,
}

reply! { SimulatePrincipalPolicyResponse { "SimulatePrincipalPolicyResult": Simulation } }

impl Call for SimulatePrincipalPolicy<'_> {
    const ACTION: &'static str = "SimulatePrincipalPolicy";
    const SERVICE: Service = Service::Iam;
    type Reply = SimulatePrincipalPolicyResponse;

    fn parameters(&self) -> Vec<(String, String)> {
        vec![
            ("PolicySourceArn".into(), self.principal.into()),
            ("ActionNames.member.1".into(), "sts:AssumeRole".into()),
            ("ResourceArns.member.1".into(), self.role.into()),
        ]
    }
}

struct GetRole<'a> {
    name: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RoleRead {
    role: RoleDetails,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleDetails {
    /// JSON, escaped as in a URL.
    assume_role_policy_document: String,
}

reply! { GetRoleResponse { "GetRoleResult": RoleRead } }

impl Call for GetRole<'_> {
    const ACTION: &'static str = "GetRole";
    const SERVICE: Service = Service::Iam;
    type Reply = GetRoleResponse;

    fn parameters(&self) -> Vec<(String, String)> {
        vec![("RoleName".into(), self.name.into())]
    }
}

impl Explainer for Aws {
    fn explain<'a>(
        &'a self,
        role: &'a RoleRequest,
        cached_principal: Option<&'a str>,
    ) -> BoxFuture<'a, RoleExplanation> {
        async move {
            let Role::Aws(role) = &role.role else {
                return RoleExplanation {
                    role_name: None,
                    principal: None,
                    checks: Vec::new(),
                };
            };
            let (identity, checks) = self.checks(role, cached_principal.is_some()).await;

            RoleExplanation {
                role_name: role.name().map(str::to_owned),
                principal: identity.map(|identity| identity.arn),
                checks,
            }
        }
        .boxed()
    }
}

impl Aws {
    async fn checks(
        &self,
        role: &AwsRole,
        has_session: bool,
    ) -> (Option<CallerIdentity>, Vec<Check>) {
        let known = match self.user_keys().await {
            Ok(keys) => self.identity(&keys).await.map(|identity| (keys, identity)),
            Err(error) => Err(error),
        };
        let (keys, identity) = match known {
            Ok(known) => known,
            Err(error) => {
                let outcome = match error.meaning() {
                    Some(Meaning::KeysInvalid) => Outcome::No,
                    _ => Outcome::Unknown,
                };
                return (None, vec![check("access key", outcome, error.to_string())]);
            }
        };

        let mut checks = vec![check(
            "access key",
            Outcome::Yes,
            format!("{} is a key of {}", keys.id, identity.arn),
        )];
        checks.extend(self.mfa_check(role));

        let session = self.mfa.as_ref().and_then(Mfa::held_keys);
        let keys = session.unwrap_or(keys);
        checks.push(self.own_policies(role, &identity, &keys).await);
        checks.push(match has_session {
            true => check(
                "trust policy",
                Outcome::Yes,
                "the role has issued the session that is cached",
            ),
            false => self.trust_policy(role, &identity, &keys).await,
        });

        (Some(identity), checks)
    }

    fn mfa_check(&self, role: &AwsRole) -> Option<Check> {
        let mfa = self.mfa.as_ref().filter(|_| role.with_mfa)?;
        let serial = &mfa.settings.serial;

        Some(if mfa.needs_person() && mfa.held_keys().is_none() {
            let reason = format!(
                "a code of {serial} is needed; run rolekeeper login {}, and enter a code",
                self.name
            );
            check("MFA", Outcome::No, reason)
        } else {
            check("MFA", Outcome::Yes, format!("with the device {serial}"))
        })
    }

    async fn own_policies(&self, role: &AwsRole, identity: &CallerIdentity, keys: &Keys) -> Check {
        let call = SimulatePrincipalPolicy {
            principal: &identity.arn,
            role: &role.arn,
        };
        let simulated = match self.call(&call, keys).await {
            Ok(answer) => answer.result,
            Err(error) => {
                let reason = format!("they cannot be evaluated: {error}");
                return check("own policies", Outcome::Unknown, reason);
            }
        };

        let first = simulated.evaluation_results.member.first();
        match first.map(|evaluation| evaluation.eval_decision.as_str()) {
            Some("allowed") => check("own policies", Outcome::Yes, "allow sts:AssumeRole"),
            Some("explicitDeny") => check("own policies", Outcome::No, "deny sts:AssumeRole"),
            Some("implicitDeny") => check(
                "own policies",
                Outcome::No,
                "no policy allows sts:AssumeRole on the role",
            ),
            _ => check(
                "own policies",
                Outcome::Unknown,
                "AWS has not evaluated them",
            ),
        }
    }

    /// Its conditions are not evaluated here: AWS alone knows all of their keys.
    async fn trust_policy(&self, role: &AwsRole, identity: &CallerIdentity, keys: &Keys) -> Check {
        let is_own_account = role.arn.split(':').nth(4) == Some(&identity.account);
        let Some(name) = role.name().filter(|_| is_own_account) else {
            return check(
                "trust policy",
                Outcome::Unknown,
                "the role is in another account, where the keys may not read it",
            );
        };

        let read = match self.call(&GetRole { name }, keys).await {
            Ok(answer) => answer.result.role,
            Err(error) if error.meaning() == Some(Meaning::NotFound) => {
                return check("trust policy", Outcome::No, "there is no such role");
            }
            Err(error) => {
                let reason = format!("it cannot be read: {error}");
                return check("trust policy", Outcome::Unknown, reason);
            }
        };

        let text = percent_decode_str(&read.assume_role_policy_document).decode_utf8_lossy();
        let document: Value = serde_json::from_str(&text).unwrap_or_default();
        let statement = match document.get("Statement") {
            Some(Value::Array(statements)) => statements.first().cloned(),
            other => other.cloned(),
        };
        Check {
            statement: statement.map(|text| PolicyStatement {
                document: "the role's trust policy".into(),
                number: 1,
                text,
            }),
            ..check(
                "trust policy",
                Outcome::Unknown,
                "compare its principal and conditions with the profile",
            )
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
