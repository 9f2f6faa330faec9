//! The methods: a row each. Verbs, parameters and their types come from the documented list; paths are A2.

use std::sync::LazyLock;

use rusqlite::Connection;
use serde_json::Value;

use super::PREFIX;
use super::error::ApiError;
use super::handlers::{
    Call, audit_logs, groups, invitations, policies, roles, service_accounts, sts, users,
};
use super::params::Documented;

/// What a handler returns: a status and a body, which is absent for 204.
pub(super) type Answer = Result<(u16, Option<Value>), ApiError>;
pub(super) type Handler = fn(&Call<'_>, &Connection) -> Answer;

/// What an action acts on: the kind of the thing whose id stands first in the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
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

impl Kind {
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

    /// As the API spells it; a CRN has a hyphen for the underscore.
    pub(super) fn word(self) -> &'static str {
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

    /// The column with what people call it, which CRNs may use instead of its id.
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
    pub(super) documented: Documented,
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    pub(super) handler: Handler,
}

#[rustfmt::skip]
const ROWS: &[(&str, &str, Kind, Handler)] = &[
    ("assumeRole", "/roles/{role_id}/assume", Kind::Role, sts::assume),
    ("listSTSSessions", "/sts/sessions", Kind::Session, sts::list),
    ("getSTSSession", "/sts/sessions/{session_id}", Kind::Session, sts::get),
    ("revokeSTSSession", "/sts/sessions/{session_id}", Kind::Session, sts::revoke),
    ("listRoles", "/roles", Kind::Role, roles::list),
    ("createRole", "/roles", Kind::Role, roles::create),
    ("getRole", "/roles/{role_id}", Kind::Role, roles::get),
    ("updateRole", "/roles/{role_id}", Kind::Role, roles::update),
    ("deleteRole", "/roles/{role_id}", Kind::Role, roles::delete),
    ("listRolePolicies", "/roles/{role_id}/policies", Kind::Role, roles::POLICIES.list),
    ("attachRolePolicy", "/roles/{role_id}/policies", Kind::Role, roles::POLICIES.add),
    ("detachRolePolicy", "/roles/{role_id}/policies/{policy_id}", Kind::Role, roles::POLICIES.remove),
    ("listPolicies", "/policies", Kind::Policy, policies::list),
    ("createPolicy", "/policies", Kind::Policy, policies::create),
    ("getPolicy", "/policies/{policy_id}", Kind::Policy, policies::get),
    ("updatePolicy", "/policies/{policy_id}", Kind::Policy, policies::update),
    ("deletePolicy", "/policies/{policy_id}", Kind::Policy, policies::delete),
    ("listPolicyGroups", "/policies/{policy_id}/groups", Kind::Policy, groups::POLICIES.owners),
    ("listPolicyRoles", "/policies/{policy_id}/roles", Kind::Policy, roles::POLICIES.owners),
    ("listPolicyServiceAccounts", "/policies/{policy_id}/service-accounts", Kind::Policy, service_accounts::POLICIES.owners),
    ("listPolicyUsers", "/policies/{policy_id}/users", Kind::Policy, users::POLICIES.owners),
    ("listServiceAccounts", "/service-accounts", Kind::ServiceAccount, service_accounts::list),
    ("createServiceAccount", "/service-accounts", Kind::ServiceAccount, service_accounts::create),
    ("getServiceAccount", "/service-accounts/{service_account_id}", Kind::ServiceAccount, service_accounts::get),
    ("updateServiceAccount", "/service-accounts/{service_account_id}", Kind::ServiceAccount, service_accounts::update),
    ("deleteServiceAccount", "/service-accounts/{service_account_id}", Kind::ServiceAccount, service_accounts::delete),
    ("listServiceAccountCredentials", "/service-accounts/{service_account_id}/credentials", Kind::ServiceAccount, service_accounts::list_credentials),
    ("createServiceAccountCredential", "/service-accounts/{service_account_id}/credentials", Kind::ServiceAccount, service_accounts::create_credential),
    ("deleteServiceAccountCredential", "/service-accounts/{service_account_id}/credentials/{credential_id}", Kind::ServiceAccount, service_accounts::delete_credential),
    ("listServiceAccountGroups", "/service-accounts/{service_account_id}/groups", Kind::ServiceAccount, service_accounts::GROUPS.list),
    ("addServiceAccountToGroup", "/service-accounts/{service_account_id}/groups", Kind::ServiceAccount, service_accounts::GROUPS.add),
    ("removeServiceAccountFromGroup", "/service-accounts/{service_account_id}/groups/{group_id}", Kind::ServiceAccount, service_accounts::GROUPS.remove),
    ("listServiceAccountPolicies", "/service-accounts/{service_account_id}/policies", Kind::ServiceAccount, service_accounts::POLICIES.list),
    ("attachServiceAccountPolicy", "/service-accounts/{service_account_id}/policies", Kind::ServiceAccount, service_accounts::POLICIES.add),
    ("detachServiceAccountPolicy", "/service-accounts/{service_account_id}/policies/{policy_id}", Kind::ServiceAccount, service_accounts::POLICIES.remove),
    ("listUsers", "/users", Kind::User, users::list),
    ("addUser", "/users", Kind::User, invitations::create),
    ("getUser", "/users/{user_id}", Kind::User, users::get),
    ("removeUser", "/users/{user_id}", Kind::User, users::remove),
    ("listUserGroups", "/users/{user_id}/groups", Kind::User, users::GROUPS.list),
    ("addUserToGroup", "/users/{user_id}/groups", Kind::User, users::GROUPS.add),
    ("removeUserFromGroup", "/users/{user_id}/groups/{group_id}", Kind::User, users::GROUPS.remove),
    ("listUserPolicies", "/users/{user_id}/policies", Kind::User, users::POLICIES.list),
    ("attachUserPolicy", "/users/{user_id}/policies", Kind::User, users::POLICIES.add),
    ("detachUserPolicy", "/users/{user_id}/policies/{policy_id}", Kind::User, users::POLICIES.remove),
    ("listGroups", "/groups", Kind::Group, groups::list),
    ("createGroup", "/groups", Kind::Group, groups::create),
    ("getGroup", "/groups/{group_id}", Kind::Group, groups::get),
    ("updateGroup", "/groups/{group_id}", Kind::Group, groups::update),
    ("deleteGroup", "/groups/{group_id}", Kind::Group, groups::delete),
    ("listGroupUsers", "/groups/{group_id}/users", Kind::Group, users::GROUPS.owners),
    ("listGroupServiceAccounts", "/groups/{group_id}/service-accounts", Kind::Group, service_accounts::GROUPS.owners),
    ("listGroupPolicies", "/groups/{group_id}/policies", Kind::Group, groups::POLICIES.list),
    ("attachGroupPolicy", "/groups/{group_id}/policies", Kind::Group, groups::POLICIES.add),
    ("detachGroupPolicy", "/groups/{group_id}/policies/{policy_id}", Kind::Group, groups::POLICIES.remove),
    ("listInvitations", "/invitations", Kind::Invitation, invitations::list),
    ("getInvitation", "/invitations/{invitation_id}", Kind::Invitation, invitations::get),
    ("cancelInvitation", "/invitations/{invitation_id}", Kind::Invitation, invitations::cancel),
    ("listAuditLogs", "/audit-logs", Kind::AuditLog, audit_logs::list),
    ("getAuditLog", "/audit-logs/{log_id}", Kind::AuditLog, audit_logs::get),
];

static METHODS: LazyLock<Vec<Method>> = LazyLock::new(|| {
    let mut documented: Vec<Documented> =
        serde_json::from_str(include_str!("../../data/iam-methods.json")).unwrap_or_default();
    let mut method = |(name, path, kind, handler): &(&str, &'static str, Kind, Handler)| {
        let index = documented.iter().position(|each| each.name == *name)?;
        Some(Method {
            documented: documented.swap_remove(index),
            path,
            kind: *kind,
            handler: *handler,
        })
    };
    ROWS.iter().filter_map(&mut method).collect()
});

impl Method {
    pub(super) fn name(&self) -> &'static str {
        // The documented name without the lifetime of the list that it was read from.
        ROWS.iter()
            .find(|row| row.0 == self.documented.name)
            .map_or("unknown", |row| row.0)
    }

    /// `sts` for the four methods of sessions.
    pub(super) fn service(&self) -> &'static str {
        if self.path.starts_with("/sts/") || self.path.ends_with("/assume") {
            "sts"
        } else {
            "iam"
        }
    }

    /// As policies call it: `iam:CreateRole`.
    pub(super) fn action(&self) -> String {
        let name = &self.documented.name;
        let (first, rest) = name.split_at(1.min(name.len()));
        format!("{}:{}{rest}", self.service(), first.to_ascii_uppercase())
    }
}

