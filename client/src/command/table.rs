//! Tables of results.

use comfy_table::{Row, Table, presets};

/// The lines of a table without borders: two spaces between columns, none at the ends of lines.
pub(super) fn lines<R: Into<Row>>(rows: impl IntoIterator<Item = R>) -> Vec<String> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.add_rows(rows);
    if table.is_empty() {
        return Vec::new();
    }

    table
        .lines()
        .map(|line| {
            line.strip_prefix(' ')
                .unwrap_or(&line)
                .trim_end()
                .to_owned()
        })
        .collect()
}

/// The same as one text.
pub(super) fn text<R: Into<Row>>(rows: impl IntoIterator<Item = R>) -> String {
    lines(rows).into_iter().map(|line| line + "\n").collect()
}
