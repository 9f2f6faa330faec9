//! What the daemon reports: its status, why a role can be assumed or not, and what was done with sessions.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Failure;

#[derive(Debug, Serialize, Deserialize)]
pub struct StatusPage {
    pub daemon: DaemonStatus,
    pub profiles: Vec<ProfileStatus>,
    /// Ask again with this as `after`; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// What an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointKind {
    /// Container credentials: `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    Container,
    /// Version 2 of EC2's instance metadata service: `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
    Imds,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub url: String,
    /// The file with the word that a request must have in `Authorization`, read anew for each: it changes. Instance
    /// metadata has none; there the caller's user counts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DaemonStatus {
    pub version: String,
    pub pid: u32,
    pub uptime_seconds: u64,
    pub connections: usize,
    /// The addresses that answer over HTTP, by what they speak: `container`, or `imds.` and a profile.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub endpoints: BTreeMap<String, String>,
    /// What the daemon has taken from itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub protection: Option<Protection>,
    /// Upstreams whose time is not this machine's.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub clocks: Vec<ClockStatus>,
}

/// The protections of the daemon: each is `active`, or `off: ` and the reason.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Protection {
    /// Other processes cannot read its memory, and secrets are locked in it.
    pub memory: String,
    /// Landlock: the daemon reads and writes only the files of its work.
    pub landlock: String,
    /// seccomp: system calls that read other processes or change the system fail.
    pub seccomp: String,
    /// The peer inspector, which identifies callers.
    #[serde(default)]
    pub peer_inspector: String,
}

/// Services refuse what is signed with a time that is not theirs; five minutes are usual.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClockStatus {
    pub upstream: String,
    /// How far this machine's clock is ahead of the upstream's, negative if it is behind.
    pub ahead_seconds: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProfileStatus {
    pub profile: String,
    pub upstream: String,
    pub role_id: String,
    pub state: ProfileState,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<SessionStatus>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<FailureStatus>,
    /// Why nothing is served, if somebody has to resume it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held: Option<SessionEnded>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileState {
    /// Nobody has asked for it yet.
    Idle,
    Fresh,
    /// Served, and due for a refresh.
    Aging,
    Expired,
    /// Nothing is served until somebody resumes it.
    Held,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionStatus {
    pub id: String,
    pub age_seconds: u64,
    /// To the session's true end.
    pub expires_in_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refresh_in_seconds: Option<u64>,
    /// Nobody has used it for a while: it will not be refreshed unless somebody asks.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub is_unused: bool,
    /// How long ago it was last known that nobody has revoked it.
    #[serde(default)]
    pub view_age_seconds: u64,
    /// That is longer than the profile wants.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub is_view_stale: bool,
    /// Why the upstream could not be asked when it was last tried.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub view_failure: Option<String>,
}

/// How a session ended before its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnded {
    pub cause: EndCause,
    /// Absent if there was none at that moment.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<String>,
    /// Who did it, as far as it is known: `user/dev@example.test`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<String>,
    /// RFC 3339: when it was done, by the upstream's clock.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// RFC 3339: when it was in force here, by this machine's clock.
    pub noticed_at: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// Somebody revoked it at the upstream, or by `rolekeeper sessions revoke` here.
    Revoked,
    /// The principal's account was disabled, which revokes all of its sessions.
    AccountDisabled,
    /// `rolekeeper logout`
    LoggedOut,
    /// The screen was locked.
    ScreenLocked,
    /// The machine went to sleep.
    MachineSlept,
    /// The daemon was stopped.
    DaemonStopped,
    /// A cause of a newer daemon.
    #[serde(other)]
    Unknown,
}

/// `session s-1 was revoked by user/admin@example.test at 2026-…, because: lost laptop`
impl fmt::Display for SessionEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cause,
            session_id,
            by,
            at,
            reason,
            noticed_at,
        } = self;
        match session_id {
            Some(id) => write!(f, "session {id}")?,
            None => write!(f, "it")?,
        }
        f.write_str(match cause {
            EndCause::LoggedOut => " was logged out",
            EndCause::AccountDisabled => " ended with its account, which was disabled",
            EndCause::ScreenLocked => " was ended as the screen was locked",
            EndCause::MachineSlept => " was ended as the machine went to sleep",
            EndCause::DaemonStopped => " was ended with the daemon",
            EndCause::Revoked | EndCause::Unknown => " was revoked",
        })?;
        if let Some(by) = by {
            write!(f, " by {by}")?;
        }
        write!(f, " at {}", at.as_ref().unwrap_or(noticed_at))?;
        reason
            .as_ref()
            .map_or(Ok(()), |reason| write!(f, ", because: {reason}"))
    }
}

