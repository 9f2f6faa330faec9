//! RefusalKind a profile's role can or cannot be assumed: the conditions of A10, each read live through the upstream's API and
//! weighed here, with the statement that decides. What cannot be read is said to be unknown, never guessed.

pub mod document;

use std::sync::Arc;

use rolekeeper::protocol::{Check, DecidingStatement, Explanation, Outcome};

use crate::access::peer::Peer;
use crate::cache::CacheEntry;
use crate::credentials::{AccessError, Broker, WAIT};
use crate::iam::bycloud_of;
use crate::upstream::bycloud::caller_identity::actor;
use crate::upstream::bycloud::{
    ByCloud, GetRole, GetServiceAccount, GetUser, Group, IamError, ListAuditLogs,
    ListGroupPolicies, ListServiceAccountGroups, ListServiceAccountPolicies, ListUserGroups,
    ListUserPolicies, Policy, PrincipalType, Role, RoleId, ServiceError,
};
use document::{By, Decision, Document, Named, decide};

const ASSUME_ROLE: &str = "sts:AssumeRole";

/// Who calls, as far as it is known.
struct Principal {
    kind: PrincipalType,
    id: String,
    /// The id, and names where they could be read.
    names: Vec<String>,
    is_complete: bool,
    /// It is known from the session that is held, which may be another's than today's token.
    by_session: bool,
}

impl Principal {
    fn new(kind: PrincipalType, id: &str, by_session: bool) -> Self {
        Self {
            kind,
            id: id.into(),
            names: vec![id.into()],
            is_complete: false,
            by_session,
        }
    }

    fn named(&self) -> Named {
        let kind = if self.kind == PrincipalType::ServiceAccount {
            "service-account"
        } else {
            "user"
        };
        Named {
            kind,
            names: self.names.clone(),
            is_complete: self.is_complete,
            organization: None,
        }
    }

    /// `user/dev@example.test`
    fn shown(&self) -> String {
        format!(
            "{}/{}",
            self.kind.as_str(),
            self.names.last().unwrap_or(&self.id)
        )
    }
}

impl Broker {
    pub async fn explain(&self, peer: &Peer, profile: &str) -> Result<Explanation, AccessError> {
        let grant = self.own(peer, profile)?;
        let explaining = self.weigh(grant.entry(), bycloud_of(grant.entry())?);
        tokio::time::timeout(WAIT, explaining)
            .await
            .map_err(|_| AccessError::TooSlow)
    }

    async fn weigh(&self, entry: &Arc<CacheEntry>, client: &ByCloud) -> Explanation {
        let role_id = RoleId::from(entry.profile.role.role_id.as_str());
        let (role, request_id) = match client
            .send_noted(&GetRole {
                role_id: role_id.clone(),
            })
            .await
        {
            Ok((role, request_id)) => (Ok(role), request_id),
            Err(error) => {
                let request_id = error.request_id().map(Into::into);
                (Err(error), request_id)
            }
        };
        let mut principal = self.principal(entry, client, &role_id, request_id).await;
        let mut checks = vec![account(client, principal.as_mut(), role.as_ref().err()).await];
        if let Err(error) = &role {
            checks.push(unread_role(error, &role_id));
        }
        let named = Named {
            kind: "role",
            names: std::iter::once(role_id.to_string())
                .chain(role.as_ref().ok().map(|role| role.name.clone()))
                .collect(),
            is_complete: role.is_ok(),
            organization: None,
        };
        checks.push(own_policies(client, principal.as_ref(), &named).await);
        checks.push(trust(role.as_ref().ok(), principal.as_ref()));
        let failing =
            entry.health(|health| health.failing().map(|failing| failing.error.to_string()));
        Explanation {
            profile: entry.profile.name.to_string(),
            upstream: entry.profile.upstream.to_string(),
            role_id: role_id.to_string(),
            role_name: role.ok().map(|role| role.name),
            principal: principal.map(|principal| principal.shown()),
            verdict: verdict(&checks),
            checks,
            last_failure: failing,
        }
    }

