//! Lists (A5). Pages have a `limit` and a `marker`, and follow the order of ids, so that items that
//! are added or deleted meanwhile neither repeat nor skip others. Filters are exact, or match a
//! prefix with a trailing `*`.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, Row, params_from_iter};
use serde_json::{Value, json};

use super::clock::Millis;
use super::error::ApiError;
use super::handlers::{Call, Resource};

const DEFAULT_LIMIT: i64 = 100;
pub(super) const MAX_LIMIT: i64 = 1000;

/// A query to which filters are added before it returns a page or the whole list.
pub(super) struct ListQuery {
    sql: String,
    values: Vec<Sql>,
    show: fn(&Row<'_>, Millis) -> rusqlite::Result<Value>,
}

impl ListQuery {
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

    /// Selects rows whose column equals the text, or starts with it if the text ends with `*`.
    pub(super) fn prefix_filter(&mut self, column: &str, text: Option<&str>) {
        let Some(text) = text else { return };

        if let Some(prefix) = text.strip_suffix('*') {
            // Not LIKE, which ignores case and has other wildcards.
            self.and(
                &format!("substr({column}, 1, length(?)) = ?"),
                prefix.to_owned(),
            );
            self.values.push(prefix.to_owned().into());
        } else {
            self.and(&format!("{column} = ?"), text.to_owned());
        }
    }

    /// The page that `limit` and `marker` of the call select.
    pub(super) fn page(mut self, tx: &Connection, call: &Call<'_>) -> Result<Value, ApiError> {
        let limit = call.params.opt_int("limit").unwrap_or(DEFAULT_LIMIT);
        if let Some(marker) = call.params.opt_text("marker") {
            self.and("id > ?", marker.to_ascii_lowercase());
        }

        // One more row shows whether there is another page.
        self.sql += &format!(" ORDER BY id LIMIT {}", limit + 1);
        let mut items = self.run(tx, call)?;
        let has_more = i64::try_from(items.len()).is_ok_and(|length| length > limit);
        if has_more {
            items.pop();
        }

        let next_marker = match items.last() {
            Some(last) if has_more => last["id"].clone(),
            _ => Value::Null,
        };
        Ok(json!({ "items": items, "next_marker": next_marker }))
    }

    /// All items, for the lists without pages.
    pub(super) fn all(mut self, tx: &Connection, call: &Call<'_>) -> Result<Value, ApiError> {
        self.sql += " ORDER BY id";
        let items = self.run(tx, call)?;

        Ok(json!({ "items": items, "next_marker": null }))
    }

    fn run(&self, tx: &Connection, call: &Call<'_>) -> rusqlite::Result<Vec<Value>> {
        let mut statement = tx.prepare_cached(&self.sql)?;
        let rows = statement.query_map(params_from_iter(&self.values), |row| {
            (self.show)(row, call.now)
        })?;

        rows.collect()
    }
}
