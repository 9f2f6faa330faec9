//! The daemon's own record: who was given credentials, who was refused, and that nobody has changed it since.

use std::fs;

use rolekeeper_tests::harness::{Home, eventually, world};
use serde_json::Value;

fn lines(home: &Home) -> Vec<Value> {
    let text = fs::read_to_string(home.journal()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn verify_detects_removed_and_truncated_records() {
    let (_sandbox, home) = world();
    let me = std::env::current_exe().unwrap();
    home.configure_more("", "callers = [{ exe = \"/usr/bin/no-such-program\" }]");
    let text = fs::read_to_string(home.config_path()).unwrap();
    let (_, dev) = text.split_once("[profile.dev]\n").unwrap();
    let open = dev.replace("callers = [{ exe = \"/usr/bin/no-such-program\" }]\n", "");
    home.configure(&format!("{text}[profile.open]\n{open}"));
    let daemon = home.daemon(&[]);

    assert_eq!(home.rolekeeper(&["credential-process", "open"]).code, 0);
    assert_eq!(home.rolekeeper(&["credential-process", "dev"]).code, 4);
    assert_eq!(home.rolekeeper(&["credential-process", "opne"]).code, 2);

    let whole = home.rolekeeper(&["journal", "verify"]);
    assert!(
        whole.code == 0 && whole.stdout.contains("3 lines, records 1 to 3"),
        "{whole:?}"
    );
    assert!(
        whole
            .stdout
            .ends_with("nothing was changed, taken out or put in\n"),
        "{whole:?}"
    );

    let [lease, refusal, unknown] = &lines(&home)[..] else {
        panic!("{:?}", lines(&home))
    };
    let uid = Value::from(rustix::process::geteuid().as_raw());
    assert_eq!(
        (&lease["profile"], &lease["uid"], &lease["how"]),
        (&"open".into(), &uid, &"socket".into())
    );

    let programs: Vec<_> = lease["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| each["program"].clone())
        .collect();

    assert!(
        programs[0].as_str().unwrap().ends_with("/rolekeeper")
            && programs[1] == me.to_str().unwrap(),
        "{lease}"
    );

    let seen =
        |line: &Value| ["event", "of", "code"].map(|name| line[name].as_str().unwrap().to_owned());
    assert_eq!(seen(refusal), ["refused", "dev", "not_allowed"]);
    assert!(
        refusal["message"]
            .as_str()
            .unwrap()
            .contains("profile dev is not for"),
        "{refusal}"
    );
    assert_eq!(refusal["processes"][1]["program"], me.to_str().unwrap());
    assert_eq!(seen(unknown), ["refused", "opne", "unknown_profile"]);

    // Somebody takes out the refusal, and later somebody puts it back.
    let text = fs::read_to_string(home.journal()).unwrap();
    let without: String = text
        .lines()
        .filter(|line| !line.contains("not_allowed"))
        .map(|line| format!("{line}\n"))
        .collect();

    fs::write(home.journal(), without).unwrap();
    let gap = home.rolekeeper(&["journal", "verify"]);
    assert!(
        gap.code == 1 && gap.stdout.contains("line 2: record 3 comes after record 1"),
        "{gap:?}"
    );
    assert!(
        gap.stderr.contains("is not as it was written (unexpected)"),
        "{gap:?}"
    );

    fs::write(
        home.journal(),
        text.lines()
            .take(2)
            .map(|line| format!("{line}\n"))
            .collect::<String>(),
    )
    .unwrap();

    let cut = home.rolekeeper(&["journal", "verify"]);
    assert!(
        cut.code == 1
            && cut
                .stdout
                .contains("it ends with record 2, and record 3 was written"),
        "{cut:?}"
    );

    fs::write(home.journal(), text).unwrap();
    drop(daemon);

    // The next daemon goes on with the same chain.
    let _daemon = home.daemon(&[]);

    assert_eq!(home.rolekeeper(&["credential-process", "open"]).code, 0);

    let on = home.rolekeeper(&["journal", "verify", "--json"]).json();
    assert_eq!(
        (&on["first"], &on["last"], &on["problems"]),
        (&1.into(), &4.into(), &serde_json::json!([])),
        "{on}"
    );
}

#[test]
fn refusals_are_rate_limited() {
    let (_sandbox, home) = world();
    home.configure_more("", "callers = [{ exe = \"/usr/bin/no-such-program\" }]");
    let _daemon = home.daemon(&[]);

    let mut stream = std::os::unix::net::UnixStream::connect(home.socket()).unwrap();
    let request = serde_json::json!({ "v": 1, "request": { "lease": { "profile": "none" } } });
    for _ in 0..2_000 {
        std::io::Write::write_all(&mut stream, &rolekeeper::frame::encode(&request).unwrap())
            .unwrap();
        rolekeeper::frame::read(&mut stream).unwrap();
    }

    let written = eventually("they are written", || {
        Some(lines(&home).len()).filter(|count| *count >= 20)
    });

    // A few more may have been let through since.
    assert!(written < 40, "{written}");
}
