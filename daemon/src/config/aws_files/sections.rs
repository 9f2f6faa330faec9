//! The sections of both files as botocore merges them, and which keys a role is assumed with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rolekeeper::aws_file::{Ini, Section as FileSection, Value, profile_name};

use super::super::TokenLocation;
use super::{NotServed, own_client};

const KEY_ID: &str = "aws_access_key_id";
const SECRET: &str = "aws_secret_access_key";
const SESSION_TOKEN: &str = "aws_session_token";

/// A profile of AWS, from both files. It has no secret.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: String,
    file: PathBuf,
    /// From 1. 0 for a section that no file has.
    line: usize,
    settings: BTreeMap<String, String>,
    /// Where its access keys are.
    pub(super) keys: Option<TokenLocation>,
}

/// A section whose role can be assumed.
#[derive(Debug)]
pub(super) struct RoleSection<'a> {
    /// The section with the access keys.
    pub(super) keys: &'a Section,
    /// The section whose session assumes the role. None: the keys do.
    pub(super) base: Option<&'a str>,
    pub(super) region: Option<&'a str>,
}

#[derive(Debug)]
pub(super) struct Sections {
    /// In the order of the files.
    sections: Vec<Section>,
    by_name: BTreeMap<String, usize>,
    /// How many sections have a profile of this name, and the first of them.
    by_profile: BTreeMap<String, Vec<usize>>,
}

impl Section {
    /// A setting that is not empty.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let value = self.settings.get(key).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    pub(super) fn not_served(&self, reason: String) -> NotServed {
        NotServed {
            section: self.name.clone(),
            file: self.file.clone(),
            line: self.line,
            reason,
        }
    }

    fn read(name: String, ini: &Ini<'_>, section: &FileSection, file: &Path) -> Self {
        let values = ini.values(section).into_iter();
        let settings = values.filter_map(|(key, value)| match value {
            Value::Text(_) if [SECRET, SESSION_TOKEN].contains(&key) => {
                Some((key.to_owned(), String::new()))
            }
            Value::Text(text) => Some((key.to_owned(), text.to_owned())),
            Value::Nested(_) => None,
        });
        let settings: BTreeMap<_, _> = settings.collect();

        let has_keys = [KEY_ID, SECRET]
            .iter()
            .all(|key| settings.contains_key(*key));
        let keys = has_keys.then(|| TokenLocation::AwsFile {
            file: file.to_owned(),
            section: section.header.clone(),
        });

        Self {
            name,
            file: file.to_owned(),
            line: section.lines.start + 1,
            settings,
            keys,
        }
    }

    /// Adds what the credentials file has. It is stronger.
    fn add(&mut self, credentials: Self) {
        self.settings.extend(credentials.settings);
        if credentials.keys.is_some() {
            self.keys = credentials.keys;
        }
    }

    /// Keys of a session expire, and cannot be renewed.
    fn has_temporary_keys(&self) -> bool {
        self.settings.contains_key(SESSION_TOKEN)
    }

    fn assumes_role(&self) -> bool {
        self.get("role_arn").is_some() && self.get("web_identity_token_file").is_none()
    }

    /// Why a section has no role that access keys assume.
    fn no_role(&self) -> String {
        let has = |key| self.get(key).is_some();
        if has("web_identity_token_file") {
            return "`web_identity_token_file` is not supported yet".into();
        }
        if has("sso_session") || has("sso_start_url") || has("sso_account_id") {
            return "IAM Identity Center (`sso_…`) is not supported yet".into();
        }
        if self.has_temporary_keys() {
            return "its access keys are those of a session, and expire".into();
        }
        if self.keys.is_some() {
            return "it has access keys and no `role_arn`; its keys assume the roles of sections \
                with this `source_profile`, and are not given to programs"
                .into();
        }
        if has("login_session") {
            return "`login_session` is not supported yet".into();
        }
        match self.get("credential_process") {
            Some(command) => match own_client::profile_of(command) {
                Some(profile) => format!("it is profile {profile} of rolekeeper already"),
                None => "`credential_process` is not supported yet".into(),
            },
            None => "it has no credentials: add `role_arn` and `source_profile`".into(),
        }
    }
}

