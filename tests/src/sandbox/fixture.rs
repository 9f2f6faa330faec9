//! The content of a new database: users, roles, groups, policies, service accounts.

use std::path::Path;

use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::Value;

use super::clock::Millis;
use super::error::StartError;
use super::policy::{Policy, TrustPolicy};
use super::store::{TokenKind, insert_token, new_credential_token, new_id, new_user_token};

const BUILT_IN: &str = include_str!("../../data/fixture.json");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fixture {
    organization: String,
    #[serde(default)]
    policies: Vec<NamedPolicy>,
    #[serde(default)]
    roles: Vec<Role>,
    #[serde(default)]
    groups: Vec<Group>,
    users: Vec<User>,
    #[serde(default)]
    service_accounts: Vec<ServiceAccount>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedPolicy {
    name: String,
    document: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Role {
    name: String,
    description: Option<String>,
    trust_policy: Option<Value>,
    #[serde(default)]
    policies: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    #[serde(default)]
    policies: Vec<String>,
}

/// The first user is the administrator: its token is the ready line's `admin_token`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    name: String,
    email: String,
    #[serde(default)]
    policies: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceAccount {
    name: String,
    description: Option<String>,
    #[serde(default)]
    policies: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    /// The name of its credential.
    credential: String,
    token: Option<String>,
}

/// Reads and checks a fixture file; the built-in fixture without a path.
pub(super) fn load(path: Option<&Path>) -> Result<Fixture, StartError> {
    let name = path.map_or_else(|| "(built in)".into(), |path| path.display().to_string());

    read(path)
        .and_then(|text| parse(&text))
        .map_err(|reason| StartError::Fixture { name, reason })
}

fn read(path: Option<&Path>) -> Result<String, String> {
    match path {
        Some(path) => std::fs::read_to_string(path).map_err(|error| error.to_string()),
        None => Ok(BUILT_IN.into()),
    }
}

fn parse(text: &str) -> Result<Fixture, String> {
    let fixture: Fixture = serde_json::from_str(text).map_err(|error| error.to_string())?;
    fixture.check()?;

    Ok(fixture)
}

impl Fixture {
    fn check(&self) -> Result<(), String> {
        if self.users.is_empty() {
            return Err("users: at least one user, the administrator, is required".into());
        }

        for policy in &self.policies {
            Policy::parse(&policy.document)
                .map_err(|reason| format!("policy {}: {reason}", policy.name))?;
        }
        for role in &self.roles {
            if let Some(document) = &role.trust_policy {
                TrustPolicy::parse(document)
                    .map_err(|reason| format!("role {}: trust_policy: {reason}", role.name))?;
            }
            self.check_policies(&role.policies)?;
        }

        for group in &self.groups {
            self.check_policies(&group.policies)?;
        }
        for user in &self.users {
            self.check_policies(&user.policies)?;
            self.check_groups(&user.groups)?;
        }
        for account in &self.service_accounts {
            self.check_policies(&account.policies)?;
            self.check_groups(&account.groups)?;
        }
        Ok(())
    }

    fn check_policies(&self, names: &[String]) -> Result<(), String> {
        for name in names {
            if self.policies.iter().all(|policy| policy.name != *name) {
                return Err(format!("policies: unknown policy {name}"));
            }
        }
        Ok(())
    }

    fn check_groups(&self, names: &[String]) -> Result<(), String> {
        for name in names {
            if self.groups.iter().all(|group| group.name != *name) {
                return Err(format!("groups: unknown group {name}"));
            }
        }
        Ok(())
    }
}

/// Writes a fixture into a new database.
pub(super) fn insert(tx: &Connection, fixture: &Fixture, now: Millis) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO meta (key, value) VALUES ('org', ?)",
        [&fixture.organization],
    )?;

    // Policies and groups first: the others refer to them.
    for policy in &fixture.policies {
        insert_policy(tx, policy, now)?;
    }
    for group in &fixture.groups {
        insert_group(tx, group, now)?;
    }
    for role in &fixture.roles {
        insert_role(tx, role, now)?;
    }
    for (index, user) in fixture.users.iter().enumerate() {
        insert_user(tx, user, index == 0, now)?;
    }
    for account in &fixture.service_accounts {
        insert_service_account(tx, account, now)?;
    }
    Ok(())
}

