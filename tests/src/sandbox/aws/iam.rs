//! The actions of IAM that a credential broker needs: access keys, MFA devices, roles and the
//! simulation of policies.

use std::sync::Arc;

use super::actions::Call;
use super::arn::{self, Arn};
use super::context::Context;
use super::error::AwsError;
use super::params::{Problems, any_text};
use super::policy::{Decision, Policy, PolicyKind, Request, decide};
use super::store::{AccessKey, Role, User};
use crate::sandbox::clock::{Millis, to_rfc3339};
use crate::sandbox::sigv4::percent_encode;
use crate::sandbox::xml::Xml;

const MAX_KEYS: usize = 2;

pub(super) fn get_user(call: &mut Call<'_>, xml: &mut Xml) -> Result<(), AwsError> {
    let user = user(call, "iam:GetUser")?;

    xml.element("User", |xml| {
        xml.text("Path", "/");
        xml.text("UserName", &user.name);
        xml.text("UserId", &user.id);
        xml.text("Arn", &user.arn());
        xml.text("CreateDate", &date(user.created_at));
    });
    Ok(())
}

pub(super) fn list_mfa_devices(call: &mut Call<'_>, xml: &mut Xml) -> Result<(), AwsError> {
    let user = user(call, "iam:ListMFADevices")?;
    let arn = user.arn();
    let devices = call.store.mfa_devices.iter();

    xml.element("MFADevices", |xml| {
        for device in devices.filter(|device| device.owner == arn) {
            xml.element("member", |xml| {
                xml.text("UserName", &user.name);
                xml.text("SerialNumber", &device.serial);
                xml.text("EnableDate", &date(device.created_at));
            });
        }
    });
    xml.text("IsTruncated", "false");
    Ok(())
}

pub(super) fn create_access_key(call: &mut Call<'_>, xml: &mut Xml) -> Result<(), AwsError> {
    let user = user(call, "iam:CreateAccessKey")?;
    let (id, name) = (user.id.clone(), user.name.clone());
    if call.store.keys_of(&id).count() >= MAX_KEYS {
        let message = format!("Cannot exceed quota for AccessKeysPerUser: {MAX_KEYS}");
        return Err(AwsError::new(409, "LimitExceeded", message));
    }

    let key = call.store.add_key(&id, call.now);
    xml.element("AccessKey", |xml| {
        show_key(&key, &name, xml);
        xml.text("SecretAccessKey", &key.secret);
    });
    Ok(())
}

pub(super) fn list_access_keys(call: &mut Call<'_>, xml: &mut Xml) -> Result<(), AwsError> {
    let user = user(call, "iam:ListAccessKeys")?;

    xml.element("AccessKeyMetadata", |xml| {
        for key in call.store.keys_of(&user.id) {
            xml.element("member", |xml| show_key(key, &user.name, xml));
        }
    });
    xml.text("IsTruncated", "false");
    Ok(())
}

pub(super) fn update_access_key(call: &mut Call<'_>, _: &mut Xml) -> Result<(), AwsError> {
    let mut problems = Problems::default();
    let status = call
        .params
        .required("Status", any_text(1, 32), &mut problems);
    problems.into_result()?;
    let is_active = match status {
        "Active" => true,
        "Inactive" => false,
        _ => {
            let message = format!(
                "1 validation error detected: Value '{status}' at 'status' failed to satisfy constraint: Member must satisfy enum value set: [Active, Inactive]"
            );
            return Err(AwsError::validation(message));
        }
    };

    let id = access_key(call, "iam:UpdateAccessKey")?;
    if let Some(key) = call.store.access_keys.get_mut(&id) {
        key.is_active = is_active;
    }
    Ok(())
}

pub(super) fn delete_access_key(call: &mut Call<'_>, _: &mut Xml) -> Result<(), AwsError> {
    let id = access_key(call, "iam:DeleteAccessKey")?;
    call.store.access_keys.remove(&id);
    Ok(())
}

pub(super) fn get_access_key_last_used(call: &mut Call<'_>, xml: &mut Xml) -> Result<(), AwsError> {
    let mut problems = Problems::default();
    let id = call
        .params
        .required("AccessKeyId", any_text(16, 128), &mut problems);
    problems.into_result()?;
    authorize(call, "iam:GetAccessKeyLastUsed", "*")?;

    let key = call.store.access_keys.get(id).ok_or_else(|| no_key(id))?;
    let user = call.store.user(&key.user_id).ok_or_else(|| no_key(id))?;
    xml.text("UserName", &user.name);
    xml.element("AccessKeyLastUsed", |xml| match &key.last_used {
        Some(last) => {
            xml.text("LastUsedDate", &date(last.at));
            xml.text("ServiceName", &last.service);
            xml.text("Region", &last.region);
        }
        None => {
            xml.text("ServiceName", "N/A");
            xml.text("Region", "N/A");
        }
    });
    Ok(())
}

