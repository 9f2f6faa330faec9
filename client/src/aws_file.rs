//! The configuration and credentials files of AWS, read by the rules of botocore: Python's `RawConfigParser`, and indented
//! lines of a nested setting. A file that botocore cannot read fails every command of every profile.

mod profiles;
mod words;

pub use profiles::{Value, profile_name};
pub use words::split as split_words;

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

/// A file that botocore can read.
#[derive(Debug, Default)]
pub struct Ini<'a> {
    pub lines: Vec<&'a str>,
    pub sections: Vec<Section>,
}

#[derive(Debug)]
pub struct Section {
    /// The text between the brackets.
    pub header: String,
    /// The indices of its lines, from the header up to the next one.
    pub lines: Range<usize>,
    pub settings: Vec<Setting>,
}

/// Its value may be a secret. It is overwritten when this is dropped.
pub struct Setting {
    /// In lower case, as botocore compares it.
    pub key: String,
    /// Continuation lines are separated by line feeds.
    pub value: String,
    /// The indices of its lines, with all continuation lines and the comments between them.
    pub lines: Range<usize>,
    pub is_indented: bool,
}

impl Drop for Setting {
    fn drop(&mut self) {
        let mut value = std::mem::take(&mut self.value).into_bytes();
        value.fill(0);
        std::hint::black_box(&value);
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, lines, .. } = self;
        write!(f, "{key} in {lines:?}")
    }
}

impl Section {
    pub fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    pub fn value(&self, key: &str) -> Option<&str> {
        self.setting(key).map(|setting| setting.value.as_str())
    }

    /// The setting that has the line of this index.
    pub fn setting_at(&self, index: usize) -> Option<&Setting> {
        let mut settings = self.settings.iter();
        settings.find(|setting| setting.lines.contains(&index))
    }
}

impl Setting {
    /// Whether this is its only line, and every tool reads it as this key and value.
    pub fn is_written_as(&self, line: &str, (key, value): &(&str, String)) -> bool {
        let is_exact = line.strip_prefix(key).is_some_and(|rest| {
            let rest = strip(rest).strip_prefix('=').map(strip);
            rest == Some(value)
        });

        is_exact && self.lines.len() == 1
    }

    /// The index of its last line.
    pub fn last_line(&self) -> usize {
        self.lines.end.saturating_sub(1)
    }
}

/// The section whose settings every other section has, too.
const DEFAULTS: &str = "DEFAULT";

/// Why botocore cannot read a file. It contains no text of the file, which may have secrets.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalid {
    /// From 1.
    pub line: usize,
    pub reason: &'static str,
}

impl<'a> Ini<'a> {
    pub fn parse(text: &'a str) -> Result<Self, Invalid> {
        let lines = lines(text);
        let mut sections: Vec<Section> = Vec::new();
        let mut headers = HashSet::new();
        let mut indentation = 0;
        // Empty lines that belong to the setting above if a line of it follows.
        let mut empty_lines = 0;

        for (index, line) in lines.iter().enumerate() {
            let invalid = |reason| Invalid {
                line: index + 1,
                reason,
            };

            if index == 0 && line.starts_with('\u{feff}') {
                return Err(invalid("a byte order mark"));
            }

            let content = strip(line);
            if let Some(section) = sections.last_mut() {
                section.lines.end = index + 1;
            }

            if content.is_empty() {
                empty_lines += 1;
                continue;
            }
            if content.starts_with(['#', ';']) {
                continue;
            }

            let own = line.chars().take_while(|&each| is_space(each)).count();
            let setting = sections
                .last_mut()
                .and_then(|section| section.settings.last_mut());
            if let Some(setting) = setting.filter(|_| own > indentation) {
                let feeds = std::iter::repeat_n('\n', empty_lines + 1);
                setting.value.extend(feeds);
                setting.value.push_str(content);
                empty_lines = 0;
                setting.lines.end = index + 1;
                continue;
            }

            indentation = own;
            empty_lines = 0;
            if let Some(header) = header(content) {
                if !headers.insert(header.to_owned()) && header != DEFAULTS {
                    return Err(invalid("a second section with the same header"));
                }
                if let Some(previous) = sections.last_mut() {
                    previous.lines.end = index;
                }
                sections.push(Section {
                    header: header.to_owned(),
                    lines: index..index + 1,
                    settings: Vec::new(),
                });
                continue;
            }

            let Some(section) = sections.last() else {
                return Err(invalid("a line before the first section"));
            };

            let Some((key, value)) = content.split_once(['=', ':']) else {
                return Err(invalid("a line that is neither a header nor KEY = VALUE"));
            };

            let key = strip(key).to_lowercase();
            if key.is_empty() {
                return Err(invalid("a setting without a key"));
            }
            // Only these may be in several sections.
            let parts = match section.header.as_str() {
                DEFAULTS => sections.as_slice(),
                _ => std::slice::from_ref(section),
            };
            let mut same = parts
                .iter()
                .filter(|each| each.header == section.header)
                .flat_map(|each| &each.settings);
            if same.any(|setting| setting.key == key) {
                return Err(invalid("a second setting with the same key"));
            }

            let setting = Setting {
                key,
                value: strip(value).to_owned(),
                lines: index..index + 1,
                is_indented: own > 0,
            };
            if let Some(section) = sections.last_mut() {
                section.settings.push(setting);
            }
        }

        check_nested(&sections)?;

        Ok(Self { lines, sections })
    }
}

