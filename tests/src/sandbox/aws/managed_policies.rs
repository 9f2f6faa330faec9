//! A few of AWS's managed policies, as far as the sandbox has their actions.

use super::error::AwsError;
use super::policy::{Policy, PolicyKind};

pub(super) fn find(arn: &str) -> Result<Policy, AwsError> {
    let statement = match arn.strip_prefix("arn:aws:iam::aws:policy/") {
        Some("AdministratorAccess") => r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#,
        Some("ReadOnlyAccess") => {
            r#"{"Effect":"Allow","Action":["iam:Get*","iam:List*","s3:Get*","s3:List*","sts:Get*"],"Resource":"*"}"#
        }
        Some("AWSDenyAll") => r#"{"Effect":"Deny","Action":"*","Resource":"*"}"#,
        _ => {
            let message = format!("Policy {arn} does not exist or is not attachable.");
            return Err(AwsError::validation(message));
        }
    };

    let document = format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#);
    Policy::parse(&document, PolicyKind::Permissions)
}
