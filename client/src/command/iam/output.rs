//! Replies for people: a table of a list, a column of a thing.

use comfy_table::{Table, presets};
use rolekeeper::contract::Method;
use serde_json::{Map, Value};

use crate::command::{printable, printable_lines};

/// Between two columns.
const GAP: usize = 2;
/// Where nothing says how wide the terminal is.
const WIDE: u16 = 120;

pub(super) fn show(method: &Method, reply: &Value) -> String {
    match (reply, reply.get("items").and_then(Value::as_array)) {
        (Value::Null, _) => format!("{}: done\n", method.name),
        (_, Some(items)) => list(items, reply.get("next_marker").and_then(Value::as_str)),
        (Value::Object(thing), None) => column(thing),
        (other, None) => printable(&other.to_string()) + "\n",
    }
}

/// What people look for first, in this order; the other columns follow as they came.
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

/// A row an item, as many columns as fit. What is nested, such as a policy's document, is left to the method that shows
/// one item.
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
    let mut table = table();
    for row in 0..=items.len() {
        table.add_row(shown.iter().filter_map(|(_, cells)| cells.get(row)));
    }
    let hidden: Vec<_> = columns
        .iter()
        .filter(|(name, _)| shown.iter().all(|(each, _)| *each != name))
        .map(|(name, _)| printable(name))
        .collect();
    let mut text = if items.is_empty() {
        "nothing\n".into()
    } else {
        lines(&table)
    };
    if !hidden.is_empty() {
        text += &format!(
            "\nNo room for: {}; --json shows everything\n",
            hidden.join(", ")
        );
    }
    if let Some(marker) = next {
        text += &format!(
            "\nThere is more: --all, or --marker {}\n",
            printable(marker)
        );
    }
    text
}

/// Every field that some item has a plain value for, its cells below its title.
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
    let with_cells = |name| {
        let title = std::iter::once(title(name).to_uppercase());
        (
            name,
            title
                .chain(
                    items
                        .iter()
                        .map(|item| cell(item.get(name).unwrap_or(&Value::Null))),
                )
                .collect(),
        )
    };
    names.into_iter().map(with_cells).collect()
}

fn title(name: &str) -> String {
    printable(name).replace('_', " ")
}

/// A line a field; what is nested follows as JSON.
fn column(thing: &Map<String, Value>) -> String {
    let mut table = table();
    let mut nested = String::new();
    for (key, value) in thing {
        match value {
            Value::Object(_) => {
                let text = serde_json::to_string_pretty(value).unwrap_or_default();
                nested += &format!("\n{}\n{}\n", printable(key), printable_lines(&text));
            }
            _ => drop(table.add_row([title(key), cell(value)])),
        }
    }
    (if table.is_empty() {
        String::new()
    } else {
        lines(&table)
    }) + &nested
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table
}

/// Without the blanks at the ends of the lines.
fn lines(table: &Table) -> String {
    table
        .lines()
        .map(|line| format!("{}\n", line.trim()))
        .collect()
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
    if columns == 0 { WIDE } else { columns }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_shows_what_people_look_for_first_and_says_what_it_leaves_out() {
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

No room for: description; --json shows everything

There is more: --all, or --marker r-2
"
        );
        assert_eq!(list(&[], None), "nothing\n");
    }

    #[test]
    fn a_thing_is_a_line_a_field_and_what_is_nested_follows() {
        let role = json!({ "id": "r-1", "trust_policy": { "version": "1" }, "created_at": "now" });
        assert_eq!(
            column(role.as_object().unwrap()),
            "id          r-1\ncreated at  now\n\ntrust_policy\n{\n  \"version\": \"1\"\n}\n"
        );
    }
}
