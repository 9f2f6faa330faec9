//! `[profile.NAME]`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::raw::{Errors, Table};
use super::upstream::check_name;
use super::values::{duration, duration_within};
use super::{
    AccountId, DEFAULT_SESSION, LONGEST_SESSION, LeaseLimit, MIN_LEASE, OnRevoke, Profile,
    ProfileName, Region, RevokeOn, RoleId, RoleRequest, SHORTEST_SESSION, callers, nearest,
};

/// The shortest `max_view_age`.
const MIN_VIEW_AGE: Duration = Duration::from_secs(10);

/// `upstreams` are the names of all upstreams, `folder` is the folder of the configuration.
pub(super) fn parse(
    name: &str,
    mut table: Table<'_>,
    upstreams: &[Arc<str>],
    folder: &Path,
    errors: &mut Errors,
) -> Option<Profile> {
    check_name(name, &table, errors);
    let required = [
        ("upstream", "\"bycloud\""),
        ("role_id", "\"550e8400-e29b-41d4-a716-446655440000\""),
    ];

    table.require(&required, errors);

    let upstream = table.string("upstream", errors, |text| find_upstream(text, upstreams));
    let role = role(&mut table, errors);
    let lease = table.string("lease", errors, lease_limit);
    let on_revoke = table.string("on_revoke", errors, |text| match text {
        "hold" => Ok(OnRevoke::Hold),
        "reassume" => Ok(OnRevoke::Reassume),
        _ => Err("is not an option; use \"hold\" or \"reassume\"".into()),
    });

    let revoke_on = revoke_on(&mut table, errors);
    let max_view_age = table.string("max_view_age", errors, |text| {
        duration_within(text, MIN_VIEW_AGE..=LONGEST_SESSION, "10s to 12h")
    });

    let region = table.string("region", errors, |text| {
        Region::parse(text)
            .ok_or_else(|| "is not a region; use a name such as \"eu-central-1\"".into())
    });

    let account_id = table.string("account_id", errors, |text| {
        AccountId::parse(text).ok_or_else(|| "is not an account; use its 12 digits".into())
    });

    let callers = callers::parse(&mut table, folder, errors);
    table.finish(errors);

    let defaults = Profile::new(ProfileName::parse(name)?, upstream?, role?);
    Some(Profile {
        lease: lease.unwrap_or(defaults.lease),
        on_revoke: on_revoke.unwrap_or(defaults.on_revoke),
        revoke_on,
        max_view_age: max_view_age.unwrap_or(defaults.max_view_age),
        region,
        account_id,
        callers,
        ..defaults
    })
}

fn find_upstream(name: &str, upstreams: &[Arc<str>]) -> Result<Arc<str>, String> {
    if let Some(upstream) = upstreams.iter().find(|upstream| ***upstream == *name) {
        return Ok(Arc::clone(upstream));
    }
    match nearest(name, upstreams.iter().map(AsRef::as_ref)) {
        Some(upstream) => Err(format!("is not an upstream; did you mean `{upstream}`?")),
        None => Err(format!("is not an upstream; add [upstream.{name}]")),
    }
}

fn role(table: &mut Table<'_>, errors: &mut Errors) -> Option<RoleRequest> {
    let role_id = table.string("role_id", errors, |text| {
        RoleId::parse(text)
            .ok_or_else(|| "is not a role id; use 1 to 64 letters, digits, `-` and `_`".into())
    });

    let duration = table.string("duration", errors, |text| {
        duration_within(text, SHORTEST_SESSION..=LONGEST_SESSION, "15m to 12h")
    });

    Some(RoleRequest::bycloud(
        role_id?,
        duration.unwrap_or(DEFAULT_SESSION),
    ))
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
