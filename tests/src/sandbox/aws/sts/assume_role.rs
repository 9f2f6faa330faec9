//! `AssumeRole`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::texts::{
    EXTERNAL_ID, POLICY, ROLE_ARN, SERIAL_NUMBER, SESSION_NAME, TAG_KEY, TAG_VALUE, TOKEN_CODE,
};
use super::{new_session, show_credentials};
use crate::sandbox::aws::actions::Call;
use crate::sandbox::aws::arn::{self, Arn};
use crate::sandbox::aws::caller::{Caller, set_mfa_age};
use crate::sandbox::aws::context::Context;
use crate::sandbox::aws::error::AwsError;
use crate::sandbox::aws::managed_policies;
use crate::sandbox::aws::params::{Params, Problems};
use crate::sandbox::aws::policy::{Policy, PolicyKind, Request};
use crate::sandbox::aws::store::{Role, Session, SessionOf};
use crate::sandbox::xml::Xml;

/// In seconds.
const DURATION: std::ops::RangeInclusive<i64> = 900..=43_200;
const DEFAULT_DURATION: i64 = 3600;
/// The longest session that temporary keys can get, in seconds.
const MAX_CHAINED: i64 = 3600;

const MAX_TAGS: usize = 50;
const MAX_POLICY_ARNS: usize = 10;
/// Bytes of session policies and tags. AWS compresses them; this limit is the sandbox's.
const MAX_PACKED: usize = 4096;

struct AssumeRole<'a> {
    role_arn: &'a str,
    session_name: &'a str,
    duration: Option<i64>,
    external_id: Option<&'a str>,
    serial: Option<&'a str>,
    code: Option<&'a str>,
    policy: Option<&'a str>,
    policy_arns: Vec<&'a str>,
    tags: BTreeMap<String, String>,
    transitive_tags: Vec<&'a str>,
    source_identity: Option<&'a str>,
}

pub(in crate::sandbox::aws) fn assume_role(
    call: &mut Call<'_>,
    xml: &mut Xml,
) -> Result<(), AwsError> {
    let request = AssumeRole::parse(call.params)?;
    let caller = call.caller;
    let user = caller.user_name.as_ref().map(|_| caller.arn.as_str());
    let has_mfa = call
        .store
        .verify_mfa(request.serial, request.code, user, call.now)?;

    let (tags, transitive_tags) = request.session_tags(caller)?;
    let source_identity = request.session_source_identity(caller);
    let policies = request.session_policies()?;
    let packed_percent = request.packed_percent(&tags)?;

    let context = request.context(call, has_mfa, source_identity);
    let role = find_role(call, &request, &context)?;
    request.authorize(caller, role, &context, !tags.is_empty(), source_identity)?;
    let seconds = request.seconds(caller, role)?;

    let session = Session {
        of: SessionOf::Role {
            role_id: role.id.clone(),
            account: role.account.clone(),
            role_name: role.name.clone(),
            session_name: request.session_name.into(),
        },
        policies,
        tags,
        transitive_tags,
        source_identity: source_identity.map(str::to_owned),
        ..new_session(call.now, seconds)
    };
    show(&session, role, &request, packed_percent, xml);
    call.store
        .sessions
        .insert(session.access_key_id.clone(), session);
    Ok(())
}

fn show(
    session: &Session,
    role: &Role,
    request: &AssumeRole<'_>,
    packed_percent: Option<usize>,
    xml: &mut Xml,
) {
    let name = request.session_name;
    let arn = arn::role_session(&role.account, &role.name, name);

    xml.element("AssumedRoleUser", |xml| {
        xml.text("AssumedRoleId", &format!("{}:{name}", role.id));
        xml.text("Arn", &arn);
    });
    show_credentials(session, xml);
    if let Some(percent) = packed_percent {
        xml.text("PackedPolicySize", &percent.to_string());
    }
    if let Some(identity) = &session.source_identity {
        xml.text("SourceIdentity", identity);
    }
}

