//! kubectl, docker and git, as they are, each configured by `rolekeeper setup`: what they send, and what their users read.

use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use rolekeeper_tests::harness::{Daemon, Home, Run, world};

use super::assert_installed;
use super::tls_door::{TlsDoor, tls_door};
use super::witness::{Reply, Request, Witness};

/// A program with this home, and rolekeeper on its PATH.
fn run(home: &Home, program: &str, arguments: &[&str]) -> Run {
    run_with(home, program, arguments, &[])
}

fn run_with(home: &Home, program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = home.command(Path::new(program));
    let client = rolekeeper_tests::harness::programs()
        .rolekeeper
        .canonicalize()
        .expect("it is built");
    let path = std::env::var("PATH").expect("a path");
    let folders = [
        home.path().join("bin"),
        client.parent().expect("a folder").into(),
    ];
    command.env(
        "PATH",
        format!("{}:{}:{path}", folders[0].display(), folders[1].display()),
    );
    command
        .env("ROLEKEEPER_AUTOSTART", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .envs(variables.iter().copied())
        .args(arguments);
    home.run(command)
}

fn setup(home: &Home, arguments: &[&str]) {
    let run = run(
        home,
        "rolekeeper",
        &[&["setup"], arguments, &["--write"]].concat(),
    );
    assert_eq!(run.code, 0, "{run:?}");
}

fn token(home: &Home) -> String {
    let lease = home.rolekeeper(&["credential-process", "dev"]).json();
    lease["SessionToken"].as_str().expect("a token").to_owned()
}

/// What the user reads, in whichever of the two streams.
fn text(run: &Run) -> String {
    format!("{}\n{}", run.stdout, run.stderr)
}

const HELD: &str = "profile dev is held";

fn hold(home: &Home) {
    assert_eq!(home.rolekeeper(&["logout", "dev"]).code, 0);
}

/// An API server that knows one way to be asked.
fn api_server() -> (Witness, TlsDoor) {
    let service = Witness::start(|request| match request.header("authorization") {
        Some(given) if given.starts_with("Bearer bysess_") => Reply::new(
            "200 OK\r\nContent-Type: application/json",
            "{\"major\":\"1\"}",
        ),
        _ => Reply::new("401 Unauthorized\r\nContent-Type: application/json", "{}"),
    });
    let door = tls_door(&service.url, "127.0.0.1");
    (service, door)
}

fn kubectl(home: &Home, arguments: &[&str]) -> Run {
    run(home, "kubectl", arguments)
}

#[test]
fn kubectl_config_adds_changes_and_removes_the_user() {
    assert_installed("kubectl");

    let (_sandbox, home) = world();
    let file = home.path().join(".kube/config");
    let text = || std::fs::read_to_string(&file).expect("it is there");
    kubectl(
        &home,
        &["config", "set-credentials", "other", "--token=canary"],
    );
    let before = text();

    for profile in ["dev", "a.token"] {
        let run_setup = |more: &[&str]| {
            let run = run(
                &home,
                "rolekeeper",
                &[&["setup", "kube", profile], more].concat(),
            );
            assert_eq!(run.code, 0, "{run:?}");
            assert!(!run.stdout.contains("canary"), "{run:?}");
            run.stdout
        };
        let preview = run_setup(&[]);
        assert!(preview.starts_with("Commands to run:\n  kubectl config set-credentials "));
        assert_eq!(text(), before);
        run_setup(&["--write"]);
        assert!(text().contains("provideClusterInfo: false"));
        assert!(run_setup(&["--write"]).starts_with("Profile "));

        run_setup(&["--server", "https://k.example.test", "--write"]);
        assert!(text().contains("provideClusterInfo: true"));
        assert!(text().contains("interactiveMode: Never"));
        assert!(run_setup(&["--server", "https://k.example.test"]).starts_with("Profile "));

        run_setup(&["--undo"]);
        assert_ne!(text(), before);
        run_setup(&["--undo", "--write"]);
        assert_eq!(text(), before);
        let again = run_setup(&["--undo", "--write"]);
        assert_eq!(again, format!("Profile {profile} is not set up.\n"));
    }
}

#[test]
fn setup_kube_uses_the_files_of_kubectl() {
    assert_installed("kubectl");

    let (_sandbox, home) = world();
    let first = home.path().join("first");
    let second = home.path().join("second");
    let both = format!("{}:{}", first.display(), second.display());
    std::fs::write(&second, "apiVersion: v1\nkind: Config\n").expect("it is written");
    let run = run_with(
        &home,
        "rolekeeper",
        &["setup", "kube", "dev", "--write"],
        &[("KUBECONFIG", &both)],
    );
    assert_eq!(run.code, 0, "{run:?}");
    assert!(!first.exists());
    assert!(
        std::fs::read_to_string(&second)
            .expect("it is there")
            .contains("name: dev")
    );

    let named = first.to_str().expect("text");
    setup(&home, &["kube", "dev", "--file", named]);
    assert!(first.exists() && !home.path().join(".kube/config").exists());
}

#[test]
fn setup_kube_refuses_a_user_of_others_and_a_broken_file() {
    assert_installed("kubectl");

    let (_sandbox, home) = world();
    let folder = home.path().join(".kube");
    std::fs::create_dir(&folder).expect("a folder");
    for (text, reason) in [
        (
            "users:\n- name: dev\n  user: {token: canary}\n",
            "already has another user dev",
        ),
        ("a: b: canary\n", "failed: error: error loading config file"),
        (
            "users: canary\n",
            "failed: error: error loading config file",
        ),
        (
            "users:\n- name: x\n  user: {token: [canary]}\n",
            "failed: error: error loading config file",
        ),
        ("canary\n", "failed: error: error loading config file"),
    ] {
        let file = folder.join("config");
        std::fs::write(&file, text).expect("it is written");
        let run = run(&home, "rolekeeper", &["setup", "kube", "dev", "--write"]);
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.stderr.contains(reason), "{run:?}");
        assert!(!run.stderr.contains("canary"), "{run:?}");
        assert_eq!(std::fs::read_to_string(&file).expect("it is there"), text);
    }
}

