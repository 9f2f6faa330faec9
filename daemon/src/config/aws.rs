//! What an upstream of kind `aws` and its profiles have of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::aws_endpoints::{Partition, Variant, is_region};
use super::raw::{Errors, Table};
use super::values::{duration_within, path};
use super::{
    AwsRole, AwsSettings, Endpoint, MfaCodeSource, MfaSettings, Region, Role, TokenLocation, token,
};

/// The limits of a session of a user, which `GetSessionToken` issues.
pub(super) const USER_SESSIONS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(900)..=Duration::from_secs(129_600);
pub(super) const DEFAULT_MFA_SESSION: Duration = Duration::from_secs(43_200);
/// The longest session of a role that the keys of a session have assumed.
pub(super) const LONGEST_CHAINED: Duration = Duration::from_secs(3600);
/// AWS counts characters. Its other limit, on the packed size, only AWS knows.
const LONGEST_POLICY: usize = 2048;
const MOST_POLICY_ARNS: usize = 10;
const MOST_TAGS: usize = 50;

const EACH_CODE: &str =
    "each session of each role needs a code of its own, which no person can enter";

/// The endpoint of STS, and the rest.
pub(super) fn upstream(
    table: &mut Table<'_>,
    folder: &Path,
    errors: &mut Errors,
) -> Option<(Endpoint, AwsSettings)> {
    let region = table.string("region", errors, region);
    let fips = table.boolean("fips", errors).unwrap_or_default();
    let dual_stack = table.boolean("dual_stack", errors).unwrap_or_default();
    let custom = table.string("endpoint", errors, Endpoint::parse);
    let mfa_table = table.table("mfa", errors);
    let session_span = table.span_of("mfa_session");
    let session = table.string("mfa_session", errors, mfa_session);

    if let (Some(span), None) = (session_span, &mfa_table) {
        let message = format!("`{}.mfa_session` needs `mfa` beside it", table.path);
        errors.add(&span, message);
    }
    let session = session.unwrap_or(Some(DEFAULT_MFA_SESSION));
    let has_mfa = mfa_table.is_some();
    let mfa = mfa_table.and_then(|table| mfa(table, session, folder, errors));

    if has_mfa && mfa.is_none() {
        return None;
    }

    settings(region?, Variant { fips, dual_stack }, custom, mfa)
}

/// With the endpoint of STS. `custom` takes the place of all endpoints.
pub(super) fn settings(
    region: Region,
    variant: Variant,
    custom: Option<Endpoint>,
    mfa: Option<MfaSettings>,
) -> Option<(Endpoint, AwsSettings)> {
    let partition = Partition::of_region(region.as_str());
    let (sts, iam) = match custom {
        Some(endpoint) => (endpoint.clone(), endpoint),
        None => (
            partition.sts(region.as_str(), variant).ok()?,
            partition.iam(variant).ok()?,
        ),
    };

    let settings = AwsSettings {
        region,
        partition,
        iam,
        mfa,
    };
    Some((sts, settings))
}

/// A region of AWS.
pub(super) fn region(text: &str) -> Result<Region, String> {
    match Region::parse(text).filter(|_| is_region(text)) {
        Some(region) => Ok(region),
        None => Err("is not a region of AWS; use a name such as \"eu-central-1\"".into()),
    }
}

fn mfa(
    mut table: Table<'_>,
    session: Option<Duration>,
    folder: &Path,
    errors: &mut Errors,
) -> Option<MfaSettings> {
    table.require(
        &[("serial", "\"arn:aws:iam::111122223333:mfa/NAME\"")],
        errors,
    );
    let serial = table.string("serial", errors, mfa_serial);
    let path = table.path.clone();
    let span = table.span.clone();

    // Only one of them may be set.
    let set: Vec<_> = ["code", "command", "totp"]
        .into_iter()
        .filter(|key| table.span_of(key).is_some())
        .collect();
    let asked = table.string("code", errors, |text| match text {
        "ask" => Ok(MfaCodeSource::Ask),
        _ => {
            Err("is not a source of codes; use \"ask\", or set `command` or `totp` instead".into())
        }
    });
    let command = token::command(&mut table, folder, errors)
        .map(|location| MfaCodeSource::Command(without_cache(location)));
    let totp = table
        .table("totp", errors)
        .and_then(|totp| token::parse(totp, folder, errors))
        .map(MfaCodeSource::Totp);
    table.finish(errors);

    if set.len() > 1 {
        let message = format!(
            "`{path}` has more than one source of codes: {}",
            set.join(", ")
        );
        errors.add(&span, message);
    }

    let code = match (asked.or(command).or(totp), set.is_empty()) {
        (Some(code), _) => code,
        (None, true) => MfaCodeSource::Ask,
        (None, false) => return None,
    };
    if session.is_none() && matches!(code, MfaCodeSource::Ask) {
        let message = format!(
            "`{path}` needs `command` or `totp` beside mfa_session = \"none\": {EACH_CODE}"
        );
        errors.add(&span, message);
    }

    Some(MfaSettings {
        serial: serial?,
        code,
        session,
    })
}

