//! `setup` shows what it would change; what it knows of the daemon that is running it says beside it.

use rolekeeper_tests::harness::world;

#[test]
fn profile_unknown_to_daemon_is_set_up_with_a_warning() {
    let (_sandbox, home) = world();

    let says = |profile: &str| {
        let run = home.rolekeeper(&["setup", "aws", profile]);
        assert!(
            run.code == 0 && run.stdout.contains(&format!("[profile {profile}]")),
            "{run:?}"
        );

        run.stdout
            .contains(&format!("shows you no profile {profile}"))
    };

    assert!(
        !says("other"),
        "nobody runs that could know, and nobody is started"
    );

    let _daemon = home.daemon(&[]);

    assert_eq!((says("other"), says("dev")), (true, false));

    let undo = home.rolekeeper(&["setup", "aws", "other", "--undo"]);
    assert!(
        undo.code == 0 && !undo.stdout.contains("shows you no profile"),
        "{undo:?}"
    );
}
