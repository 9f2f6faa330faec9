//! One file a command. Results go to standard output, everything else to standard error. For tools it stays empty on
//! success: some SDKs read both as one stream.

pub(crate) mod audit;
pub(crate) mod completions;
pub(crate) mod credential_process;
pub(crate) mod explain;
pub(crate) mod iam;
pub(crate) mod status;

use std::io::Write;

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Writes a command's result in one piece.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| {
        Failure::new(
            Code::Unexpected,
            format!("standard output cannot be written: {error}"),
            "see where the output of this command goes",
        )
    })
}

/// Writes a command's result as JSON.
pub(crate) fn print_json(result: &impl Serialize) -> Result<(), Failure> {
    print(&(serde_json::to_string_pretty(result).map_err(|_| connect::out_of_place())? + "\n"))
}

/// Writes a report of the daemon's: as JSON, or in prose, in which whatever names it repeats cannot move the cursor or pass
/// for a line of ours.
pub(crate) fn print_report<T: DeserializeOwned>(
    report: &str,
    json: bool,
    prose: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    let mut report: Value = serde_json::from_str(report).map_err(|_| connect::out_of_place())?;
    if json {
        return print_json(&report);
    }
    clean(&mut report);
    print(&prose(&serde_json::from_value(report).map_err(|_| connect::out_of_place())?))
}

fn clean(value: &mut Value) {
    match value {
        Value::String(text) => *text = printable(text),
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::Object(fields) => fields.values_mut().for_each(clean),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text of somebody else's, without what a terminal would act on.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|each| if each.is_control() { '\u{fffd}' } else { each }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_read_holds_no_control_characters() {
        let mut report = serde_json::json!({ "name": "a\u{1b}[2J\u{9b}1m\nb", "list": ["\u{7}"], "number": 1 });
        clean(&mut report);
        let want = serde_json::json!({ "name": "a\u{fffd}[2J\u{fffd}1m\u{fffd}b", "list": ["\u{fffd}"], "number": 1 });
        assert_eq!(report, want);
    }
}
