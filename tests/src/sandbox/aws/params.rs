//! The parameters of an action, and AWS's errors for values out of range. All faulty parameters of
//! a request are in one error.

use std::collections::BTreeMap;

use crate::sandbox::sigv4::QueryString;

use super::error::AwsError;

/// The parameters of a form, or of a query.
#[derive(Debug)]
pub(super) struct Params {
    pairs: Vec<(String, String)>,
}

/// The constraints of a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    pub(super) min: usize,
    pub(super) max: usize,
    /// As AWS prints it.
    pub(super) pattern: &'static str,
    pub(super) is_allowed: fn(char) -> bool,
}

/// Any text of a length.
pub(super) const fn any_text(min: usize, max: usize) -> Text {
    Text {
        min,
        max,
        pattern: "",
        is_allowed: |_| true,
    }
}

/// The errors so far.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<String>);

impl Params {
    pub(super) fn new(query: QueryString, form: QueryString) -> Self {
        let mut pairs = query.0;
        pairs.extend(form.0);

        Self { pairs }
    }

    /// For the call log.
    pub(super) fn without_codes(&self) -> BTreeMap<String, String> {
        let is_logged = |name: &str| name != "TokenCode" && !name.starts_with("X-Amz-");
        let pairs = self.pairs.iter().filter(|(name, _)| is_logged(name));

        pairs.cloned().collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The values of `NAME.member.1`, `NAME.member.2` and so on.
    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        (1..)
            .map_while(|index| self.get(&format!("{name}.member.{index}")))
            .collect()
    }

    /// The fields of `NAME.member.N`, one list for each N that has the first of them.
    pub(super) fn objects<const N: usize>(
        &self,
        name: &str,
        fields: [&str; N],
    ) -> Vec<[Option<&str>; N]> {
        let field = |index: usize, field: &str| self.get(&format!("{name}.member.{index}.{field}"));

        (1..)
            .map(|index| fields.map(|name| field(index, name)))
            .take_while(|values| values.first().is_some_and(Option::is_some))
            .collect()
    }

    pub(super) fn text<'a>(
        &'a self,
        name: &str,
        text: Text,
        problems: &mut Problems,
    ) -> Option<&'a str> {
        let value = self.get(name)?;
        problems.check_text(&member(name), value, text);
        Some(value)
    }

    /// A required text; empty if it is missing, which is a problem.
    pub(super) fn required<'a>(
        &'a self,
        name: &str,
        text: Text,
        problems: &mut Problems,
    ) -> &'a str {
        self.text(name, text, problems).unwrap_or_else(|| {
            problems.add("null", &member(name), "Member must not be null");
            ""
        })
    }

    pub(super) fn number(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<i64>,
        problems: &mut Problems,
    ) -> Result<Option<i64>, AwsError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number: i64 = value
            .parse()
            .map_err(|_| AwsError::new(400, "MalformedInput", "Invalid Argument"))?;

        let (min, max) = range.into_inner();
        if number < min {
            let rule = format!("Member must have value greater than or equal to {min}");
            problems.add_value(value, &member(name), &rule);
        }
        if number > max {
            let rule = format!("Member must have value less than or equal to {max}");
            problems.add_value(value, &member(name), &rule);
        }
        Ok(Some(number))
    }
}

impl Problems {
    pub(super) fn check_text(&mut self, member: &str, value: &str, text: Text) {
        let length = value.chars().count();

        if length < text.min {
            let rule = format!(
                "Member must have length greater than or equal to {}",
                text.min
            );
            self.add_value(value, member, &rule);
        }
        if length > text.max {
            let rule = format!("Member must have length less than or equal to {}", text.max);
            self.add_value(value, member, &rule);
        }
        if !value.chars().all(text.is_allowed) {
            let pattern = text.pattern;
            let rule = format!("Member must satisfy regular expression pattern: {pattern}");
            self.add_value(value, member, &rule);
        }
    }

    pub(super) fn check_count(&mut self, member: &str, count: usize, max: usize) {
        if count > max {
            let rule = format!("Member must have length less than or equal to {max}");
            self.add_value("[...]", member, &rule);
        }
    }

    fn add_value(&mut self, value: &str, member: &str, rule: &str) {
        self.add(&format!("'{value}'"), member, rule);
    }

    fn add(&mut self, value: &str, member: &str, rule: &str) {
        self.0.push(format!(
            "Value {value} at '{member}' failed to satisfy constraint: {rule}"
        ));
    }

    pub(super) fn into_result(self) -> Result<(), AwsError> {
        let count = self.0.len();
        let plural = if count == 1 { "" } else { "s" };
        if count == 0 {
            return Ok(());
        }

        let list = self.0.join("; ");
        let message = format!("{count} validation error{plural} detected: {list}");
        Err(AwsError::validation(message))
    }
}

/// The name in messages: its first letter is small.
fn member(name: &str) -> String {
    let mut characters = name.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(form: &str) -> Params {
        Params::new(
            QueryString(Vec::new()),
            QueryString::from_form(form.as_bytes()),
        )
    }

    #[test]
    fn all_problems_are_in_one_message() {
        let params = params("RoleSessionName=a%20&DurationSeconds=899");
        let mut problems = Problems::default();
        let text = Text {
            min: 3,
            max: 64,
            pattern: "[\\w]*",
            is_allowed: |character| character.is_ascii_alphanumeric(),
        };
        params.required("RoleArn", any_text(20, 2048), &mut problems);
        params.required("RoleSessionName", text, &mut problems);
        params
            .number("DurationSeconds", 900..=43200, &mut problems)
            .unwrap();

        assert_eq!(
            problems.into_result().unwrap_err().message,
            "4 validation errors detected: Value null at 'roleArn' failed to satisfy constraint: Member must not be null; \
             Value 'a ' at 'roleSessionName' failed to satisfy constraint: Member must have length greater than or equal to 3; \
             Value 'a ' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w]*; \
             Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900"
        );
    }

    #[test]
    fn lists_end_at_the_first_gap() {
        let params = params(
            "A.member.1=x&A.member.2=y&A.member.4=z&T.member.1.Key=k&T.member.1.Value=v&T.member.2.Key=l",
        );

        assert_eq!(params.list("A"), ["x", "y"]);
        assert_eq!(
            params.objects("T", ["Key", "Value"]),
            [[Some("k"), Some("v")], [Some("l"), None]]
        );
    }
}
