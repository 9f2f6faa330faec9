//! `[profile.NAME]`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::file::Chains;
use super::raw::{Errors, Table};
use super::upstream::check_name;
use super::values::{duration, duration_within};
use super::{
    AccountId, Callers, DEFAULT_SESSION, LONGEST_SESSION, LeaseLimit, MIN_LEASE, OnRevoke, Profile,
    ProfileName, Region, RevokeOn, Role, RoleId, RoleRequest, SHORTEST_SESSION, UpstreamKind, aws,
    callers, nearest,
};

/// The shortest `max_view_age`.
const MIN_VIEW_AGE: Duration = Duration::from_secs(10);

/// An upstream that a profile may name: its name, and its kind unless it has errors.
pub(super) type KnownUpstream = (Arc<str>, Option<UpstreamKind>);

/// `upstreams` are all upstreams, `folder` is the folder of the configuration.
pub(super) fn parse(
    name: &str,
    mut table: Table<'_>,
    upstreams: &[KnownUpstream],
    chains: &Chains,
    folder: &Path,
    errors: &mut Errors,
) -> Option<Profile> {
    check_name(name, &table, errors);
    let from_span = table.span_of("from");
    let base = table.string("from", errors, |text| base(text, chains));
    let upstream = if let Some(span) = &from_span {
        if table.span_of("upstream").is_some() {
            let message = format!(
                "`{}` has both `from` and `upstream`; set one of them",
                table.path
            );
            errors.add(span, message);
        }
        table.string("upstream", errors, |_| Ok(()));
        base.as_ref().and_then(|(_, upstream)| {
            let mut names = upstreams.iter().map(|(known, _)| known);
            names.find(|known| known.as_ref() == upstream).cloned()
        })
    } else {
        table.require(&[("upstream", "\"bycloud\"")], errors);
        table.string("upstream", errors, |text| find_upstream(text, upstreams))
    };
    let kind = upstreams
        .iter()
        .find(|(known, _)| Some(known) == upstream.as_ref())
        .and_then(|(_, kind)| kind.as_ref());
    if let (Some(span), Some(UpstreamKind::ByCloud)) = (&from_span, kind) {
        let message = format!(
            "`{}.from`: a session of ByCloud assumes no role; set `upstream`",
            table.path
        );
        errors.add(span, message);
    }
    let role = role(&mut table, kind, from_span.is_some(), folder, errors);
    let options = options(&mut table, folder, errors);
    let region = table.string("region", errors, |text| {
        Region::parse(text)
            .ok_or_else(|| "is not a region; use a name such as \"eu-central-1\"".into())
    });

    let account_id = table.string("account_id", errors, |text| {
        AccountId::parse(text).ok_or_else(|| "is not an account; use its 12 digits".into())
    });

    table.finish(errors);

    let defaults = Profile::new(ProfileName::parse(name)?, upstream?, role?);
    Some(Profile {
        base: base.map(|(name, _)| name),
        region: region.or_else(|| region_of(kind)),
        account_id: account_id.or_else(|| account_of(&defaults.role.role)),
        ..options.of(defaults)
    })
}

/// The profile that a `from` names, and the upstream at the end of its chain.
fn base(name: &str, chains: &Chains) -> Result<(ProfileName, String), String> {
    let upstream = chains.upstream_of(name)?;
    match (ProfileName::parse(name), upstream) {
        (Some(name), Some(upstream)) => Ok((name, upstream)),
        _ => Err("has errors of its own".into()),
    }
}

/// What a profile may have that does not decide whose session it is.
#[derive(Debug, Default)]
pub(super) struct Options {
    lease: LeaseLimit,
    on_revoke: OnRevoke,
    revoke_on: RevokeOn,
    max_view_age: Option<Duration>,
    callers: Callers,
}

impl Options {
    pub(super) fn of(self, profile: Profile) -> Profile {
        Profile {
            lease: self.lease,
            on_revoke: self.on_revoke,
            revoke_on: self.revoke_on,
            max_view_age: self.max_view_age.unwrap_or(profile.max_view_age),
            callers: self.callers,
            ..profile
        }
    }
}

pub(super) fn options(table: &mut Table<'_>, folder: &Path, errors: &mut Errors) -> Options {
    let lease = table.string("lease", errors, lease_limit);
    let on_revoke = table.string("on_revoke", errors, |text| match text {
        "hold" => Ok(OnRevoke::Hold),
        "reassume" => Ok(OnRevoke::Reassume),
        _ => Err("is not an option; use \"hold\" or \"reassume\"".into()),
    });

    let revoke_on = revoke_on(table, errors);
    let max_view_age = table.string("max_view_age", errors, |text| {
        duration_within(text, MIN_VIEW_AGE..=LONGEST_SESSION, "10s to 12h")
    });

    Options {
        lease: lease.unwrap_or_default(),
        on_revoke: on_revoke.unwrap_or_default(),
        revoke_on,
        max_view_age,
        callers: callers::parse(table, folder, errors),
    }
}

