//! What a shell may offer: profiles, upstreams, and ids where one short list has them. It asks the daemon that is running,
//! never starts one, and stays silent about every failure: a completion is no place for errors. It must never offer what a
//! shell would act on: what is chosen lands in a command line as it stands, and upstreams choose their ids.

use std::collections::BTreeSet;

use clap_complete::CompletionCandidate;
use rolekeeper::connect;
use rolekeeper::protocol::{IamCall, ProfileStatus, Request};
use serde_json::{Map, Value};

use crate::command::{printable, status};

/// The most ids that are worth offering.
const MOST: u32 = 200;

pub(crate) fn profiles() -> Vec<CompletionCandidate> {
    let profiles = statuses().unwrap_or_default();
    profiles
        .iter()
        .filter_map(|status| offer(&status.profile))
        .collect()
}

/// Those that profiles use: the daemon tells of no others.
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

/// Letters, digits, `.`, `_` and `-`, and no option: no shell does anything with those.
fn offer(word: &str) -> Option<CompletionCandidate> {
    let harmless = |each: char| each.is_ascii_alphanumeric() || "._-".contains(each);
    (!word.is_empty() && !word.starts_with('-') && word.chars().all(harmless))
        .then(|| CompletionCandidate::new(word))
}

/// The list method that shows what an id parameter can be.
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

/// Ids, each with what people call it.
pub(super) fn ids(list: &str) -> Vec<CompletionCandidate> {
    list_ids(list).unwrap_or_default()
}

fn list_ids(list: &str) -> Option<Vec<CompletionCandidate>> {
    let parameters = Map::from_iter([("limit".to_owned(), Value::from(MOST))]);
    let (upstream, profile) = (
        given("--upstream").map(Into::into),
        given("--profile").map(Into::into),
    );
    let call = IamCall {
        upstream,
        profile,
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
    status::open_soon(&connect::socket_path(given("--socket").map(Into::into)).ok()?)
}

/// What an option was given in the line that is being completed: `--socket PATH` or `--socket=PATH`.
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
    fn nothing_is_offered_that_a_shell_or_this_program_would_act_on() {
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
