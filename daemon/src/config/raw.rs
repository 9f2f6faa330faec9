//! The file as it stands: tables whose keys are taken out one by one, every error noted with its place, and what is
//! left over reported as unknown.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest;

/// An error and the byte it is at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) what: String,
}

/// All the errors of a file so far.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, span: &Range<usize>, what: impl Into<String>) {
        self.0.push(Fault {
            at: span.start,
            what: what.into(),
        });
    }
}

/// The file's tables. Errors of the syntax are noted, and what could be understood around them is returned.
pub(super) fn parse<'i>(text: &'i str, faults: &mut Faults) -> Table<'i> {
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        faults.add(
            &error.span().unwrap_or(0..0),
            error.message().lines().collect::<Vec<_>>().join(", "),
        );
    }
    let span = root.span();
    Table::new("", span, root.into_inner())
}

/// One table, called `path` in messages.
pub(super) struct Table<'i> {
    pub(super) path: String,
    pub(super) span: Range<usize>,
    rest: BTreeMap<String, (Range<usize>, Spanned<DeValue<'i>>)>,
    known: Vec<&'static str>,
    is_empty: bool,
}

impl<'i> Table<'i> {
    fn new(path: &str, span: Range<usize>, table: DeTable<'i>) -> Self {
        let rest: BTreeMap<_, _> = table
            .into_iter()
            .map(|(key, value)| (key.as_ref().clone().into_owned(), (key.span(), value)))
            .collect();
        Self {
            path: path.into(),
            span,
            is_empty: rest.is_empty(),
            rest,
            known: Vec::new(),
        }
    }

    /// Takes a value that `accept` understands; `wanted` says what that would be.
    fn take<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        faults: &mut Faults,
        accept: impl FnOnce(DeValue<'i>) -> Option<T>,
    ) -> Option<(T, Range<usize>)> {
        self.known.push(key);
        let (_, value) = self.rest.remove(key)?;
        let (span, value) = (value.span(), value.into_inner());
        let found = value.type_str();
        let taken = accept(value);
        if taken.is_none() {
            faults.add(
                &span,
                format!("`{}` must be {wanted}, not {found}", self.name_of(key)),
            );
        }
        taken.map(|value| (value, span))
    }

