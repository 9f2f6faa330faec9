//! Amazon Resource Names: `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arn<'a> {
    pub(super) service: &'a str,
    pub(super) account: &'a str,
    pub(super) resource: &'a str,
}

impl<'a> Arn<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, service, _region, account, resource] = parts.as_slice() else {
            return None;
        };
        if partition.is_empty() || service.is_empty() || resource.is_empty() {
            return None;
        }

        Some(Self {
            service,
            account,
            resource,
        })
    }

    /// The name of a role: the last segment, behind the path.
    pub(super) fn role_name(&self) -> Option<&'a str> {
        let name = self.resource.strip_prefix("role/")?;
        let is_account = self.account.len() == 12;
        (self.service == "iam" && is_account).then(|| name.rsplit('/').next().unwrap_or(name))
    }
}

pub(super) fn user(account: &str, name: &str) -> String {
    format!("arn:aws:iam::{account}:user/{name}")
}

pub(super) fn role(account: &str, name: &str) -> String {
    format!("arn:aws:iam::{account}:role/{name}")
}

pub(super) fn role_session(account: &str, role: &str, session: &str) -> String {
    format!("arn:aws:sts::{account}:assumed-role/{role}/{session}")
}

pub(super) fn mfa_device(account: &str, name: &str) -> String {
    format!("arn:aws:iam::{account}:mfa/{name}")
}
