//! What a shell may offer: profiles, and ids where one short list has them. It asks the daemon that is running, never
//! starts one, and stays silent about every failure: a completion is no place for errors.

use std::time::Duration;

use clap_complete::CompletionCandidate;
use interprocess::local_socket::prelude::*;
use rolekeeper::connect;
use rolekeeper::protocol::{IamCall, Reply, Request};
use serde_json::{Map, Value};

use crate::command::printable;

/// Somebody waits at a prompt.
const PATIENCE: Duration = Duration::from_millis(800);
/// The most ids that are worth offering.
const MOST: u32 = 200;

pub(crate) fn profiles() -> Vec<CompletionCandidate> {
    names().unwrap_or_default()
}

fn names() -> Option<Vec<CompletionCandidate>> {
    let mut stream = open()?;
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let text = connect::ask(&mut stream, Request::Status { after: after.map(Into::into) }).ok()?;
        let Reply::Status(page) = connect::reply(&text).ok()? else { return None };
        found.extend(page.profiles.iter().map(|profile| CompletionCandidate::new(&profile.profile)));
        after = match page.next {
            Some(next) => Some(next),
            None => return Some(found),
        };
    }
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
    let (upstream, profile) = (given("--upstream").map(Into::into), given("--profile").map(Into::into));
    let call = IamCall { upstream, profile, method: list.into(), parameters };
    let reply: Value = serde_json::from_str(&connect::document(&mut open()?, Request::Iam(call)).ok()?).ok()?;
    let candidates = reply.get("items")?.as_array()?.iter().filter_map(|item| {
        let name = ["name", "email", "role_name"].into_iter().find_map(|key| item.get(key)?.as_str());
        Some(CompletionCandidate::new(item.get("id")?.as_str()?).help(name.map(|name| printable(name).into())))
    });
    Some(candidates.collect())
}

fn open() -> Option<interprocess::local_socket::Stream> {
    let stream = connect::open(&connect::socket_path(given("--socket").map(Into::into)).ok()?).ok()??;
    stream.set_recv_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
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
