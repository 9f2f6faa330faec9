//! The two policies that decide whether a role can be assumed: the caller's own, and the role's trust policy.

use super::crn::Entity;
use super::principal::Principal;
use super::{ASSUME_ROLE, Decision, Document, StatementRef, check, decide};
use crate::upstream::bycloud::{
    ByCloud, IamError, ListGroupPolicies, ListServiceAccountGroups, ListServiceAccountPolicies,
    ListUserGroups, ListUserPolicies, Policy, PrincipalType, Role,
};
use crate::upstream::list_limits::ListLimits;
use crate::upstream::{Check, Outcome, PolicyStatement};

const OWN: &str = "own policies";
const TRUST: &str = "trust policy";
const UNKNOWN_OWNER: &str = "the token's owner is unknown";

/// All policies of a caller and its groups together, in bytes: a thousand of 8 KiB.
const MAX_POLICY_BYTES: usize = 8 * 1024 * 1024;

/// A policy, with a name that shows where it is attached.
type NamedPolicy = (String, Policy);

impl ByCloud {
    /// Whether the policies of the caller and its groups allow it to assume the role.
    pub(super) async fn check_own_policies(
        &self,
        principal: Option<&Principal>,
        role: &Entity,
    ) -> Check {
        let Some(principal) = principal else {
            return check(OWN, Outcome::Unknown, UNKNOWN_OWNER);
        };

        let policies = match self.policies_of(principal).await {
            Ok(policies) => policies,
            Err(error) => {
                let reason = format!("they cannot be read: {error}");
                return check(OWN, Outcome::Unknown, reason);
            }
        };

        let (documents, invalid) = parse(&policies);
        let unknown = invalid.map(|why| check(OWN, Outcome::Unknown, why));
        match decide(&documents, ASSUME_ROLE, role) {
            Decision::Denied(by) => decided(OWN, Outcome::No, "denies", &by),
            Decision::Unknown(by) => decided(OWN, Outcome::Unknown, "may decide", &by),
            Decision::Allowed(by) => {
                unknown.unwrap_or_else(|| decided(OWN, Outcome::Yes, "allows", &by))
            }
            Decision::NotAllowed => {
                unknown.unwrap_or_else(|| check(OWN, Outcome::No, not_allowed(&documents)))
            }
        }
    }

    async fn policies_of(&self, principal: &Principal) -> Result<Vec<NamedPolicy>, IamError> {
        let id = principal.id.as_str();
        let mut limits = ListLimits::with_max_bytes(MAX_POLICY_BYTES);
        let (own, groups) = if principal.kind == PrincipalType::ServiceAccount {
            let own = ListServiceAccountPolicies {
                service_account_id: id.into(),
            };
            let groups = ListServiceAccountGroups {
                service_account_id: id.into(),
            };
            (
                self.whole_list(&own, &mut limits).await?,
                self.whole_list(&groups, &mut limits).await?,
            )
        } else {
            let own = ListUserPolicies { user_id: id.into() };
            let groups = ListUserGroups { user_id: id.into() };
            (
                self.whole_list(&own, &mut limits).await?,
                self.whole_list(&groups, &mut limits).await?,
            )
        };

        let mut policies: Vec<_> = own
            .into_iter()
            .map(|policy| (format!("policy {}", policy.name), policy))
            .collect();
        for group in groups {
            let request = ListGroupPolicies { group_id: group.id };
            let attached = self.whole_list(&request, &mut limits).await?;
            policies.extend(attached.into_iter().map(|policy| {
                let name = format!("policy {} of group {}", policy.name, group.name);
                (name, policy)
            }));
        }

        Ok(policies)
    }
}

/// Whether the role trusts the caller.
pub(super) fn check_trust(role: Option<&Role>, principal: Option<&Principal>) -> Check {
    let Some(role) = role else {
        return check(TRUST, Outcome::Unknown, "the role cannot be read");
    };

    let Some(document) = &role.trust_policy else {
        let reason = format!(
            "role {} has no trust policy, so it trusts no one",
            role.name
        );
        return check(TRUST, Outcome::No, reason);
    };

    let name = format!("the trust policy of role {}", role.name);
    let document = match Document::parse(&name, document, true) {
        Ok(document) => [document],
        Err(why) => return check(TRUST, Outcome::Unknown, why),
    };

    let Some(principal) = principal else {
        return check(TRUST, Outcome::Unknown, UNKNOWN_OWNER);
    };

    match decide(&document, ASSUME_ROLE, &principal.entity()) {
        Decision::Allowed(by) => decided(TRUST, Outcome::Yes, "allows", &by),
        Decision::Denied(by) => decided(TRUST, Outcome::No, "denies", &by),
        Decision::Unknown(by) => decided(TRUST, Outcome::Unknown, "may decide", &by),
        Decision::NotAllowed => {
            let reason = format!("no statement of {name} applies to {}", principal.display());
            check(TRUST, Outcome::No, reason)
        }
    }
}

/// The documents that are valid, and why the first of the others is not.
fn parse(policies: &[NamedPolicy]) -> (Vec<Document>, Option<String>) {
    let mut documents = Vec::new();
    let mut invalid = None;
    for (name, policy) in policies {
        match Document::parse(name, &policy.document, false) {
            Ok(document) => documents.push(document),
            Err(why) => invalid = invalid.or(Some(why)),
        }
    }

    (documents, invalid)
}

fn not_allowed(documents: &[Document]) -> String {
    if documents.is_empty() {
        return "there are none".into();
    }

    let names: Vec<_> = documents
        .iter()
        .map(|document| document.name.as_str())
        .collect();
    format!(
        "no policy allows {ASSUME_ROLE} on the role: {}",
        names.join(", ")
    )
}

fn decided(condition: &'static str, outcome: Outcome, does: &str, by: &StatementRef<'_>) -> Check {
    let organization = match &by.organization {
        Some(pattern) => format!(", if {pattern} is your organisation"),
        None => String::new(),
    };

    let reason = format!(
        "statement {} of {} {does} it{organization}",
        by.number, by.document
    );

    Check {
        condition,
        outcome,
        reason,
        statement: Some(PolicyStatement {
            document: by.document.into(),
            number: by.number,
            text: by.text.clone(),
        }),
    }
}
