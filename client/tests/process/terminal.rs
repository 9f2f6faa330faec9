//! JSON on a terminal.

use std::fs::File;
use std::io::Read;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

use super::stand_in::StandIn;

/// What a command shows on a terminal.
fn shown(daemon: &StandIn, words: &[&str]) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).and_then(|()| unlockpt(&master)).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let other_side =
        File::from(rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap());
    let mut command = daemon.client(words);
    let mut child = command.stdout(other_side).spawn().unwrap();
    // The last hold on the other side, but for the child's.
    drop(command);
    let mut bytes = Vec::new();
    // It ends with an error when nobody is left on the other side.
    let _ = File::from(master).read_to_end(&mut bytes);
    assert!(child.wait().unwrap().success(), "{words:?}");
    String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
}

#[test]
fn json_on_a_terminal_escapes_hidden_characters() {
    let name = "a\u{7f}\u{9b}2J\u{202e}\u{2028}\u{feff}é\"";
    let answer = serde_json::json!({ "id": "r-1", "name": name }).to_string();
    let daemon = StandIn::answering(&answer);
    let words = ["iam", "getRole", "--role-id", "r-1", "--json"];
    let (terminal, pipe) = (
        shown(&daemon, &words),
        String::from_utf8(daemon.run(&words).stdout).unwrap(),
    );
    assert!(
        terminal.contains(r#""a\u007f\u009b2J\u202e\u2028\ufeffé\"""#),
        "{terminal}"
    );
    assert!(
        pipe.contains('\u{9b}') && pipe.contains('\u{202e}'),
        "{pipe}"
    );
    for text in [terminal, pipe] {
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["name"], name);
    }
    let table = shown(&daemon, &["iam", "getRole", "--role-id", "r-1"]);
    assert!(
        table.contains("name  a\u{fffd}\u{fffd}2J\u{fffd}\u{fffd}\u{fffd}é\""),
        "{table}"
    );
    let daemon = StandIn::answering("BYIA\u{9b}");
    assert!(
        shown(&daemon, &["credential-process", "dev"]).contains(r#""AccessKeyId":"BYIA\u009b""#)
    );
}
