//! Keys of the sandbox's AWS at S3: a client can use a session of an AWS role. The permissions are
//! the role's on `arn:aws:s3:::BUCKET` and `arn:aws:s3:::BUCKET/KEY`.

use super::request::S3Request;
use super::verify::Signer;
use crate::sandbox::State;
use crate::sandbox::aws::{AwsError, Caller};
use crate::sandbox::error::ApiError;
use crate::sandbox::sigv4::AuthParams;

/// The signer and its secret. `None` for keys of ByCloud.
pub(super) fn find(state: &State, auth: &AuthParams) -> Result<Option<(Signer, String)>, ApiError> {
    let id = &auth.access_key_id;
    let is_aws = id.starts_with("AKIA") || id.starts_with("ASIA");
    if !is_aws || auth.scope.service != "s3" {
        return Ok(None);
    }

    let (caller, secret) = state
        .aws
        .find_caller(id, auth.token.as_deref(), state.aws_now())
        .map_err(to_s3_error)?;
    let signer = Signer {
        session_id: id.clone(),
        principal_id: caller.arn.clone(),
        principal_type: "aws".into(),
        role_id: String::new(),
        role_name: String::new(),
        aws: Some(Box::new(caller)),
    };
    Ok(Some((signer, secret)))
}

/// Refused if the session has expired, or if its policies do not allow the operation.
pub(super) fn authorize(
    state: &State,
    caller: &Caller,
    request: &S3Request,
    region: &str,
) -> Result<(), ApiError> {
    let Some(action) = request.operation.action() else {
        return Ok(());
    };
    let resource = request
        .resource_id()
        .map_or("*".into(), |id| format!("arn:aws:s3:::{id}"));

    caller
        .authorize_resource(action, &resource, region, state.aws_now())
        .map_err(to_s3_error)
}

fn to_s3_error(error: AwsError) -> ApiError {
    match error.code.as_str() {
        "InvalidClientTokenId" => {
            let message = "The AWS Access Key Id you provided does not exist in our records.";
            ApiError::new(403, "InvalidAccessKeyId", message)
        }
        "ExpiredToken" => ApiError::new(400, "ExpiredToken", "The provided token has expired."),
        code => ApiError::new(error.status, code, error.message),
    }
}
