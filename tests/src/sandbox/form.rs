//! What a parameter must look like beyond its type, by its name. The contract says the same to clients.

use serde_json::Value;
use uuid::Uuid;

use super::clock;
use super::page::MOST;
use super::params::integer;

/// The longest description or reason, in characters.
const TEXT: usize = 1000;
/// The longest name, in characters.
const NAME: usize = 128;
/// The longest address (RFC 5321: a path of 256 with its brackets).
const EMAIL: usize = 254;
/// The longest filter that has no form of its own, in characters.
const FILTER: usize = 200;
/// The most groups that an invitation names.
const GROUPS: usize = 100;
/// Seconds a session may be asked to last.
const DURATION: std::ops::RangeInclusive<i64> = 900..=43_200;

/// A clause that says what is wrong with a parameter of a method, if anything is.
pub(super) fn flaw(method: &str, parameter: &str, value: &Value) -> Option<String> {
    let wrong = |is_right: bool, what: &str| (!is_right).then(|| what.to_owned());
    match (parameter, value) {
        ("limit", Value::Number(_)) => between(value, &(1..=MOST)),
        ("duration_seconds", Value::Number(_)) => between(value, &DURATION),
        ("group_ids", Value::Array(ids)) => group_ids(ids),
        ("from" | "to" | "expires_at", Value::String(time)) => wrong(
            clock::parse(time).is_some(),
            "it must be a time as RFC 3339 writes it",
        ),
        ("email", Value::String(email)) => wrong(is_email(email), "it must be an e-mail address"),
        ("description" | "reason", Value::String(text)) => wrong(
            text.chars().count() <= TEXT,
            &format!("it must be {TEXT} characters at the most"),
        ),
        ("name", Value::String(name)) if method.starts_with("list") => wrong(
            (1..=NAME + 1).contains(&name.chars().count()),
            "1 to 129 characters",
        ),
        ("name", Value::String(name)) => wrong(
            is_name(name),
            "1 to 128 letters, digits, spaces and _.@+=,/- with a letter or digit first",
        ),
        ("actor_type" | "principal_type", Value::String(word)) => {
            one_of(word, &["user", "service_account"])
        }
        ("status", Value::String(word)) if method == "listInvitations" => {
            one_of(word, &["pending", "accepted", "cancelled"])
        }
        ("status", Value::String(word)) => one_of(word, &["success", "denied", "error"]),
        ("action" | "resource_type" | "resource_id" | "ip_address", Value::String(text)) => wrong(
            (1..=FILTER).contains(&text.chars().count()),
            "1 to 200 characters",
        ),
        (_, Value::String(id)) => wrong(is_uuid(id), "it must be a UUID"),
        _ => None,
    }
}

fn between(number: &Value, range: &std::ops::RangeInclusive<i64>) -> Option<String> {
    let number = integer(number)?;
    (!range.contains(&number))
        .then(|| format!("{number} is not from {} to {}", range.start(), range.end()))
}

fn one_of(word: &str, known: &[&str]) -> Option<String> {
    (!known.contains(&word)).then(|| format!("it must be one of {}", known.join(", ")))
}

fn group_ids(ids: &[Value]) -> Option<String> {
    let mut seen = std::collections::BTreeSet::new();
    let right = ids
        .iter()
        .filter_map(Value::as_str)
        .all(|id| is_uuid(id) && seen.insert(id));
    (!right || ids.len() > GROUPS).then(|| format!("it must be up to {GROUPS} different UUIDs"))
}

/// With hyphens: the other spellings are not what the service hands out.
fn is_uuid(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

fn is_name(text: &str) -> bool {
    text.len() <= NAME
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|each| each.is_ascii_alphanumeric() || " _.@+=,/-".contains(each))
}

fn is_email(text: &str) -> bool {
    let printable = !text
        .chars()
        .any(|each| each.is_control() || each.is_whitespace());
    let halves = text
        .rsplit_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
    printable && halves && text.chars().count() <= EMAIL
}
