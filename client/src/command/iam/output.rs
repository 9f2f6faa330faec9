//! Replies for people: a table for a list, one line a field for an object.

use rolekeeper::contract::Method;
use serde_json::{Map, Value};

use crate::command::{printable, printable_lines, table};

/// The number of spaces between two columns.
const GAP: usize = 2;
/// The width of output that is not a terminal, in columns.
const DEFAULT_WIDTH: u16 = 120;

pub(super) fn show(method: &Method, reply: &Value) -> String {
    match (reply, reply.get("items").and_then(Value::as_array)) {
        (Value::Null, _) => format!("{}: done\n", method.name),
        (_, Some(items)) => list(items, reply.get("next_marker").and_then(Value::as_str)),
        (Value::Object(object), None) => fields(object),
        (other, None) => printable(&other.to_string()) + "\n",
    }
}

/// The first columns, in this order. The others follow in the order of the reply.
const FIRST: [&str; 9] = [
    "id",
    "name",
    "email",
    "timestamp",
    "action",
    "status",
    "role_name",
    "resource_type",
    "resource_id",
];

const LAST: [&str; 2] = ["created_at", "updated_at"];

/// One row an item, with as many columns as fit. Nested objects, such as a policy's document, are omitted.
fn list(items: &[Value], next: Option<&str>) -> String {
    let columns = columns(items);
    let mut left = usize::from(width());
    let mut shown = Vec::new();
    for (name, cells) in &columns {
        let wide = cells
            .iter()
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
            + GAP;
        if shown.is_empty() || wide <= left {
            left = left.saturating_sub(wide);
            shown.push((name, cells));
        }
    }

    let rows = (0..=items.len()).map(|row| {
        let cells = shown.iter().filter_map(|(_, cells)| cells.get(row));
        cells.collect::<Vec<_>>()
    });

    let hidden: Vec<_> = columns
        .iter()
        .filter(|(name, _)| shown.iter().all(|(each, _)| *each != name))
        .map(|(name, _)| printable(name))
        .collect();
    let mut text = if items.is_empty() {
        "no items\n".into()
    } else {
        table::text(rows)
    };

    if !hidden.is_empty() {
        text += &format!(
            "\nColumns that do not fit: {}; use --json to see all\n",
            hidden.join(", ")
        );
    }

    if let Some(marker) = next {
        text += &format!(
            "\nThere are more items; use --all, or --marker {}\n",
            printable(marker)
        );
    }

    text
}

/// The fields that are not nested objects, each with its title and cells.
fn columns(items: &[Value]) -> Vec<(&str, Vec<String>)> {
    let mut names: Vec<&str> = Vec::new();
    for (name, value) in items.iter().filter_map(Value::as_object).flatten() {
        if !value.is_null() && !value.is_object() && !names.contains(&name.as_str()) {
            names.push(name);
        }
    }

    names.sort_by_key(|name| {
        let first = FIRST
            .iter()
            .position(|first| first == name)
            .unwrap_or(FIRST.len());
        (LAST.contains(name), first)
    });

    names
        .into_iter()
        .map(|name| (name, cells(name, items)))
        .collect()
}

/// A column's title, and the values of the items.
fn cells(name: &str, items: &[Value]) -> Vec<String> {
    let values = items.iter().map(|item| item.get(name));
    let values = values.map(|value| cell(value.unwrap_or(&Value::Null)));
    std::iter::once(title(name).to_uppercase())
        .chain(values)
        .collect()
}

fn title(name: &str) -> String {
    printable(name).replace('_', " ")
}

/// One line a field. Nested objects follow as JSON.
fn fields(object: &Map<String, Value>) -> String {
    let mut rows = Vec::new();
    let mut nested = String::new();
    for (key, value) in object {
        match value {
            Value::Object(_) => {
                let text = serde_json::to_string_pretty(value).unwrap_or_default();
                nested += &format!("\n{}\n{}\n", printable(key), printable_lines(&text));
            }
            _ => rows.push([title(key), cell(value)]),
        }
    }

    table::text(rows) + &nested
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => printable(text),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => printable(&other.to_string()),
    }
}

fn width() -> u16 {
    #[cfg(unix)]
    let columns =
        rustix::termios::tcgetwinsize(rustix::stdio::stdout()).map_or(0, |size| size.ws_col);
    #[cfg(not(unix))]
    let columns = 0;
    if columns == 0 { DEFAULT_WIDTH } else { columns }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn list_orders_columns_and_names_those_that_do_not_fit() {
        let long = "x".repeat(110);
        let items = [
            json!({ "description": long, "updated_at": null, "document": {}, "name": "a\u{1b}[31m", "id": "r-1" }),
            json!({ "description": null, "name": "b", "id": "r-2", "groups": ["g", "h"] }),
        ];
        assert_eq!(
            list(&items, Some("r-2")),
            "\
ID   NAME    GROUPS
r-1  a\u{fffd}[31m  -
r-2  b       g, h

Columns that do not fit: description; use --json to see all

There are more items; use --all, or --marker r-2
"
        );
        assert_eq!(list(&[], None), "no items\n");
    }

    #[test]
    fn object_is_one_line_a_field_and_nested_objects_follow() {
        let role = json!({ "id": "r-1", "trust_policy": { "version": "1" }, "created_at": "now" });
        assert_eq!(
            fields(role.as_object().unwrap()),
            "id          r-1\ncreated at  now\n\ntrust_policy\n{\n  \"version\": \"1\"\n}\n"
        );
    }
}
