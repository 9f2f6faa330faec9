//! The actions of STS and IAM, by name.

use hyper::http::request::Parts;

use super::caller::Caller;
use super::error::AwsError;
use super::params::Params;
use super::store::Store;
use super::{iam, sts, verify};
use crate::sandbox::clock::Millis;
use crate::sandbox::sigv4::AuthParams;
use crate::sandbox::xml::{Xml, document};

/// A verified request.
pub(super) struct Call<'a> {
    pub(super) store: &'a mut Store,
    pub(super) caller: &'a Caller,
    pub(super) params: &'a Params,
    pub(super) region: &'a str,
    pub(super) now: Millis,
}

/// Writes the fields of the result.
type Handler = fn(&mut Call<'_>, &mut Xml) -> Result<(), AwsError>;

#[derive(Debug)]
pub(super) struct Action {
    pub(super) service: &'static Service,
    pub(super) name: &'static str,
    handler: Handler,
}

#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: &'static str,
    version: &'static str,
    pub(super) namespace: &'static str,
}

pub(super) static STS: Service = Service {
    name: "sts",
    version: "2011-06-15",
    namespace: "https://sts.amazonaws.com/doc/2011-06-15/",
};

static IAM: Service = Service {
    name: "iam",
    version: "2010-05-08",
    namespace: "https://iam.amazonaws.com/doc/2010-05-08/",
};

static ACTIONS: [Action; 16] = [
    action(&STS, "AssumeRole", sts::assume_role),
    action(&STS, "GetAccessKeyInfo", sts::get_access_key_info),
    action(&STS, "GetCallerIdentity", sts::get_caller_identity),
    action(&STS, "GetSessionToken", sts::get_session_token),
    action(&IAM, "CreateAccessKey", iam::create_access_key),
    action(&IAM, "DeleteAccessKey", iam::delete_access_key),
    action(&IAM, "DeleteRolePolicy", iam::delete_role_policy),
    action(&IAM, "GetAccessKeyLastUsed", iam::get_access_key_last_used),
    action(&IAM, "GetRole", iam::get_role),
    action(&IAM, "GetRolePolicy", iam::get_role_policy),
    action(&IAM, "GetUser", iam::get_user),
    action(&IAM, "ListAccessKeys", iam::list_access_keys),
    action(&IAM, "ListMFADevices", iam::list_mfa_devices),
    action(&IAM, "PutRolePolicy", iam::put_role_policy),
    action(
        &IAM,
        "SimulatePrincipalPolicy",
        iam::simulate_principal_policy,
    ),
    action(&IAM, "UpdateAccessKey", iam::update_access_key),
];

const fn action(service: &'static Service, name: &'static str, handler: Handler) -> Action {
    Action {
        service,
        name,
        handler,
    }
}

pub(super) fn all() -> impl Iterator<Item = &'static Action> {
    ACTIONS.iter()
}

pub(super) fn exists(name: &str) -> bool {
    ACTIONS.iter().any(|action| action.name == name)
}

/// The action that a request names.
pub(super) fn find(params: &Params) -> Result<&'static Action, AwsError> {
    let invalid = |message: String| AwsError::new(400, "InvalidAction", message);
    let name = params
        .get("Action")
        .ok_or_else(|| AwsError::new(400, "MissingAction", "Missing Action"))?;
    let version = params.get("Version").unwrap_or("NO_VERSION_SPECIFIED");

    ACTIONS
        .iter()
        .find(|action| action.name == name && action.service.version == version)
        .ok_or_else(|| {
            invalid(format!(
                "Could not find operation {name} for version {version}"
            ))
        })
}

/// Verifies a request and executes it. The caller is known even if the request is refused later.
pub(super) fn execute(
    store: &mut Store,
    action: &Action,
    params: &Params,
    (parts, body): (&Parts, &[u8]),
    request_id: &str,
    now: Millis,
) -> (Option<Caller>, Result<Vec<u8>, AwsError>) {
    let verified = verify::parse(parts).and_then(|auth| {
        check_service(action, &auth)?;
        let caller = verify::request(store, &auth, parts, body, now)?;
        Ok((auth, caller))
    });
    let (auth, caller) = match verified {
        Ok(verified) => verified,
        Err(error) => return (None, Err(error)),
    };

    let result = check_iam_session(action, &caller).and_then(|()| {
        let mut call = Call {
            store,
            caller: &caller,
            params,
            region: &auth.scope.region,
            now,
        };
        reply(action, &mut call, request_id)
    });
    (Some(caller), result)
}

fn reply(action: &Action, call: &mut Call<'_>, request_id: &str) -> Result<Vec<u8>, AwsError> {
    let name = action.name;
    let mut result = Ok(());

    let body = document(
        &format!("{name}Response"),
        Some(action.service.namespace),
        |xml| {
            xml.element(&format!("{name}Result"), |xml| {
                result = (action.handler)(call, xml);
            });
            xml.element("ResponseMetadata", |xml| xml.text("RequestId", request_id));
        },
    );
    result.map(|()| body)
}

/// The signature must be for the service that has the action.
fn check_service(action: &Action, auth: &AuthParams) -> Result<(), AwsError> {
    let service = action.service.name;
    if auth.scope.service == service {
        return Ok(());
    }

    let message = format!("Credential should be scoped to correct service: '{service}'. ");
    Err(AwsError::new(403, "SignatureDoesNotMatch", message))
}

/// Sessions of `GetSessionToken` may call IAM only with MFA.
fn check_iam_session(action: &Action, caller: &Caller) -> Result<(), AwsError> {
    let is_refused = action.service.name == "iam"
        && caller.user_name.is_some()
        && caller
            .session
            .as_ref()
            .is_some_and(|session| session.mfa_at.is_none());

    if is_refused {
        Err(AwsError::invalid_token())
    } else {
        Ok(())
    }
}
