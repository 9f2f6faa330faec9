//! The sandbox is killed during writes: every acknowledged write is still there.

use rolekeeper_tests::harness::SandboxProcess;
use serde_json::json;

#[test]
fn kill_loses_no_acknowledged_write() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("iam.db");
    let data = data.to_str().unwrap();
    let mut acknowledged = Vec::new();

    for round in 0..5 {
        let sandbox = SandboxProcess::start(&["--data", data]);
        let admin = sandbox.ready["admin_token"].as_str().unwrap();

        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let sandbox = &sandbox;
                    scope.spawn(move || {
                        let mut names = Vec::new();

                        // Until the sandbox is killed.
                        for number in 0.. {
                            let name = format!("r{round}-{writer}-{number}");
                            match sandbox.try_api(
                                admin,
                                "POST",
                                "/roles",
                                Some(&json!({ "name": name })),
                            ) {
                                Ok((201, _)) => names.push(name),
                                Ok(other) => panic!("{other:?}"),
                                Err(_) => break,
                            }
                        }

                        names
                    })
                })
                .collect();

            std::thread::sleep(std::time::Duration::from_millis(150));
            sandbox.kill();

            acknowledged.extend(
                writers
                    .into_iter()
                    .flat_map(|writer| writer.join().unwrap()),
            );
        });
    }

    assert!(
        acknowledged.len() > 50,
        "only {} writes were tried",
        acknowledged.len()
    );

    let sandbox = SandboxProcess::start(&["--data", data]);
    let admin = sandbox.ready["admin_token"].as_str().unwrap();
    for name in &acknowledged {
        let (_, list) = sandbox.api(admin, "GET", &format!("/roles?name={name}"), None);

        assert_eq!(list["items"].as_array().unwrap().len(), 1, "{name} is lost");
    }

    let mut entries = 0;
    let mut marker = String::new();

    loop {
        let path = format!("/audit-logs?action=iam.createRole&status=success&limit=1000{marker}");
        let (_, page) = sandbox.api(admin, "GET", &path, None);
        entries += page["items"].as_array().unwrap().len();

        match page["next_marker"].as_str() {
            Some(next) => marker = format!("&marker={next}"),
            None => break,
        }
    }

    assert!(
        entries >= acknowledged.len(),
        "{entries} entries for {} writes",
        acknowledged.len()
    );
}
