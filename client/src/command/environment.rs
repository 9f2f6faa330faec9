//! The environment variables with which AWS SDKs find a profile's credentials: those to set, and those to unset, which would
//! take precedence.

#[cfg(unix)]
use std::ffi::OsStr;
use std::process::Command;

use interprocess::local_socket::Stream;
use rolekeeper::connect;
use rolekeeper::protocol::{Code, Endpoint, EndpointKind, Failure, Lease, Reply, Request};

use super::region::{OWN_REGION, REGIONS, Region};

/// How a command gets credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Mode {
    /// Credentials in variables: for every tool, until they expire
    #[default]
    Env,
    /// Address of the daemon's endpoint for container credentials: SDKs renew them
    Http,
    /// Address of an endpoint like EC2's instance metadata (version 2), for tools that support only that
    Imds,
}

/// Variables that an AWS SDK might read instead of those set here, or together with them. They are unset, because some
/// SDKs treat an empty variable as set.
const SHADOWING: [&str; 25] = [
    "AWS_ACCESS_KEY",
    "AWS_ACCOUNT_ID",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CREDENTIAL_FILE",
    "AWS_CREDENTIAL_SCOPE",
    "AWS_DEFAULT_PROFILE",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_IMDS_USE_IPV6",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SDK_LOAD_CONFIG",
    "AWS_SECRET_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    BOTO_CONFIG,
    "SECRET_ACCESS_KEY",
    ACCESS_KEY,
    SECRET_KEY,
    TOKEN,
    EXPIRATION,
    FULL_URI,
    TOKEN_FILE,
    METADATA,
];
/// The same for one service each: the service's name follows.
const SHADOWING_PREFIX: &str = "AWS_BEARER_TOKEN_";

const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const TOKEN: &str = "AWS_SESSION_TOKEN";
const EXPIRATION: &str = "AWS_CREDENTIAL_EXPIRATION";
const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
const METADATA: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const METADATA_DISABLED: &str = "AWS_EC2_METADATA_DISABLED";
const METADATA_V1_DISABLED: &str = "AWS_EC2_METADATA_V1_DISABLED";
const BOTO_CONFIG: &str = "BOTO_CONFIG";
const AWS_FILES: [&str; 2] = ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"];
const NULL_DEVICE: &str = if cfg!(windows) { "NUL" } else { "/dev/null" };

/// The changes to a command's environment. Values are secrets, or lead to secrets.
pub(crate) struct Environment {
    pub(crate) set: Vec<(&'static str, String)>,
    /// In order of name, without those that are set.
    pub(crate) unset: Vec<String>,
    /// The profile's generation when its session was requested, if known.
    pub(crate) generation: Option<u64>,
}

impl Environment {
    /// Fetches the credentials in every mode, so that an error is reported before the command runs.
    pub(crate) fn ask(
        stream: &mut Stream,
        profile: &str,
        mode: Mode,
        region: Option<&str>,
    ) -> Result<Self, Failure> {
        let text = connect::ask(
            stream,
            Request::Lease {
                profile: profile.into(),
            },
        )?;

        let Reply::Lease(lease) = connect::reply(&text)? else {
            return Err(connect::unexpected_reply());
        };

        if let Some(seconds) = lease.view_age_seconds {
            super::print_error(&format!(
                "rolekeeper: the last successful revocation check for {profile} was {seconds} s ago"
            ));
        }

        let mut set = match mode {
            Mode::Env => keys(&lease),
            Mode::Http | Mode::Imds => address(&endpoint(stream, profile, mode)?)?,
        };

        let region = Region {
            option: region,
            configured: lease.region.as_deref(),
        };
        let (regions, notice) = region.variables(profile, text_variable);
        set.extend(regions);
        if let Some(notice) = notice.or_else(|| replaced_files(mode, &set)) {
            super::print_error(&format!("rolekeeper: {notice}"));
        }

        let mut unset = Self::to_unset();
        unset.retain(|name| set.iter().all(|(set, _)| set != name));
        let generation = (!lease.session_expires_at.is_empty()).then_some(lease.generation);
        Ok(Self {
            set,
            unset,
            generation,
        })
    }

    /// The variables that lead to other credentials, and those that an earlier `rolekeeper env` has set in this shell. In order
    /// of name.
    pub(crate) fn to_unset() -> Vec<String> {
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let mut unset: Vec<String> = names
            .filter(|name| name.starts_with(SHADOWING_PREFIX))
            .collect();
        unset.extend(SHADOWING.map(Into::into));

        if has_endpoint() {
            let is_null_device = |name: &&str| text_variable(name).as_deref() == Some(NULL_DEVICE);
            unset.extend(AWS_FILES.into_iter().filter(is_null_device).map(Into::into));
            unset.extend([METADATA_DISABLED, METADATA_V1_DISABLED].map(Into::into));
        }

        if let Some(own) = text_variable(OWN_REGION) {
            let is_own = |name: &&str| text_variable(name).as_ref() == Some(&own);
            unset.extend(REGIONS.into_iter().filter(is_own).map(Into::into));
            unset.push(OWN_REGION.into());
        }

        unset.sort();
        unset
    }

