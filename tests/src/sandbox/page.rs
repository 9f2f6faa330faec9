//! Pages (A5): `limit` and `marker`, in order of id, so that a page stays right while items come and go; and the
//! filter by name, exact or by prefix with a trailing `*`.

use rusqlite::types::Value as Sql;
use rusqlite::{Row, Transaction, params_from_iter};
use serde_json::{Value, json};

use super::error::ApiError;
use super::params::Params;

const DEFAULT: i64 = 100;
const MOST: i64 = 1000;

/// A query that grows by its filters. It ends as one page, or as the whole list.
pub(super) struct Query {
    sql: String,
    values: Vec<Sql>,
    id: &'static str,
}

impl Query {
    /// `select` goes up to and with a `WHERE` condition; `id` is the column that orders it.
    pub(super) fn new(select: &str, id: &'static str, values: impl IntoIterator<Item = Sql>) -> Self {
        Self { sql: select.into(), values: values.into_iter().collect(), id }
    }

    pub(super) fn and(&mut self, condition: &str, value: impl Into<Sql>) {
        self.sql += &format!(" AND {condition}");
        self.values.push(value.into());
    }

    pub(super) fn name_filter(&mut self, column: &str, params: &Params) {
        match params.opt_text("name").map(|name| (name, name.strip_suffix('*'))) {
            None => {}
            Some((_, Some(prefix))) => {
                // A comparison of prefixes, not LIKE: that would ignore case and know characters of its own.
                self.and(&format!("substr({column}, 1, length(?)) = ?"), prefix.to_owned());
                self.values.push(prefix.to_owned().into());
            }
            Some((name, None)) => self.and(&format!("{column} = ?"), name.to_owned()),
        }
    }

    /// The page that `limit` and `marker` ask for.
    pub(super) fn page(
        mut self,
        tx: &Transaction<'_>,
        params: &Params,
        show: impl FnMut(&Row<'_>) -> rusqlite::Result<Value>,
    ) -> Result<Value, ApiError> {
        let limit = params.opt_int("limit").unwrap_or(DEFAULT);
        if !(1..=MOST).contains(&limit) {
            return Err(ApiError::invalid(format!("limit: {limit} is not from 1 to {MOST}")));
        }
        if let Some(marker) = params.opt_text("marker") {
            self.and(&format!("{} > ?", self.id), marker.to_owned());
        }
        // One more than asked for tells whether there is another page.
        self.sql += &format!(" ORDER BY {} LIMIT {}", self.id, limit + 1);
        let mut items = self.run(tx, show)?;
        let more = i64::try_from(items.len()).is_ok_and(|length| length > limit);
        if more {
            items.pop();
        }
        let next = items.last().filter(|_| more).map_or(Value::Null, |last| last["id"].clone());
        Ok(json!({ "items": items, "next_marker": next }))
    }

    /// Every item, for the lists that do not page.
    pub(super) fn all(
        mut self,
        tx: &Transaction<'_>,
        show: impl FnMut(&Row<'_>) -> rusqlite::Result<Value>,
    ) -> Result<Value, ApiError> {
        self.sql += &format!(" ORDER BY {}", self.id);
        Ok(json!({ "items": self.run(tx, show)?, "next_marker": null }))
    }

    fn run(
        &self,
        tx: &Transaction<'_>,
        show: impl FnMut(&Row<'_>) -> rusqlite::Result<Value>,
    ) -> rusqlite::Result<Vec<Value>> {
        tx.prepare_cached(&self.sql)?.query_map(params_from_iter(&self.values), show)?.collect()
    }
}