    /// Whose token it is. The API has no method that says so: a session that was assumed with it names the principal,
    /// and so does the audit entry of the call that was just made.
    async fn principal(
        &self,
        entry: &CacheEntry,
        client: &ByCloud,
        role_id: &RoleId,
        request_id: Option<String>,
    ) -> Option<Principal> {
        if let Some(request_id) = request_id {
            let search = ListAuditLogs {
                action: Some("iam.getRole".into()),
                resource_id: Some(role_id.to_string()),
                ..ListAuditLogs::default()
            };
            if let Some((kind, id)) = actor(client, &request_id, search).await {
                return Some(Principal::new(kind, &id, false));
            }
        }
        let session = entry.session()?;
        let (kind, id) = session.granted.principal.split_once('/')?;
        Some(Principal::new(kind.to_owned().into(), id, true))
    }
}

fn check(what: &str, outcome: Outcome, reason: impl Into<String>) -> Check {
    Check {
        what: what.into(),
        outcome,
        reason: reason.into(),
        statement: None,
    }
}

/// Is the token good, and its owner enabled? The owner's names are read on the way.
async fn account(
    client: &ByCloud,
    principal: Option<&mut Principal>,
    failed: Option<&IamError>,
) -> Check {
    const WHAT: &str = "account";
    if let Some(error) = failed {
        match error.said() {
            Some(
                ServiceError::PrincipalDisabled
                | ServiceError::InvalidToken
                | ServiceError::TokenExpired
                | ServiceError::SessionRevoked,
            ) => {
                return check(WHAT, Outcome::No, error.to_string());
            }
            None if matches!(error, IamError::NoToken(_)) => {
                return check(WHAT, Outcome::No, error.to_string());
            }
            // Who is told no by name has been recognised.
            Some(
                ServiceError::AccessDenied | ServiceError::NotFound | ServiceError::InvalidRequest,
            ) => {}
            _ => return check(WHAT, Outcome::Unknown, error.to_string()),
        }
    }
    let Some(principal) = principal else {
        return check(
            WHAT,
            Outcome::Yes,
            "the token is good; nothing that it may read tells whose it is",
        );
    };
    let named = match principal.kind {
        PrincipalType::ServiceAccount => {
            let request = GetServiceAccount {
                service_account_id: principal.id.as_str().into(),
            };
            client
                .get_service_account(&request)
                .await
                .map(|account| vec![account.name])
        }
        _ => {
            let request = GetUser {
                user_id: principal.id.as_str().into(),
            };
            client
                .get_user(&request)
                .await
                .map(|user| vec![user.name, user.email])
        }
    };
    let by = if principal.by_session {
        ", who holds the session that is cached"
    } else {
        ""
    };
    match named {
        Ok(names) => {
            principal.names.extend(names);
            principal.is_complete = true;
            check(
                WHAT,
                Outcome::Yes,
                format!("the token is good: {}{by}", principal.shown()),
            )
        }
        Err(error) => {
            let shown = principal.shown();
            check(
                WHAT,
                Outcome::Yes,
                format!("the token is good: {shown}{by}, whose names cannot be read: {error}"),
            )
        }
    }
}