pub(super) fn get_role(call: &mut Call<'_>, xml: &mut Xml) -> Result<(), AwsError> {
    let role = role(call, "iam:GetRole")?;

    xml.element("Role", |xml| {
        xml.text("Path", "/");
        xml.text("RoleName", &role.name);
        xml.text("RoleId", &role.id);
        xml.text("Arn", &role.arn());
        xml.text("CreateDate", &date(role.created_at));
        let document = percent_encode(&role.trust.document);
        xml.text("AssumeRolePolicyDocument", &document);
        xml.text("MaxSessionDuration", &role.max_session.to_string());
    });
    Ok(())
}

pub(super) fn get_role_policy(call: &mut Call<'_>, xml: &mut Xml) -> Result<(), AwsError> {
    let policy_name = policy_name(call)?;
    let role = role(call, "iam:GetRolePolicy")?;
    let policy = role.policies.get(&policy_name);
    let policy = policy.ok_or_else(|| no_role_policy(&policy_name))?;

    xml.text("RoleName", &role.name);
    xml.text("PolicyName", &policy_name);
    xml.text("PolicyDocument", &percent_encode(&policy.document));
    Ok(())
}

pub(super) fn put_role_policy(call: &mut Call<'_>, _: &mut Xml) -> Result<(), AwsError> {
    let name = policy_name(call)?;
    let mut problems = Problems::default();
    let text = any_text(1, 131_072);
    let document = call.params.required("PolicyDocument", text, &mut problems);
    problems.into_result()?;
    let id = role(call, "iam:PutRolePolicy")?.id.clone();
    let policy = Policy::parse(document, PolicyKind::Permissions)?;

    if let Some(role) = role_by_id(call, &id) {
        role.policies.insert(name, Arc::new(policy));
    }
    Ok(())
}

pub(super) fn delete_role_policy(call: &mut Call<'_>, _: &mut Xml) -> Result<(), AwsError> {
    let name = policy_name(call)?;
    let id = role(call, "iam:DeleteRolePolicy")?.id.clone();

    let removed = role_by_id(call, &id).and_then(|role| role.policies.remove(&name));
    removed.map(drop).ok_or_else(|| no_role_policy(&name))
}

/// Evaluates the policies of a user or a role of the caller's account. Trust policies, session
/// policies and limits of the organization are left out, as at AWS.
pub(super) fn simulate_principal_policy(
    call: &mut Call<'_>,
    xml: &mut Xml,
) -> Result<(), AwsError> {
    let mut problems = Problems::default();
    let text = any_text(20, 2048);
    let source = call.params.required("PolicySourceArn", text, &mut problems);
    problems.into_result()?;
    authorize(call, "iam:SimulatePrincipalPolicy", source)?;

    let policies = policies_of(call, source)?;
    let actions = call.params.list("ActionNames");
    if actions.is_empty() {
        let message = "1 validation error detected: Value null at 'actionNames' failed to satisfy constraint: Member must not be null";
        return Err(AwsError::validation(message));
    }
    let mut resources = call.params.list("ResourceArns");
    if resources.is_empty() {
        resources.push("*");
    }
    let context = simulated_context(call, source);

    xml.element("EvaluationResults", |xml| {
        for action in actions {
            for resource in &resources {
                let request = Request {
                    action,
                    resource,
                    context: &context,
                };
                let decision = decide(policies.iter().map(Arc::as_ref), &request);
                xml.element("member", |xml| show_decision(&request, decision, xml));
            }
        }
    });
    xml.text("IsTruncated", "false");
    Ok(())
}

fn show_decision(request: &Request<'_>, decision: Decision, xml: &mut Xml) {
    let decision = match decision {
        Decision::Allow => "allowed",
        Decision::ExplicitDeny => "explicitDeny",
        Decision::ImplicitDeny => "implicitDeny",
    };

    xml.text("EvalActionName", request.action);
    xml.text("EvalResourceName", request.resource);
    xml.text("EvalDecision", decision);
    xml.element("MatchedStatements", |_| {});
    xml.element("MissingContextValues", |_| {});
}

fn simulated_context(call: &Call<'_>, source: &str) -> Context {
    let mut context = Context::default();
    context.set("aws:PrincipalArn", source);

    let fields = ["ContextKeyName", "ContextKeyValues.member.1"];
    for [name, value] in call.params.objects("ContextEntries", fields) {
        context.set(name.unwrap_or_default(), value.unwrap_or_default());
    }
    context
}

