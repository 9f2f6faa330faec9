//! Upstreams of the sections with keys, and profiles of the sections with roles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use rolekeeper::aws_file::profile_name;

use super::sections::{RoleSection, Section, Sections};
use super::{DEFAULT_REGION, NotServed, PREFIX, Settings};
use crate::config::profile::{self, Options};
use crate::config::raw::{self, Errors};
use crate::config::{
    MfaCodeSource, MfaSettings, Profile, ProfileName, Region, UpstreamConfig, UpstreamKind, aws,
};

/// Makes upstreams and profiles of sections.
pub(super) struct Generator<'a> {
    settings: &'a Settings,
    sections: &'a Sections,
    /// Those of the configuration, and those that are made here.
    upstreams: &'a mut BTreeMap<Arc<str>, UpstreamConfig>,
    made: BTreeSet<Arc<str>>,
    /// The MFA device of these keys, and the first section that names it.
    serials: BTreeMap<&'a str, (String, &'a str)>,
}

impl<'a> Generator<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        sections: &'a Sections,
        upstreams: &'a mut BTreeMap<Arc<str>, UpstreamConfig>,
    ) -> Self {
        let mut serials = BTreeMap::new();
        for section in sections.of_files() {
            let serial = section.get("mfa_serial").map(aws::mfa_serial);
            if let (Some(Ok(serial)), Ok(role)) = (serial, sections.role(section))
                && role.base.is_none()
            {
                let first = (serial, section.name.as_str());
                serials.entry(role.keys.name.as_str()).or_insert(first);
            }
        }

        Self {
            settings,
            sections,
            upstreams,
            made: BTreeSet::new(),
            serials,
        }
    }

    /// The error is why the section is not served.
    pub(super) fn add(&mut self, section: &Section, options: Options) -> Result<(), String> {
        let role = self.sections.role(section)?;
        if let Some(other) = self.sections.namesake(section) {
            return Err(format!(
                "its profile and that of [{other}] have one name; rename one of the sections"
            ));
        }
        if let Some(other) = self.sections.namesake(role.keys) {
            return Err(format!(
                "the upstreams of its source [{}] and of [{other}] have one name; rename one of the sections",
                role.keys.name
            ));
        }
        let Some(name) = ProfileName::parse(&profile_name(&section.name)) else {
            return Err("its name is longer than 60 characters".into());
        };

        let serial = self.mfa_serial(section, &role)?;
        let upstream = self.upstream(&role, serial)?;
        let profile = profile_of(section, &role, name, upstream)?;
        let profile = options.of(profile);
        if profile.max_view_age < upstream.check_every * 2 {
            return Err("its `max_view_age` is less than twice the `check_every` of [aws]".into());
        }
        upstream.profiles.push(profile);

        Ok(())
    }

    /// The MFA device of the keys. One session with MFA is for all their roles.
    fn mfa_serial(
        &self,
        section: &Section,
        role: &RoleSection<'_>,
    ) -> Result<Option<String>, String> {
        let own = section.get("mfa_serial").filter(|_| role.base.is_none());
        let own = own.map(aws::mfa_serial).transpose();
        let own = own.map_err(|reason| format!("its `mfa_serial` {reason}"))?;

        match (own, self.serials.get(role.keys.name.as_str())) {
            (Some(own), Some((serial, other))) if own != *serial => Err(format!(
                "its `mfa_serial` differs from that of [{other}], which uses the same keys"
            )),
            (_, known) => Ok(known.map(|(serial, _)| serial.clone())),
        }
    }

    /// That of the section with the keys.
    fn upstream(
        &mut self,
        role: &RoleSection<'_>,
        serial: Option<String>,
    ) -> Result<&mut UpstreamConfig, String> {
        let keys = role.keys;
        let name: Arc<str> = profile_name(&keys.name).into();
        if ProfileName::parse(&name).is_none() {
            return Err(format!(
                "the name of its source [{}] is longer than 60 characters",
                keys.name
            ));
        }
        // The keys are elsewhere than in the files of AWS.
        if let Some(upstream) = self
            .upstreams
            .get(&name)
            .filter(|_| !self.made.contains(&name))
        {
            let UpstreamKind::Aws(of_aws) = &upstream.kind else {
                return Err(format!("[upstream.\"{name}\"] is not of kind \"aws\""));
            };
            let configured = of_aws.mfa.as_ref().map(|mfa| &mfa.serial);
            if let Some(serial) = serial.filter(|serial| configured != Some(serial)) {
                return Err(format!(
                    "its `mfa_serial` is not that of [upstream.\"{name}\"]; set mfa = {{ serial = \"{serial}\" }} there"
                ));
            }
            return self.upstreams.get_mut(&name).ok_or_else(String::new);
        }

        let settings = self.settings;
        let region = match keys.get("region").or(role.region) {
            Some(region) => aws::region(region)
                .map_err(|reason| format!("the `region` of [{}] {reason}", keys.name))?,
            None => match &settings.region {
                Some(region) => region.clone(),
                None => aws::region(DEFAULT_REGION)?,
            },
        };
        let mfa = serial.map(|serial| MfaSettings {
            serial,
            code: MfaCodeSource::Ask,
            session: Some(settings.mfa_session),
        });
        let endpoint = settings.endpoint.clone();
        let of_aws = aws::settings(region, settings.variant, endpoint, mfa);
        let (endpoint, of_aws) = of_aws.ok_or(
            "AWS has no such endpoint in its region; correct `fips` and `dual_stack` of [aws]",
        )?;

        let token = keys.keys.clone().ok_or("it has no access keys")?;
        let upstream = UpstreamConfig {
            name,
            endpoint,
            token,
            transport: settings.transport.clone(),
            kind: UpstreamKind::Aws(Box::new(of_aws)),
            check_every: settings.check_every,
            profiles: Vec::new(),
        };
        self.made.insert(Arc::clone(&upstream.name));
        let name = Arc::clone(&upstream.name);
        Ok(self.upstreams.entry(name).or_insert(upstream))
    }

    /// A profile whose base is not served is not served either.
    pub(super) fn remove_without_base(&mut self, not_served: &mut Vec<NotServed>) {
        loop {
            let profiles = || {
                self.upstreams
                    .values()
                    .flat_map(|upstream| &upstream.profiles)
            };
            let names: BTreeSet<_> = profiles().map(|profile| profile.name.clone()).collect();
            let is_without = |profile: &Profile| {
                let base = profile.base.as_ref().filter(|base| !names.contains(*base));
                base.is_some() && profile.name.as_str().starts_with(PREFIX)
            };
            let removed: BTreeSet<_> = profiles()
                .filter(|profile| is_without(profile))
                .map(|profile| profile.name.clone())
                .collect();
            if removed.is_empty() {
                return;
            }

            for upstream in self.upstreams.values_mut() {
                upstream
                    .profiles
                    .retain(|profile| !removed.contains(&profile.name));
            }
            let sections = self.sections.of_files();
            let sections =
                sections.filter(|section| removed.contains(&*profile_name(&section.name)));
            not_served
                .extend(sections.map(|section| {
                    section.not_served("its `source_profile` is not served".into())
                }));
        }
    }

    /// Removes upstreams without a profile, and describes what was made.
    pub(super) fn finish(self) -> String {
        let Self {
            upstreams, made, ..
        } = self;
        upstreams.retain(|name, upstream| !made.contains(name) || !upstream.profiles.is_empty());

        let mut text = String::new();
        for (name, upstream) in &*upstreams {
            if made.contains(name) {
                text += &format!("{upstream:?}");
            }
            let profiles = upstream.profiles.iter();
            for profile in profiles.filter(|profile| profile.name.as_str().starts_with(PREFIX)) {
                text += &format!("{profile:?}");
            }
        }

        text
    }
}