/// What there is of a profile at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileUpdate {
    pub profile: String,
    /// A revocation raises it. Credentials that were given under a lower one are to be used no more. A daemon that follows
    /// one that was killed begins with 0.
    pub generation: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<CurrentSession>,
    /// Why nothing is served, if somebody has to resume it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held: Option<SessionEnded>,
    /// How the last session ended, if that was before its time and by a revocation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<SessionEnded>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrentSession {
    pub id: String,
    /// RFC 3339: its true end, by the upstream's clock.
    pub expires_at: String,
}

/// What `logout` did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogoutReport {
    /// In order of name.
    pub profiles: Vec<ProfileLogout>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProfileLogout {
    pub profile: String,
    /// Its session and, if they are to be revoked, those before it that have not expired.
    pub sessions: Vec<SessionRevocation>,
}

/// A session and whether the upstream has confirmed that it is over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionRevocation {
    pub session_id: String,
    /// Whose session it was here, if it was one of ours.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub profile: Option<String>,
    pub at_upstream: UpstreamRevocation,
    /// Why it is not confirmed, if that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamRevocation {
    /// It was not asked for.
    NotRequested,
    Confirmed,
    /// It is tried again until it is confirmed or the session has expired.
    Pending,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sessions {
    pub upstream: String,
    /// Oldest first.
    pub sessions: Vec<UpstreamSession>,
    /// Whether there are more than are shown at once.
    #[serde(default)]
    pub truncated: bool,
}

/// An active session, as the upstream shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UpstreamSession {
    pub id: String,
    pub role_id: String,
    pub role_name: String,
    /// `user/019…`
    pub principal: String,
    /// RFC 3339, by the upstream's clock.
    pub issued_at: String,
    pub expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_ip: Option<String>,
    /// The profile whose session it is here, if it is one of ours.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub profile: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FailureStatus {
    pub since_seconds: u64,
    pub attempts: u32,
    /// To the next attempt: by itself while there is a session to keep, else when somebody asks.
    pub retry_in_seconds: u64,
    pub message: String,
}

/// Why a profile's role can or cannot be assumed, as the upstream's API shows it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub profile: String,
    pub upstream: String,
    pub role_id: String,
    /// Absent if the role could not be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role_name: Option<String>,
    /// `user/dev@example.test`; absent if nothing told who the token belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub principal: Option<String>,
    pub verdict: Outcome,
    /// Every condition, in the order in which the upstream looks at them.
    pub checks: Vec<Check>,
    /// What the upstream said when the daemon last tried, if that failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_failure: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Yes,
    No,
    /// It could not be read.
    Unknown,
}

/// One condition for assuming a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// `account`, `own policies`, `trust policy`.
    pub condition: String,
    pub outcome: Outcome,
    /// A sentence for people.
    pub reason: String,
    /// The statement that decides, if one does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub statement: Option<DecidingStatement>,
}

/// A statement and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecidingStatement {
    /// `policy AssumeProjectRoles of group developers`
    pub document: String,
    /// Counted from 1.
    pub number: usize,
    /// As it is written in the document.
    pub text: Value,
}

/// What was done with a profile's sessions, and by which programs it may have been done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Audit {
    pub profile: String,
    /// RFC 3339: where it begins.
    pub since: String,
    /// Oldest first.
    pub calls: Vec<AuditedCall>,
    /// Whether there are more calls than could be read or are shown at once.
    #[serde(default)]
    pub truncated: bool,
    /// Why the upstream's audit log could not be read; the daemon's own record is here all the same.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<Failure>,
    /// RFC 3339: before this the daemon has no record of who was given credentials. Absent if it has none at all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub journal_since: Option<String>,
    /// Who was given credentials of the profile, alike ones together.
    pub holders: Vec<HolderGroup>,
    /// Sessions of the profile that ended before their time.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ended_sessions: Vec<SessionEnded>,
}

/// One entry of the upstream's audit log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditedCall {
    /// RFC 3339.
    pub at: String,
    pub action: String,
    pub resource: String,
    pub status: String,
    pub ip_address: String,
    pub session_id: String,
    pub request_id: String,
    /// Indices into [`Audit::holders`]: those who had the session's credentials when the call was made. One alone, if the
    /// daemon itself made the call for it.
    pub holders: Vec<usize>,
}

/// Processes of the same programs that were given credentials of the same session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderGroup {
    /// How many there were.
    pub count: usize,
    #[serde(flatten)]
    pub first: CredentialHolder,
}

/// A process that was given credentials, as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialHolder {
    /// RFC 3339, by the upstream's clock: when it was given them.
    pub at: String,
    pub session_id: String,
    /// Whose session it is: `user/019…`.
    pub principal: String,
    pub profile: String,
    pub uid: u32,
    /// It was given nothing: the daemon made this one call for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
    /// The interface that it used: `socket` or `http`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub via: Option<String>,
    /// The process itself, then its parents, as far as they could be seen.
    pub processes: Vec<Process>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// The path of its program. Arguments are not kept: they may hold secrets.
    pub program: String,
}
