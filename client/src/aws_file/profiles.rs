//! What the sections of a file mean: which are profiles, and what they inherit.

use super::{DEFAULTS, Ini, Section, nested_lines, strip, words};

/// A value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    Text(&'a str),
    /// The settings below a setting, such as those of `s3`.
    Nested(Vec<(&'a str, &'a str)>),
}

impl<'a> Ini<'a> {
    /// All settings of a section, also those that it has from `[DEFAULT]`, in the order of botocore.
    pub fn values<'i>(&'i self, section: &'i Section) -> Vec<(&'i str, Value<'i>)> {
        let defaults = self.sections.iter().filter(|each| each.header == DEFAULTS);
        let inherited = defaults
            .flat_map(|defaults| &defaults.settings)
            .filter(|setting| section.setting(&setting.key).is_none());

        section
            .settings
            .iter()
            .chain(inherited)
            .map(|setting| (setting.key.as_str(), value(&setting.value)))
            .collect()
    }

    /// The text of a setting of this section, or of `[DEFAULT]`.
    pub fn text<'i>(&'i self, section: &'i Section, key: &str) -> Option<&'i str> {
        let defaults = self.sections.iter().filter(|each| each.header == DEFAULTS);
        std::iter::once(section)
            .chain(defaults)
            .find_map(|section| section.value(key))
    }

    /// The sections of a credentials file, and of a configuration file as they are written.
    pub fn plain_sections(&self) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(|each| each.header != DEFAULTS)
    }

    /// The profiles of a configuration file by name, in the order of the file.
    pub fn profiles(&self) -> Vec<(String, &Section)> {
        self.named("profile")
    }

    /// The sections of a kind, such as `sso-session`, by name. Of two with one name, the last counts.
    pub fn named(&self, kind: &str) -> Vec<(String, &Section)> {
        let mut named: Vec<(String, &Section)> = Vec::new();
        for section in self.plain_sections() {
            let Some(name) = name(&section.header, kind) else {
                continue;
            };
            match named.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = section,
                None => named.push((name, section)),
            }
        }

        named
    }
}

/// botocore takes every header that begins with the kind, and has two words.
fn name(header: &str, kind: &str) -> Option<String> {
    if header == "default" && kind == "profile" {
        return Some(header.into());
    }
    if !header.starts_with(kind) {
        return None;
    }

    let words: [String; 2] = words::split(header)?.try_into().ok()?;
    let [_, name] = words;

    Some(name)
}

fn value(text: &str) -> Value<'_> {
    if !text.starts_with('\n') {
        return Value::Text(text);
    }

    let mut settings: Vec<(&str, &str)> = Vec::new();
    for (key, value) in nested_lines(text).filter_map(|line| line.split_once('=')) {
        let (key, value) = (strip(key), strip(value));
        match settings.iter_mut().find(|(known, _)| *known == key) {
            Some(known) => known.1 = value,
            None => settings.push((key, value)),
        }
    }

    Value::Nested(settings)
}

/// The name of the profile that rolekeeper makes of a section. What no name may have becomes `-`.
pub fn profile_name(section: &str) -> String {
    let is_allowed = |each: char| each.is_ascii_alphanumeric() || "-_.".contains(each);
    let name = section
        .chars()
        .map(|each| if is_allowed(each) { each } else { '-' });

    format!("aws.{}", name.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_named_as_botocore_names_them() {
        let text = "[default]\na=1\n[profile \"my dev\"]\n[dev]\n[profile x y]\n[profiles z]\n[profile default]\na=2\n[sso-session s]\n";
        let ini = Ini::parse(text).unwrap();
        let profiles = ini.profiles();
        let names: Vec<_> = profiles.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["default", "my dev", "z"]);
        // The last one counts.
        assert_eq!(profiles[0].1.value("a"), Some("2"));
        assert_eq!(ini.named("sso-session")[0].0, "s");
    }

    #[test]
    fn settings_are_inherited_and_nested() {
        let text = "[DEFAULT]\nregion = r\n[profile a]\nS3 =\n  a = 1\n\n  b=2\n  a = 3\nx = 1 # no comment\n";
        let ini = Ini::parse(text).unwrap();
        let profiles = ini.profiles();
        assert_eq!(
            ini.values(profiles[0].1),
            [
                ("s3", Value::Nested(vec![("a", "3"), ("b", "2")])),
                ("x", Value::Text("1 # no comment")),
                ("region", Value::Text("r")),
            ]
        );
        assert_eq!(ini.text(profiles[0].1, "region"), Some("r"));
    }

    #[test]
    fn profile_name_has_no_other_characters() {
        assert_eq!(profile_name("my dev/é"), "aws.my-dev--");
    }
}
