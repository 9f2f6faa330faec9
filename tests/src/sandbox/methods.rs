//! The methods, one row each. Verbs and parameters come from the SDK's reference
//! (`data/iam-methods.json`), paths are A2.

use std::sync::LazyLock;

use rusqlite::Connection;
use serde_json::Value;

use super::PREFIX;
use super::error::ApiError;
use super::handlers::audit_logs::{self, AuditLogs};
use super::handlers::groups::{self, Groups};
use super::handlers::invitations::{self, Invitations};
use super::handlers::policies::{self, Policies};
use super::handlers::roles::{self, Roles};
use super::handlers::service_accounts::{self, ServiceAccounts};
use super::handlers::sts::{self, Sessions};
use super::handlers::users::{self, Users};
use super::handlers::{Call, get, list_by_name};
use super::params::MethodSpec;

/// The status and the body of a reply; 204 has no body.
pub(super) type HandlerResult = Result<(u16, Option<Value>), ApiError>;
pub(super) type Handler = fn(&Call<'_>, &Connection) -> HandlerResult;

/// The kind of the resource that a method acts on. The first id in the path is one of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResourceKind {
    AuditLog,
    Credential,
    Group,
    Invitation,
    Policy,
    Role,
    ServiceAccount,
    Session,
    User,
}

