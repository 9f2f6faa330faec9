//! A reply of an upstream, after a line with its status and `Retry-After`. No error contains the token or control characters.
//! Only a 401 requires a login. A valid session lasts as long as requested.

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
        let message = error.to_string();
        assert!(
            !message.contains("canary-token") && !message.contains(char::is_control),
            "{message}"
        );
        assert!(
            status == 401
                || !matches!(error.to_upstream_error(), UpstreamError::LoginNeeded { .. }),
            "{message}"
        );
    }
    if let Some((session, end)) = serde_json::from_str(body)
        .ok()
        .and_then(|it| fuzzing::granted(it, HOUR))
    {
        let life = Duration::try_from(end.duration_since(session.issued_at))
            .expect("an end after the start");
        assert!(!life.is_zero() && life <= HOUR + SLACK && end <= session.expires_at);
    }
    let Ok(body) = serde_json::from_str(body) else {
        return;
    };
    [
        check_page::<Session>,
        check_page::<Role>,
        check_page::<Policy>,
        check_page::<AuditLogEntry>,
    ]
    .iter()
    .for_each(|check| check(&body));
    [
        check_page::<User>,
        check_page::<Group>,
        check_page::<ServiceAccount>,
        check_page::<Invitation>,
    ]
    .iter()
    .for_each(|check| check(&body));
}

const HOUR: Duration = Duration::from_secs(3600);

/// A page is valid exactly if each of its items and the marker are.
fn check_page<T: DeserializeOwned>(body: &Value) {
    let Some(items) = body.get("items").and_then(Value::as_array) else {
        return;
    };
    let has_valid_items = items.iter().all(|item| T::deserialize(item).is_ok());
    let has_valid_marker = body
        .get("next_marker")
        .is_none_or(|marker| marker.is_null() || marker.is_string());
    assert_eq!(
        Page::<T>::deserialize(body).is_ok(),
        has_valid_items && has_valid_marker
    );
}