/// A role that does not exist is denied like one that does not trust the caller.
fn find_role<'a>(
    call: &'a Call<'_>,
    request: &AssumeRole<'_>,
    context: &Context,
) -> Result<&'a Role, AwsError> {
    let invalid = || AwsError::validation(format!("{} is invalid", request.role_arn));
    let arn = Arn::parse(request.role_arn).ok_or_else(invalid)?;
    let name = arn.role_name().ok_or_else(invalid)?;

    let found = call.store.role_named(arn.account, name);
    found
        .filter(|role| role.arn() == request.role_arn)
        .ok_or_else(|| {
            let request = Request {
                action: "sts:AssumeRole",
                resource: request.role_arn,
                context,
            };
            call.caller.denied(&request, None)
        })
}

impl<'a> AssumeRole<'a> {
    fn parse(params: &'a Params) -> Result<Self, AwsError> {
        let mut problems = Problems::default();
        let tags = params.objects("Tags", ["Key", "Value"]);
        let request = Self {
            role_arn: params.required("RoleArn", ROLE_ARN, &mut problems),
            session_name: params.required("RoleSessionName", SESSION_NAME, &mut problems),
            duration: params.number("DurationSeconds", DURATION, &mut problems)?,
            external_id: params.text("ExternalId", EXTERNAL_ID, &mut problems),
            serial: params.text("SerialNumber", SERIAL_NUMBER, &mut problems),
            code: params.text("TokenCode", TOKEN_CODE, &mut problems),
            policy: params.text("Policy", POLICY, &mut problems),
            policy_arns: params
                .objects("PolicyArns", ["arn"])
                .into_iter()
                .filter_map(|[arn]| arn)
                .collect(),
            tags: parse_tags(&tags, &mut problems)?,
            transitive_tags: params.list("TransitiveTagKeys"),
            source_identity: params.text("SourceIdentity", SESSION_NAME, &mut problems),
        };
        problems.check_count("policyArns", request.policy_arns.len(), MAX_POLICY_ARNS);
        problems.into_result()?;

        Ok(request)
    }

    /// The tags of the session and its transitive ones, those of the caller included.
    fn session_tags(
        &self,
        caller: &Caller,
    ) -> Result<(BTreeMap<String, String>, BTreeSet<String>), AwsError> {
        let invalid = |message: &str| Err(AwsError::new(400, "InvalidParameterValue", message));
        let mut tags = self.tags.clone();
        let mut transitive = BTreeSet::new();

        for key in &self.transitive_tags {
            if !tags.contains_key(*key) {
                return invalid(
                    "The specified transitive tag key must be included in the requested tags.",
                );
            }
            transitive.insert((*key).to_owned());
        }
        let Some(session) = &caller.session else {
            return Ok((tags, transitive));
        };
        for key in &session.transitive_tags {
            if tags.contains_key(key) {
                return invalid(
                    "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.",
                );
            }
            let value = session.tags.get(key).cloned().unwrap_or_default();
            tags.insert(key.clone(), value);
            transitive.insert(key.clone());
        }
        Ok((tags, transitive))
    }

