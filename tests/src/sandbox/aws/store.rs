//! The accounts: users, roles, access keys, sessions and MFA devices. In memory only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::mfa::MfaDevice;
use super::policy::Policy;
use super::{arn, base32};
use crate::sandbox::clock::Millis;
use crate::sandbox::store::random_hex;

#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) users: Vec<User>,
    pub(super) roles: Vec<Role>,
    /// By id.
    pub(super) access_keys: BTreeMap<String, AccessKey>,
    /// By the id of the access key.
    pub(super) sessions: BTreeMap<String, Session>,
    pub(super) mfa_devices: Vec<MfaDevice>,
    pub(super) disabled_regions: BTreeSet<String>,
    /// How long a new access key is unknown, in milliseconds.
    pub(super) propagation: Millis,
}

#[derive(Debug)]
pub(super) struct User {
    pub(super) account: String,
    pub(super) name: String,
    pub(super) id: String,
    pub(super) created_at: Millis,
    pub(super) policies: Vec<Arc<Policy>>,
}

#[derive(Debug)]
pub(super) struct Role {
    pub(super) account: String,
    pub(super) name: String,
    pub(super) id: String,
    pub(super) created_at: Millis,
    /// In seconds.
    pub(super) max_session: i64,
    pub(super) trust: Arc<Policy>,
    /// By name.
    pub(super) policies: BTreeMap<String, Arc<Policy>>,
}

/// A long-term key of a user.
#[derive(Debug, Clone)]
pub(super) struct AccessKey {
    pub(super) id: String,
    pub(super) secret: String,
    /// The id of the user.
    pub(super) user_id: String,
    pub(super) is_active: bool,
    pub(super) created_at: Millis,
    pub(super) last_used: Option<LastUse>,
}

#[derive(Debug, Clone)]
pub(super) struct LastUse {
    pub(super) at: Millis,
    pub(super) service: String,
    pub(super) region: String,
}

/// Temporary keys.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) access_key_id: String,
    pub(super) secret: String,
    pub(super) token: String,
    pub(super) of: SessionOf,
    pub(super) issued_at: Millis,
    pub(super) expires_at: Millis,
    /// When the user entered an MFA code. Sessions of roles do not carry it.
    pub(super) mfa_at: Option<Millis>,
    /// Limit the permissions of the role. Absent without a limit.
    pub(super) policies: Option<Vec<Arc<Policy>>>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) transitive_tags: BTreeSet<String>,
    pub(super) source_identity: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) enum SessionOf {
    User {
        user_id: String,
    },
    /// It remains the same after the role is deleted.
    Role {
        role_id: String,
        account: String,
        role_name: String,
        session_name: String,
    },
}

impl User {
    pub(super) fn arn(&self) -> String {
        arn::user(&self.account, &self.name)
    }
}

impl Role {
    pub(super) fn arn(&self) -> String {
        arn::role(&self.account, &self.name)
    }
}

impl Store {
    pub(super) fn user(&self, id: &str) -> Option<&User> {
        self.users.iter().find(|user| user.id == id)
    }

    pub(super) fn user_named(&self, account: &str, name: &str) -> Option<&User> {
        self.users
            .iter()
            .find(|user| user.account == account && user.name == name)
    }

    pub(super) fn role(&self, id: &str) -> Option<&Role> {
        self.roles.iter().find(|role| role.id == id)
    }

    pub(super) fn role_named(&self, account: &str, name: &str) -> Option<&Role> {
        self.roles
            .iter()
            .find(|role| role.account == account && role.name == name)
    }

    /// By name in any account; the first one if several have it.
    pub(super) fn role_in_any_account(&mut self, name: &str) -> Option<&mut Role> {
        self.roles.iter_mut().find(|role| role.name == name)
    }

    pub(super) fn keys_of(&self, user_id: &str) -> impl Iterator<Item = &AccessKey> {
        let user_id = user_id.to_owned();
        self.access_keys
            .values()
            .filter(move |key| key.user_id == user_id)
    }

    /// Creates an access key.
    pub(super) fn add_key(&mut self, user_id: &str, now: Millis) -> AccessKey {
        let key = AccessKey {
            id: new_id("AKIA"),
            secret: new_secret(),
            user_id: user_id.into(),
            is_active: true,
            created_at: now,
            last_used: None,
        };

        self.access_keys.insert(key.id.clone(), key.clone());
        key
    }
}

/// An id of AWS: a prefix of 4 letters and 16 digits of base 32.
pub(super) fn new_id(prefix: &str) -> String {
    let bytes = Uuid::new_v4();
    let text = base32::encode(bytes.as_bytes());
    let digits: String = text.chars().take(16).collect();

    format!("{prefix}{digits}")
}

/// 40 characters. The word `canary` lets the leak search of the tests find every secret.
pub(super) fn new_secret() -> String {
    format!("canary/+{}", random_hex(32))
}

/// Opaque, and as long as those of AWS.
pub(super) fn new_session_token() -> String {
    format!("IQoJcanary//{}+=", random_hex(400))
}