fn find_upstream(name: &str, upstreams: &[KnownUpstream]) -> Result<Arc<str>, String> {
    let mut names = upstreams.iter().map(|(upstream, _)| upstream);
    if let Some(upstream) = names.find(|upstream| ***upstream == *name) {
        return Ok(Arc::clone(upstream));
    }
    match nearest(name, upstreams.iter().map(|(upstream, _)| &**upstream)) {
        Some(upstream) => Err(format!("is not an upstream; did you mean `{upstream}`?")),
        None => Err(format!("is not an upstream; add [upstream.{name}]")),
    }
}

pub(super) fn role(
    table: &mut Table<'_>,
    kind: Option<&UpstreamKind>,
    has_base: bool,
    folder: &Path,
    errors: &mut Errors,
) -> Option<RoleRequest> {
    let aws = match kind {
        Some(UpstreamKind::Aws(settings)) => Some(&**settings),
        // The upstream has errors. Which of the two it is shows here.
        None if table.span_of("role_arn").is_some() => {
            aws::role(table, None, folder, errors);
            return None;
        }
        _ => None,
    };
    let role = match aws {
        Some(settings) => aws::role(table, Some(settings), folder, errors),
        None => bycloud_role(table, errors),
    };

    // The sessions of other sessions are shorter.
    let has_session = aws
        .and_then(|settings| settings.mfa.as_ref())
        .is_some_and(|mfa| mfa.session.is_some());
    let with_mfa = has_session && matches!(&role, Some(Role::Aws(role)) if role.with_mfa);
    let duration = table.string("duration", errors, |text| {
        let duration = duration_within(text, SHORTEST_SESSION..=LONGEST_SESSION, "15m to 12h")?;
        if duration <= aws::LONGEST_CHAINED {
            return Ok(duration);
        }
        match (has_base, with_mfa) {
            (true, _) => Err("is longer than 1h, the limit of AWS for a role that a session assumes; \
                use 1h, and the session is refreshed in time"
                .into()),
            (false, true) => Err("is longer than 1h, the limit of AWS for a role that is assumed with an MFA session; \
                use 1h, which is refreshed, or set mfa_session = \"none\" in the upstream, with codes by `command` or `totp`"
                .into()),
            (false, false) => Ok(duration),
        }
    });

    Some(RoleRequest {
        role: role?,
        duration: duration.unwrap_or(DEFAULT_SESSION),
    })
}

/// Profiles of AWS have the region of their upstream.
fn region_of(kind: Option<&UpstreamKind>) -> Option<Region> {
    match kind {
        Some(UpstreamKind::Aws(settings)) => Some(settings.region.clone()),
        _ => None,
    }
}

pub(super) fn account_of(role: &Role) -> Option<AccountId> {
    match role {
        Role::Aws(role) => AccountId::parse(role.arn.split(':').nth(4)?),
        Role::ByCloud(_) => None,
    }
}

fn bycloud_role(table: &mut Table<'_>, errors: &mut Errors) -> Option<Role> {
    table.require(
        &[("role_id", "\"550e8400-e29b-41d4-a716-446655440000\"")],
        errors,
    );
    let role_id = table.string("role_id", errors, |text| {
        RoleId::parse(text)
            .ok_or_else(|| "is not a role id; use 1 to 64 letters, digits, `-` and `_`".into())
    });

    role_id.map(Role::ByCloud)
}

fn lease_limit(text: &str) -> Result<LeaseLimit, String> {
    match text {
        "full" => Ok(LeaseLimit::Full),
        "balanced" => Ok(LeaseLimit::Balanced),
        "strict" => Ok(LeaseLimit::Strict),
        _ if duration(text).is_err() => Err(
            "is not a lease; use \"full\", \"balanced\", \"strict\" or a duration such as \"20m\""
                .into(),
        ),
        _ => {
            duration_within(text, MIN_LEASE..=LONGEST_SESSION, "15s to 12h").map(LeaseLimit::Limit)
        }
    }
}

fn revoke_on(table: &mut Table<'_>, errors: &mut Errors) -> RevokeOn {
    let mut revoke_on = RevokeOn::default();
    table.strings("revoke_on", errors, |text| {
        match text {
            "stop" => revoke_on.stop = true,
            "lock" => revoke_on.lock = true,
            "sleep" => revoke_on.sleep = true,
            _ => return Err("is not an event; use \"stop\", \"lock\" or \"sleep\"".into()),
        }
        Ok(())
    });

    revoke_on
}
