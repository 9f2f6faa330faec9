//! What only some upstreams can do: an object-safe trait for each, which [`Upstream`](super::Upstream) returns if the
//! upstream has it. Their errors are for the person who asked.

use std::collections::BTreeSet;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{CallError, IssuedSession, IssuedSessionStatus, UpstreamError};
use crate::config::RoleRequest;
use crate::token_source::TokenSource;

/// Knows each session that it has issued, and can revoke it. The daemon polls it for revocations.
pub trait SessionRegistry: Send + Sync {
    /// The ids of all active sessions of a principal. A session that is not listed is expired, revoked, or was issued
    /// after the request.
    fn active_sessions<'a>(
        &'a self,
        principal: &'a str,
    ) -> BoxFuture<'a, Result<BTreeSet<Box<str>>, UpstreamError>>;

    fn session_status<'a>(
        &'a self,
        session_id: &'a str,
    ) -> BoxFuture<'a, Result<IssuedSessionStatus, UpstreamError>>;

    /// Revokes a session. One that has ended, or does not exist, is no error.
    fn revoke<'a>(
        &'a self,
        session_id: &'a str,
        reason: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), UpstreamError>>;
}

/// Signs the principal in with one token, which a person can replace.
pub trait Login: Send + Sync {
    /// The URL that the token is sent to.
    fn endpoint(&self) -> String;

    fn token_source(&self) -> &TokenSource;

    /// What a person enters.
    fn token_form(&self) -> &'static str {
        "token"
    }

    /// Shows a token to the upstream. Returns the name of its principal, if the upstream reveals it. `role` is one that
    /// the principal can probably assume, which may be used to find out.
    ///
    /// # Errors
    /// When the upstream does not accept the token, or it is a session's and not a principal's.
    fn check_token<'a>(
        &'a self,
        token: &'a SecretString,
        role: Option<&'a RoleRequest>,
    ) -> BoxFuture<'a, Result<Option<String>, CallError>>;
}

/// Starts a session that a code of the principal's MFA device has confirmed, and that assumes all roles.
pub trait MfaLogin: Send + Sync {
    /// Identifies the device.
    fn serial(&self) -> &str;

    /// Whether a person enters the codes.
    fn asks_person(&self) -> bool;

    /// Returns when the session ends.
    ///
    /// # Errors
    /// When the code is not accepted, or was used before.
    fn start<'a>(&'a self, code: &'a SecretString) -> BoxFuture<'a, Result<Timestamp, CallError>>;

    /// The session that is held, as a text for the daemon process that comes next.
    fn session(&self) -> Option<SecretString>;

    /// Continues with the session of an earlier process.
    fn restore(&self, session: &SecretString);
}

/// Replaces the principal's credential by a new one.
pub trait CredentialRotation: Send + Sync {
    /// Finds the account that a token belongs to.
    ///
    /// # Errors
    /// When that is not known, or the credentials of such an account cannot be replaced.
    fn owner(&self, token: SecretString) -> BoxFuture<'_, Result<CredentialOwner, CallError>>;

    /// All credentials of the account.
    fn credentials<'a>(
        &'a self,
        owner: &'a CredentialOwner,
    ) -> BoxFuture<'a, Result<Vec<CredentialInfo>, CallError>>;

    fn create<'a>(
        &'a self,
        owner: &'a CredentialOwner,
        name: String,
        expires_at: Option<Timestamp>,
    ) -> BoxFuture<'a, Result<NewCredential, CallError>>;

    /// Waits until the upstream accepts a new credential, if it is not known everywhere at once.
    fn wait_until_known<'a>(&'a self, _secret: &'a SecretString) -> BoxFuture<'a, ()> {
        std::future::ready(()).boxed()
    }

    /// Deletes a credential. One that does not exist is no error.
    fn delete<'a>(
        &'a self,
        owner: &'a CredentialOwner,
        id: &'a str,
    ) -> BoxFuture<'a, Result<(), CallError>>;
}

/// An account, and the token with which it manages its own credentials.
#[derive(Debug, Clone)]
pub struct CredentialOwner {
    pub(crate) token: SecretString,
    pub(crate) id: String,
    /// By type and id: `service_account/019…`.
    pub(crate) principal: String,
    /// The id of the token's credential, if the token shows it.
    pub(crate) credential_id: Option<String>,
}

/// A credential without its secret.
#[derive(Debug, Clone)]
pub struct CredentialInfo {
    pub(crate) id: String,
    /// Empty if the upstream's credentials have none.
    pub(crate) name: String,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
}

#[derive(Debug)]
pub struct NewCredential {
    pub(crate) id: String,
    pub secret: SecretString,
}

