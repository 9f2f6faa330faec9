//! The lines of a section with other settings. All other lines of the file stay the same.

use std::path::Path;

use rolekeeper::aws_file::{Ini, Section, Setting};
use rolekeeper::protocol::{Code, Failure};

use super::{PROCESS, REGION, parse};

pub(super) fn lines_of<'a>(ini: &Ini<'a>, section: Option<&Section>) -> Vec<&'a str> {
    let lines = section.and_then(|section| ini.lines.get(section.lines.clone()));
    lines.unwrap_or_default().to_vec()
}

/// The file with these lines in place of the section, or at the end.
pub(super) fn with_section(ini: &Ini<'_>, section: Option<&Section>, new: &[String]) -> String {
    let end = ini.lines.len();
    let range = section.map_or(end..end, |section| section.lines.clone());
    let before = ini.lines.get(..range.start).unwrap_or_default();
    let after = ini.lines.get(range.end..).unwrap_or_default();

    let mut content = before.concat();
    if !content.is_empty() && !content.ends_with(['\n', '\r']) {
        content.push('\n');
    }

    content + &new.concat() + &after.concat()
}

/// The section with these settings. A new one is first, unless the settings there are indented: it would change them to
/// continuation lines. Some tools ignore an indented setting, one with a colon, and one with a key in other letters.
pub(super) fn with_settings(
    ini: &Ini<'_>,
    section: Option<&Section>,
    name: &str,
    settings: &[(&str, String)],
) -> Vec<String> {
    let line = |(key, value): &(&str, String)| format!("{key} = {value}\n");
    let Some(section) = section else {
        let header = match name {
            "default" => "[default]\n".to_owned(),
            _ => format!("[profile {name}]\n"),
        };
        return [header]
            .into_iter()
            .chain(settings.iter().map(line))
            .collect();
    };

    let wanted = |setting: &Setting| settings.iter().find(|(key, _)| *key == setting.key);
    let is_moved = |setting: &&Setting| setting.is_indented && wanted(setting).is_some();
    let is_missing = |(key, _): &&(&str, String)| {
        section
            .setting(key)
            .filter(|each| !is_moved(each))
            .is_none()
    };
    let missing: Vec<String> = settings.iter().filter(is_missing).map(line).collect();

    let mut kept = section.settings.iter().filter(|setting| !is_moved(setting));
    let first_line = section.lines.start;
    let insert_after = match kept.next() {
        Some(first) if first.is_indented => kept.next_back().unwrap_or(first).last_line(),
        _ => first_line,
    };

    let mut new = Vec::new();
    for index in section.lines.clone() {
        let old = ini.lines.get(index).copied().unwrap_or_default();
        let setting = section.setting_at(index);
        let change = setting.and_then(|setting| Some((setting, wanted(setting)?)));

        match change {
            Some((setting, wanted)) if setting.is_written_as(old, wanted) => {
                new.push(old.to_owned());
            }
            Some((setting, wanted)) if setting.lines.start == index => {
                new.extend((!setting.is_indented).then(|| line(wanted)));
            }
            Some(_) if !is_comment(old) => {}
            _ => new.push(old.to_owned()),
        }

        if index == insert_after && !missing.is_empty() {
            if let Some(last) = new.last_mut().filter(|last| !last.ends_with(['\n', '\r'])) {
                last.push('\n');
            }
            new.extend(missing.iter().cloned());
        }
    }

    new
}

/// The section without the settings. If it has others, header and region stay for these.
pub(super) fn without_settings(ini: &Ini<'_>, section: &Section) -> Vec<String> {
    let mut keys = section.settings.iter().map(|setting| setting.key.as_str());
    let has_others = keys.any(|key| ![PROCESS, REGION].contains(&key));
    let is_kept = |index: &usize| match section.setting_at(*index) {
        Some(setting) if setting.key == PROCESS || !has_others => {
            ini.lines.get(*index).is_some_and(|line| is_comment(line))
        }
        None if *index == section.lines.start => has_others,
        _ => true,
    };

    let kept = section.lines.clone().filter(is_kept);
    kept.filter_map(|index| ini.lines.get(index).map(ToString::to_string))
        .collect()
}

/// Whether the line is a comment or empty.
fn is_comment(line: &str) -> bool {
    matches!(line.trim_start().chars().next(), None | Some('#' | ';'))
}

/// The removed and the added lines.
pub(super) fn difference(old: &[&str], new: &[String]) -> (Vec<String>, Vec<String>) {
    let old: Vec<String> = old.iter().map(|line| line.trim_end().to_owned()).collect();
    let new: Vec<String> = new.iter().map(|line| line.trim_end().to_owned()).collect();
    let removed = old.iter().filter(|line| !new.contains(line)).cloned();
    let added = new.iter().filter(|line| !old.contains(line)).cloned();
    (removed.collect(), added.collect())
}

