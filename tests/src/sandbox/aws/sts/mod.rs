//! The actions of STS, except `AssumeRole`.

mod assume_role;
mod texts;

pub(super) use assume_role::assume_role;

use std::collections::{BTreeMap, BTreeSet};

use super::actions::Call;
use super::error::AwsError;
use super::params::Problems;
use super::store::{Session, SessionOf, new_id, new_secret, new_session_token};
use crate::sandbox::clock::{Millis, to_rfc3339};
use crate::sandbox::xml::Xml;
use texts::{ACCESS_KEY_ID, SERIAL_NUMBER, TOKEN_CODE};

/// In seconds.
const SESSION_TOKEN_DURATION: std::ops::RangeInclusive<i64> = 900..=129_600;
const DEFAULT_SESSION_TOKEN_DURATION: i64 = 43_200;

/// Needs no permission, and cannot be denied.
pub(super) fn get_caller_identity(call: &mut Call<'_>, xml: &mut Xml) -> Result<(), AwsError> {
    xml.text("Arn", &call.caller.arn);
    xml.text("UserId", &call.caller.user_id);
    xml.text("Account", &call.caller.names.account);
    Ok(())
}

pub(super) fn get_session_token(call: &mut Call<'_>, xml: &mut Xml) -> Result<(), AwsError> {
    let mut problems = Problems::default();
    let range = SESSION_TOKEN_DURATION;
    let duration = call
        .params
        .number("DurationSeconds", range, &mut problems)?;
    let serial = call
        .params
        .text("SerialNumber", SERIAL_NUMBER, &mut problems);
    let code = call.params.text("TokenCode", TOKEN_CODE, &mut problems);
    problems.into_result()?;
    refuse_session(call, "GetSessionToken")?;

    let user = Some(call.caller.arn.as_str());
    let has_mfa = call.store.verify_mfa(serial, code, user, call.now)?;
    let session = Session {
        of: SessionOf::User {
            user_id: call.caller.user_id.clone(),
        },
        mfa_at: has_mfa.then_some(call.now),
        ..new_session(call.now, duration.unwrap_or(DEFAULT_SESSION_TOKEN_DURATION))
    };

    show_credentials(&session, xml);
    call.store
        .sessions
        .insert(session.access_key_id.clone(), session);
    Ok(())
}

/// The account of a key. The key need not exist at AWS, but must here.
pub(super) fn get_access_key_info(call: &mut Call<'_>, xml: &mut Xml) -> Result<(), AwsError> {
    let mut problems = Problems::default();
    let id = call
        .params
        .required("AccessKeyId", ACCESS_KEY_ID, &mut problems);
    problems.into_result()?;
    if call.caller.user_name.is_some() {
        refuse_session(call, "GetAccessKeyInfo")?;
    }

    call.caller
        .authorize_resource("sts:GetAccessKeyInfo", "*", call.region, call.now)?;

    let key = call.store.access_keys.get(id);
    let of_user = key.and_then(|key| call.store.user(&key.user_id));
    let account = match (
        of_user,
        call.store.sessions.get(id).map(|session| &session.of),
    ) {
        (Some(user), _) => &user.account,
        (None, Some(SessionOf::Role { account, .. })) => account,
        (None, Some(SessionOf::User { .. })) => &call.caller.names.account,
        (None, None) => return Err(AwsError::validation("The access key id is not valid")),
    };
    xml.text("Account", account);
    Ok(())
}

fn refuse_session(call: &Call<'_>, action: &str) -> Result<(), AwsError> {
    if call.caller.session.is_none() {
        return Ok(());
    }

    let message = format!("Cannot call {action} with session credentials");
    Err(AwsError::denied(message))
}

/// New keys. The caller replaces what is particular to the session.
fn new_session(now: Millis, seconds: i64) -> Session {
    // Replies have whole seconds.
    let issued_at = now / 1000 * 1000;

    Session {
        access_key_id: new_id("ASIA"),
        secret: new_secret(),
        token: new_session_token(),
        of: SessionOf::User {
            user_id: String::new(),
        },
        issued_at: now,
        expires_at: issued_at + seconds * 1000,
        mfa_at: None,
        policies: None,
        tags: BTreeMap::new(),
        transitive_tags: BTreeSet::new(),
        source_identity: None,
    }
}

fn show_credentials(session: &Session, xml: &mut Xml) {
    let expiration = to_rfc3339(session.expires_at).replace(".000Z", "Z");

    xml.element("Credentials", |xml| {
        xml.text("AccessKeyId", &session.access_key_id);
        xml.text("SecretAccessKey", &session.secret);
        xml.text("SessionToken", &session.token);
        xml.text("Expiration", &expiration);
    });
}
