//! What is written down, and how it reads.

use rolekeeper::protocol::{CredentialHolder, Process, SessionEnded};
use serde::{Deserialize, Serialize};

/// One record. What tells them apart are their fields.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Record {
    Event(Event),
    Ended {
        profile: String,
        #[serde(flatten)]
        ending: SessionEnded,
    },
    Issuance(CredentialHolder),
}

/// What happened beside that somebody was given credentials, or that a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) event: What,
    /// RFC 3339, by this machine's clock.
    pub(super) at: String,
    /// The profile, or the upstream for a login.
    pub(super) of: String,
    pub(super) uid: u32,
    /// The name of a refusal, as the client shows it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) message: Option<String>,
    /// How many alike, or that came too fast, are not written for themselves.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) left_out: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(super) processes: Vec<Process>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Somebody was not given credentials.
    Refused,
    /// A person was asked.
    Asked,
    /// They said something, or nothing in time.
    Answered,
    /// A token was put in the place of another.
    LoggedIn,
}

impl What {
    fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Asked => "asked",
            Self::Answered => "answered",
            Self::LoggedIn => "logged_in",
        }
    }
}

impl Record {
    pub(super) fn profile(&self) -> &str {
        match self {
            Self::Event(event) => &event.of,
            Self::Ended { profile, .. } => profile,
            Self::Issuance(holder) => &holder.profile,
        }
    }

    pub(super) fn at(&self) -> &str {
        match self {
            Self::Event(event) => &event.at,
            Self::Ended { ending, .. } => &ending.noticed_at,
            Self::Issuance(holder) => &holder.at,
        }
    }

    /// For logs that have names for what they are told.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("PROFILE", self.profile().to_owned())];
        let processes = match self {
            Self::Event(event) => {
                fields.push(("EVENT", event.event.as_str().into()));
                fields.push(("UID", event.uid.to_string()));
                fields.extend(event.code.clone().map(|code| ("CODE", code)));
                event.processes.first()
            }
            Self::Ended { ending, .. } => {
                fields.push(("EVENT", "ended".into()));
                fields.extend(ending.session_id.clone().map(|id| ("SESSION", id)));
                None
            }
            Self::Issuance(holder) => {
                fields.push((
                    "EVENT",
                    if holder.request_id.is_some() {
                        "called"
                    } else {
                        "lease"
                    }
                    .into(),
                ));
                fields.push(("UID", holder.uid.to_string()));
                fields.push(("SESSION", holder.session_id.clone()));
                holder.processes.first()
            }
        };
        if let Some(Process { pid, program }) = processes {
            fields.push(("PID", pid.to_string()));
            fields.push(("EXECUTABLE", program.clone()));
        }
        fields
    }
}

#[cfg(test)]
impl Event {
    pub(super) fn example(event: What) -> Self {
        let at = "2026-01-01T00:00:00.000Z".into();
        let (code, message, left_out) = (None, None, None);
        Self {
            event,
            at,
            of: "dev".into(),
            uid: 1000,
            code,
            message,
            left_out,
            processes: Vec::new(),
        }
    }
}