    /// A source identity stays the same along a chain of roles.
    fn session_source_identity(&self, caller: &'a Caller) -> Option<&'a str> {
        let inherited = caller
            .session
            .as_ref()
            .and_then(|session| session.source_identity.as_deref());

        self.source_identity.or(inherited)
    }

    /// `None` without a limit.
    fn session_policies(&self) -> Result<Option<Vec<Arc<Policy>>>, AwsError> {
        let mut policies = Vec::new();
        if let Some(document) = self.policy {
            policies.push(Policy::parse(document, PolicyKind::Permissions)?);
        }
        for arn in &self.policy_arns {
            policies.push(managed_policies::find(arn)?);
        }

        let policies: Vec<_> = policies.into_iter().map(Arc::new).collect();
        Ok((!policies.is_empty()).then_some(policies))
    }

    /// `None` without policies and tags.
    fn packed_percent(&self, tags: &BTreeMap<String, String>) -> Result<Option<usize>, AwsError> {
        let policy = self.policy.map_or(0, str::len);
        let arns: usize = self.policy_arns.iter().map(|arn| arn.len()).sum();
        let tags: usize = tags
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        let bytes = policy + arns + tags;
        if bytes == 0 {
            return Ok(None);
        }

        let percent = (bytes * 100).div_ceil(MAX_PACKED);
        if percent <= 100 {
            return Ok(Some(percent));
        }
        let message = format!(
            "Packed policy consumes {percent}% of allotted space, please use smaller policy."
        );
        Err(AwsError::new(400, "PackedPolicyTooLarge", message))
    }

    fn context(&self, call: &Call<'_>, has_mfa: bool, source_identity: Option<&str>) -> Context {
        let mut context = call.caller.context(call.region, call.now);
        context.set("sts:RoleSessionName", self.session_name);
        context.set_opt("sts:ExternalId", self.external_id);
        context.set_opt("sts:SourceIdentity", source_identity);
        context.set_all("aws:TagKeys", self.tags.keys().cloned().collect());
        let transitive = self.transitive_tags.iter().map(|key| (*key).to_owned());
        context.set_all("sts:TransitiveTagKeys", transitive.collect());
        for (key, value) in &self.tags {
            context.set(&format!("aws:RequestTag/{key}"), &**value);
        }
        if has_mfa {
            context.set("aws:MultiFactorAuthPresent", "true");
            set_mfa_age(&mut context, call.now, call.now);
        }

        context
    }

    fn authorize(
        &self,
        caller: &Caller,
        role: &Role,
        context: &Context,
        has_tags: bool,
        source_identity: Option<&str>,
    ) -> Result<(), AwsError> {
        let request = |action| Request {
            action,
            resource: self.role_arn,
            context,
        };
        caller.authorize_role(role, &request("sts:AssumeRole"))?;
        if has_tags {
            caller.authorize_role(role, &request("sts:TagSession"))?;
        }

        let Some(identity) = source_identity else {
            return Ok(());
        };
        let set_identity = request("sts:SetSourceIdentity");
        let session = caller.session.as_ref();
        match session.and_then(|session| session.source_identity.as_deref()) {
            Some(inherited) if inherited != identity => Err(caller.denied(&set_identity, None)),
            _ => caller.authorize_role(role, &set_identity),
        }
    }

    fn seconds(&self, caller: &Caller, role: &Role) -> Result<i64, AwsError> {
        let seconds = self.duration.unwrap_or(DEFAULT_DURATION);
        if caller.session.is_some() && seconds > MAX_CHAINED {
            let message = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining";
            return Err(AwsError::validation(message));
        }
        if seconds > role.max_session {
            let message =
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
            return Err(AwsError::validation(message));
        }

        Ok(seconds)
    }
}

fn parse_tags(
    pairs: &[[Option<&str>; 2]],
    problems: &mut Problems,
) -> Result<BTreeMap<String, String>, AwsError> {
    let mut tags = BTreeMap::new();
    let mut seen = BTreeSet::new();
    problems.check_count("tags", pairs.len(), MAX_TAGS);

    for (index, [key, value]) in pairs.iter().enumerate() {
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        let number = index + 1;
        problems.check_text(&format!("tags.{number}.member.key"), key, TAG_KEY);
        problems.check_text(&format!("tags.{number}.member.value"), value, TAG_VALUE);
        if !seen.insert(key.to_lowercase()) {
            let message =
                "Duplicate tag keys found. Please note that Tag keys are case insensitive.";
            return Err(AwsError::new(400, "InvalidParameterValue", message));
        }
        tags.insert(key.into(), value.into());
    }
    Ok(tags)
}