/// A code is used once.
fn without_cache(location: TokenLocation) -> TokenLocation {
    match location {
        TokenLocation::Command { words, .. } => TokenLocation::Command {
            words,
            keep: Duration::ZERO,
        },
        other => other,
    }
}

/// The serial of a device, which is an ARN for virtual devices, and a number for others.
pub(super) fn mfa_serial(text: &str) -> Result<String, String> {
    let is_serial = (9..=256).contains(&text.len())
        && text
            .chars()
            .all(|each| each.is_ascii_alphanumeric() || "_+=/:,.@-".contains(each));
    if !is_serial {
        return Err(
            "is not the serial of an MFA device; use its ARN, such as \"arn:aws:iam::111122223333:mfa/NAME\"".into(),
        );
    }

    // STS takes codes of six digits only.
    match text.contains(":u2f/") || text.contains(":passkey/") {
        true => Err(
            "is a security key or a passkey, and AWS accepts codes of six digits only; \
            register a virtual MFA device too"
                .into(),
        ),
        false => Ok(text.into()),
    }
}

/// `none`, or how long a session of the user lasts.
fn mfa_session(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "none" => Ok(None),
        _ => duration_within(text, USER_SESSIONS, "15m to 36h, or \"none\"").map(Some),
    }
}

/// The role of a profile, or the session of the user with MFA if it has none.
pub(super) fn role(
    table: &mut Table<'_>,
    settings: Option<&AwsSettings>,
    folder: &Path,
    errors: &mut Errors,
) -> Option<Role> {
    table.require(
        &[("role_arn", "\"arn:aws:iam::111122223333:role/NAME\"")],
        errors,
    );
    let partition = settings.map(|settings| settings.partition);
    let arn = table.string("role_arn", errors, |text| role_arn(text, partition));
    let session_name = table.string("session_name", errors, session_name);
    let external_id = table.string("external_id", errors, |text| {
        of_characters(text, 2..=1224, "_+=,.@:/-", "an external id")
    });
    let source_identity = table.string("source_identity", errors, |text| {
        of_characters(text, 2..=64, "_+=,.@-", "a source identity")
    });
    let policy = table
        .string("policy", errors, |text| policy(text, folder))
        .map(Box::from);

    let span = table.span.clone();
    let mut policy_arns = Vec::new();
    table.strings("policy_arns", errors, |text| {
        policy_arns.push(text.to_owned());
        match text.starts_with("arn:") && text.len() <= 2048 {
            true => Ok(()),
            false => Err("is not the ARN of a policy".into()),
        }
    });
    if policy_arns.len() > MOST_POLICY_ARNS {
        let message = format!(
            "`{}.policy_arns` has {} ARNs; AWS takes {MOST_POLICY_ARNS} at most",
            table.path,
            policy_arns.len()
        );
        errors.add(&span, message);
    }

    let tags = tags(table, errors);
    let mut transitive_tags = Vec::new();
    table.strings("transitive_tags", errors, |text| {
        transitive_tags.push(text.to_owned());
        match tags.contains_key(text) {
            true => Ok(()),
            false => Err("is not one of `tags`".into()),
        }
    });
    let with_mfa = table.boolean("mfa", errors);

    Some(Role::Aws(Box::new(AwsRole {
        arn: arn?,
        session_name,
        external_id,
        source_identity,
        policy,
        policy_arns,
        tags,
        transitive_tags,
        with_mfa: with_mfa.unwrap_or(true),
    })))
}