/// Refuses a change after which an AWS tool could not read the file, or would read something else in another section or in
/// another setting.
pub(super) fn check_outcome(
    ini: &Ini<'_>,
    section: Option<&Section>,
    content: &str,
    path: &Path,
) -> Result<(), Failure> {
    let new = parse(content, path)?;
    let others = |section: &Section| -> Vec<(String, String)> {
        let settings = section.settings.iter();
        settings
            .filter(|setting| ![PROCESS, REGION].contains(&setting.key.as_str()))
            .map(|setting| (setting.key.clone(), setting.value.clone()))
            .collect()
    };
    let all = |ini: &Ini<'_>, skipped: Option<&str>| -> Vec<_> {
        let sections = ini.sections.iter();
        let sections = sections.filter(|section| Some(section.header.as_str()) != skipped);
        sections
            .map(|section| (section.header.clone(), values(section)))
            .collect()
    };

    let mut added = new.sections.iter().map(|section| section.header.as_str());
    let changed = match section {
        Some(section) => Some(section.header.as_str()),
        None => added.next_back(),
    };
    let find = |header| new.sections.iter().find(|section| section.header == header);
    let after = section
        .map(|section| section.header.as_str())
        .and_then(find);
    let keeps_section = match (section, after) {
        (Some(before), Some(after)) => others(before) == others(after),
        (Some(before), None) => others(before).is_empty(),
        (None, _) => true,
    };

    if keeps_section && all(ini, changed) == all(&new, changed) {
        return Ok(());
    }

    let message = format!(
        "cannot change {} without changing other settings in it",
        path.display()
    );
    let hint = "remove the indentation of the settings in the section, and run the command again";
    Err(Failure::new(Code::Configuration, message, hint))
}

fn values(section: &Section) -> Vec<(String, String)> {
    let settings = section.settings.iter();
    settings
        .map(|setting| (setting.key.clone(), setting.value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file with these settings in its first section.
    fn changed(text: &str, settings: &[(&str, &str)]) -> String {
        let ini = Ini::parse(text).unwrap();
        let section = ini.sections.first();
        let settings: Vec<_> = settings
            .iter()
            .map(|&(key, value)| (key, value.to_owned()))
            .collect();
        let new = with_settings(&ini, section, "dev", &settings);
        let content = with_section(&ini, section, &new);
        check_outcome(&ini, section, &content, Path::new("x")).unwrap();

        content
    }

    #[test]
    fn a_setting_changes_in_its_place_and_no_other_line() {
        for (text, want) in [
            (
                "[profile dev]\n# a\nregion = x\n# b\nn =\n m = 1",
                "[profile dev]\n# a\nregion = y\n# b\nn =\n m = 1",
            ),
            (
                "[profile dev]\nRegion : x\n # c\n  more\nn = 1\n",
                "[profile dev]\nregion = y\n # c\nn = 1\n",
            ),
            (
                "[profile dev]\n  n = 1\n  region=x\n[b]\n",
                "[profile dev]\n  n = 1\nregion = y\n[b]\n",
            ),
            (
                "[profile dev]\n  region = y\n  n = 1\n  m = 1\n\n[b]\n",
                "[profile dev]\n  n = 1\n  m = 1\nregion = y\n\n[b]\n",
            ),
            (
                "[profile dev]\n  region = y\n # c\n   more\nn = 1",
                "[profile dev]\nregion = y\n # c\nn = 1",
            ),
            (
                "[profile dev]\nregion: y\nn = 1\n",
                "[profile dev]\nregion = y\nn = 1\n",
            ),
            (
                "[profile dev]\nregion =y # \nRegion2 = y\n",
                "[profile dev]\nregion = y\nRegion2 = y\n",
            ),
            (
                "[profile dev]\nn = 1\nregion=y\n",
                "[profile dev]\nn = 1\nregion=y\n",
            ),
            (
                "[profile dev]\n  n = 1\n  m = 2\n\n[b]\n",
                "[profile dev]\n  n = 1\n  m = 2\nregion = y\n\n[b]\n",
            ),
            (
                "[profile dev]\n  n = 1",
                "[profile dev]\n  n = 1\nregion = y\n",
            ),
            ("[profile dev]", "[profile dev]\nregion = y\n"),
            (
                "[profile dev]\nn = 1\n",
                "[profile dev]\nregion = y\nn = 1\n",
            ),
        ] {
            assert_eq!(changed(text, &[(REGION, "y")]), want);
        }
    }
}
