use super::*;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

fn source(location: TokenLocation) -> TokenSource {
    TokenSource::new("up".into(), location).with_destination("https://iam.example.test".into())
}

async fn read_file(text: &str, mode: u32) -> Result<SecretString, TokenError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    source(TokenLocation::File(path)).token().await
}

#[tokio::test]
async fn file_token_is_read_without_final_newline() {
    assert_eq!(
        read_file("canary-token\n", 0o600)
            .await
            .unwrap()
            .expose_secret(),
        "canary-token"
    );
}

#[tokio::test]
async fn invalid_token_is_rejected_and_not_printed() {
    for text in ["", " \n", "canary two", "canary\u{7f}", "canaryé"] {
        let error = read_file(text, 0o600).await.unwrap_err();
        assert!(
            matches!(error.kind, TokenErrorKind::InvalidToken(_)),
            "{text:?}"
        );
        assert!(!format!("{error} {} {error:?}", error.hint()).contains("canary"));
    }

    let open = read_file("canary", 0o644).await.unwrap_err();
    assert!(open.to_string().contains("mode 0644"));
    let unset = source(TokenLocation::Env("ROLEKEEPER_TEST_UNSET".into()))
        .token()
        .await
        .unwrap_err();
    assert!(
        matches!(unset.kind, TokenErrorKind::EnvNotSet)
            && unset.hint().contains("ROLEKEEPER_TEST_UNSET")
    );
}

fn command(words: &[&str], keep: u64) -> TokenSource {
    let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
    let runner = CommandRunner::in_thread(std::slice::from_ref(&words)).unwrap();
    let location = TokenLocation::Command {
        words,
        keep: Duration::from_secs(keep),
    };
    source(location).with_command_runner(Some(Arc::new(runner)))
}

#[tokio::test]
async fn command_runs_without_shell_and_output_is_cached() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    let path = count.display().to_string();
    let script = "echo x >> \"$1\"; printf 'token-%s\\n' \"$(wc -l < \"$1\")\"";
    let kept = command(&["sh", "-c", script, "sh", &path], 60);
    for want in ["token-1", "token-1"] {
        assert_eq!(kept.token().await.unwrap().expose_secret(), want);
    }

    kept.discard_cached();
    assert_eq!(kept.token().await.unwrap().expose_secret(), "token-2");
    let fresh = command(&["sh", "-c", script, "sh", &path], 0);
    for want in ["token-3", "token-4"] {
        assert_eq!(fresh.token().await.unwrap().expose_secret(), want);
    }

    let literal = command(&["echo", "$HOME;`id`"], 0).token().await.unwrap();
    assert_eq!(
        literal.expose_secret(),
        "$HOME;`id`",
        "no shell interprets it"
    );
}

#[tokio::test]
async fn byte_order_mark_is_ignored_and_utf16_is_named() {
    let marked = read_file("\u{feff}canary-token\r\n", 0o600).await.unwrap();
    assert_eq!(marked.expose_secret(), "canary-token");

    let dir = tempfile::tempdir().unwrap();
    for (bytes, reason) in [
        (
            &b"\xff\xfec\0a\0"[..],
            "it is UTF-16 text; save it as UTF-8",
        ),
        (b"\xfe\xff\0c\0a", "it is UTF-16 text; save it as UTF-8"),
        (
            b"c\0a\0",
            "it has NUL characters, as UTF-16 text has; save it as UTF-8",
        ),
        (b"\xe9", "it is not UTF-8 text"),
    ] {
        let path = dir.path().join("token");
        private_file::replace(&path, bytes).unwrap();
        let error = source(TokenLocation::File(path)).token().await.unwrap_err();
        assert!(error.to_string().ends_with(reason), "{error}");
    }
}

#[tokio::test]
async fn child_that_keeps_the_pipe_open_is_not_awaited() {
    let began = Clock::System.now().boot;
    let words = ["sh", "-c", "sleep 60 & echo canary-token"];
    let token = command(&words, 0).token().await.unwrap();
    assert_eq!(token.expose_secret(), "canary-token");

    let words = ["sh", "-c", "sleep 60 & exit 3"];
    let error = command(&words, 0).token().await.unwrap_err();
    assert!(
        error.to_string().ends_with("failed with exit status: 3"),
        "{error}"
    );
    assert!(Clock::System.now().boot.since(began) < Duration::from_secs(10));
}

#[tokio::test]
async fn running_command_has_a_process_id_and_is_named() {
    let words = ["sh", "-c", "sleep 60"];
    let slow = Arc::new(command(&words, 0));
    assert!(slow.wait().is_none() && slow.running_command().is_none());

    let reading = tokio::spawn({
        let slow = Arc::clone(&slow);
        async move { slow.token().await.map(drop) }
    });
    while slow.running_command().and_then(|run| run.pid()).is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let wait = slow.wait().unwrap();
    assert_eq!(wait.location, "the program sh");
    assert!(wait.hint.ends_with("exit: sh -c 'sleep 60'"));

    reading.abort();
    assert!(reading.await.is_err());
    assert!(slow.wait().is_none() && slow.running_command().is_none());
}