    pub(crate) fn apply_to(&self, command: &mut Command) {
        for name in &self.unset {
            command.env_remove(name);
        }
        command.envs(self.set.iter().map(|(name, value)| (name, value)));
    }
}

/// Whether an earlier `rolekeeper env --mode http` or `imds` has set variables in this shell.
fn has_endpoint() -> bool {
    [FULL_URI, METADATA]
        .into_iter()
        .any(|name| connect::variable(name).is_some())
}

fn text_variable(name: &str) -> Option<String> {
    connect::variable(name)?.into_string().ok()
}

/// A notice about variables of the user that the mode replaces.
fn replaced_files(mode: Mode, set: &[(&'static str, String)]) -> Option<String> {
    let mode = match mode {
        Mode::Env => return None,
        Mode::Http | Mode::Imds if has_endpoint() => return None,
        Mode::Http => "http",
        Mode::Imds => "imds",
    };

    let is_users = |(name, value): &&(&str, String)| {
        let is_listed = AWS_FILES.contains(name) || [BOTO_CONFIG, METADATA_DISABLED].contains(name);
        is_listed && text_variable(name).is_some_and(|before| before != *value)
    };
    let names: Vec<_> = set.iter().filter(is_users).map(|(name, _)| *name).collect();

    (!names.is_empty()).then(|| {
        format!(
            "--mode {mode} replaces {}, which could lead to other credentials",
            names.join(" and ")
        )
    })
}

fn keys(lease: &Lease<'_>) -> Vec<(&'static str, String)> {
    // A tool cannot renew these, so it gets the session's true expiry.
    let expiration = if lease.session_expires_at.is_empty() {
        &lease.expires_at
    } else {
        &lease.session_expires_at
    };

    let mut set = vec![
        (ACCESS_KEY, lease.access_key_id.to_string()),
        (SECRET_KEY, lease.secret_access_key.to_string()),
        (EXPIRATION, expiration.to_string()),
    ];

    if !lease.session_token.is_empty() {
        set.push((TOKEN, lease.session_token.to_string()));
    }

    if let Some(account) = &lease.account_id {
        set.push(("AWS_ACCOUNT_ID", account.to_string()));
    }

    set
}

/// The address of the endpoint that the command uses.
#[cfg(unix)]
pub(crate) fn endpoint_of(command: &Command) -> Option<String> {
    let is_address = |name: &OsStr| name == FULL_URI || name == METADATA;
    let (_, address) = command
        .get_envs()
        .find(|(name, value)| is_address(name) && value.is_some())?;

    address?.to_str().map(str::to_owned)
}

/// The address of the endpoint now, in a mode that has one.
#[cfg(unix)]
pub(crate) fn endpoint_now(stream: &mut Stream, profile: &str, mode: Mode) -> Option<String> {
    match mode {
        Mode::Env => None,
        Mode::Http | Mode::Imds => Some(endpoint(stream, profile, mode).ok()?.url),
    }
}

fn endpoint(stream: &mut Stream, profile: &str, mode: Mode) -> Result<Endpoint, Failure> {
    let kind = if mode == Mode::Imds {
        EndpointKind::Imds
    } else {
        EndpointKind::Container
    };

    let text = connect::document(
        stream,
        Request::Endpoint {
            profile: profile.into(),
            kind,
        },
    )
    .map_err(|failure| {
        if failure.code != Code::BadRequest {
            return failure;
        }
        Failure::new(
            Code::UnsupportedVersion,
            "the daemon is older than this command, and has no HTTP endpoints",
            "restart rolekeeperd",
        )
    })?;

    serde_json::from_str(&text).map_err(|_| connect::unexpected_reply())
}

/// The address, and variables that keep SDKs from other sources: credentials in the AWS files would take precedence, and
/// some SDKs connect even to this machine through a proxy.
fn address(endpoint: &Endpoint) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut set = match &endpoint.token_file {
        None => vec![
            (METADATA, endpoint.url.clone()),
            (METADATA_DISABLED, "false".into()),
            (METADATA_V1_DISABLED, "true".into()),
        ],
        Some(file) => {
            let file = file.to_str().ok_or_else(connect::unexpected_reply)?;
            // Some SDKs try the machine's instance metadata after a refusal.
            vec![
                (FULL_URI, endpoint.url.clone()),
                (TOKEN_FILE, file.into()),
                (METADATA_DISABLED, "true".into()),
            ]
        }
    };

    for file in AWS_FILES.into_iter().chain([BOTO_CONFIG]) {
        set.push((file, NULL_DEVICE.into()));
    }

    let before = |name| connect::variable(name).and_then(|value| value.into_string().ok());
    let lower = before("no_proxy");
    let upper = before("NO_PROXY");
    set.push(("no_proxy", no_proxy(lower.as_deref().or(upper.as_deref()))));
    set.push(("NO_PROXY", no_proxy(upper.as_deref().or(lower.as_deref()))));

    Ok(set)
}

/// The value of `NO_PROXY` with this machine added.
fn no_proxy(before: Option<&str>) -> String {
    let mut names: Vec<&str> = before
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    for here in ["127.0.0.1", "localhost"] {
        // `*` matches every host if it is alone, and in a list not for every reader.
        if !names.contains(&here) && names != ["*"] {
            names.push(here);
        }
    }

    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_gets_this_machine_and_keeps_the_rest() {
        for (before, want) in [
            (None, "127.0.0.1,localhost"),
            (Some(""), "127.0.0.1,localhost"),
            (
                Some("a.test, .b.test"),
                "a.test,.b.test,127.0.0.1,localhost",
            ),
            (Some("localhost,127.0.0.1"), "localhost,127.0.0.1"),
            (Some("*"), "*"),
            (Some("a.test,*"), "a.test,*,127.0.0.1,localhost"),
        ] {
            assert_eq!(no_proxy(before), want);
        }
    }
}
