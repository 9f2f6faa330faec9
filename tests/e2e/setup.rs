//! `setup` with and without a running daemon. Most tests of `setup` are in
//! `client/tests/process/setup.rs`.

use rolekeeper_tests::harness::world;

#[test]
fn profile_unknown_to_daemon_is_set_up_with_a_warning() {
    let (_sandbox, home) = world();

    let warns = |profile: &str| {
        let run = home.rolekeeper(&["setup", "aws", profile]);
        assert!(
            run.code == 0 && run.stdout.contains(&format!("[profile {profile}]")),
            "{run:?}"
        );

        run.stdout
            .contains(&format!("the running daemon has no profile {profile}"))
    };

    assert!(
        !warns("other"),
        "without a daemon there is no warning, and none is started"
    );

    let _daemon = home.daemon(&[]);

    assert_eq!((warns("other"), warns("dev")), (true, false));

    let undo = home.rolekeeper(&["setup", "aws", "other", "--undo"]);
    assert!(
        undo.code == 0 && !undo.stdout.contains("the running daemon has no profile"),
        "{undo:?}"
    );
}

#[test]
fn aws_profile_gets_the_region_of_the_daemon() {
    let (_sandbox, home) = world();
    home.configure_more("", "region = \"eu-central-1\"");
    let _daemon = home.daemon(&[]);

    let setup = home.rolekeeper(&["setup", "aws", "dev", "--write"]);

    assert_eq!(setup.code, 0, "{setup:?}");
    let text = std::fs::read_to_string(home.path().join(".aws/config")).unwrap();
    assert!(
        text.starts_with("[profile dev]\nregion = eu-central-1\n"),
        "{text}"
    );
}
