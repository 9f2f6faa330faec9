//! The database: SQLite, in memory or in a file. One connection, one transaction a call; what was acknowledged survives
//! a kill of the process.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::clock::Millis;
use super::error::{ApiError, StartError};
use super::fixture::{self, Fixture};

/// Ids are UUIDs of version 7, so their order is that of creation, and pages can follow it.
const SCHEMA: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL) STRICT;
    CREATE TABLE service_accounts (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT, enabled INTEGER NOT NULL DEFAULT 1,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;
    CREATE TABLE credentials (
        id TEXT PRIMARY KEY, service_account_id TEXT NOT NULL REFERENCES service_accounts ON DELETE CASCADE,
        name TEXT NOT NULL, expires_at INTEGER, created_at INTEGER NOT NULL, UNIQUE (service_account_id, name)) STRICT;
    CREATE TABLE groups (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT, created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL) STRICT;
    CREATE TABLE memberships (
        kind TEXT NOT NULL, owner_id TEXT NOT NULL, group_id TEXT NOT NULL REFERENCES groups,
        PRIMARY KEY (kind, owner_id, group_id)) STRICT, WITHOUT ROWID;
    CREATE INDEX memberships_by_group ON memberships (group_id, kind, owner_id);
    CREATE TABLE invitations (
        id TEXT PRIMARY KEY, email TEXT NOT NULL, status TEXT NOT NULL, group_ids TEXT NOT NULL,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;
    CREATE INDEX invitations_by_email ON invitations (email, status);
    CREATE TABLE policies (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT, document TEXT NOT NULL,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;
    CREATE TABLE roles (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT, trust_policy TEXT,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;
    CREATE TABLE attachments (
        kind TEXT NOT NULL, owner_id TEXT NOT NULL, policy_id TEXT NOT NULL REFERENCES policies,
        PRIMARY KEY (kind, owner_id, policy_id)) STRICT, WITHOUT ROWID;
    CREATE INDEX attachments_by_policy ON attachments (policy_id, kind, owner_id);
    CREATE TABLE sessions (
        id TEXT PRIMARY KEY, role_id TEXT NOT NULL, role_name TEXT NOT NULL, principal_id TEXT NOT NULL,
        principal_type TEXT NOT NULL, issued_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, revoked_at INTEGER,
        revoked_by TEXT, revoke_reason TEXT, source_ip TEXT NOT NULL) STRICT;
    CREATE INDEX sessions_by_principal ON sessions (principal_id, id);
    CREATE INDEX sessions_by_role ON sessions (role_id, id);
    CREATE TABLE audit_logs (
        id TEXT PRIMARY KEY, timestamp INTEGER NOT NULL, actor_id TEXT, actor_type TEXT, action TEXT NOT NULL,
        resource_type TEXT NOT NULL, resource_id TEXT, status TEXT NOT NULL, ip_address TEXT NOT NULL,
        request_id TEXT NOT NULL, session_id TEXT, details TEXT NOT NULL) STRICT;
    CREATE INDEX audit_logs_by_actor ON audit_logs (actor_id, id);
    CREATE TABLE tokens (
        hash BLOB PRIMARY KEY, kind TEXT NOT NULL, subject_id TEXT NOT NULL, expires_at INTEGER) STRICT, WITHOUT ROWID;
    CREATE INDEX tokens_by_subject ON tokens (subject_id);
    CREATE TABLE ready (kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, name)) STRICT;
";

/// What version 2 does not have: S3, and the secrets that its signatures are checked with.
const SCHEMA_3: &str = "
    CREATE TABLE session_keys (
        access_key_id TEXT PRIMARY KEY, session_id TEXT NOT NULL UNIQUE REFERENCES sessions ON DELETE CASCADE,
        secret TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE buckets (name TEXT PRIMARY KEY, created_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE objects (
        bucket TEXT NOT NULL REFERENCES buckets, key TEXT NOT NULL, data BLOB NOT NULL, etag TEXT NOT NULL,
        headers TEXT NOT NULL, checksum_header TEXT, checksum TEXT, modified_at INTEGER NOT NULL,
        PRIMARY KEY (bucket, key)) STRICT;
    PRAGMA user_version = 3;
";

/// The `user_version` of [`SCHEMA`] with [`SCHEMA_3`].
const VERSION: i64 = 3;

/// Whose token it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    User,
    Credential,
    Session,
}

impl TokenKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Credential => "credential",
            Self::Session => "session",
        }
    }
}

#[derive(Debug)]
pub(super) struct Store {
    connection: Mutex<Connection>,
    pub(super) org: String,
}

impl Store {
    /// Opens or creates the database. The fixture fills a new one only.
    pub(super) fn open(
        path: Option<&Path>,
        fixture: &Fixture,
        now: Millis,
    ) -> Result<Self, StartError> {
        let mut connection = match path {
            None => Connection::open_in_memory()?,
            Some(path) => open_file(path)?,
        };
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.set_prepared_statement_cache_capacity(128);
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match version {
            0 => {
                let tx = connection.transaction()?;
                tx.execute_batch(SCHEMA)?;
                tx.execute_batch(SCHEMA_3)?;
                fixture::apply(&tx, fixture, now)?;
                tx.commit()?;
            }
            2 => {
                let tx = connection.transaction()?;
                tx.execute_batch(SCHEMA_3)?;
                tx.commit()?;
            }
            VERSION => {}
            other => {
                return Err(StartError::Version {
                    path: path.unwrap_or(Path::new("")).into(),
                    other,
                });
            }
        }
        let org = connection.query_row("SELECT value FROM meta WHERE key = 'org'", [], |row| {
            row.get(0)
        })?;
        Ok(Self {
            connection: Mutex::new(connection),
            org,
        })
    }

    /// Runs one call in a transaction, which is kept only if the call succeeds.
    pub(super) fn call<T>(
        &self,
        act: impl FnOnce(&Connection) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let ((), answer) = self.noted(|tx| ((), act(tx)), |_, (), _| Ok(()))?;
        answer
    }

    /// Runs one call in a transaction: what it writes is kept only if it succeeds, what is noted of it always. `act`
    /// returns what the note needs besides the answer.
    pub(super) fn noted<T, N>(
        &self,
        act: impl FnOnce(&Connection) -> (N, Result<T, ApiError>),
        note: impl FnOnce(&Connection, &N, &Result<T, ApiError>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<(N, Result<T, ApiError>)> {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let savepoint = tx.savepoint()?;
        let (noted, answer) = act(&savepoint);
        // One that is not committed is rolled back.
        if answer.is_ok() {
            savepoint.commit()?;
        } else {
            savepoint.finish()?;
        }
        note(&tx, &noted, &answer)?;
        tx.commit()?;
        Ok((noted, answer))
    }

    /// The fixture's tokens and roles, the same at every start.
    pub(super) fn ready(&self) -> Result<Value, StartError> {
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut statement = connection.prepare("SELECT kind, name, value FROM ready")?;
        let mut rows = statement.query([])?;
        let (mut tokens, mut roles, mut admin) = (Map::new(), Map::new(), Value::Null);
        while let Some(row) = rows.next()? {
            let (kind, name, value): (String, String, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            match kind.as_str() {
                "role" => drop(roles.insert(name, value.into())),
                "admin" => admin = value.into(),
                _ => drop(tokens.insert(name, value.into())),
            }
        }
        Ok(json!({ "admin_token": admin, "tokens": tokens, "roles": roles }))
    }
}

/// WAL without a sync at each commit: a kill of the process loses nothing; a power cut may lose the last calls, but
/// leaves the file whole.
fn open_file(path: &Path) -> Result<Connection, StartError> {
    let fail = |why: String| StartError::Data {
        path: path.into(),
        why,
    };
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(path)
        .map_err(|error| fail(error.to_string()))?;
    let connection = Connection::open(path).map_err(|error| fail(error.to_string()))?;
    connection
        .pragma_update(None, "journal_mode", "wal")
        .and_then(|()| connection.pragma_update(None, "synchronous", "normal"))
        .map_err(|error| fail(error.to_string()))?;
    Ok(connection)
}

pub(super) fn new_id() -> String {
    Uuid::now_v7().to_string()
}

/// A random text of `length` hexadecimal digits behind a prefix, from the system's generator.
pub(super) fn random_text(prefix: &str, length: usize) -> String {
    let mut text = String::from(prefix);
    while text.len() < prefix.len() + length {
        text += &Uuid::new_v4().simple().to_string();
    }
    text.truncate(prefix.len() + length);
    text
}

/// Keeps a token's hash only.
pub(super) fn put_token(
    tx: &Connection,
    token: &str,
    kind: TokenKind,
    subject_id: &str,
    expires_at: Option<Millis>,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO tokens (hash, kind, subject_id, expires_at) VALUES (?, ?, ?, ?)",
    )?
    .execute(params![hash(token), kind.as_str(), subject_id, expires_at])
    .map(drop)
}

pub(super) fn forget_token(tx: &Connection, token: &str) -> rusqlite::Result<usize> {
    tx.execute("DELETE FROM tokens WHERE hash = ?", params![hash(token)])
}

/// What is known of a token: whose it is and when it ends.
pub(super) fn find_token(
    tx: &Connection,
    token: &str,
) -> rusqlite::Result<Option<(TokenKind, String, Option<Millis>)>> {
    tx.prepare_cached("SELECT kind, subject_id, expires_at FROM tokens WHERE hash = ?")?
        .query_row(params![hash(token)], |row| {
            let kind = match row.get_ref(0)?.as_str()? {
                "user" => TokenKind::User,
                "credential" => TokenKind::Credential,
                _ => TokenKind::Session,
            };
            Ok((kind, row.get(1)?, row.get(2)?))
        })
        .optional()
}

/// Keeps an access key with its secret: a signature cannot be checked with a hash of it.
pub(super) fn put_key(
    tx: &Connection,
    access_key_id: &str,
    session_id: &str,
    secret: &str,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO session_keys (access_key_id, session_id, secret) VALUES (?, ?, ?)",
    )?
    .execute([access_key_id, session_id, secret])
    .map(drop)
}

fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}