    /// A text, parsed; the parser's error is a clause that follows the key and its value.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        faults: &mut Faults,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (text, span) = self.take(key, "a text in quotes", faults, |value| match value {
            DeValue::String(text) => Some(text),
            _ => None,
        })?;
        let wrong = |why| {
            faults.add(
                &span,
                format!("`{}`: `{}` {why}", self.name_of(key), shown(&text)),
            )
        };
        parse(&text).map_err(wrong).ok()
    }

    /// A whole number, parsed as a text is.
    pub(super) fn integer<T>(
        &mut self,
        key: &'static str,
        faults: &mut Faults,
        parse: impl FnOnce(i64) -> Result<T, String>,
    ) -> Option<T> {
        let (number, span) = self.take(key, "a whole number", faults, |value| match value {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        })?;
        parse(number)
            .map_err(|why| faults.add(&span, format!("`{}`: {number} {why}", self.name_of(key))))
            .ok()
    }

    /// A list of texts, each parsed as it comes.
    pub(super) fn texts(
        &mut self,
        key: &'static str,
        faults: &mut Faults,
        parse: impl FnMut(&str) -> Result<(), String>,
    ) {
        self.list(
            key,
            ("a list of texts in quotes", "texts"),
            faults,
            parse,
            |value| match value {
                DeValue::String(text) => Ok(text.into_owned()),
                other => Err(other.type_str()),
            },
        );
    }

    /// A list of names or whole numbers, each parsed as it comes.
    pub(super) fn names(
        &mut self,
        key: &'static str,
        faults: &mut Faults,
        parse: impl FnMut(&str) -> Result<(), String>,
    ) {
        self.list(
            key,
            ("a list of names and numbers", "names and numbers"),
            faults,
            parse,
            |value| match value {
                DeValue::String(text) => Ok(text.into_owned()),
                DeValue::Integer(number) => {
                    match i64::from_str_radix(number.as_str(), number.radix()) {
                        Ok(number) => Ok(number.to_string()),
                        Err(_) => Err("such a number"),
                    }
                }
                other => Err(other.type_str()),
            },
        );
    }

    fn list(
        &mut self,
        key: &'static str,
        (wanted, items): (&str, &str),
        faults: &mut Faults,
        mut parse: impl FnMut(&str) -> Result<(), String>,
        accept: impl Fn(DeValue<'i>) -> Result<String, &'static str>,
    ) {
        for (span, value) in self.array(key, wanted, faults) {
            let fault = match accept(value) {
                Ok(text) => parse(&text)
                    .err()
                    .map(|why| format!("`{}`: `{text}` {why}", self.name_of(key))),
                Err(found) => Some(format!(
                    "`{}` lists {items}, not {found}",
                    self.name_of(key)
                )),
            };
            fault.into_iter().for_each(|fault| faults.add(&span, fault));
        }
    }

    fn array(
        &mut self,
        key: &'static str,
        wanted: &str,
        faults: &mut Faults,
    ) -> Vec<(Range<usize>, DeValue<'i>)> {
        let taken = self.take(key, wanted, faults, |value| match value {
            DeValue::Array(list) => Some(list),
            _ => None,
        });
        taken
            .into_iter()
            .flat_map(|(list, _)| list)
            .map(|item| (item.span(), item.into_inner()))
            .collect()
    }

    /// A table under a key.
    pub(super) fn table(&mut self, key: &'static str, faults: &mut Faults) -> Option<Table<'i>> {
        let path = self.name_of(key);
        let (table, span) = self.take(key, "a table", faults, into_table)?;
        Some(Table::new(&path, span, table))
    }

    /// A truth value.
    pub(super) fn flag(&mut self, key: &'static str, faults: &mut Faults) -> Option<bool> {
        let taken = self.take(key, "true or false", faults, |value| match value {
            DeValue::Boolean(flag) => Some(flag),
            _ => None,
        });
        taken.map(|(flag, _)| flag)
    }

    /// The tables of a list.
    pub(super) fn tables(&mut self, key: &'static str, faults: &mut Faults) -> Vec<Table<'i>> {
        let path = self.name_of(key);
        let mut tables = Vec::new();
        for (span, value) in self.array(key, "a list of tables", faults) {
            match into_table(value) {
                Some(table) => tables.push(Table::new(&path, span, table)),
                None => faults.add(
                    &span,
                    format!("`{path}` lists tables: {{ exe = \"PATH\" }}"),
                ),
            }
        }
        tables
    }

    /// The tables whose names the user chose, such as `[profile.dev]`, in order of name.
    pub(super) fn named_tables(
        &mut self,
        key: &'static str,
        faults: &mut Faults,
    ) -> Vec<(String, Table<'i>)> {
        let Some(group) = self.table(key, faults) else {
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (name, (span, value)) in group.rest {
            let path = format!("{}.{name}", group.path);
            match into_table(value.into_inner()) {
                Some(table) => tables.push((name, Table::new(&path, span, table))),
                None => faults.add(&span, format!("`{path}` must be a table: [{path}]")),
            }
        }
        tables
    }

    pub(super) fn missing(&self, key: &str, example: &str, faults: &mut Faults) {
        faults.add(
            &self.span,
            format!(
                "`{}` is missing; write, for example, {key} = {example}",
                self.name_of(key)
            ),
        );
    }

    /// Whether nothing is written in it.
    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.rest.contains_key(key)
    }

    /// Where a key's value stands, as long as nobody has taken it.
    pub(super) fn span_of(&self, key: &str) -> Option<Range<usize>> {
        self.rest.get(key).map(|(_, value)| value.span())
    }

    /// Reports what nobody took.
    pub(super) fn finish(self, faults: &mut Faults) {
        for (key, (span, _)) in &self.rest {
            let what = format!("unknown key `{}`", self.name_of(key));
            faults.add(
                span,
                match nearest(key, self.known.iter().copied()) {
                    Some(known) => format!("{what}; did you mean `{known}`?"),
                    None => format!("{what}; the keys here are {}", self.known.join(", ")),
                },
            );
        }
    }

    fn name_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.into()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

/// A value in a message: a URL without the password that may be in it.
fn shown(text: &str) -> String {
    let parts = text
        .split_once("://")
        .and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1)));
    parts.map_or_else(
        || text.to_owned(),
        |(scheme, rest)| format!("{scheme}://[hidden]@{rest}"),
    )
}

fn into_table(value: DeValue<'_>) -> Option<DeTable<'_>> {
    match value {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}
