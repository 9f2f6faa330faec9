//! What an upstream answers, after a line with its status and `Retry-After`. No error shows the token or moves a cursor;
//! only a 401 asks for a login; a session that is believed lasts as long as was asked for.

use std::time::Duration;

use rolekeeperd::fuzzing;
use rolekeeperd::upstream::bycloud::{
    AuditLogEntry, Group, Invitation, Page, Policy, Role, ServiceAccount, Session, User,
};
use rolekeeperd::upstream::{SLACK, UpstreamError};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub fn run(bytes: &[u8]) {
    let text = super::text(bytes);
    let (head, body) = text.split_once('\n').unwrap_or_default();
    let (status, retry_after) = head.split_once(' ').unwrap_or((head, ""));
    let status = status.parse().unwrap_or(200);
    if let Some(error) =
        fuzzing::refusal(status, retry_after, body.as_bytes(), &"canary-token".into())
    {
        let shown = error.to_string();
        assert!(
            !shown.contains("canary-token") && !shown.contains(char::is_control),
            "{shown}"
        );
        assert!(
            status == 401
                || !matches!(error.to_upstream_error(), UpstreamError::LoginNeeded { .. }),
            "{shown}"
        );
    }
    if let Some((session, end)) = serde_json::from_str(body)
        .ok()
        .and_then(|it| fuzzing::granted(it, HOUR))
    {
        let life = Duration::try_from(end.duration_since(session.issued_at))
            .expect("an end behind the start");
        assert!(!life.is_zero() && life <= HOUR + SLACK && end <= session.expires_at);
    }
    let Ok(body) = serde_json::from_str(body) else {
        return;
    };
    [
        page::<Session>,
        page::<Role>,
        page::<Policy>,
        page::<AuditLogEntry>,
    ]
    .iter()
    .for_each(|page| page(&body));
    [
        page::<User>,
        page::<Group>,
        page::<ServiceAccount>,
        page::<Invitation>,
    ]
    .iter()
    .for_each(|page| page(&body));
}

const HOUR: Duration = Duration::from_secs(3600);

/// A page is understood if each of its items is, and the marker, and not otherwise.
fn page<T: DeserializeOwned>(body: &Value) {
    let Some(items) = body.get("items").and_then(Value::as_array) else {
        return;
    };
    let is_understood = items.iter().all(|item| T::deserialize(item).is_ok());
    let is_marked = body
        .get("next_marker")
        .is_none_or(|marker| marker.is_null() || marker.is_string());
    assert_eq!(
        Page::<T>::deserialize(body).is_ok(),
        is_understood && is_marked
    );
}