/// The lines below a setting without a value of its own are settings, too.
fn check_nested(sections: &[Section]) -> Result<(), Invalid> {
    let settings = sections.iter().flat_map(|section| &section.settings);
    for setting in settings.filter(|setting| setting.value.starts_with('\n')) {
        let mut lines = nested_lines(&setting.value);
        if lines.any(|line| !line.contains('=')) {
            return Err(Invalid {
                line: setting.lines.start + 1,
                reason: "an indented line below this one that is not KEY = VALUE",
            });
        }
    }

    Ok(())
}

/// As Python's `splitlines` splits them.
fn nested_lines(value: &str) -> impl Iterator<Item = &str> {
    let is_end = |each| {
        matches!(
            each,
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    value
        .split(is_end)
        .map(strip)
        .filter(|line| !line.is_empty())
}

/// The lines with their ends, which are a line feed, a carriage return or both.
fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\n', '\r']) {
        let length = if rest[at..].starts_with("\r\n") { 2 } else { 1 };
        let (line, after) = rest.split_at(at + length);
        lines.push(line);
        rest = after;
    }

    lines.extend((!rest.is_empty()).then_some(rest));

    lines
}

/// The text between the first and the last bracket, if the line starts with one.
fn header(content: &str) -> Option<&str> {
    let inner = content.strip_prefix('[')?;
    let end = inner.rfind(']')?;
    Some(&inner[..end]).filter(|header| !header.is_empty())
}

fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// White space as Python defines it.
fn is_space(each: char) -> bool {
    each.is_whitespace() || ('\x1c'..='\x1f').contains(&each)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invalid(text: &str) -> (usize, &'static str) {
        let Invalid { line, reason } = Ini::parse(text).unwrap_err();
        (line, reason)
    }

    #[test]
    fn file_that_botocore_rejects_is_invalid() {
        for (text, line, reason) in [
            ("[a]\nk = 1\nK=2\n", 3, "a second setting with the same key"),
            (
                "[a]\n k = 1\n k : 2\n",
                3,
                "a second setting with the same key",
            ),
            (
                "[a]\n[b]\n[a]\n",
                3,
                "a second section with the same header",
            ),
            ("# x\nk = 1\n", 2, "a line before the first section"),
            ("\u{feff}[a]\n", 1, "a byte order mark"),
            (
                "[a]\r\nk\r\n",
                2,
                "a line that is neither a header nor KEY = VALUE",
            ),
            (
                "[DEFAULT]\nk = 1\n[DEFAULT]\nk = 2\n",
                4,
                "a second setting with the same key",
            ),
            ("[a]\n= v\n", 2, "a setting without a key"),
            (
                "[a]\ns3 =\n  k\n",
                2,
                "an indented line below this one that is not KEY = VALUE",
            ),
        ] {
            assert_eq!(invalid(text), (line, reason), "{text}");
        }
    }

    #[test]
    fn indented_lines_continue_a_setting_only_if_they_are_deeper() {
        let text = "[a]\n  k = 1\n  m = 2\n   more\n\n# x\n   end\nn = 3\n  # y\n[b] # z\n";
        let ini = Ini::parse(text).unwrap();
        let section = &ini.sections[0];
        let settings: Vec<_> = section
            .settings
            .iter()
            .map(|each| (each.key.as_str(), each.value.as_str(), each.lines.clone()))
            .collect();
        assert_eq!(
            settings,
            [
                ("k", "1", 1..2),
                ("m", "2\nmore\n\nend", 2..7),
                ("n", "3", 7..8)
            ]
        );
        assert_eq!(
            (section.lines.clone(), ini.lines.concat()),
            (0..9, text.into())
        );
        assert_eq!(ini.sections[1].header, "b");
    }
}
