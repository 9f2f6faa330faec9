//! Who and what there is in a new sandbox.

use std::path::Path;

use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::Value;

use super::clock::Millis;
use super::error::StartError;
use super::policy::{Policy, TrustPolicy};
use super::store::{TokenKind, new_id, put_token, random_text};

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

/// The first user is the administrator of the ready line.
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

/// Reads and checks a fixture; the built-in one if there is no path.
pub(super) fn load(path: Option<&Path>) -> Result<Fixture, StartError> {
    let name = path.map_or_else(|| "built in".into(), |path| path.display().to_string());
    let fail = |why: String| StartError::Fixture {
        name: name.clone(),
        why,
    };
    let text = match path {
        Some(path) => std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?,
        None => BUILT_IN.into(),
    };
    let fixture: Fixture = serde_json::from_str(&text).map_err(|error| fail(error.to_string()))?;
    fixture.check().map_err(fail)?;
    Ok(fixture)
}

impl Fixture {
    fn check(&self) -> Result<(), String> {
        if self.users.is_empty() {
            return Err("users: there must be one at least, the administrator".into());
        }
        for policy in &self.policies {
            Policy::parse(&policy.document)
                .map_err(|why| format!("policy {}: {why}", policy.name))?;
        }
        for role in &self.roles {
            let trust = role.trust_policy.as_ref().map(TrustPolicy::parse);
            trust
                .transpose()
                .map_err(|why| format!("role {}: trust_policy: {why}", role.name))?;
        }
        let attached = (self.roles.iter().flat_map(|role| &role.policies))
            .chain(self.groups.iter().flat_map(|group| &group.policies))
            .chain(self.users.iter().flat_map(|user| &user.policies))
            .chain(
                self.service_accounts
                    .iter()
                    .flat_map(|account| &account.policies),
            );
        for name in attached {
            if self.policies.iter().all(|policy| policy.name != *name) {
                return Err(format!("policies: there is no policy {name}"));
            }
        }
        let joined = (self.users.iter().flat_map(|user| &user.groups)).chain(
            self.service_accounts
                .iter()
                .flat_map(|account| &account.groups),
        );
        for name in joined {
            if self.groups.iter().all(|group| group.name != *name) {
                return Err(format!("groups: there is no group {name}"));
            }
        }
        Ok(())
    }
}

/// Writes a fixture into a new database.
pub(super) fn apply(tx: &Connection, fixture: &Fixture, now: Millis) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO meta (key, value) VALUES ('org', ?)",
        [&fixture.organization],
    )?;
    for NamedPolicy { name, document } in &fixture.policies {
        tx.execute(
            "INSERT INTO policies (id, name, document, created_at, updated_at) VALUES (?, ?, ?, ?4, ?4)",
            params![new_id(), name, document.to_string(), now],
        )?;
    }
    for Role {
        name,
        description,
        trust_policy,
        policies,
    } in &fixture.roles
    {
        let (id, trust) = (new_id(), trust_policy.as_ref().map(Value::to_string));
        tx.execute(
            "INSERT INTO roles (id, name, description, trust_policy, created_at, updated_at) VALUES (?, ?, ?, ?, ?5, ?5)",
            params![id, name, description, trust, now],
        )?;
        attach(tx, "role", &id, policies)?;
        remember(tx, "role", name, &id)?;
    }
    for Group { name, policies } in &fixture.groups {
        let id = new_id();
        tx.execute(
            "INSERT INTO groups (id, name, created_at, updated_at) VALUES (?, ?, ?3, ?3)",
            params![id, name, now],
        )?;
        attach(tx, "group", &id, policies)?;
    }
    for (
        number,
        User {
            name,
            email,
            policies,
            groups,
            token,
        },
    ) in fixture.users.iter().enumerate()
    {
        let (id, token) = (
            new_id(),
            token.clone().unwrap_or_else(|| random_text("byu_", 48)),
        );
        tx.execute(
            "INSERT INTO users (id, name, email, created_at) VALUES (?, ?, ?, ?)",
            params![id, name, email, now],
        )?;
        attach(tx, "user", &id, policies)?;
        join(tx, "user", &id, groups)?;
        put_token(tx, &token, TokenKind::User, &id, None)?;
        remember(tx, "token", name, &token)?;
        if number == 0 {
            remember(tx, "admin", name, &token)?;
        }
    }
    for ServiceAccount {
        name,
        description,
        policies,
        groups,
        credential,
        token,
    } in &fixture.service_accounts
    {
        let (id, credential_id) = (new_id(), new_id());
        let token = token.clone().unwrap_or_else(|| random_text("bys_", 48));
        tx.execute(
            "INSERT INTO service_accounts (id, name, description, created_at, updated_at) VALUES (?, ?, ?, ?4, ?4)",
            params![id, name, description, now],
        )?;
        tx.execute(
            "INSERT INTO credentials (id, service_account_id, name, created_at) VALUES (?, ?, ?, ?)",
            params![credential_id, id, credential, now],
        )?;
        attach(tx, "service_account", &id, policies)?;
        join(tx, "service_account", &id, groups)?;
        put_token(tx, &token, TokenKind::Credential, &credential_id, None)?;
        remember(tx, "token", name, &token)?;
    }
    Ok(())
}

fn attach(tx: &Connection, kind: &str, target: &str, policies: &[String]) -> rusqlite::Result<()> {
    for name in policies {
        tx.execute(
            "INSERT INTO attachments (kind, owner_id, policy_id) SELECT ?, ?, id FROM policies WHERE name = ?",
            params![kind, target, name],
        )?;
    }
    Ok(())
}

fn join(tx: &Connection, kind: &str, member: &str, groups: &[String]) -> rusqlite::Result<()> {
    for name in groups {
        tx.execute(
            "INSERT INTO memberships (kind, owner_id, group_id) SELECT ?, ?, id FROM groups WHERE name = ?",
            params![kind, member, name],
        )?;
    }
    Ok(())
}

fn remember(tx: &Connection, kind: &str, name: &str, value: &str) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO ready (kind, name, value) VALUES (?, ?, ?)",
        params![kind, name, value],
    )
    .map(drop)
}
