//! What the configuration says of AWS, validated.

use std::collections::BTreeMap;
use std::time::Duration;

use super::aws_endpoints::Partition;
use super::{Endpoint, Region, TokenLocation};

/// The settings of AWS. The endpoint of the upstream is that of STS, and its token is `KEYID:SECRET`.
#[derive(Debug, Clone)]
pub(crate) struct AwsSettings {
    pub(crate) region: Region,
    pub(crate) partition: &'static Partition,
    pub(crate) iam: Endpoint,
    pub(crate) mfa: Option<MfaSettings>,
}

/// The MFA device of the user, and where its codes come from.
#[derive(Debug, Clone)]
pub(crate) struct MfaSettings {
    pub(crate) serial: String,
    pub(crate) code: MfaCodeSource,
    /// How long one code is enough for all roles. None: each role needs a code of its own.
    pub(crate) session: Option<Duration>,
}

#[derive(Debug, Clone)]
pub(crate) enum MfaCodeSource {
    /// A person enters them.
    Ask,
    /// A program prints them.
    Command(TokenLocation),
    /// They are computed from a seed.
    Totp(TokenLocation),
}

impl MfaSettings {
    /// Where codes, or their seed, are read from.
    pub(crate) fn location(&self) -> Option<&TokenLocation> {
        match &self.code {
            MfaCodeSource::Ask => None,
            MfaCodeSource::Command(location) | MfaCodeSource::Totp(location) => Some(location),
        }
    }
}

/// A role of AWS, and with what it is assumed.
#[derive(Debug)]
pub struct AwsRole {
    pub(crate) arn: String,
    /// Without it, the name of the user.
    pub(crate) session_name: Option<String>,
    pub(crate) external_id: Option<String>,
    pub(crate) source_identity: Option<String>,
    /// The text of a session policy.
    pub(crate) policy: Option<Box<str>>,
    pub(crate) policy_arns: Vec<String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) transitive_tags: Vec<String>,
    /// Whether it is assumed with the upstream's MFA, if that has one.
    pub(crate) with_mfa: bool,
}

impl AwsRole {
    /// Without account and path.
    pub(crate) fn name(&self) -> Option<&str> {
        self.arn.rsplit('/').next()
    }
}