impl Sections {
    pub(super) fn merge(
        (config, config_file): (&Ini<'_>, &Path),
        (credentials, credentials_file): (&Ini<'_>, &Path),
    ) -> Self {
        let mut merged = Self {
            sections: Vec::new(),
            by_name: BTreeMap::new(),
            by_profile: BTreeMap::new(),
        };

        for (name, section) in config.profiles() {
            merged.push(Section::read(name, config, section, config_file));
        }
        for section in credentials.plain_sections() {
            let name = section.header.clone();
            let section = Section::read(name, credentials, section, credentials_file);
            match merged.by_name.get(&section.name) {
                Some(&index) => merged
                    .sections
                    .get_mut(index)
                    .map_or((), |known| known.add(section)),
                None => merged.push(section),
            }
        }

        merged
    }

    fn push(&mut self, section: Section) {
        let index = self.sections.len();
        let profile = profile_name(&section.name);
        self.by_name.insert(section.name.clone(), index);
        self.by_profile.entry(profile).or_default().push(index);
        self.sections.push(section);
    }

    /// Sections that the files have.
    pub(super) fn of_files(&self) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(|section| section.line > 0)
    }

    /// The keys of this section are elsewhere than in the files, which need not have the section any more.
    pub(super) fn set_keys(&mut self, name: &str, keys: TokenLocation) {
        let known = self.by_profile.get(&profile_name(name));
        let known = known.and_then(|indices| indices.first());
        match known.and_then(|index| self.sections.get_mut(*index)) {
            Some(section) => {
                section.settings.remove(SESSION_TOKEN);
                section.keys = Some(keys);
            }
            None => self.push(Section {
                name: name.into(),
                file: PathBuf::new(),
                line: 0,
                settings: BTreeMap::new(),
                keys: Some(keys),
            }),
        }
    }

    fn find(&self, name: &str) -> Option<&Section> {
        self.sections.get(*self.by_name.get(name)?)
    }

    /// Another section whose profile has the same name.
    pub(super) fn namesake(&self, section: &Section) -> Option<&str> {
        let all = self.by_profile.get(&profile_name(&section.name))?;
        let others = all.iter().filter_map(|index| self.sections.get(*index));
        let mut names = others.map(|other| other.name.as_str());
        names.find(|name| *name != section.name)
    }

    /// The keys that a section's role is assumed with, by the rules of botocore. The error is why there are none.
    pub(super) fn role<'a>(&'a self, section: &'a Section) -> Result<RoleSection<'a>, String> {
        let mut base = None;
        let mut current = section;
        let mut visited = vec![section.name.as_str()];

        loop {
            let source = self.source(current).map_err(|reason| match base {
                None => reason,
                Some(_) => format!("its source [{}] is not served: {reason}", current.name),
            })?;
            if source.keys.is_some() {
                return Ok(RoleSection {
                    keys: source,
                    base,
                    region: section.get("region"),
                });
            }

            if visited.contains(&source.name.as_str()) {
                return Err(format!(
                    "its `source_profile` leads back to [{}], which has no access keys",
                    source.name
                ));
            }
            visited.push(&source.name);
            base = base.or(Some(source.name.as_str()));
            current = source;
        }
    }

    /// The section that `source_profile` names.
    fn source<'a>(&'a self, section: &'a Section) -> Result<&'a Section, String> {
        if !section.assumes_role() {
            return Err(section.no_role());
        }

        let source = match (
            section.get("source_profile"),
            section.get("credential_source"),
        ) {
            (Some(source), None) => source,
            (Some(_), Some(_)) => {
                return Err("it has both `source_profile` and `credential_source`".into());
            }
            (None, Some(_)) => return Err("`credential_source` is not supported yet".into()),
            (None, None) => return Err("it has `role_arn` and no `source_profile`".into()),
        };
        let Some(source) = self.find(source) else {
            return Err(format!(
                "there is no section for its `source_profile` {source}"
            ));
        };
        if source.has_temporary_keys() {
            return Err(format!(
                "the access keys of its source [{}] are those of a session, and expire",
                source.name
            ));
        }
        if source.keys.is_none() && !source.assumes_role() {
            return Err(format!(
                "its source [{}]: {}",
                source.name,
                source.no_role()
            ));
        }

        Ok(source)
    }
}
