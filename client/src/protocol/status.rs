//! The status of the daemon and its profiles.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::SessionEnded;

#[derive(Debug, Serialize, Deserialize)]
pub struct StatusPage {
    pub daemon: DaemonStatus,
    pub profiles: Vec<ProfileStatus>,
    /// Ask again with this as `after`; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// The protocol of an HTTP endpoint.
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
    /// The file with the value of the `Authorization` header. It changes: read it for each request. Instance metadata has
    /// none, and checks the caller's user instead.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DaemonStatus {
    pub version: String,
    pub pid: u32,
    pub uptime_seconds: u64,
    pub connections: usize,
    #[serde(flatten)]
    pub launch: LaunchStatus,
    /// The addresses of the HTTP endpoints. The keys are `container`, and `imds.` with a profile's name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub endpoints: BTreeMap<String, String>,
    /// The protections of the daemon's process.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub protection: Option<Protection>,
    /// Upstreams whose clock differs from this machine's.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub clocks: Vec<ClockStatus>,
    /// The last reload, if it failed. The configuration from before is in use.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failed_reload: Option<FailedReload>,
    /// Upstreams for which programs wait until a person enters a code of an MFA device.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub awaiting_mfa: Vec<String>,
    /// The files of AWS that some of the profiles are made of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub aws_files: Option<Box<AwsFilesStatus>>,
}

/// Files of AWS. Each section that can be served is a profile.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AwsFilesStatus {
    pub config: String,
    pub credentials: String,
    /// How many sections are not served.
    pub not_served_count: usize,
    /// The first of them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub not_served: Vec<NotServedSection>,
}

/// A section of a file of AWS that is no profile.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NotServedSection {
    pub section: String,
    pub file: String,
    /// From 1.
    pub line: usize,
    pub reason: String,
}

/// A reload that was rejected.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FailedReload {
    /// RFC 3339.
    pub at: String,
    pub reason: String,
}

/// How the daemon was started, and what it works with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LaunchStatus {
    #[serde(default)]
    pub config: String,
    #[serde(default)]
    pub socket: String,
    /// The folder of holds and the journal. None for a user without one: then nothing is stored.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state: Option<String>,
    /// Why nothing is stored in that folder.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state_problem: Option<String>,
    /// `client`, `service manager` or `person`.
    #[serde(default)]
    pub started_by: String,
    /// Variables that would matter, and that a daemon which a client starts does not get.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ignored_variables: Vec<String>,
    /// Identifies the network namespace, where there are any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub network: Option<String>,
}

/// The protections of the daemon's process: each is `active`, or `off: ` and the reason.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Protection {
    /// No core dumps, no tracing by other processes, and secrets locked in memory.
    pub memory: String,
    /// Restricts access to files.
    pub landlock: String,
    /// Restricts system calls.
    pub seccomp: String,
    /// Identifies the calling processes.
    #[serde(default)]
    pub peer_inspector: String,
    /// Files of the system's resolver and certificate store that the daemon cannot read, each with the remedy.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub unreadable_files: Vec<String>,
}

/// A clock difference. Services reject signatures whose time differs too much, usually by five minutes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClockStatus {
    pub upstream: String,
    /// This machine's time minus the upstream's.
    pub ahead_seconds: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProfileStatus {
    pub profile: String,
    pub upstream: String,
    pub role_id: String,
    /// The region that the configuration gives to consumers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub region: Option<String>,
    pub state: ProfileState,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<SessionStatus>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<FailureStatus>,
    /// Why the profile is held, until the user resumes it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held: Option<SessionEnded>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileState {
    /// It has no session: no program uses it.
    Idle,
    Fresh,
    /// The session is served, and due for a refresh.
    Aging,
    Expired,
    /// It is not served until the user resumes it.
    Held,
    /// It has no session that can be served, and the upstream is being called.
    Fetching,
    /// A program waits for the user's approval.
    WaitingForApproval,
    /// It has no session that can be served, and the last call failed.
    Failing,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionStatus {
    pub id: String,
    pub age_seconds: u64,
    /// The time until the session expires.
    pub expires_in_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refresh_in_seconds: Option<u64>,
    /// No program has used it recently: it is refreshed only on the next request.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub is_unused: bool,
    /// The age of the last successful revocation check. None if the upstream cannot be asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub view_age_seconds: Option<u64>,
    /// The check is older than the profile's limit.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub is_view_stale: bool,
    /// Why the last revocation check failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub view_failure: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FailureStatus {
    pub since_seconds: u64,
    pub attempts: u32,
    /// The time until the next attempt.
    pub retry_in_seconds: u64,
    /// The daemon does not make the attempt by itself. The first request after that time does.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub is_retried_on_request: bool,
    pub message: String,
}
