//! The journal: leases, refusals, and a hash chain that shows later changes.

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
    let test = std::env::current_exe().unwrap();
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
            && programs[1] == test.to_str().unwrap(),
        "{lease}"
    );

    let summary =
        |line: &Value| ["event", "of", "code"].map(|name| line[name].as_str().unwrap().to_owned());
    assert_eq!(summary(refusal), ["refused", "dev", "not_allowed"]);
    assert!(
        refusal["message"]
            .as_str()
            .unwrap()
            .contains("profile dev is not for"),
        "{refusal}"
    );
    assert_eq!(refusal["processes"][1]["program"], test.to_str().unwrap());
    assert_eq!(summary(unknown), ["refused", "opne", "unknown_profile"]);

    // A removed record, and then a removed end.
    let text = fs::read_to_string(home.journal()).unwrap();
    let without: String = text
        .lines()
        .filter(|line| !line.contains("not_allowed"))
        .map(|line| format!("{line}\n"))
        .collect();

    fs::write(home.journal(), without).unwrap();
    let removed = home.rolekeeper(&["journal", "verify"]);
    assert!(
        removed.code == 1
            && removed
                .stdout
                .contains("line 2: record 3 comes after record 1"),
        "{removed:?}"
    );
    assert!(
        removed
            .stderr
            .contains("is not as it was written (unexpected)"),
        "{removed:?}"
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

    // The next daemon continues the chain.
    let _daemon = home.daemon(&[]);

    assert_eq!(home.rolekeeper(&["credential-process", "open"]).code, 0);

    let continued = home.rolekeeper(&["journal", "verify", "--json"]).json();
    assert_eq!(
        (
            &continued["first"],
            &continued["last"],
            &continued["problems"]
        ),
        (&1.into(), &4.into(), &serde_json::json!([])),
        "{continued}"
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

    let written = eventually("the refusals are written", || {
        Some(lines(&home).len()).filter(|count| *count >= 20)
    });

    // The rate limit may have allowed a few more meanwhile.
    assert!(written < 40, "{written}");
}
