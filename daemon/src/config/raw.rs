//! The TOML file as tables whose keys are taken one by one. Each error is recorded with its position, and keys that are left over
//! are reported as unknown.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest;

/// An error at a byte of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RawError {
    pub(super) offset: usize,
    pub(super) message: String,
}

/// All errors of a file so far.
#[derive(Debug, Default)]
pub(super) struct Errors(pub(super) Vec<RawError>);

impl Errors {
    pub(super) fn add(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.0.push(RawError {
            offset: span.start,
            message: message.into(),
        });
    }
}

/// Parses the file as far as its syntax allows.
pub(super) fn parse<'i>(text: &'i str, errors: &mut Errors) -> Table<'i> {
    let (root, syntax_errors) = DeTable::parse_recoverable(text);
    for error in syntax_errors {
        let lines: Vec<_> = error.message().lines().collect();
        errors.add(&error.span().unwrap_or(0..0), lines.join(", "));
    }
    let span = root.span();
    Table::new(String::new(), span, root.into_inner())
}

/// One table. Messages name it by `path`.
pub(super) struct Table<'i> {
    pub(super) path: String,
    pub(super) span: Range<usize>,
    /// The keys that are not taken yet, with their spans.
    rest: BTreeMap<String, (Range<usize>, Spanned<DeValue<'i>>)>,
    known: Vec<&'static str>,
    is_empty: bool,
}

impl<'i> Table<'i> {
    fn new(path: String, span: Range<usize>, table: DeTable<'i>) -> Self {
        let rest: BTreeMap<_, _> = table
            .into_iter()
            .map(|(key, value)| (key.as_ref().clone().into_owned(), (key.span(), value)))
            .collect();
        Self {
            path,
            span,
            is_empty: rest.is_empty(),
            rest,
            known: Vec::new(),
        }
    }