fn unread_role(error: &IamError, role_id: &RoleId) -> Check {
    match error.said() {
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

/// Do the caller's own policies, and its groups', allow it?
async fn own_policies(client: &ByCloud, principal: Option<&Principal>, role: &Named) -> Check {
    const WHAT: &str = "own policies";
    let Some(principal) = principal else {
        return check(WHAT, Outcome::Unknown, "it is not known whose token it is");
    };
    let (documents, unread) = match policies_of(client, principal).await {
        Ok(found) => documents(&found),
        Err(error) => {
            return check(
                WHAT,
                Outcome::Unknown,
                format!("they cannot be read: {error}"),
            );
        }
    };
    let unread = unread.map(|why| check(WHAT, Outcome::Unknown, why));
    match decide(&documents, ASSUME_ROLE, role) {
        Decision::Denied(by) => decided(WHAT, Outcome::No, "denies", &by),
        Decision::Unknown(by) => decided(WHAT, Outcome::Unknown, "may decide", &by),
        Decision::Allowed(by) => {
            unread.unwrap_or_else(|| decided(WHAT, Outcome::Yes, "allows", &by))
        }
        Decision::NotAllowed => unread.unwrap_or_else(|| {
            let names = documents
                .iter()
                .map(|document| document.of.as_str())
                .collect::<Vec<_>>()
                .join(", ");
            let among = if names.is_empty() {
                "there are none".into()
            } else {
                names
            };
            check(
                WHAT,
                Outcome::No,
                format!("no policy allows {ASSUME_ROLE} on the role: {among}"),
            )
        }),
    }
}

/// The policies of a principal, each with where it comes from.
async fn policies_of(
    client: &ByCloud,
    principal: &Principal,
) -> Result<Vec<(String, Policy)>, IamError> {
    let id = principal.id.as_str();
    let (own, groups) = if principal.kind == PrincipalType::ServiceAccount {
        let service_account_id = || id.into();
        (
            client
                .list_service_account_policies(&ListServiceAccountPolicies {
                    service_account_id: service_account_id(),
                })
                .await?,
            client
                .list_service_account_groups(&ListServiceAccountGroups {
                    service_account_id: service_account_id(),
                })
                .await?,
        )
    } else {
        (
            client
                .list_user_policies(&ListUserPolicies { user_id: id.into() })
                .await?,
            client
                .list_user_groups(&ListUserGroups { user_id: id.into() })
                .await?,
        )
    };
    let mut found: Vec<_> = own
        .items
        .into_iter()
        .map(|policy| (format!("policy {}", policy.name), policy))
        .collect();
    for Group {
        id: group_id,
        name: group,
        ..
    } in groups.items
    {
        let policies = client
            .list_group_policies(&ListGroupPolicies { group_id })
            .await?;
        found.extend(
            policies
                .items
                .into_iter()
                .map(|policy| (format!("policy {} of group {group}", policy.name), policy)),
        );
    }
    Ok(found)
}

/// Those that are understood, and why the first of the others is not.
fn documents(policies: &[(String, Policy)]) -> (Vec<Document>, Option<String>) {
    let (mut documents, mut unread) = (Vec::new(), None);
    for (of, policy) in policies {
        match Document::parse(of, &policy.document, false) {
            Ok(document) => documents.push(document),
            Err(why) => unread = unread.or(Some(why)),
        }
    }
    (documents, unread)
}

/// Does the role trust the caller?
fn trust(role: Option<&Role>, principal: Option<&Principal>) -> Check {
    const WHAT: &str = "trust policy";
    let Some(role) = role else {
        return check(WHAT, Outcome::Unknown, "the role cannot be read");
    };
    let Some(document) = &role.trust_policy else {
        return check(
            WHAT,
            Outcome::No,
            format!("role {} has none, so it trusts nobody", role.name),
        );
    };
    let of = format!("the trust policy of role {}", role.name);
    let document = match Document::parse(&of, document, true) {
        Ok(document) => [document],
        Err(why) => return check(WHAT, Outcome::Unknown, why),
    };
    let Some(principal) = principal else {
        return check(WHAT, Outcome::Unknown, "it is not known whose token it is");
    };
    match decide(&document, ASSUME_ROLE, &principal.named()) {
        Decision::Allowed(by) => decided(WHAT, Outcome::Yes, "allows", &by),
        Decision::Denied(by) => decided(WHAT, Outcome::No, "denies", &by),
        Decision::Unknown(by) => decided(WHAT, Outcome::Unknown, "may decide", &by),
        Decision::NotAllowed => check(
            WHAT,
            Outcome::No,
            format!("no statement of {of} is about {}", principal.shown()),
        ),
    }
}

fn decided(what: &str, outcome: Outcome, does: &str, by: &By<'_>) -> Check {
    let condition = by
        .organization
        .as_ref()
        .map(|name| format!(", if {name} is your organisation"))
        .unwrap_or_default();
    Check {
        what: what.into(),
        outcome,
        reason: format!("statement {} of {} {does} it{condition}", by.number, by.of),
        statement: Some(DecidingStatement {
            of: by.of.into(),
            number: by.number,
            text: by.text.clone(),
        }),
    }
}

fn verdict(checks: &[Check]) -> Outcome {
    let any = |outcome| checks.iter().any(|check| check.outcome == outcome);
    if any(Outcome::No) {
        Outcome::No
    } else if any(Outcome::Unknown) {
        Outcome::Unknown
    } else {
        Outcome::Yes
    }
}
