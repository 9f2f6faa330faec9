//! Pages (A5): `limit` and `marker`, in order of id, so that a page stays right while items come and go; and filters,
//! exact or by prefix with a trailing `*`.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, Row, params_from_iter};
use serde_json::{Value, json};

use super::clock::Millis;
use super::error::ApiError;
use super::handlers::{Call, Resource};

const DEFAULT: i64 = 100;
pub(super) const MOST: i64 = 1000;

/// A query that grows by its filters. It ends as one page, or as the whole list.
pub(super) struct Query {
    sql: String,
    values: Vec<Sql>,
    show: fn(&Row<'_>, Millis) -> rusqlite::Result<Value>,
}

impl Query {
    pub(super) fn new<R: Resource>(condition: &str, values: impl IntoIterator<Item = Sql>) -> Self {
        let sql = format!(
            "SELECT {} FROM {} WHERE {condition}",
            R::COLUMNS,
            R::KIND.table()
        );
        Self {
            sql,
            values: values.into_iter().collect(),
            show: R::show,
        }
    }

    pub(super) fn and(&mut self, condition: &str, value: impl Into<Sql>) {
        self.sql += &format!(" AND {condition}");
        self.values.push(value.into());
    }

    /// Keeps what is `wanted`, or begins with what precedes its final `*`.
    pub(super) fn prefix_filter(&mut self, column: &str, wanted: Option<&str>) {
        match wanted.map(|text| (text, text.strip_suffix('*'))) {
            None => {}
            Some((_, Some(prefix))) => {
                // A comparison of prefixes, not LIKE: that would ignore case and know characters of its own.
                self.and(
                    &format!("substr({column}, 1, length(?)) = ?"),
                    prefix.to_owned(),
                );
                self.values.push(prefix.to_owned().into());
            }
            Some((exact, None)) => self.and(&format!("{column} = ?"), exact.to_owned()),
        }
    }

    /// The page that `limit` and `marker` ask for.
    pub(super) fn page(mut self, tx: &Connection, call: &Call<'_>) -> Result<Value, ApiError> {
        let limit = call.params.opt_int("limit").unwrap_or(DEFAULT);
        if let Some(marker) = call.params.opt_text("marker") {
            self.and("id > ?", marker.to_ascii_lowercase());
        }
        // One more than asked for tells whether there is another page.
        self.sql += &format!(" ORDER BY id LIMIT {}", limit + 1);
        let mut items = self.run(tx, call)?;
        let more = i64::try_from(items.len()).is_ok_and(|length| length > limit);
        if more {
            items.pop();
        }
        let next = items
            .last()
            .filter(|_| more)
            .map_or(Value::Null, |last| last["id"].clone());
        Ok(json!({ "items": items, "next_marker": next }))
    }

    /// Every item, for the lists that do not page.
    pub(super) fn all(mut self, tx: &Connection, call: &Call<'_>) -> Result<Value, ApiError> {
        self.sql += " ORDER BY id";
        Ok(json!({ "items": self.run(tx, call)?, "next_marker": null }))
    }

    fn run(&self, tx: &Connection, call: &Call<'_>) -> rusqlite::Result<Vec<Value>> {
        let mut statement = tx.prepare_cached(&self.sql)?;
        let rows = statement.query_map(params_from_iter(&self.values), |row| {
            (self.show)(row, call.now)
        })?;
        rows.collect()
    }
}
