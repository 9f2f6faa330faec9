//! Output on a terminal: control characters are escaped or replaced.

use std::fs::File;
use std::io::Read;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

use super::fake_daemon::FakeDaemon;

/// The output of a command on a terminal.
fn terminal_output(daemon: &FakeDaemon, words: &[&str]) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).and_then(|()| unlockpt(&master)).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let other_side =
        File::from(rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap());
    let mut command = daemon.client(words);
    let mut child = command.stdout(other_side).spawn().unwrap();

    // Closes this process's copy of the terminal's other side.
    drop(command);
    let mut bytes = Vec::new();

    // The read fails once the other side is closed.
    let _ = File::from(master).read_to_end(&mut bytes);

    assert!(child.wait().unwrap().success(), "{words:?}");

    String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
}

#[test]
fn json_escapes_control_characters_on_terminals() {
    let name = "a\u{7f}\u{9b}2J\u{202e}\u{2028}\u{feff}é\"";
    let answer = serde_json::json!({ "id": "r-1", "name": name }).to_string();
    let daemon = FakeDaemon::answering(&answer);

    let words = ["iam", "getRole", "--role-id", "r-1", "--json"];
    let terminal = terminal_output(&daemon, &words);
    let pipe = String::from_utf8(daemon.run(&words).stdout).unwrap();

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

    let table = terminal_output(&daemon, &["iam", "getRole", "--role-id", "r-1"]);
    assert!(
        table.contains("name  a\u{fffd}\u{fffd}2J\u{fffd}\u{fffd}\u{fffd}é\""),
        "{table}"
    );

    let daemon = FakeDaemon::answering("BYIA\u{9b}");

    assert!(
        terminal_output(&daemon, &["credential-process", "dev"])
            .contains(r#""AccessKeyId":"BYIA\u009b""#)
    );
}