fn tags(table: &mut Table<'_>, errors: &mut Errors) -> BTreeMap<String, String> {
    let span = table.span_of("tags");
    let path = table.path.clone();
    let Some(tags) = table.table("tags", errors) else {
        return BTreeMap::new();
    };

    let tags = tags.into_strings(errors, |key, value| {
        let is_tag = (1..=128).contains(&key.chars().count()) && value.chars().count() <= 256;
        match is_tag {
            true => Ok(()),
            false => Err("is too long: a key has up to 128 characters, a value 256".into()),
        }
    });
    if let Some(span) = span
        && tags.len() > MOST_TAGS
    {
        let message = format!(
            "`{path}.tags` has {} tags; AWS takes {MOST_TAGS} at most",
            tags.len()
        );
        errors.add(&span, message);
    }

    tags
}

fn role_arn(text: &str, partition: Option<&Partition>) -> Result<String, String> {
    let parts: Vec<_> = text.splitn(6, ':').collect();
    let ["arn", of_arn, "iam", "", account, resource] = parts[..] else {
        return Err("is not the ARN of a role; use \"arn:aws:iam::ACCOUNT:role/NAME\"".into());
    };

    let is_account = account.len() == 12 && account.bytes().all(|each| each.is_ascii_digit());
    let name = resource.strip_prefix("role/").unwrap_or_default();
    let is_role = (1..=1024).contains(&name.len())
        && name
            .chars()
            .all(|each| each.is_ascii_graphic() && !"\"'<>?*:".contains(each));
    if !is_account || !is_role {
        return Err(
            "is not the ARN of a role; use \"arn:aws:iam::ACCOUNT:role/NAME\", with the account's 12 digits".into(),
        );
    }

    match partition {
        Some(partition) if partition.id != of_arn => Err(format!(
            "is a role of the partition {of_arn}, and the region of the upstream is one of {}",
            partition.id
        )),
        _ => Ok(text.into()),
    }
}

fn session_name(text: &str) -> Result<String, String> {
    of_characters(text, 2..=64, "_+=,.@-", "a session name")
}

fn of_characters(
    text: &str,
    length: std::ops::RangeInclusive<usize>,
    others: &str,
    what: &str,
) -> Result<String, String> {
    let is_valid = length.contains(&text.len())
        && text
            .chars()
            .all(|each| each.is_ascii_alphanumeric() || others.contains(each));
    if is_valid {
        return Ok(text.into());
    }

    let (least, most) = (length.start(), length.end());
    Err(format!(
        "is not {what}; use {least} to {most} letters, digits and {}",
        others
            .chars()
            .map(|each| format!("`{each}`"))
            .collect::<Vec<_>>()
            .join(" ")
    ))
}

/// The text of a policy file, without the white space that would count.
fn policy(text: &str, folder: &Path) -> Result<String, String> {
    let file = path(text, folder)?;
    let text =
        std::fs::read_to_string(&file).map_err(|error| format!("cannot be read: {error}"))?;
    let policy: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| format!("is not JSON: {error}"))?;
    let policy = policy.to_string();
    let length = policy.chars().count();
    if length > LONGEST_POLICY {
        return Err(format!(
            "is a policy of {length} characters; AWS takes {LONGEST_POLICY} at most"
        ));
    }

    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_arn_is_of_the_partition_of_the_region() {
        let standard = Partition::of_region("eu-central-1");
        let china = Partition::of_region("cn-north-1");
        let arn = "arn:aws:iam::111122223333:role/team/reader";
        assert_eq!(role_arn(arn, Some(standard)).unwrap(), arn);
        assert!(role_arn(arn, Some(china)).unwrap_err().contains("aws-cn"));

        for bad in [
            "reader",
            "arn:aws:iam::111122223333:user/ada",
            "arn:aws:iam::1:role/a",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:role/a b",
            "arn:aws:sts::111122223333:assumed-role/a/b",
        ] {
            assert!(role_arn(bad, Some(standard)).is_err(), "{bad}");
        }
    }

    #[test]
    fn serial_is_of_a_device_with_codes() {
        assert!(mfa_serial("arn:aws:iam::111122223333:mfa/ada").is_ok());
        assert!(mfa_serial("GAHT12345678").is_ok());
        for bad in [
            "",
            "123456",
            "arn:aws:iam::111122223333:u2f/user/ada/key",
            "a b c d e f g h i",
        ] {
            assert!(mfa_serial(bad).is_err(), "{bad}");
        }
    }
}