impl ResourceKind {
    pub(super) fn table(self) -> &'static str {
        match self {
            Self::AuditLog => "audit_logs",
            Self::Credential => "credentials",
            Self::Group => "groups",
            Self::Invitation => "invitations",
            Self::Policy => "policies",
            Self::Role => "roles",
            Self::ServiceAccount => "service_accounts",
            Self::Session => "sessions",
            Self::User => "users",
        }
    }

    /// The name in the API. CRNs have hyphens instead of underscores.
    pub(super) fn api_name(self) -> &'static str {
        match self {
            Self::AuditLog => "audit_log",
            Self::Credential => "credential",
            Self::Group => "group",
            Self::Invitation => "invitation",
            Self::Policy => "policy",
            Self::Role => "role",
            Self::ServiceAccount => "service_account",
            Self::Session => "session",
            Self::User => "user",
        }
    }

    /// The column with the name that CRNs may have instead of the id.
    pub(super) fn name_column(self) -> Option<&'static str> {
        match self {
            Self::AuditLog | Self::Session => None,
            Self::User | Self::Invitation => Some("email"),
            Self::Credential | Self::Group | Self::Policy | Self::Role | Self::ServiceAccount => {
                Some("name")
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Method {
    pub(super) name: &'static str,
    pub(super) spec: MethodSpec,
    pub(super) path: &'static str,
    pub(super) kind: ResourceKind,
    pub(super) handler: Handler,
}

#[rustfmt::skip]
const METHOD_TABLE: &[(&str, &str, ResourceKind, Handler)] = &[
    ("assumeRole", "/roles/{role_id}/assume", ResourceKind::Role, sts::assume),
    ("listSTSSessions", "/sts/sessions", ResourceKind::Session, sts::list),
    ("getSTSSession", "/sts/sessions/{session_id}", ResourceKind::Session, get::<Sessions>),
    ("revokeSTSSession", "/sts/sessions/{session_id}", ResourceKind::Session, sts::revoke),
    ("listRoles", "/roles", ResourceKind::Role, list_by_name::<Roles>),
    ("createRole", "/roles", ResourceKind::Role, roles::create),
    ("getRole", "/roles/{role_id}", ResourceKind::Role, get::<Roles>),
    ("updateRole", "/roles/{role_id}", ResourceKind::Role, roles::update),
    ("deleteRole", "/roles/{role_id}", ResourceKind::Role, roles::delete),
    ("listRolePolicies", "/roles/{role_id}/policies", ResourceKind::Role, roles::POLICIES.list),
    ("attachRolePolicy", "/roles/{role_id}/policies", ResourceKind::Role, roles::POLICIES.add),
    ("detachRolePolicy", "/roles/{role_id}/policies/{policy_id}", ResourceKind::Role, roles::POLICIES.remove),
    ("listPolicies", "/policies", ResourceKind::Policy, list_by_name::<Policies>),
    ("createPolicy", "/policies", ResourceKind::Policy, policies::create),
    ("getPolicy", "/policies/{policy_id}", ResourceKind::Policy, get::<Policies>),
    ("updatePolicy", "/policies/{policy_id}", ResourceKind::Policy, policies::update),
    ("deletePolicy", "/policies/{policy_id}", ResourceKind::Policy, policies::delete),
    ("listPolicyGroups", "/policies/{policy_id}/groups", ResourceKind::Policy, groups::POLICIES.owners),
    ("listPolicyRoles", "/policies/{policy_id}/roles", ResourceKind::Policy, roles::POLICIES.owners),
    ("listPolicyServiceAccounts", "/policies/{policy_id}/service-accounts", ResourceKind::Policy, service_accounts::POLICIES.owners),
    ("listPolicyUsers", "/policies/{policy_id}/users", ResourceKind::Policy, users::POLICIES.owners),
    ("listServiceAccounts", "/service-accounts", ResourceKind::ServiceAccount, list_by_name::<ServiceAccounts>),
    ("createServiceAccount", "/service-accounts", ResourceKind::ServiceAccount, service_accounts::create),
    ("getServiceAccount", "/service-accounts/{service_account_id}", ResourceKind::ServiceAccount, get::<ServiceAccounts>),
    ("updateServiceAccount", "/service-accounts/{service_account_id}", ResourceKind::ServiceAccount, service_accounts::update),
    ("deleteServiceAccount", "/service-accounts/{service_account_id}", ResourceKind::ServiceAccount, service_accounts::delete),
    ("listServiceAccountCredentials", "/service-accounts/{service_account_id}/credentials", ResourceKind::ServiceAccount, service_accounts::list_credentials),
    ("createServiceAccountCredential", "/service-accounts/{service_account_id}/credentials", ResourceKind::ServiceAccount, service_accounts::create_credential),
    ("deleteServiceAccountCredential", "/service-accounts/{service_account_id}/credentials/{credential_id}", ResourceKind::ServiceAccount, service_accounts::delete_credential),
    ("listServiceAccountGroups", "/service-accounts/{service_account_id}/groups", ResourceKind::ServiceAccount, service_accounts::GROUPS.list),
    ("addServiceAccountToGroup", "/service-accounts/{service_account_id}/groups", ResourceKind::ServiceAccount, service_accounts::GROUPS.add),
    ("removeServiceAccountFromGroup", "/service-accounts/{service_account_id}/groups/{group_id}", ResourceKind::ServiceAccount, service_accounts::GROUPS.remove),
    ("listServiceAccountPolicies", "/service-accounts/{service_account_id}/policies", ResourceKind::ServiceAccount, service_accounts::POLICIES.list),
    ("attachServiceAccountPolicy", "/service-accounts/{service_account_id}/policies", ResourceKind::ServiceAccount, service_accounts::POLICIES.add),
    ("detachServiceAccountPolicy", "/service-accounts/{service_account_id}/policies/{policy_id}", ResourceKind::ServiceAccount, service_accounts::POLICIES.remove),
    ("listUsers", "/users", ResourceKind::User, list_by_name::<Users>),
    ("addUser", "/users", ResourceKind::User, invitations::create),
    ("getUser", "/users/{user_id}", ResourceKind::User, get::<Users>),
    ("removeUser", "/users/{user_id}", ResourceKind::User, users::remove),
    ("listUserGroups", "/users/{user_id}/groups", ResourceKind::User, users::GROUPS.list),
    ("addUserToGroup", "/users/{user_id}/groups", ResourceKind::User, users::GROUPS.add),
    ("removeUserFromGroup", "/users/{user_id}/groups/{group_id}", ResourceKind::User, users::GROUPS.remove),
    ("listUserPolicies", "/users/{user_id}/policies", ResourceKind::User, users::POLICIES.list),
    ("attachUserPolicy", "/users/{user_id}/policies", ResourceKind::User, users::POLICIES.add),
    ("detachUserPolicy", "/users/{user_id}/policies/{policy_id}", ResourceKind::User, users::POLICIES.remove),
    ("listGroups", "/groups", ResourceKind::Group, list_by_name::<Groups>),
    ("createGroup", "/groups", ResourceKind::Group, groups::create),
    ("getGroup", "/groups/{group_id}", ResourceKind::Group, get::<Groups>),
    ("updateGroup", "/groups/{group_id}", ResourceKind::Group, groups::update),
    ("deleteGroup", "/groups/{group_id}", ResourceKind::Group, groups::delete),
    ("listGroupUsers", "/groups/{group_id}/users", ResourceKind::Group, users::GROUPS.owners),
    ("listGroupServiceAccounts", "/groups/{group_id}/service-accounts", ResourceKind::Group, service_accounts::GROUPS.owners),
    ("listGroupPolicies", "/groups/{group_id}/policies", ResourceKind::Group, groups::POLICIES.list),
    ("attachGroupPolicy", "/groups/{group_id}/policies", ResourceKind::Group, groups::POLICIES.add),
    ("detachGroupPolicy", "/groups/{group_id}/policies/{policy_id}", ResourceKind::Group, groups::POLICIES.remove),
    ("listInvitations", "/invitations", ResourceKind::Invitation, invitations::list),
    ("getInvitation", "/invitations/{invitation_id}", ResourceKind::Invitation, get::<Invitations>),
    ("cancelInvitation", "/invitations/{invitation_id}", ResourceKind::Invitation, invitations::cancel),
    ("listAuditLogs", "/audit-logs", ResourceKind::AuditLog, audit_logs::list),
    ("getAuditLog", "/audit-logs/{log_id}", ResourceKind::AuditLog, get::<AuditLogs>),
];

static METHODS: LazyLock<Vec<Method>> = LazyLock::new(|| {
    let specs: Vec<MethodSpec> =
        serde_json::from_str(include_str!("../../data/iam-methods.json")).unwrap_or_default();

    specs
        .into_iter()
        .filter_map(|spec| {
            let (name, path, kind, handler) = METHOD_TABLE
                .iter()
                .find(|row| row.0 == spec.name)
                .copied()?;
            Some(Method {
                name,
                path,
                kind,
                handler,
                spec,
            })
        })
        .collect()
});

impl Method {
    /// `sts` for the methods of sessions, else `iam`.
    pub(super) fn service(&self) -> &'static str {
        if self.path.starts_with("/sts/") || self.path.ends_with("/assume") {
            "sts"
        } else {
            "iam"
        }
    }

    /// The action in policies: `iam:CreateRole`.
    pub(super) fn action(&self) -> String {
        let (first, rest) = self.name.split_at(1.min(self.name.len()));

        format!("{}:{}{rest}", self.service(), first.to_ascii_uppercase())
    }
}

/// A method and the parameters in the path, by name.
pub(super) type RoutedMethod = (&'static Method, Vec<(String, String)>);

pub(super) fn all() -> impl Iterator<Item = &'static Method> {
    METHODS.iter()
}

pub(super) fn exists(name: &str) -> bool {
    METHOD_TABLE.iter().any(|row| row.0 == name)
}

/// Finds the method of a request. 404 for an unknown path, 405 for an unsupported verb.
pub(super) fn route(verb: &str, path: &str) -> Result<RoutedMethod, ApiError> {
    let mut supported = Vec::new();

    for method in METHODS.iter() {
        let params = path
            .strip_prefix(PREFIX)
            .and_then(|path| match_path(method.path, path));
        let Some(params) = params else { continue };

        if method.spec.verb == verb {
            return Ok((method, params));
        }
        supported.push(method.spec.verb.as_str());
    }

    if supported.is_empty() {
        return Err(ApiError::new(
            404,
            "not_found",
            format!("no method at {path}"),
        ));
    }
    supported.sort_unstable();
    let verbs = supported.join(", ");
    let message = format!("{path} supports {verbs}");
    Err(ApiError {
        allow: Some(verbs),
        ..ApiError::new(405, "invalid_request", message)
    })
}

/// The parameters of a path, if it matches the template.
fn match_path(template: &str, path: &str) -> Option<Vec<(String, String)>> {
    if template.split('/').count() != path.split('/').count() {
        return None;
    }

    let mut params = Vec::new();
    for (wanted, segment) in template.split('/').zip(path.split('/')) {
        let name = wanted
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'));
        match name {
            Some(name) if !segment.is_empty() => params.push((name.into(), segment.into())),
            None if wanted == segment => {}
            _ => return None,
        }
    }
    Some(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_a_unique_route_with_known_parameters() {
        assert_eq!(METHOD_TABLE.len(), 60);
        assert_eq!(METHODS.len(), 60, "every row is in the reference");

        for method in METHODS.iter() {
            let path = method.path.replace(['{', '}'], "");
            let (routed, params) = route(&method.spec.verb, &format!("{PREFIX}{path}")).unwrap();
            assert_eq!(routed.name, method.name, "another row has the same route");

            let known = format!("{:?}", method.spec.params);
            for (name, _) in &params {
                assert!(
                    known.contains(&format!("{name:?}")),
                    "{}: {name}",
                    method.name
                );
            }
        }
    }

    #[test]
    fn action_has_the_service_and_the_method() {
        for (name, action) in [
            ("assumeRole", "sts:AssumeRole"),
            ("listSTSSessions", "sts:ListSTSSessions"),
            ("createRole", "iam:CreateRole"),
        ] {
            let method = METHODS.iter().find(|method| method.name == name).unwrap();
            assert_eq!(method.action(), action);
        }
    }
}
