//! The database: SQLite, in memory or in a file. One connection, and one transaction a call. An
//! acknowledged call survives a kill of the process.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::clock::Millis;
use super::error::{ApiError, StartError};
use super::fixture::{self, Fixture};

const SCHEMA: &str = include_str!("schema.sql");
/// The `user_version` of [`SCHEMA`].
const VERSION: i64 = 4;

/// The owner of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    User,
    Credential,
    Session,
}

impl TokenKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Credential => "credential",
            Self::Session => "session",
        }
    }
}

/// A stored token.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    /// The user, the credential or the session.
    pub(super) subject_id: String,
    pub(super) expires_at: Option<Millis>,
}

#[derive(Debug)]
pub(super) struct Store {
    connection: Mutex<Connection>,
    pub(super) org: String,
}

impl Store {
    /// Opens the database, or creates it with the fixture.
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
            0 => create(&mut connection, fixture, now)?,
            VERSION => {}
            version => {
                return Err(StartError::Version {
                    path: path.unwrap_or(Path::new("")).into(),
                    version,
                    supported: VERSION,
                });
            }
        }

        let sql = "SELECT value FROM meta WHERE key = 'org'";
        let org = connection.query_row(sql, [], |row| row.get(0))?;
        Ok(Self {
            connection: Mutex::new(connection),
            org,
        })
    }

    /// Runs a call in a transaction. An error rolls it back.
    pub(super) fn transaction<T>(
        &self,
        call: impl FnOnce(&Connection) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let ((), result) = self.audited_transaction(|tx| ((), call(tx)), |_, (), _| Ok(()))?;
        result
    }

    /// Runs a call in a transaction. An error rolls back what `call` wrote, and commits what
    /// `audit` wrote. `call` also returns what `audit` needs besides the result.
    pub(super) fn audited_transaction<T, A>(
        &self,
        call: impl FnOnce(&Connection) -> (A, Result<T, ApiError>),
        audit: impl FnOnce(&Connection, &A, &Result<T, ApiError>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<(A, Result<T, ApiError>)> {
        let mut connection = self.lock();
        let mut tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;

        let savepoint = tx.savepoint()?;
        let (subject, result) = call(&savepoint);
        if result.is_ok() {
            savepoint.commit()?;
        } else {
            // Rolls back.
            savepoint.finish()?;
        }

        audit(&tx, &subject, &result)?;
        tx.commit()?;
        Ok((subject, result))
    }

    /// The fixture's tokens and roles, the same at every start.
    pub(super) fn ready(&self) -> Result<Value, StartError> {
        let connection = self.lock();
        let mut statement = connection.prepare("SELECT kind, name, value FROM ready")?;
        let mut rows = statement.query([])?;
        let mut tokens = Map::new();
        let mut roles = Map::new();
        let mut admin = Value::Null;

        while let Some(row) = rows.next()? {
            let kind: String = row.get(0)?;
            let name: String = row.get(1)?;
            let value: String = row.get(2)?;
            match kind.as_str() {
                "role" => drop(roles.insert(name, value.into())),
                "admin" => admin = value.into(),
                _ => drop(tokens.insert(name, value.into())),
            }
        }

        Ok(json!({ "admin_token": admin, "tokens": tokens, "roles": roles }))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn create(connection: &mut Connection, fixture: &Fixture, now: Millis) -> rusqlite::Result<()> {
    let tx = connection.transaction()?;
    tx.execute_batch(SCHEMA)?;
    tx.pragma_update(None, "user_version", VERSION)?;
    fixture::insert(&tx, fixture, now)?;

    tx.commit()
}

fn open_file(path: &Path) -> Result<Connection, StartError> {
    try_open_file(path).map_err(|error| StartError::Data {
        path: path.into(),
        reason: error.to_string(),
    })
}

/// Mode 600. Write-ahead log without a sync at each commit: a kill of the process loses nothing. A
/// power failure may lose the last calls, but does not corrupt the file.
fn try_open_file(path: &Path) -> Result<Connection, Box<dyn std::error::Error>> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?;

    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    Ok(connection)
}

pub(super) fn new_id() -> String {
    Uuid::now_v7().to_string()
}

pub(super) fn new_user_token() -> String {
    format!("byu_{}", random_hex(48))
}

pub(super) fn new_credential_token() -> String {
    format!("bys_{}", random_hex(48))
}

pub(super) fn new_session_token() -> String {
    format!("bysess_{}", random_hex(113))
}

/// Random digits from the system's generator.
pub(super) fn random_hex(digits: usize) -> String {
    let mut text = String::new();
    while text.len() < digits {
        text += &Uuid::new_v4().simple().to_string();
    }

    text.truncate(digits);
    text
}

/// Stores a hash of a token.
pub(super) fn insert_token(
    tx: &Connection,
    token: &str,
    kind: TokenKind,
    subject_id: &str,
    expires_at: Option<Millis>,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO tokens (hash, kind, subject_id, expires_at) VALUES (?, ?, ?, ?)";
    tx.prepare_cached(sql)?
        .execute(params![hash(token), kind.as_str(), subject_id, expires_at])
        .map(drop)
}

/// Returns the number of deleted tokens, 0 or 1.
pub(super) fn delete_token(tx: &Connection, token: &str) -> rusqlite::Result<usize> {
    tx.execute("DELETE FROM tokens WHERE hash = ?", params![hash(token)])
}

pub(super) fn find_token(tx: &Connection, token: &str) -> rusqlite::Result<Option<Token>> {
    tx.prepare_cached("SELECT kind, subject_id, expires_at FROM tokens WHERE hash = ?")?
        .query_row(params![hash(token)], |row| {
            let kind = match row.get_ref(0)?.as_str()? {
                "user" => TokenKind::User,
                "credential" => TokenKind::Credential,
                _ => TokenKind::Session,
            };
            Ok(Token {
                kind,
                subject_id: row.get(1)?,
                expires_at: row.get(2)?,
            })
        })
        .optional()
}

/// Stores an access key with its secret: a hash of the secret could not verify a signature.
pub(super) fn insert_access_key(
    tx: &Connection,
    access_key_id: &str,
    session_id: &str,
    secret: &str,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO session_keys (access_key_id, session_id, secret) VALUES (?, ?, ?)";
    tx.prepare_cached(sql)?
        .execute([access_key_id, session_id, secret])
        .map(drop)
}

fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}