fn insert_policy(tx: &Connection, policy: &NamedPolicy, now: Millis) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO policies (id, name, document, created_at, updated_at)
         VALUES (?, ?, ?, ?4, ?4)",
        params![new_id(), policy.name, policy.document.to_string(), now],
    )
    .map(drop)
}

fn insert_group(tx: &Connection, group: &Group, now: Millis) -> rusqlite::Result<()> {
    let id = new_id();
    tx.execute(
        "INSERT INTO groups (id, name, created_at, updated_at) VALUES (?, ?, ?3, ?3)",
        params![id, group.name, now],
    )?;

    attach(tx, "group", &id, &group.policies)
}

fn insert_role(tx: &Connection, role: &Role, now: Millis) -> rusqlite::Result<()> {
    let id = new_id();
    let trust_policy = role.trust_policy.as_ref().map(Value::to_string);
    tx.execute(
        "INSERT INTO roles (id, name, description, trust_policy, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?5, ?5)",
        params![id, role.name, role.description, trust_policy, now],
    )?;

    attach(tx, "role", &id, &role.policies)?;
    insert_ready(tx, "role", &role.name, &id)
}

fn insert_user(tx: &Connection, user: &User, is_admin: bool, now: Millis) -> rusqlite::Result<()> {
    let id = new_id();
    let token = user.token.clone().unwrap_or_else(new_user_token);
    tx.execute(
        "INSERT INTO users (id, name, email, created_at) VALUES (?, ?, ?, ?)",
        params![id, user.name, user.email, now],
    )?;

    attach(tx, "user", &id, &user.policies)?;
    join(tx, "user", &id, &user.groups)?;
    insert_token(tx, &token, TokenKind::User, &id, None)?;
    insert_ready(tx, "token", &user.name, &token)?;
    if is_admin {
        insert_ready(tx, "admin", &user.name, &token)?;
    }
    Ok(())
}

fn insert_service_account(
    tx: &Connection,
    account: &ServiceAccount,
    now: Millis,
) -> rusqlite::Result<()> {
    let id = new_id();
    let credential_id = new_id();
    let token = account.token.clone().unwrap_or_else(new_credential_token);
    tx.execute(
        "INSERT INTO service_accounts (id, name, description, created_at, updated_at)
         VALUES (?, ?, ?, ?4, ?4)",
        params![id, account.name, account.description, now],
    )?;
    tx.execute(
        "INSERT INTO credentials (id, service_account_id, name, created_at) VALUES (?, ?, ?, ?)",
        params![credential_id, id, account.credential, now],
    )?;

    attach(tx, "service_account", &id, &account.policies)?;
    join(tx, "service_account", &id, &account.groups)?;
    insert_token(tx, &token, TokenKind::Credential, &credential_id, None)?;
    insert_ready(tx, "token", &account.name, &token)
}

fn attach(tx: &Connection, kind: &str, target: &str, policies: &[String]) -> rusqlite::Result<()> {
    for name in policies {
        tx.execute(
            "INSERT INTO attachments (kind, owner_id, policy_id) SELECT ?, ?, id FROM policies
             WHERE name = ?",
            params![kind, target, name],
        )?;
    }
    Ok(())
}

fn join(tx: &Connection, kind: &str, member: &str, groups: &[String]) -> rusqlite::Result<()> {
    for name in groups {
        tx.execute(
            "INSERT INTO memberships (kind, owner_id, group_id) SELECT ?, ?, id FROM groups
             WHERE name = ?",
            params![kind, member, name],
        )?;
    }
    Ok(())
}

/// A value of the ready line, which is the same after a restart.
fn insert_ready(tx: &Connection, kind: &str, name: &str, value: &str) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO ready (kind, name, value) VALUES (?, ?, ?)",
        params![kind, name, value],
    )
    .map(drop)
}