#[tokio::test]
async fn command_error_names_program_and_not_output() {
    for (words, want) in [
        (&["rolekeeper-no-such-program"][..], "cannot be started"),
        (
            &["sh", "-c", "echo canary; exit 3"],
            "failed with exit status: 3",
        ),
        (
            &["sh", "-c", "echo canary two"],
            "contains no valid token: it has white space",
        ),
        (
            &["sh", "-c", "printf '\\377canary'"],
            "it is not UTF-8 text",
        ),
        (&["sh", "-c", "yes canary"], "printed more than a token"),
        (&["true"], "contains no valid token: it is empty"),
    ] {
        let error = command(words, 0).token().await.unwrap_err();
        assert!(error.to_string().contains(want), "{words:?}: {error}");
        assert!(
            !format!("{error:?}")
                .replace(&format!("{words:?}"), "")
                .contains("canary\""),
            "{error:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn hanging_command_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let script = format!(
        "sleep 1000 & echo $! > {0}; echo $$ >> {0}; wait",
        pids.display()
    );

    let words = ["sh", "-c", script.as_str()];
    let began = Clock::System.now().boot;
    let took = || Clock::System.now().boot.since(began);
    let error = command(&words, 0).token().await.unwrap_err();
    assert!(
        matches!(error.kind, TokenErrorKind::CommandTimedOut),
        "{error}"
    );

    assert!(
        took() < Duration::from_secs(20),
        "the clock stands still in this test"
    );

    let listed = std::fs::read_to_string(&pids).unwrap_or_default();
    for pid in listed.lines() {
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z")
        };
        while !gone() {
            assert!(took() < Duration::from_secs(20), "{pid} lives on");
            std::thread::yield_now();
        }
    }
}

fn age(dir: &Path, identity: Option<&str>) -> TokenSource {
    let file = dir.join("token.age");
    let identity = identity.map(|name| dir.join(name));
    source(TokenLocation::Age { file, identity })
}

#[tokio::test]
async fn age_file_needs_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let sealed = age(dir.path(), Some("key"));
    assert!(matches!(
        sealed.token().await.unwrap_err().kind,
        TokenErrorKind::File(_)
    ));

    sealed.store(&"canary-token".into(), None).await.unwrap();
    assert_eq!(
        sealed.token().await.unwrap().expose_secret(),
        "canary-token"
    );

    for name in ["key", "token.age"] {
        let meta = std::fs::metadata(dir.path().join(name)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{name}");
        assert!(
            !std::fs::read_to_string(dir.path().join(name))
                .unwrap()
                .contains("canary")
        );
    }

    let key = std::fs::read_to_string(dir.path().join("key")).unwrap();
    private_file::replace(&dir.path().join("key"), format!("\u{feff}{key}").as_bytes()).unwrap();
    assert!(sealed.token().await.is_ok(), "a byte order mark is ignored");

    std::fs::rename(dir.path().join("key"), dir.path().join("other")).unwrap();
    let other = tempfile::tempdir().unwrap();
    age(other.path(), Some("key"))
        .store(&"x".into(), None)
        .await
        .unwrap();
    std::fs::copy(other.path().join("key"), dir.path().join("key")).unwrap();
    assert!(matches!(
        sealed.token().await.unwrap_err().kind,
        TokenErrorKind::WrongIdentity(_)
    ));
}

#[tokio::test]
async fn age_file_needs_its_passphrase() {
    let dir = tempfile::tempdir().unwrap();
    age(dir.path(), None)
        .store(&"canary-token".into(), Some("canary-word".into()))
        .await
        .unwrap();
    let sealed = age(dir.path(), None);
    let error = sealed.token().await.unwrap_err();
    assert!(
        matches!(error.kind, TokenErrorKind::PassphraseNeeded)
            && error.hint().contains("rolekeeper unlock up"),
        "{error}"
    );

    assert!(matches!(
        sealed.unlock("wrong".into()).await.unwrap_err().kind,
        TokenErrorKind::WrongPassphrase
    ));

    assert!(sealed.token().await.is_err());
    sealed.unlock("canary-word".into()).await.unwrap();
    assert_eq!(
        sealed.token().await.unwrap().expose_secret(),
        "canary-token"
    );

    assert!(
        sealed.unlock("wrong".into()).await.is_err(),
        "also while the key is known"
    );

    std::fs::write(
        dir.path().join("token.age"),
        "age-encryption.org/v1\nnonsense",
    )
    .unwrap();
    assert!(matches!(
        sealed.token().await.unwrap_err().kind,
        TokenErrorKind::DecryptionFailed(_)
    ));
}

#[tokio::test]
async fn env_token_is_not_written() {
    let error = source(TokenLocation::Env("X".into()))
        .store(&"t".into(), None)
        .await
        .unwrap_err();
    assert!(
        matches!(error.kind, TokenErrorKind::ReadOnly) && error.hint().contains("keyring = \"up\"")
    );
}

#[tokio::test]
async fn only_a_secret_that_is_never_sent_needs_no_destination() {
    let dir = tempfile::tempdir().unwrap();
    let seed = age(dir.path(), Some("key")).never_sent();
    seed.store(&"canary-seed".into(), None).await.unwrap();
    assert_eq!(seed.token().await.unwrap().expose_secret(), "canary-seed");

    let error = age(dir.path(), Some("key")).token().await.unwrap_err();
    assert!(matches!(error.kind, TokenErrorKind::NoDestination));
    assert_eq!(error.hint(), "run rolekeeper login up");
}
