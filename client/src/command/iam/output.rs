//! Replies for people: a table of a list, a column of a thing. For programs: the JSON as it came.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use rolekeeper::connect;
use rolekeeper::contract::Method;
use rolekeeper::protocol::Failure;
use serde_json::{Map, Value};

/// Where nothing says how wide the terminal is.
const WIDE: u16 = 120;

pub(super) fn show(method: &Method, reply: &Value, json: bool) -> Result<String, Failure> {
    if json {
        return match reply {
            Value::Null => Ok(String::new()),
            reply => serde_json::to_string_pretty(reply).map(|text| text + "\n").map_err(|_| connect::out_of_place()),
        };
    }
    Ok(match (reply, reply["items"].as_array()) {
        (Value::Null, _) => format!("{}: done\n", method.name),
        (_, Some(items)) => list(items, reply["next_marker"].as_str()),
        (Value::Object(thing), None) => column(thing),
        (other, None) => format!("{other}\n"),
    })
}

/// A row an item. What is nested, such as a policy's document, is left to the method that shows one item.
fn list(items: &[Value], next: Option<&str>) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for item in items {
        for (key, value) in item.as_object().into_iter().flatten() {
            if !value.is_null() && !value.is_object() && !columns.contains(&key.as_str()) {
                columns.push(key);
            }
        }
    }
    if columns.is_empty() {
        return "nothing\n".into();
    }
    let mut table = table();
    table.set_header(columns.iter().map(|column| column.replace('_', " ").to_uppercase()));
    for item in items {
        table.add_row(columns.iter().map(|column| cell(&item[*column])));
    }
    for (index, column) in columns.iter().enumerate() {
        // Ids are there to be copied.
        if let Some(column) = table.column_mut(index).filter(|_| *column == "id" || column.ends_with("_id")) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    let more = next.map(|marker| format!("\nThere is more: --all, or --marker {marker}\n")).unwrap_or_default();
    lines(&table) + &more
}

/// A line a field; what is nested follows as JSON.
fn column(thing: &Map<String, Value>) -> String {
    let mut table = table();
    let mut nested = String::new();
    for (key, value) in thing {
        match value {
            Value::Object(_) => {
                let text = serde_json::to_string_pretty(value).unwrap_or_default();
                nested += &format!("\n{key}\n{text}\n");
            }
            _ => drop(table.add_row([key.replace('_', " "), cell(value)])),
        }
    }
    (if table.is_empty() { String::new() } else { lines(&table) }) + &nested
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(width());
    table
}

/// Without the blanks at the ends of the lines.
fn lines(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim())).collect()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => printable(text),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => printable(&other.to_string()),
    }
}

/// A text of somebody else's cannot move the cursor.
fn printable(text: &str) -> String {
    text.chars().map(|each| if each.is_control() { '\u{fffd}' } else { each }).collect()
}

fn width() -> u16 {
    #[cfg(unix)]
    let columns = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).map_or(0, |size| size.ws_col);
    #[cfg(not(unix))]
    let columns = 0;
    if columns == 0 { WIDE } else { columns }
}
