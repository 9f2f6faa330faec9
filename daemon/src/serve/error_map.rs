//! From what the broker says to what a peer reads: the one table of codes and hints.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use rolekeeper::protocol::{self, Code, Failure};
use secrecy::ExposeSecret;

use crate::clock::Now;
use crate::credentials::{AccessError, Lease};
use crate::refresh::policy::BackoffState;
use crate::upstream::{RefusalKind, UpstreamError};

/// The lease as it crosses the socket, expiry in whole seconds so that rounding never makes it later.
pub fn lease(lease: &Lease) -> protocol::Lease<'_> {
    let (granted, profile) = (&lease.session.granted, &lease.entry.profile);
    protocol::Lease {
        access_key_id: (*granted.access_key_id).into(),
        secret_access_key: granted.secret_access_key.expose_secret().into(),
        session_token: granted.session_token.expose_secret().into(),
        expires_at: shown(&lease.expires_at).into(),
        session_id: (*granted.session_id).into(),
        ends_at: shown(&granted.expires_at).into(),
        generation: lease.session.generation.number(),
        view_age_seconds: lease.stale_view.map(|age| age.as_secs()),
        region: profile.region.as_ref().map(|region| region.as_str().into()),
        account_id: profile
            .account_id
            .as_ref()
            .map(|account| account.as_str().into()),
    }
}

/// RFC 3339 in UTC, with a `Z`.
pub(super) fn shown(at: &Timestamp) -> String {
    DateTimePrinter::new()
        .precision(Some(0))
        .timestamp_to_string(at)
}

/// The most text of one part, in bytes: escaped as JSON in JSON it is twice as long at the most.
const PART: usize = 30 * 1024;

/// A document in parts that fit frames.
pub fn parts(document: &str) -> impl Iterator<Item = protocol::Part<'_>> {
    let mut rest = Some(document);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let end = (0..=PART.min(text.len()))
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or_default();
        let (part, after) = text.split_at(end);
        rest = Some(after).filter(|after| !after.is_empty());
        Some(protocol::Part {
            text: part.into(),
            more: rest.is_some(),
        })
    })
}

/// The refusal as a failure: code, sentence and what to do next.
pub fn failure(refusal: &AccessError) -> Failure {
    let (code, hint) = match refusal {
        AccessError::UnknownProfile { nearest, .. } => (
            Code::UnknownProfile,
            match nearest {
                Some(name) => format!("`{name}`, if that was meant; rolekeeper status lists the profiles"),
                None => {
                    "rolekeeper status, which lists the profiles; one is added in the daemon's configuration".into()
                }
            },
        ),
        AccessError::Denied(denied) => (Code::NotAllowed, denied.hint()),
        AccessError::Held { profile, .. } => (
            Code::Held,
            format!("rolekeeper audit {profile}, which shows what was done with it; then rolekeeper resume {profile}"),
        ),
        AccessError::ViewStale { .. } => {
            (Code::ViewStale, "again in a while, or see why the upstream cannot be asked".into())
        }
        AccessError::BackoffState(failing, now) => return failing_upstream(failing, now),
        AccessError::StillWaiting => (Code::UpstreamUnavailable, "again in a while; the request is still under way".into()),
        AccessError::TooSlow => (Code::UpstreamUnavailable, "again in a while".into()),
        AccessError::Stopping => (Code::ShuttingDown, "again, which starts another daemon".into()),
        AccessError::NoEndpoint(_) => (
            Code::Configuration,
            "another port under [endpoint] in the configuration, or see what listens there".into(),
        ),
        AccessError::Iam(error) => (error.code(), error.hint()),
        AccessError::NotConfirmed { .. } => (
            Code::NotAllowed,
            "again, and rolekeeper approve in a terminal, or the desktop's notification, while it is asked".into(),
        ),
        AccessError::NothingToApprove(_) => (Code::Usage, "rolekeeper approve, which shows what is asked now".into()),
        AccessError::NotAPerson => (Code::NotAllowed, "rolekeeper approve in a terminal of your own".into()),
        AccessError::OfSession => {
            (Code::Usage, "the access token of a user, or the secret of a service account's credential".into())
        }
        AccessError::NoJournal => (Code::Configuration, "a state folder that can be written: XDG_STATE_HOME".into()),
        AccessError::NotRotated(why) => (Code::Usage, why.hint()),
        AccessError::BrokeOff => (Code::Unexpected, "again; rolekeeperd's log says what happened".into()),
    };
    Failure::new(code, refusal.to_string(), hint)
}

fn failing_upstream(failing: &BackoffState, now: &Now) -> Failure {
    let wait = failing.next_try.since(now.boot).as_secs_f64().ceil();
    let (code, hint) = match &failing.error {
        UpstreamError::Unavailable { .. } => {
            let since = DateTimePrinter::new()
                .precision(Some(0))
                .timestamp_to_string(&now.wall_of(failing.since));
            let history = match failing.attempts {
                0 | 1 => String::new(),
                attempts => format!("; failing since {since}, {attempts} attempts"),
            };
            (
                Code::UpstreamUnavailable,
                format!("again in {wait} s, when the upstream is asked again{history}"),
            )
        }
        UpstreamError::LoginNeeded { hint, .. } => (
            Code::LoginNeeded,
            format!("{hint}; it is read again in {wait} s"),
        ),
        UpstreamError::Refused { why, .. } => {
            let (code, what) = match why {
                RefusalKind::NotFound => (
                    Code::RoleGone,
                    "the profile's role_id: the role may have been deleted",
                ),
                RefusalKind::NotTrusted => (
                    Code::TrustDenied,
                    "the role's trust policy, and whose token it is; rolekeeper explain PROFILE shows both",
                ),
                RefusalKind::AccountDisabled => {
                    (Code::AccountDisabled, "whoever may enable the account")
                }
                RefusalKind::Other => (
                    Code::UpstreamRefused,
                    "the profile's role_id and duration, and the role's trust policy and yours",
                ),
            };
            (code, format!("{what}; asked again after {wait} s"))
        }
    };
    Failure::new(code, failing.error.to_string(), hint)
}
