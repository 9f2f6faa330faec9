//! `[aws]`: profiles of the sections in `~/.aws/config`. An error in one of AWS's files never stops the daemon: the section is
//! not served, and the reason is listed.

mod generator;
mod own_client;
mod sections;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rolekeeper::aws_file::{Ini, Invalid, profile_name};

use zeroize::Zeroizing;

use self::generator::Generator;
use self::sections::Sections;
use super::aws_endpoints::Variant;
use super::profile::Options;
use super::raw::{Errors, Table};
use super::values::{duration_within, path};
use super::{
    CHECK_INTERVALS, DEFAULT_CHECK, Endpoint, HttpTransport, Region, UpstreamConfig, UpstreamKind,
    aws, upstream,
};
use crate::platform::private_file;

/// Profiles of sections have it before the section's name.
pub(super) const PREFIX: &str = "aws.";
/// AWS's own, for sections without a region.
const DEFAULT_REGION: &str = "us-east-1";

/// The files that profiles are made of, and what is not served.
#[derive(Debug)]
pub(crate) struct AwsFiles {
    pub(crate) config: PathBuf,
    pub(crate) credentials: PathBuf,
    /// Why a whole file cannot be used.
    pub(crate) problems: Vec<String>,
    pub(crate) not_served: Vec<NotServed>,
    /// Of everything that the files decide.
    pub(crate) fingerprint: u64,
}

/// A section that no profile is made of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotServed {
    pub(crate) section: String,
    pub(crate) file: PathBuf,
    /// From 1.
    pub(crate) line: usize,
    pub(crate) reason: String,
}

impl fmt::Display for NotServed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            section,
            file,
            line,
            reason,
        } = self;
        write!(
            f,
            "{}:{line}: [{section}] is not served: {reason}",
            file.display()
        )
    }
}

/// `[aws]`: the files, and what all upstreams of their keys have.
#[derive(Debug)]
pub(super) struct Settings {
    config: PathBuf,
    credentials: PathBuf,
    region: Option<Region>,
    variant: Variant,
    endpoint: Option<Endpoint>,
    mfa_session: Duration,
    check_every: Duration,
    transport: HttpTransport,
}

pub(super) fn parse(mut table: Table<'_>, folder: &Path, errors: &mut Errors) -> Option<Settings> {
    table.require(&[("config", "\"~/.aws/config\"")], errors);
    let config = table.string("config", errors, |text| path(text, folder));
    let credentials = table.string("credentials", errors, |text| path(text, folder));
    let region = table.string("region", errors, aws::region);
    let variant = Variant {
        fips: table.boolean("fips", errors).unwrap_or_default(),
        dual_stack: table.boolean("dual_stack", errors).unwrap_or_default(),
    };
    let endpoint = table.string("endpoint", errors, Endpoint::parse);
    // A person enters the codes: none is left for each role.
    let mfa_session = table.string("mfa_session", errors, |text| {
        duration_within(text, aws::USER_SESSIONS, "15m to 36h")
    });
    let check_every = table.string("check_every", errors, |text| {
        duration_within(text, CHECK_INTERVALS, "1s to 2m30s")
    });
    let transport = upstream::transport(&mut table, folder, errors);
    table.finish(errors);

    Some(Settings {
        config: config?,
        credentials: credentials.or_else(|| path("~/.aws/credentials", folder).ok())?,
        region,
        variant,
        endpoint,
        mfa_session: mfa_session.unwrap_or(aws::DEFAULT_MFA_SESSION),
        check_every: check_every.unwrap_or(DEFAULT_CHECK),
        transport,
    })
}

/// Reads the files, and adds their profiles to `upstreams`, which are those of the configuration. `options` are what the
/// configuration adds to generated profiles.
pub(super) fn load(
    settings: Settings,
    mut options: BTreeMap<String, Options>,
    upstreams: &mut BTreeMap<Arc<str>, UpstreamConfig>,
) -> AwsFiles {
    let mut problems = Vec::new();
    let mut text = |path: &Path, is_required| {
        read(path, is_required).unwrap_or_else(|problem| {
            problems.push(problem);
            Zeroizing::default()
        })
    };
    let texts = [
        (text(&settings.config, true), &settings.config),
        (text(&settings.credentials, false), &settings.credentials),
    ];
    let [config, credentials] = texts.each_ref().map(|(text, path)| {
        Ini::parse(text).unwrap_or_else(|Invalid { line, reason }| {
            problems.push(format!(
                "AWS tools cannot read {}: line {line}: {reason}",
                path.display()
            ));
            Ini::default()
        })
    });

    let mut sections = Sections::merge(
        (&config, &settings.config),
        (&credentials, &settings.credentials),
    );
    for (name, upstream) in &*upstreams {
        if let (Some(section), UpstreamKind::Aws(_)) = (name.strip_prefix(PREFIX), &upstream.kind) {
            sections.set_keys(section, upstream.token.clone());
        }
    }

    let mut generator = Generator::new(&settings, &sections, upstreams);
    let mut not_served = Vec::new();
    for section in sections.of_files() {
        let options = options.remove(&profile_name(&section.name));
        let added = generator.add(section, options.unwrap_or_default());
        not_served.extend(added.err().map(|reason| section.not_served(reason)));
    }
    generator.remove_without_base(&mut not_served);
    let made = generator.finish();

    not_served.extend(options.into_keys().map(|name| NotServed {
        section: name.clone(),
        file: settings.config.clone(),
        line: 1,
        reason: format!(
            "the configuration of rolekeeperd has [profile.\"{name}\"], and no section here has this name"
        ),
    }));
    let mut hasher = DefaultHasher::new();
    format!("{problems:?} {not_served:?} {made}").hash(&mut hasher);

    AwsFiles {
        config: settings.config,
        credentials: settings.credentials,
        problems,
        not_served,
        fingerprint: hasher.finish(),
    }
}

/// The text of a file, which may be missing.
fn read(path: &Path, is_required: bool) -> Result<Zeroizing<String>, String> {
    match private_file::read_shown(path) {
        Err(error) if !is_required && error.is_missing() => Ok(Zeroizing::default()),
        read => read
            .map(Zeroizing::new)
            .map_err(|error| format!("{error}; {}", error.hint())),
    }
}

#[cfg(test)]
mod tests;
