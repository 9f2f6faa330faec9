//! `rolekeeper setup` and the daemon that is running.

use rolekeeper_tests::harness::world;

#[test]
fn a_profile_that_the_daemon_lacks_is_noted_and_set_up() {
    let (_sandbox, home) = world();
    let note = |arguments: &[&str]| {
        let run = home.rolekeeper(&[&["setup", "aws"], arguments].concat());
        assert_eq!(run.code, 0, "{run:?}");
        assert!(run.stdout.contains("[profile "), "{run:?}");
        run.stdout.contains(
            "Note: the running daemon has no profile other\n  try: add [profile.other] to its ",
        )
    };
    assert!(
        !note(&["other"]),
        "no daemon is running, and none is started"
    );

    let _daemon = home.daemon(&[]);
    assert!(note(&["other"]));
    assert!(note(&["other", "--write"]));
    assert!(!note(&["dev"]));
    assert!(!note(&["other", "--undo"]));
}
