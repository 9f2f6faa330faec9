//! Candidates for completion: profiles, upstreams, and ids of short lists. It asks a running daemon, and ignores errors. It
//! must never offer a word that a shell would interpret: upstreams choose their ids.

use std::collections::BTreeSet;

use clap_complete::CompletionCandidate;
use rolekeeper::connect;
use rolekeeper::protocol::{IamCall, ProfileStatus, Request};
use serde_json::{Map, Value};

use crate::command::{printable, status};

/// The maximum number of ids to offer.
const MAX_IDS: u32 = 200;

pub(crate) fn profiles() -> Vec<CompletionCandidate> {
    let profiles = statuses().unwrap_or_default();
    profiles
        .iter()
        .filter_map(|status| offer(&status.profile))
        .collect()
}

/// The upstreams that profiles use.
pub(crate) fn upstreams() -> Vec<CompletionCandidate> {
    let names: BTreeSet<_> = statuses()
        .unwrap_or_default()
        .into_iter()
        .map(|status| status.upstream)
        .collect();
    names.iter().filter_map(|name| offer(name)).collect()
}

fn statuses() -> Option<Vec<ProfileStatus>> {
    Some(status::read(&mut open()?).ok()?.profiles)
}

/// Letters, digits, `.`, `_` and `-`, and no option: no shell interprets those.
fn offer(word: &str) -> Option<CompletionCandidate> {
    let harmless = |each: char| each.is_ascii_alphanumeric() || "._-".contains(each);
    (!word.is_empty() && !word.starts_with('-') && word.chars().all(harmless))
        .then(|| CompletionCandidate::new(word))
}

/// The method that lists the values of an id parameter.
pub(super) fn list_of(parameter: &str) -> Option<&'static str> {
    match parameter {
        "role_id" => Some("listRoles"),
        "policy_id" => Some("listPolicies"),
        "group_id" | "group_ids" => Some("listGroups"),
        "user_id" => Some("listUsers"),
        "service_account_id" => Some("listServiceAccounts"),
        "invitation_id" => Some("listInvitations"),
        "session_id" => Some("listSTSSessions"),
        _ => None,
    }
}

/// Ids with their names.
pub(super) fn ids(list: &str) -> Vec<CompletionCandidate> {
    list_ids(list).unwrap_or_default()
}

fn list_ids(list: &str) -> Option<Vec<CompletionCandidate>> {
    let parameters = Map::from_iter([("limit".to_owned(), Value::from(MAX_IDS))]);
    let call = IamCall {
        upstream: given("--upstream").map(Into::into),
        profile: given("--profile").map(Into::into),
        method: list.into(),
        parameters,
    };

    let reply: Value =
        serde_json::from_str(&connect::document(&mut open()?, Request::Iam(call)).ok()?).ok()?;
    Some(
        reply
            .get("items")?
            .as_array()?
            .iter()
            .filter_map(id)
            .collect(),
    )
}

fn id(item: &Value) -> Option<CompletionCandidate> {
    let name = ["name", "email", "role_name"]
        .into_iter()
        .find_map(|key| item.get(key)?.as_str());
    Some(offer(item.get("id")?.as_str()?)?.help(name.map(|name| printable(name).into())))
}

fn open() -> Option<interprocess::local_socket::Stream> {
    status::open_for_completion(&connect::socket_path(given("--socket").map(Into::into)).ok()?)
}

/// An option's value in the line to complete: `--socket PATH` or `--socket=PATH`.
fn given(option: &str) -> Option<String> {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    while let Some(word) = words.next() {
        match word.strip_prefix(option) {
            Some("") => return words.next(),
            Some(rest) if rest.starts_with('=') => return rest.strip_prefix('=').map(Into::into),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_a_shell_would_interpret_are_not_offered() {
        let within = " \t\n\u{b}\u{1b}!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~é\u{202e}"
            .chars()
            .map(|each| format!("a{each}b"));
        for word in within.chain(["", "-", "-y", "--yes", "$(id)", "../a"].map(Into::into)) {
            assert!(offer(&word).is_none(), "{word:?}");
            assert!(
                id(&serde_json::json!({ "id": word, "name": "x" })).is_none(),
                "{word:?}"
            );
        }
        for word in [
            "dev",
            "550e8400-e29b-41d4-a716-446655440000",
            "a.b_c-1",
            "_",
        ] {
            assert_eq!(offer(word).unwrap().get_value(), word);
        }
        let named = id(&serde_json::json!({ "id": "r-1", "name": "a\tb\n$(id)" })).unwrap();
        assert_eq!(
            named.get_help().unwrap().to_string(),
            "a\u{fffd}b\u{fffd}$(id)"
        );
    }
}