    pub(super) fn string<T>(
        &mut self,
        key: &'static str,
        errors: &mut Errors,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (text, span) = self.take(key, "a string", errors, into_string)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(reason) => {
                let value = without_password(&text);
                errors.add(
                    &span,
                    format!("`{}`: `{value}` {reason}", self.path_of(key)),
                );
                None
            }
        }
    }

    pub(super) fn integer<T>(
        &mut self,
        key: &'static str,
        errors: &mut Errors,
        parse: impl FnOnce(i64) -> Result<T, String>,
    ) -> Option<T> {
        let (number, span) = self.take(key, "an integer", errors, into_integer)?;
        match parse(number) {
            Ok(value) => Some(value),
            Err(reason) => {
                errors.add(&span, format!("`{}`: {number} {reason}", self.path_of(key)));
                None
            }
        }
    }

    pub(super) fn boolean(&mut self, key: &'static str, errors: &mut Errors) -> Option<bool> {
        let (value, _) = self.take(key, "true or false", errors, |value| match value {
            DeValue::Boolean(value) => Some(value),
            _ => None,
        })?;
        Some(value)
    }

    /// An array of strings. Each is parsed, also after an error.
    pub(super) fn strings(
        &mut self,
        key: &'static str,
        errors: &mut Errors,
        mut parse: impl FnMut(&str) -> Result<(), String>,
    ) {
        for item in self.array(key, "an array of strings", errors) {
            let span = item.span();
            let found = item.as_ref().type_str();
            match into_string(item.into_inner()) {
                Some(text) => self.parse_item(key, &span, &text, errors, &mut parse),
                None => self.wrong_item(key, &span, "strings", found, errors),
            }
        }
    }

    /// An array of names and numbers, such as users. Each is parsed as a string.
    pub(super) fn names(
        &mut self,
        key: &'static str,
        errors: &mut Errors,
        mut parse: impl FnMut(&str) -> Result<(), String>,
    ) {
        for item in self.array(key, "an array of names and numbers", errors) {
            let span = item.span();
            let found = item.as_ref().type_str();
            let text = match item.into_inner() {
                value @ DeValue::Integer(_) => into_integer(value).map(|number| number.to_string()),
                value => into_string(value),
            };
            match text {
                Some(text) => self.parse_item(key, &span, &text, errors, &mut parse),
                None => self.wrong_item(key, &span, "names and numbers", found, errors),
            }
        }
    }

    pub(super) fn table(&mut self, key: &'static str, errors: &mut Errors) -> Option<Table<'i>> {
        let path = self.path_of(key);
        let (table, span) = self.take(key, "a table", errors, into_table)?;
        Some(Table::new(path, span, table))
    }

    /// An array of tables, such as `callers`.
    pub(super) fn tables(&mut self, key: &'static str, errors: &mut Errors) -> Vec<Table<'i>> {
        let path = self.path_of(key);
        let mut tables = Vec::new();
        for item in self.array(key, "an array of tables", errors) {
            let span = item.span();
            let found = item.as_ref().type_str();
            match into_table(item.into_inner()) {
                Some(table) => tables.push(Table::new(path.clone(), span, table)),
                None => self.wrong_item(
                    key,
                    &span,
                    "tables such as { exe = \"PATH\" }",
                    found,
                    errors,
                ),
            }
        }

        tables
    }

    /// Tables whose names the user chose, such as `[profile.dev]`, in order of name.
    pub(super) fn named_tables(
        &mut self,
        key: &'static str,
        errors: &mut Errors,
    ) -> Vec<(String, Table<'i>)> {
        let Some(group) = self.table(key, errors) else {
            return Vec::new();
        };

        let mut tables = Vec::new();
        for (name, (span, value)) in group.rest {
            let path = format!("{}.{name}", group.path);
            match into_table(value.into_inner()) {
                Some(table) => tables.push((name, Table::new(path, span, table))),
                None => errors.add(&span, format!("`{path}` must be a table: [{path}]")),
            }
        }

        tables
    }

    /// A value that is a string and is not taken yet.
    pub(super) fn peek(&self, key: &str) -> Option<&str> {
        self.rest.get(key)?.1.as_ref().as_str()
    }

    /// All values of a table whose keys the user chose.
    pub(super) fn into_strings(
        self,
        errors: &mut Errors,
        mut check: impl FnMut(&str, &str) -> Result<(), String>,
    ) -> BTreeMap<String, String> {
        let mut strings = BTreeMap::new();
        for (key, (_, value)) in &self.rest {
            let path = self.path_of(key);
            match value.as_ref().as_str() {
                Some(text) => match check(key, text) {
                    Ok(()) => drop(strings.insert(key.clone(), text.to_owned())),
                    Err(reason) => errors.add(&value.span(), format!("`{path}` {reason}")),
                },
                None => errors.add(&value.span(), format!("`{path}` must be a string")),
            }
        }

        strings
    }

    /// Records an error for each of these keys that the table does not have.
    pub(super) fn require(&self, keys: &[(&str, &str)], errors: &mut Errors) {
        for (key, example) in keys {
            if !self.rest.contains_key(*key) {
                let path = self.path_of(key);
                let message = format!("`{path}` is missing; set, for example, {key} = {example}");
                errors.add(&self.span, message);
            }
        }
    }

    /// Whether the table has no keys.
    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The position of a value that is not taken yet.
    pub(super) fn span_of(&self, key: &str) -> Option<Range<usize>> {
        self.rest.get(key).map(|(_, value)| value.span())
    }

    /// Reports the keys that were not taken.
    pub(super) fn finish(self, errors: &mut Errors) {
        for (key, (span, _)) in &self.rest {
            let path = self.path_of(key);
            let advice = match nearest(key, self.known.iter().copied()) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("the keys here are {}", self.known.join(", ")),
            };
            errors.add(span, format!("unknown key `{path}`; {advice}"));
        }
    }

    /// Takes a value that `accept` converts; `expected` names its type.
    fn take<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        errors: &mut Errors,
        accept: impl FnOnce(DeValue<'i>) -> Option<T>,
    ) -> Option<(T, Range<usize>)> {
        self.known.push(key);
        let (_, value) = self.rest.remove(key)?;
        let span = value.span();
        let value = value.into_inner();
        let found = value.type_str();
        match accept(value) {
            Some(value) => Some((value, span)),
            None => {
                let path = self.path_of(key);
                errors.add(&span, format!("`{path}` must be {expected}, not {found}"));
                None
            }
        }
    }

    fn array(
        &mut self,
        key: &'static str,
        expected: &str,
        errors: &mut Errors,
    ) -> Vec<Spanned<DeValue<'i>>> {
        let taken = self.take(key, expected, errors, |value| match value {
            DeValue::Array(array) => Some(array),
            _ => None,
        });
        taken.into_iter().flat_map(|(array, _)| array).collect()
    }

    fn parse_item(
        &self,
        key: &str,
        span: &Range<usize>,
        text: &str,
        errors: &mut Errors,
        parse: &mut impl FnMut(&str) -> Result<(), String>,
    ) {
        if let Err(reason) = parse(text) {
            errors.add(span, format!("`{}`: `{text}` {reason}", self.path_of(key)));
        }
    }

    fn wrong_item(
        &self,
        key: &str,
        span: &Range<usize>,
        expected: &str,
        found: &str,
        errors: &mut Errors,
    ) {
        let path = self.path_of(key);
        errors.add(
            span,
            format!("`{path}` must contain {expected}, not {found}"),
        );
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.into()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

fn into_string(value: DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.into_owned()),
        _ => None,
    }
}

fn into_integer(value: DeValue<'_>) -> Option<i64> {
    match value {
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    }
}

fn into_table(value: DeValue<'_>) -> Option<DeTable<'_>> {
    match value {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// A URL may contain a password.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://[hidden]@{host}"),
        None => text.to_owned(),
    }
}