#[test]
fn kubectl_sends_the_session_token_and_shows_why_there_is_none() {
    assert_installed("kubectl");
    let (_sandbox, home) = world();
    let daemon: Daemon<'_> = home.daemon(&[]);
    let (service, door) = api_server();
    let server = format!("https://{}", door.address);
    let authority = home.private_file("authority.pem", &door.authority);
    setup(&home, &["kube", "dev", "--server", &server]);
    for arguments in [
        &[
            "config",
            "set-cluster",
            "c",
            "--server",
            &server,
            "--certificate-authority",
            authority.to_str().expect("text"),
        ][..],
        &[
            "config",
            "set-context",
            "c",
            "--cluster",
            "c",
            "--user",
            "dev",
        ],
        &["config", "use-context", "c"],
    ] {
        let run = kubectl(&home, arguments);
        assert_eq!(run.code, 0, "{run:?}");
    }
    let run = kubectl(&home, &["get", "--raw", "/version"]);
    assert!(run.code == 0 && run.stdout.contains("\"major\""), "{run:?}");
    let want = format!("Bearer {}", token(&home));
    let seen = service.seen();
    // Some builds of kubectl ask for the version without any first.
    let sent: Vec<_> = seen
        .iter()
        .filter_map(|request| request.header("authorization"))
        .collect();
    assert!(
        !sent.is_empty() && sent.iter().all(|each| *each == want),
        "it is the token"
    );
    // Another server that the same user is pointed at gets nothing.
    let (other, other_door) = api_server();
    let authority = home.private_file("other.pem", &other_door.authority);
    let elsewhere = format!("https://{}", other_door.address);
    kubectl(
        &home,
        &[
            "config",
            "set-cluster",
            "c",
            "--server",
            &elsewhere,
            "--certificate-authority",
            authority.to_str().expect("text"),
        ],
    );
    let run = kubectl(&home, &["get", "--raw", "/version"]);
    assert!(run.code != 0 && run.stderr.contains(&elsewhere), "{run:?}");
    assert!(
        other
            .seen()
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
    kubectl(&home, &["config", "set-cluster", "c", "--server", &server]);
    hold(&home);
    let run = kubectl(&home, &["get", "--raw", "/version"]);
    assert!(
        run.code != 0 && run.stderr.contains(HELD) && run.stderr.contains("rolekeeper resume dev"),
        "{run:?}"
    );
    drop(daemon);
    let run = kubectl(&home, &["get", "--raw", "/version"]);
    assert!(
        run.code != 0 && run.stderr.contains("no daemon is running"),
        "{run:?}"
    );
}

/// The user name and the password of basic authentication.
fn basic(request: &Request) -> Option<(String, String)> {
    let given = request.header("authorization")?.strip_prefix("Basic ")?;
    let text = String::from_utf8(BASE64_STANDARD.decode(given).ok()?).ok()?;
    text.split_once(':')
        .map(|(user, password)| (user.into(), password.into()))
}

/// A registry, or a git host, for whoever has a session token as password.
fn guarded(inside: fn(&Request) -> Reply) -> Witness {
    Witness::start(move |request| match basic(request) {
        Some((_, password)) if password.starts_with("bysess_") => inside(request),
        _ => Reply::new(
            "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"here\"",
            "",
        ),
    })
}

fn passwords(service: &Witness) -> Vec<String> {
    service
        .seen()
        .iter()
        .filter_map(basic)
        .map(|(_, password)| password)
        .collect()
}

/// What a registry has of an image: its manifest, and the configuration that this names.
fn image(request: &Request) -> Reply {
    const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",
        "config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":2,
        "digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"layers":[]}"#;
    let body = if request.line.contains("/blobs/") {
        "{}"
    } else {
        MANIFEST
    };
    Reply::new(
        "200 OK\r\nContent-Type: application/vnd.docker.distribution.manifest.v2+json",
        body,
    )
}

#[test]
fn docker_logs_in_to_the_registry_with_the_session_token() {
    assert_installed("docker");
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let registry = guarded(image);
    let door = tls_door(&registry.url, "127.0.0.1");
    let host = &door.address.to_string();
    let bin = home.path().join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    setup(
        &home,
        &[
            "docker",
            "dev",
            "--host",
            host,
            "--bin",
            bin.to_str().expect("text"),
        ],
    );
    let tag = format!("{host}/team/app:1");
    let inspect = || {
        run(
            &home,
            "docker",
            &["manifest", "inspect", "--insecure", &tag],
        )
    };
    let ran = inspect();
    assert!(ran.stdout.contains("schemaVersion"), "{ran:?}");
    let sent = passwords(&registry);
    assert!(!sent.is_empty() && sent.iter().all(|password| *password == token(&home)));
    // Another registry is not asked with it.
    let other = guarded(image);
    let other_door = tls_door(&other.url, "127.0.0.1");
    let elsewhere = format!("{}/team/app:1", other_door.address);
    assert_ne!(
        run(
            &home,
            "docker",
            &["manifest", "inspect", "--insecure", &elsewhere]
        )
        .code,
        0
    );
    assert_eq!(passwords(&other), Vec::<String>::new());
    hold(&home);
    let ran = inspect();
    assert!(ran.code != 0 && text(&ran).contains(HELD), "{ran:?}");
    assert_eq!(passwords(&registry), Vec::<String>::new());
}

#[test]
fn git_logs_in_to_its_host_with_the_session_token() {
    assert_installed("git");
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let refs = |_: &Request| {
        Reply::new(
            "200 OK",
            "0123456789abcdef0123456789abcdef01234567\trefs/heads/main\n",
        )
    };
    let service = guarded(refs);
    // It is not sent in clear, but for this machine.
    let host = service.url.trim_start_matches("http://");
    setup(&home, &["git", "dev", "--host", host]);
    let config = home.path().join(".gitconfig");
    let text_of = std::fs::read_to_string(&config).expect("it is there");
    // What is set up is for https.
    std::fs::write(
        &config,
        text_of.replace(&format!("https://{host}"), &service.url),
    )
    .expect("it is written");
    let list = || {
        run(
            &home,
            "git",
            &["ls-remote", &format!("{}/team/app.git", service.url)],
        )
    };
    let ran = list();
    assert!(
        ran.code == 0 && ran.stdout.contains("refs/heads/main"),
        "{ran:?}"
    );
    let sent = passwords(&service);
    assert!(!sent.is_empty() && sent.iter().all(|password| *password == token(&home)));
    let other = guarded(refs);
    assert_ne!(
        run(
            &home,
            "git",
            &["ls-remote", &format!("{}/team/app.git", other.url)]
        )
        .code,
        0
    );
    assert_eq!(passwords(&other), Vec::<String>::new());
    hold(&home);
    let ran = list();
    assert!(ran.code != 0 && ran.stderr.contains(HELD), "{ran:?}");
    assert!(
        !ran.stderr.contains("terminal prompts disabled"),
        "it is not asked for instead: {ran:?}"
    );
}