/// A method and the parameters in the path, by name.
pub(super) type Found = (&'static Method, Vec<(String, String)>);

pub(super) fn all() -> impl Iterator<Item = &'static Method> {
    METHODS.iter()
}

/// The documented names that the sandbox serves.
pub(super) fn is_served(name: &str) -> bool {
    ROWS.iter().any(|row| row.0 == name)
}

/// The method of a request and the parameters in its path.
pub(super) fn find(verb: &str, path: &str) -> Result<Found, ApiError> {
    let mut verbs = Vec::new();
    for method in METHODS.iter() {
        let Some(params) = path
            .strip_prefix(PREFIX)
            .and_then(|path| match_path(method.path, path))
        else {
            continue;
        };
        if method.documented.verb == verb {
            return Ok((method, params));
        }
        verbs.push(method.documented.verb.as_str());
    }
    Err(if verbs.is_empty() {
        ApiError::new(
            404,
            "not_found",
            format!("the sandbox has no method at {path}"),
        )
    } else {
        let verbs = verbs.join(", ");
        ApiError {
            allow: Some(verbs.clone()),
            ..ApiError::new(405, "invalid_request", format!("{path} takes {verbs}"))
        }
    })
}

fn match_path(template: &str, path: &str) -> Option<Vec<(String, String)>> {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    let mut params = Vec::new();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(params),
            (Some(want), Some(have)) => match want
                .strip_prefix('{')
                .and_then(|name| name.strip_suffix('}'))
            {
                Some(name) if !have.is_empty() => params.push((name.into(), have.into())),
                None if want == have => {}
                _ => return None,
            },
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_documented_method_and_its_path_holds_documented_parameters() {
        assert_eq!(
            (METHODS.len(), ROWS.len()),
            (60, 60),
            "every documented name, and no other"
        );
        for method in METHODS.iter() {
            let path = method.path.replace(['{', '}'], "");
            let (found, params) = find(&method.documented.verb, &format!("/iam/v1{path}")).unwrap();
            assert_eq!(
                found.name(),
                method.name(),
                "another row has the same verb and path"
            );
            let given = serde_json::json!(params.iter().map(|(name, _)| name).collect::<Vec<_>>());
            let documented = format!("{:?}", method.documented.params);
            assert!(
                params
                    .iter()
                    .all(|(name, _)| documented.contains(&format!("{name:?}"))),
                "{given}"
            );
        }
    }

    #[test]
    fn actions_are_named_by_service_and_method() {
        let action = |name: &str| {
            METHODS
                .iter()
                .find(|method| method.documented.name == name)
                .unwrap()
                .action()
        };
        assert_eq!(action("assumeRole"), "sts:AssumeRole");
        assert_eq!(action("listSTSSessions"), "sts:ListSTSSessions");
        assert_eq!(action("createRole"), "iam:CreateRole");
    }
}