/// Validated as a profile of the configuration is.
fn profile_of(
    section: &Section,
    role: &RoleSection<'_>,
    name: ProfileName,
    upstream: &UpstreamConfig,
) -> Result<Profile, String> {
    let UpstreamKind::Aws(of_aws) = &upstream.kind else {
        return Err("its keys are not of AWS".into());
    };
    let with_mfa = role.base.is_none() && section.get("mfa_serial").is_some();
    let has_session = of_aws.mfa.as_ref().is_some_and(|mfa| mfa.session.is_some());
    let is_chained = role.base.is_some() || (with_mfa && has_session);

    let mut text = format!("mfa = {with_mfa}\n");
    for (key, as_key) in [
        ("role_arn", "role_arn"),
        ("role_session_name", "session_name"),
        ("external_id", "external_id"),
    ] {
        if let Some(value) = section.get(key) {
            text += &format!("{as_key} = {}\n", quoted(key, value)?);
        }
    }
    if let Some(seconds) = section.get("duration_seconds") {
        let seconds: u64 = seconds
            .parse()
            .map_err(|_| "its `duration_seconds` is not a number")?;
        // The daemon refreshes the session, so that a shorter one is enough.
        let seconds = match is_chained {
            true => seconds.min(aws::LONGEST_CHAINED.as_secs()),
            false => seconds,
        };
        text += &format!("duration = \"{seconds}s\"\n");
    }

    let mut errors = Errors::default();
    let mut table = raw::parse(&text, &mut errors);
    let request = profile::role(
        &mut table,
        Some(&upstream.kind),
        role.base.is_some(),
        Path::new("/"),
        &mut errors,
    );
    let (request, None) = (request, errors.0.first()) else {
        let reasons = errors.0.into_iter().map(|error| {
            let message = error.message.replace("`duration`", "`duration_seconds`");
            message.replace("`session_name`", "`role_session_name`")
        });
        return Err(reasons.collect::<Vec<_>>().join(", "));
    };
    let request = request.ok_or("its role is not valid")?;

    let region = section.get("region").map(|region| {
        Region::parse(region).ok_or_else(|| format!("its `region` {region} is not a region"))
    });
    let region = region.transpose()?;
    let account_id = profile::account_of(&request.role);

    Ok(Profile {
        region: region.or_else(|| Some(of_aws.region.clone())),
        account_id,
        base: role
            .base
            .and_then(|base| ProfileName::parse(&profile_name(base))),
        ..Profile::new(name, Arc::clone(&upstream.name), request)
    })
}

/// As a string of TOML.
fn quoted(key: &str, value: &str) -> Result<String, String> {
    match value.chars().any(char::is_control) {
        true => Err(format!("its `{key}` has more than one line")),
        false => Ok(serde_json::Value::from(value).to_string()),
    }
}
