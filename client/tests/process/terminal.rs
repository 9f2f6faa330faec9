//! Output on a terminal: control characters are escaped or replaced.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

use super::fake_daemon::FakeDaemon;

/// The output of a command on a terminal.
fn terminal_output(daemon: &FakeDaemon, words: &[&str]) -> String {
    on_terminal(daemon, words, |command, terminal| command.stdout(terminal))
}

/// What a command prints on a terminal that is connected to it as `connect` says.
fn on_terminal(
    daemon: &FakeDaemon,
    words: &[&str],
    connect: impl Fn(&mut Command, File) -> &mut Command,
) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).and_then(|()| unlockpt(&master)).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let other_side =
        File::from(rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap());
    let mut command = daemon.client(words);
    let mut child = connect(&mut command, other_side).spawn().unwrap();

    // Closes this process's copy of the terminal's other side.
    drop(command);
    let mut bytes = Vec::new();

    // The read fails once the other side is closed.
    let _ = File::from(master).read_to_end(&mut bytes);

    assert!(child.wait().unwrap().success(), "{words:?}");

    String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
}

#[test]
fn slow_reply_is_explained_and_the_line_erased() {
    let daemon = FakeDaemon::answering("BYIA");
    let errors = |profile| {
        on_terminal(
            &daemon,
            &["credential-process", profile],
            |command, terminal| command.stdout(Stdio::null()).stderr(terminal),
        )
    };

    assert_eq!(errors("dev"), "");
    assert_eq!(
        errors("slow"),
        "\r\x1b[Kwaiting for rolekeeperd and the upstream (0 s)\
         \r\x1b[Kwaiting for rolekeeperd and the upstream (1 s)\r\x1b[K"
    );

    // A tool reads standard error, too.
    let run = daemon.run(&["credential-process", "slow"]);
    assert_eq!(String::from_utf8(run.stderr).unwrap(), "");
}

#[test]
fn json_escapes_hidden_characters_also_into_a_pipe() {
    let name = "a\u{7f}\u{9b}2J\u{202e}\u{2028}\u{feff}é\"";
    let answer = serde_json::json!({ "id": "r-1", "name": name }).to_string();
    let daemon = FakeDaemon::answering(&answer);

    let words = ["iam", "getRole", "--role-id", "r-1", "--json"];
    let terminal = terminal_output(&daemon, &words);
    let pipe = String::from_utf8(daemon.run(&words).stdout).unwrap();

    for text in [terminal, pipe] {
        assert!(
            text.contains(r#""a\u007f\u009b2J\u202e\u2028\ufeffé\"""#),
            "{text}"
        );
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