fn policies_of(call: &Call<'_>, source: &str) -> Result<Vec<Arc<Policy>>, AwsError> {
    let account = &call.caller.names.account;
    let invalid = || AwsError::new(400, "InvalidInput", format!("Invalid Entity Arn: {source}"));
    let arn = Arn::parse(source).filter(|arn| arn.account == account);
    let resource = arn.ok_or_else(invalid)?.resource;

    match resource.split_once('/') {
        Some(("user", name)) => {
            let user = call.store.user_named(account, name);
            let user = user.ok_or_else(|| no_user(name))?;
            Ok(user.policies.clone())
        }
        Some(("role", name)) => {
            let role = call.store.role_named(account, name);
            let role = role.ok_or_else(|| no_role(name))?;
            Ok(role.policies.values().cloned().collect())
        }
        _ => Err(invalid()),
    }
}

fn show_key(key: &AccessKey, user_name: &str, xml: &mut Xml) {
    xml.text("UserName", user_name);
    xml.text("AccessKeyId", &key.id);
    xml.text("Status", if key.is_active { "Active" } else { "Inactive" });
    xml.text("CreateDate", &date(key.created_at));
}

/// In whole seconds.
fn date(at: Millis) -> String {
    to_rfc3339(at / 1000 * 1000).replace(".000Z", "Z")
}

fn authorize(call: &Call<'_>, action: &str, resource: &str) -> Result<(), AwsError> {
    call.caller
        .authorize_resource(action, resource, call.region, call.now)
}

/// IAM's texts name a resource as `role NAME` or `user NAME` instead of by its ARN.
fn name_briefly(mut error: AwsError, arn: &str, kind: &str, name: &str) -> AwsError {
    let long = format!("on resource: {arn}");
    error.message = error
        .message
        .replace(&long, &format!("on resource: {kind} {name}"));
    error
}

/// The user of `UserName`, by default the caller, if the caller may do the action.
fn user<'a>(call: &'a Call<'_>, action: &str) -> Result<&'a User, AwsError> {
    let name = call.params.get("UserName");
    let Some(name) = name.or(call.caller.user_name.as_deref()) else {
        let message = "Must specify userName when calling with non-User credentials";
        return Err(AwsError::validation(message));
    };
    let account = &call.caller.names.account;
    let arn = arn::user(account, name);
    authorize(call, action, &arn).map_err(|error| name_briefly(error, &arn, "user", name))?;

    call.store
        .user_named(account, name)
        .ok_or_else(|| no_user(name))
}

/// The id of the user's access key in `AccessKeyId`, if the caller may do the action.
fn access_key(call: &Call<'_>, action: &str) -> Result<String, AwsError> {
    let mut problems = Problems::default();
    let id = call
        .params
        .required("AccessKeyId", any_text(16, 128), &mut problems);
    problems.into_result()?;

    let user = user(call, action)?;
    let key = call.store.keys_of(&user.id).find(|key| key.id == id);
    key.map(|key| key.id.clone()).ok_or_else(|| no_key(id))
}

/// The role of `RoleName` in the caller's account, if the caller may do the action.
fn role<'a>(call: &'a Call<'_>, action: &str) -> Result<&'a Role, AwsError> {
    let mut problems = Problems::default();
    let name = call
        .params
        .required("RoleName", any_text(1, 64), &mut problems);
    problems.into_result()?;
    let account = &call.caller.names.account;
    let arn = arn::role(account, name);
    authorize(call, action, &arn).map_err(|error| name_briefly(error, &arn, "role", name))?;

    call.store
        .role_named(account, name)
        .ok_or_else(|| no_role(name))
}

fn role_by_id<'a>(call: &'a mut Call<'_>, id: &str) -> Option<&'a mut Role> {
    call.store.roles.iter_mut().find(|role| role.id == id)
}

fn policy_name(call: &Call<'_>) -> Result<String, AwsError> {
    let mut problems = Problems::default();
    let name = call
        .params
        .required("PolicyName", any_text(1, 128), &mut problems);
    problems.into_result()?;

    Ok(name.into())
}

fn no_user(name: &str) -> AwsError {
    AwsError::no_such_entity(format!("The user with name {name} cannot be found."))
}

fn no_role(name: &str) -> AwsError {
    AwsError::no_such_entity(format!("The role with name {name} cannot be found."))
}

fn no_role_policy(name: &str) -> AwsError {
    AwsError::no_such_entity(format!("The role policy with name {name} cannot be found."))
}

fn no_key(id: &str) -> AwsError {
    AwsError::no_such_entity(format!("The Access Key with id {id} cannot be found."))
}
