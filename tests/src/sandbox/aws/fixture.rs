//! The accounts at the start, and what the ready line has of them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::mfa::MfaDevice;
use super::policy::{Policy, PolicyKind};
use super::store::{Role, Store, User, new_id};
use super::{arn, base32};
use crate::sandbox::clock::Millis;

pub(super) const ACCOUNT: &str = "111122223333";
/// Its role `target` trusts a role of [`ACCOUNT`].
const OTHER_ACCOUNT: &str = "444455556666";

/// In base 32. It contains `CANARY` for the leak search of the tests.
const SEED: &str = "CANARYSEEDOFTHESANDBOXAAAAAAAAAA";

/// In seconds.
const HOUR: i64 = 3600;

pub(super) fn load(now: Millis) -> (Store, Value) {
    let mut store = Store::default();
    let anything_here = [format!("arn:aws:iam::{ACCOUNT}:role/*")];

    let ada = add_user(&mut store, "ada", &administrator(), now);
    let ben = add_user(&mut store, "ben", &json!([]), now);
    let ci = add_user(&mut store, "ci", &json!([assume(&anything_here)]), now);

    let serial = arn::mfa_device(ACCOUNT, "ada");
    let owner = arn::user(ACCOUNT, "ada");
    // The seed is valid.
    let seed = base32::decode(SEED).unwrap_or_default();
    let device = MfaDevice::new(serial.clone(), owner, seed, now);
    store.mfa_devices.push(device);

    add_roles(&mut store, now);
    let roles: serde_json::Map<_, _> = store
        .roles
        .iter()
        .map(|role| (role.name.clone(), role.arn().into()))
        .collect();
    let ready = json!({
        "account": ACCOUNT,
        "users": { "ada": ada, "ben": ben, "ci": ci },
        "mfa": { "serial": serial, "seed": SEED },
        "roles": roles,
    });
    (store, ready)
}

/// Returns the user's ARN and key for the ready line.
fn add_user(store: &mut Store, name: &str, statements: &Value, now: Millis) -> Value {
    let user = User {
        account: ACCOUNT.into(),
        name: name.into(),
        id: new_id("AIDA"),
        created_at: now,
        policies: permissions(statements).into_iter().collect(),
    };
    let (id, arn) = (user.id.clone(), user.arn());
    store.users.push(user);

    // Known at once, whatever the delay of new keys is.
    let key = store.add_key(&id, 0);
    json!({ "arn": arn, "access_key_id": key.id, "secret_access_key": key.secret })
}

/// What `ada` may do: everything in her account, and assume roles of others.
fn administrator() -> Value {
    json!([{ "Effect": "Allow", "Action": "*", "Resource": "*" }])
}

fn assume(resources: &[String]) -> Value {
    json!({
        "Effect": "Allow",
        "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
        "Resource": resources,
    })
}

fn add_roles(store: &mut Store, now: Millis) {
    let root = format!("arn:aws:iam::{ACCOUNT}:root");
    let reader = arn::role(ACCOUNT, "reader");
    let target = arn::role(OTHER_ACCOUNT, "target");

    let read = json!([
        { "Effect": "Allow", "Action": ["s3:Get*", "s3:List*", "sts:GetAccessKeyInfo"], "Resource": "*" },
        assume(&[target]),
    ]);
    let nothing = json!([]);
    let trusts = |condition: Value| trust(&root, &["sts:AssumeRole"], &condition);
    let mfa = json!({ "Bool": { "aws:MultiFactorAuthPresent": "true" } });
    let external_id = json!({ "StringEquals": { "sts:ExternalId": "x-1" } });
    let tagged = trust(
        &root,
        &["sts:AssumeRole", "sts:TagSession"],
        &json!({ "StringEquals": { "aws:RequestTag/team": "core" } }),
    );
    let named = trust(
        &root,
        &["sts:AssumeRole", "sts:SetSourceIdentity"],
        &json!({ "StringLike": { "sts:SourceIdentity": "*" } }),
    );
    let chained = trust(&reader, &["sts:AssumeRole"], &json!({}));

    let table = [
        (ACCOUNT, "reader", 12 * HOUR, trusts(json!({})), &read),
        (ACCOUNT, "admin", 12 * HOUR, trusts(mfa), &administrator()),
        (ACCOUNT, "partner", 12 * HOUR, trusts(external_id), &nothing),
        (ACCOUNT, "short", HOUR, trusts(json!({})), &nothing),
        (ACCOUNT, "tagged", 12 * HOUR, tagged, &nothing),
        (ACCOUNT, "named", 12 * HOUR, named, &nothing),
        (OTHER_ACCOUNT, "target", 12 * HOUR, chained, &nothing),
    ];
    for (account, name, max_session, trust, statements) in table {
        // The documents are valid.
        let Ok(trust) = Policy::parse(&trust.to_string(), PolicyKind::Trust) else {
            continue;
        };
        let policies = permissions(statements).map(|policy| ("permissions".into(), policy));
        store.roles.push(Role {
            account: account.into(),
            name: name.into(),
            id: new_id("AROA"),
            created_at: now,
            max_session,
            trust: Arc::new(trust),
            policies: policies.into_iter().collect(),
        });
    }
}

fn trust(principal: &str, actions: &[&str], condition: &Value) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": { "AWS": principal },
            "Action": actions,
            "Condition": condition,
        }],
    })
}

/// `None` without statements.
fn permissions(statements: &Value) -> Option<Arc<Policy>> {
    if statements.as_array().is_none_or(Vec::is_empty) {
        return None;
    }

    let document = json!({ "Version": "2012-10-17", "Statement": statements });
    let policy = Policy::parse(&document.to_string(), PolicyKind::Permissions);
    policy.ok().map(Arc::new)
}
