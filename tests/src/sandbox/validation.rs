//! Restrictions of parameters beyond their types, by name. The contract documents the same ones.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use serde_json::Value;
use uuid::Uuid;

use super::clock;
use super::pagination::MAX_LIMIT;
use super::params::integer;

/// Characters of a description or a reason.
const MAX_TEXT: usize = 1000;
/// Characters of a name.
const MAX_NAME: usize = 128;
/// Characters of an e-mail address (RFC 5321: a path of 256 with its brackets).
const MAX_EMAIL: usize = 254;
/// Characters of a filter without a format of its own.
const MAX_FILTER: usize = 200;
/// Groups of an invitation.
const MAX_GROUPS: usize = 100;
/// Seconds of a session.
const DURATION: RangeInclusive<i64> = 900..=43_200;

/// Checks a parameter of a method. The error is a clause for a message.
pub(super) fn check(method: &str, parameter: &str, value: &Value) -> Result<(), String> {
    match (parameter, value) {
        ("limit", Value::Number(_)) => check_range(value, &(1..=MAX_LIMIT)),
        ("duration_seconds", Value::Number(_)) => check_range(value, &DURATION),
        ("group_ids", Value::Array(ids)) => check_group_ids(ids),
        (_, Value::String(text)) => check_text(method, parameter, text),
        _ => Ok(()),
    }
}

fn check_text(method: &str, parameter: &str, text: &str) -> Result<(), String> {
    let length = text.chars().count();

    match parameter {
        "from" | "to" | "expires_at" => require(
            clock::parse_rfc3339(text).is_some(),
            "it must be an RFC 3339 time",
        ),
        "email" => require(is_email(text), "it must be an e-mail address"),
        "description" | "reason" => require(
            length <= MAX_TEXT,
            &format!("it must have at most {MAX_TEXT} characters"),
        ),
        // A filter may end with `*`.
        "name" if method.starts_with("list") => require(
            (1..=MAX_NAME + 1).contains(&length),
            "it must have 1 to 129 characters",
        ),
        "name" => require(
            is_name(text),
            "it must be 1 to 128 letters, digits, spaces and _.@+=,/- and start with a letter or digit",
        ),
        "actor_type" | "principal_type" => check_choice(text, &["user", "service_account"]),
        "status" if method == "listInvitations" => {
            check_choice(text, &["pending", "accepted", "cancelled"])
        }
        "status" => check_choice(text, &["success", "denied", "error"]),
        "action" | "resource_type" | "resource_id" | "ip_address" => require(
            (1..=MAX_FILTER).contains(&length),
            "it must have 1 to 200 characters",
        ),
        _ => require(is_uuid(text), "it must be a UUID"),
    }
}

fn require(is_valid: bool, rule: &str) -> Result<(), String> {
    if is_valid { Ok(()) } else { Err(rule.into()) }
}

fn check_range(value: &Value, range: &RangeInclusive<i64>) -> Result<(), String> {
    match integer(value) {
        Some(number) if !range.contains(&number) => Err(format!(
            "{number} is not from {} to {}",
            range.start(),
            range.end()
        )),
        _ => Ok(()),
    }
}

fn check_choice(text: &str, choices: &[&str]) -> Result<(), String> {
    require(
        choices.contains(&text),
        &format!("it must be one of {}", choices.join(", ")),
    )
}

fn check_group_ids(ids: &[Value]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let are_distinct_uuids = ids
        .iter()
        .filter_map(Value::as_str)
        .all(|id| is_uuid(id) && seen.insert(id));

    require(
        are_distinct_uuids && ids.len() <= MAX_GROUPS,
        &format!("it must be at most {MAX_GROUPS} distinct UUIDs"),
    )
}

/// Only the form with hyphens, which the service issues.
fn is_uuid(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || " _.@+=,/-".contains(character))
}

fn is_email(text: &str) -> bool {
    let is_printable = !text
        .chars()
        .any(|character| character.is_control() || character.is_whitespace());
    let has_two_parts = text
        .rsplit_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());

    is_printable && has_two_parts && text.chars().count() <= MAX_EMAIL
}
