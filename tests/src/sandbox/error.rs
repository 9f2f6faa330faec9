//! Errors of the API (A6) and of the start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use hyper::StatusCode;
use thiserror::Error;

#[derive(Debug, Clone, Error)]
#[error("{status} {code}: {message}")]
pub(super) struct ApiError {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
    /// The supported verbs of the path, with 405 (RFC 9110, 15.5.6).
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
        Self::new(404, "not_found", format!("no {what} {id}"))
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "conflict", message)
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "internal", message)
    }

    pub(super) fn in_use(message: impl Into<String>) -> Self {
        Self::new(409, "in_use", message)
    }
}

/// 500 if the number is not a status.
pub(super) fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl From<rusqlite::Error> for ApiError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::ConstraintViolation) => Self::conflict("the name is taken"),
            _ => Self::internal(format!("database: {error}")),
        }
    }
}

/// Why the sandbox does not start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("{0} is not a loopback address")]
    NotLoopback(SocketAddr),
    #[error("cannot listen on {address}: {error}")]
    Listen {
        address: SocketAddr,
        error: io::Error,
    },
    #[error("cannot open the data file {path}: {reason}", path = .path.display())]
    Data { path: PathBuf, reason: String },
    #[error("the data file {path} has schema version {version}, but only {supported} is supported", path = .path.display())]
    Version {
        path: PathBuf,
        version: i64,
        supported: i64,
    },
    #[error("fixture {name}: {reason}")]
    Fixture { name: String, reason: String },
    #[error("database: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
}

impl StartError {
    /// 2 for invalid arguments, 1 for a failure of the system.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotLoopback(_)
            | Self::Data { .. }
            | Self::Version { .. }
            | Self::Fixture { .. } => 2,
            Self::Listen { .. } | Self::Database(_) | Self::Signals(_) => 1,
        }
    }

    /// What to do, as an imperative.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotLoopback(_) => "use 127.0.0.1:0 (0 selects a free port)",
            Self::Listen { .. } => "use another port, or 0 for a free one",
            Self::Data { .. } | Self::Version { .. } => {
                "use another --data FILE, or omit --data to store the data in memory"
            }
            Self::Fixture { .. } => "fix the file, or omit --fixture to use the built-in one",
            Self::Database(_) => "run the command again with another --data FILE",
            Self::Signals(_) => "run the command again",
        }
    }
}
