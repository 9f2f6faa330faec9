//! The part of the control interface below `/aws`.

use std::sync::Arc;

use hyper::http::request::Parts;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::fixture::ACCOUNT;
use super::policy::{Policy, PolicyKind};
use super::store::{Role, Store, new_id};
use super::{Aws, actions};
use crate::sandbox::clock::{Millis, to_rfc3339};
use crate::sandbox::control::{ControlResult, empty, parse};
use crate::sandbox::error::ApiError;
use crate::sandbox::fault::{CENTURY, Fault, FaultRule};

/// The name of the policy that the AWS console writes to revoke the sessions of a role.
const REVOKE_POLICY: &str = "AWSRevokeOlderSessions";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetClock {
    advance_seconds: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetPropagation {
    seconds: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Throttle {
    calls: u64,
    /// All actions if absent.
    action: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetRegion {
    region: String,
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetKey {
    active: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeSessions {
    /// AWS's console uses about 30.
    #[serde(default)]
    ahead_seconds: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetRole {
    name: String,
    account: Option<String>,
    trust: Value,
    policy: Option<Value>,
    max_session_seconds: Option<i64>,
}

impl Aws {
    /// `path` is what follows `/aws`; `now` is AWS's time.
    pub(in crate::sandbox) fn control(
        &self,
        path: &[&str],
        parts: &Parts,
        body: &[u8],
        now: Millis,
    ) -> ControlResult {
        match (parts.method.as_str(), path) {
            ("POST", ["faults"]) => {
                let rule: FaultRule = parse(body)?;
                rule.check(actions::exists).map_err(ApiError::invalid)?;
                Ok(json!({ "id": self.faults.add(rule) }))
            }
            ("GET", ["faults"]) => Ok(self.faults.list()),
            ("DELETE", ["faults"]) => {
                self.faults.clear();
                empty()
            }
            ("POST", ["throttle"]) => self.throttle(parse(body)?),

            ("GET", ["calls"]) => Ok(self.list_calls(parts)),
            ("DELETE", ["calls"]) => {
                self.call_log.clear();
                empty()
            }

            ("GET", ["clock"]) => Ok(self.show_clock(now)),
            ("POST", ["clock"]) => self.advance_clock(&parse(body)?, now),
            ("POST", ["propagation"]) => {
                let set: SetPropagation = parse(body)?;
                self.store().propagation = Millis::from(set.seconds) * 1000;
                empty()
            }
            ("POST", ["regions"]) => self.set_region(parse(body)?),

            ("POST", ["roles"]) => set_role(&mut self.store(), &parse(body)?, now),
            ("DELETE", ["roles", name]) => delete_role(&mut self.store(), name),
            ("POST", ["roles", name, "revoke-sessions"]) => {
                revoke_sessions(&mut self.store(), name, &parse(body)?, now)
            }
            ("POST", ["keys", id]) => set_key(&mut self.store(), id, &parse(body)?),
            ("DELETE", ["keys", id]) => delete_key(&mut self.store(), id),
            ("GET", ["users", name, "mfa-code"]) => mfa_code(&self.store(), name, now),

            (verb, _) => {
                let message = format!("no control call {verb} {}", parts.uri.path());
                Err(ApiError::new(404, "not_found", message))
            }
        }
    }

    /// Lets the next calls fail as AWS does for too many calls.
    fn throttle(&self, throttle: Throttle) -> ControlResult {
        let fault = Fault::Status {
            status: 400,
            code: Some("Throttling".into()),
            message: Some("Rate exceeded".into()),
            retry_after: None,
        };
        let action = throttle.action.unwrap_or("*".into());
        let rule = FaultRule::new(action, fault, throttle.calls);
        rule.check(actions::exists).map_err(ApiError::invalid)?;

        Ok(json!({ "id": self.faults.add(rule) }))
    }

    fn list_calls(&self, parts: &Parts) -> Value {
        let query = parts.uri.query().unwrap_or("");
        let action = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "action");

        self.call_log
            .list(action.as_ref().map(|(_, action)| &**action))
    }

    fn show_clock(&self, now: Millis) -> Value {
        json!({ "ahead_seconds": self.clock.ahead_seconds(), "now": to_rfc3339(now) })
    }

    fn advance_clock(&self, set: &SetClock, now: Millis) -> ControlResult {
        let seconds = set.advance_seconds;
        let ahead = self.clock.ahead_seconds().saturating_add(seconds);
        if ahead.unsigned_abs() > CENTURY {
            return Err(ApiError::invalid("advance_seconds: the limit is a century"));
        }

        self.clock.advance(seconds);
        Ok(self.show_clock(now + seconds * 1000))
    }

    fn set_region(&self, set: SetRegion) -> ControlResult {
        let disabled = &mut self.store().disabled_regions;
        if set.enabled {
            disabled.remove(&set.region);
        } else {
            disabled.insert(set.region);
        }
        empty()
    }
}

/// Creates a role, or replaces its policies.
fn set_role(store: &mut Store, set: &SetRole, now: Millis) -> ControlResult {
    let invalid = |error: super::AwsError| ApiError::invalid(error.message);
    let trust = Policy::parse(&set.trust.to_string(), PolicyKind::Trust).map_err(invalid)?;
    let policy = match &set.policy {
        Some(document) => {
            let document = document.to_string();
            Some(Policy::parse(&document, PolicyKind::Permissions).map_err(invalid)?)
        }
        None => None,
    };

    let account = set.account.as_deref().unwrap_or(ACCOUNT);
    let policies = policy.map(|policy| ("permissions".to_owned(), Arc::new(policy)));
    let previous = store.role_named(account, &set.name);
    let role = Role {
        account: account.into(),
        name: set.name.clone(),
        id: previous.map_or_else(|| new_id("AROA"), |role| role.id.clone()),
        created_at: previous.map_or(now, |role| role.created_at),
        max_session: set.max_session_seconds.unwrap_or(43_200),
        trust: Arc::new(trust),
        policies: policies.into_iter().collect(),
    };
    let arn = role.arn();
    store.roles.retain(|other| other.arn() != arn);
    store.roles.push(role);
    Ok(json!({ "arn": arn }))
}

fn delete_role(store: &mut Store, name: &str) -> ControlResult {
    let role = store.role_in_any_account(name);
    let arn = role.ok_or_else(|| ApiError::not_found("role", name))?.arn();

    store.roles.retain(|role| role.arn() != arn);
    empty()
}

/// Denies everything to the role's sessions that are older than now.
fn revoke_sessions(
    store: &mut Store,
    name: &str,
    revoke: &RevokeSessions,
    now: Millis,
) -> ControlResult {
    let before = to_rfc3339(now + revoke.ahead_seconds * 1000);
    let document = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Deny",
            "Action": ["*"],
            "Resource": ["*"],
            "Condition": { "DateLessThan": { "aws:TokenIssueTime": before } },
        }],
    });
    let policy = Policy::parse(&document.to_string(), PolicyKind::Permissions)
        .map_err(|error| ApiError::internal(error.message))?;

    let role = store.role_in_any_account(name);
    let role = role.ok_or_else(|| ApiError::not_found("role", name))?;
    role.policies.insert(REVOKE_POLICY.into(), Arc::new(policy));
    Ok(json!({ "issued_before": before }))
}

fn set_key(store: &mut Store, id: &str, set: &SetKey) -> ControlResult {
    let key = store.access_keys.get_mut(id);
    let key = key.ok_or_else(|| ApiError::not_found("access key", id))?;

    key.is_active = set.active;
    empty()
}

fn delete_key(store: &mut Store, id: &str) -> ControlResult {
    let removed = store.access_keys.remove(id);
    removed.ok_or_else(|| ApiError::not_found("access key", id))?;
    empty()
}

/// The current codes by the serial of each device of a user.
fn mfa_code(store: &Store, user: &str, now: Millis) -> ControlResult {
    let user = store.user_named(ACCOUNT, user);
    let Some(arn) = user.map(super::store::User::arn) else {
        return Err(ApiError::not_found("user", "without such a name"));
    };
    let devices = store
        .mfa_devices
        .iter()
        .filter(|device| device.owner == arn);
    let codes: Map<_, _> = devices
        .map(|device| (device.serial.clone(), device.code(now).into()))
        .collect();

    Ok(codes.into())
}