/// Lists and revokes single sessions for a person.
pub trait SessionAdmin: Send + Sync {
    /// The active sessions of these principals, or of everybody if there are none.
    fn sessions<'a>(
        &'a self,
        principals: &'a BTreeSet<String>,
    ) -> BoxStream<'a, Result<ActiveSession, CallError>>;

    /// Revokes a session that need not be one of the daemon's.
    ///
    /// # Errors
    /// Also when there is no such session.
    fn revoke_session<'a>(
        &'a self,
        session_id: &'a str,
        reason: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), CallError>>;
}

/// A session as the upstream lists it, without credentials.
#[derive(Debug, Clone)]
pub struct ActiveSession {
    pub(crate) id: String,
    pub(crate) role_id: String,
    pub(crate) role_name: String,
    /// By type and id: `user/019…`.
    pub(crate) principal: String,
    /// By the upstream's clock.
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) source_ip: Option<String>,
}

/// Reads the upstream's audit log.
pub trait AuditLog: Send + Sync {
    /// The calls that sessions made, in any order. An error ends it.
    fn calls<'a>(&'a self, query: AuditQuery<'a>) -> BoxStream<'a, Result<AuditEntry, CallError>>;
}

#[derive(Debug, Clone, Copy)]
pub struct AuditQuery<'a> {
    pub(crate) sessions: &'a BTreeSet<&'a str>,
    /// The principals of these sessions.
    pub(crate) principals: &'a BTreeSet<&'a str>,
    pub(crate) since: Timestamp,
}

/// A call that the upstream's audit log has.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// By the upstream's clock, and with its precision.
    pub(crate) at: Timestamp,
    pub(crate) action: String,
    pub(crate) resource: String,
    pub(crate) status: String,
    pub(crate) ip_address: String,
    pub(crate) session_id: String,
    pub(crate) request_id: String,
}

/// Explains from policies and accounts, read now, why a role can or cannot be assumed.
pub trait Explainer: Send + Sync {
    /// `cached_principal` is the principal of the session that is cached, by type and id. What cannot be read is
    /// reported as unknown.
    fn explain<'a>(
        &'a self,
        role: &'a RoleRequest,
        cached_principal: Option<&'a str>,
    ) -> BoxFuture<'a, RoleExplanation>;
}

#[derive(Debug, Clone)]
pub struct RoleExplanation {
    /// Absent if the role could not be read.
    pub(crate) role_name: Option<String>,
    /// `user/dev@example.test`; absent if it is not known.
    pub(crate) principal: Option<String>,
    /// All conditions, in the order in which the upstream evaluates them.
    pub(crate) checks: Vec<Check>,
}

/// One condition for assuming a role.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    /// `account`, `own policies`, `trust policy`.
    pub(crate) condition: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) reason: String,
    /// The statement that decides, if one does.
    pub(crate) statement: Option<PolicyStatement>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Yes,
    No,
    Unknown,
}

/// A statement of a policy document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PolicyStatement {
    /// `policy AssumeProjectRoles of group developers`
    pub(crate) document: String,
    /// Counted from 1.
    pub(crate) number: usize,
    pub(crate) text: Value,
}

impl RoleExplanation {
    /// No if any condition fails, yes if all are met.
    pub(crate) fn verdict(&self) -> Outcome {
        let any = |outcome| self.checks.iter().any(|check| check.outcome == outcome);

        if any(Outcome::No) {
            Outcome::No
        } else if any(Outcome::Unknown) {
            Outcome::Unknown
        } else {
            Outcome::Yes
        }
    }
}

/// Makes any call of the upstream's management API.
pub trait ManagementApi: Send + Sync {
    /// All methods that there are.
    fn methods(&self) -> &[ApiMethod];

    /// Makes one call and returns its reply unread.
    fn call<'a>(
        &'a self,
        method: &'a ApiMethod,
        parameters: Map<String, Value>,
        caller: ApiCaller<'a>,
    ) -> BoxFuture<'a, Result<ApiReply, CallError>>;
}

#[derive(Debug, Clone, Copy)]
pub struct ApiMethod {
    /// As documented: `listRoles`.
    pub(crate) name: &'static str,
    /// It is not a read: repeating it may do something twice.
    pub(crate) changes: bool,
    /// Its reply has credentials in it.
    pub(crate) returns_credentials: bool,
    /// It revokes the session whose id is the parameter of this name.
    pub(crate) revokes: Option<&'static str>,
}

/// Whose credentials a call is made with.
#[derive(Debug, Clone, Copy)]
pub enum ApiCaller<'a> {
    Principal,
    Session(&'a IssuedSession),
}

pub struct ApiReply {
    /// JSON; empty if the method has no result.
    pub(crate) body: Zeroizing<Vec<u8>>,
    /// The id of the call in the upstream's audit log.
    pub(crate) request_id: Option<String>,
}

impl std::fmt::Debug for ApiReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiReply")
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}
