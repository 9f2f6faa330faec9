//! Errors: what a caller of the API reads (A6), and why a sandbox does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

#[derive(Debug, Clone, Error)]
#[error("{status} {code}: {message}")]
pub(super) struct ApiError {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
    /// The verbs that a path takes, with 405 (RFC 9110, 15.5.6).
    pub(super) allow: Option<String>,
}

impl ApiError {
    pub(super) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.into(),
            allow: None,
        }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request", message)
    }

    pub(super) fn denied(message: impl Into<String>) -> Self {
        Self::new(403, "access_denied", message)
    }

    pub(super) fn not_found(what: &str, id: &str) -> Self {
        Self::new(404, "not_found", format!("there is no {what} {id}"))
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "conflict", message)
    }

    pub(super) fn in_use(message: impl Into<String>) -> Self {
        Self::new(409, "in_use", message)
    }
}

impl From<rusqlite::Error> for ApiError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::ConstraintViolation) => {
                Self::conflict("there is one with this name already")
            }
            _ => Self::new(500, "internal", format!("storage: {error}")),
        }
    }
}

#[derive(Debug, Error)]
pub enum StartError {
    #[error("{0} is not a loopback address; the sandbox serves this machine only")]
    NotLoopback(SocketAddr),
    #[error("cannot listen on {address}: {error}")]
    Listen {
        address: SocketAddr,
        error: io::Error,
    },
    #[error("the data file {path}: {why}", path = .path.display())]
    Data { path: PathBuf, why: String },
    #[error("the data file {path} is of version {other}, which this sandbox does not read", path = .path.display())]
    Version { path: PathBuf, other: i64 },
    #[error("the fixture {name}: {why}")]
    Fixture { name: String, why: String },
    #[error("storage: {0}")]
    Storage(#[from] rusqlite::Error),
}

impl StartError {
    /// 2 for what the caller asked for, 1 for what the machine would not do.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotLoopback(_)
            | Self::Data { .. }
            | Self::Version { .. }
            | Self::Fixture { .. } => 2,
            Self::Listen { .. } | Self::Storage(_) => 1,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotLoopback(_) => "127.0.0.1:0, which takes a free port",
            Self::Listen { .. } => "another port, or 0 for a free one",
            Self::Data { .. } | Self::Version { .. } => {
                "another --data FILE, or none, which keeps everything in memory"
            }
            Self::Fixture { .. } => {
                "no --fixture, which takes the one that is built in, and mend the file"
            }
            Self::Storage(_) => "again; if it fails again, another --data FILE",
        }
    }
}
