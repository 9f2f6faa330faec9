//! kubectl, Docker and git, configured by `rolekeeper setup`: the credentials that they send, and the errors that they
//! print.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use base64::prelude::{BASE64_STANDARD, Engine};
use rolekeeper_tests::harness::{Daemon, Home, Run, programs, world};

use super::assert_installed;
use super::mock_server::{MockServer, Reply, Request};
use super::tls_door::{TlsDoor, tls_door};

/// Runs a program with this home, and with rolekeeper on its PATH.
fn run(home: &Home, program: &str, arguments: &[&str]) -> Run {
    run_with(home, program, arguments, &[])
}

fn run_with(home: &Home, program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let client = programs().rolekeeper.canonicalize().expect("it is built");
    let client_folder = client.parent().expect("a folder");
    let path = std::env::var("PATH").expect("a path");

    let mut command = home.command(Path::new(program));
    command
        .env(
            "PATH",
            format!(
                "{}:{}:{path}",
                home.path().join("bin").display(),
                client_folder.display()
            ),
        )
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

fn session_token(home: &Home) -> String {
    let lease = home.rolekeeper(&["credential-process", "dev"]).json();

    lease["SessionToken"].as_str().expect("a token").to_owned()
}

const HELD: &str = "profile dev is held";

fn hold(home: &Home) {
    assert_eq!(home.rolekeeper(&["logout", "dev"]).code, 0);
}

/// A mock Kubernetes API server that accepts session tokens.
fn api_server() -> (MockServer, TlsDoor) {
    let server = MockServer::start(|request| match request.header("authorization") {
        Some(header) if header.starts_with("Bearer bysess_") => Reply::new(
            "200 OK\r\nContent-Type: application/json",
            "{\"major\":\"1\"}",
        ),
        _ => Reply::new("401 Unauthorized\r\nContent-Type: application/json", "{}"),
    });
    let tls = tls_door(&server.url, "127.0.0.1");

    (server, tls)
}

fn kubectl(home: &Home, arguments: &[&str]) -> Run {
    run(home, "kubectl", arguments)
}

/// Runs `rolekeeper setup kube`, and returns its output.
fn setup_kube(home: &Home, profile: &str, arguments: &[&str]) -> String {
    let run = run(
        home,
        "rolekeeper",
        &[&["setup", "kube", profile], arguments].concat(),
    );
    assert_eq!(run.code, 0, "{run:?}");
    assert!(!run.stdout.contains("canary"), "{run:?}");

    run.stdout
}

#[test]
fn kubectl_setup_adds_changes_and_removes_the_user() {
    assert_installed("kubectl");
    let (_sandbox, home) = world();
    let file = home.path().join(".kube/config");
    let read = || std::fs::read_to_string(&file).expect("a kubeconfig");
    kubectl(
        &home,
        &["config", "set-credentials", "other", "--token=canary"],
    );
    let before = read();
    let server = ["--server", "https://k.example.test"];

    for profile in ["dev", "a.token"] {
        let preview = setup_kube(&home, profile, &[]);
        assert!(preview.starts_with("Commands to run:\n  kubectl config set-credentials "));
        assert_eq!(read(), before);

        setup_kube(&home, profile, &["--write"]);
        assert!(read().contains("provideClusterInfo: false"));
        assert!(setup_kube(&home, profile, &["--write"]).starts_with("Profile "));

        setup_kube(&home, profile, &[&server[..], &["--write"]].concat());
        assert!(read().contains("provideClusterInfo: true"));
        assert!(read().contains("interactiveMode: Never"));
        assert!(setup_kube(&home, profile, &server).starts_with("Profile "));

        setup_kube(&home, profile, &["--undo"]);
        assert_ne!(read(), before);
        setup_kube(&home, profile, &["--undo", "--write"]);
        assert_eq!(read(), before);

        let again = setup_kube(&home, profile, &["--undo", "--write"]);
        assert_eq!(again, format!("Profile {profile} is not set up.\n"));
    }
}

#[test]
fn kubectl_setup_writes_the_files_that_kubectl_uses() {
    assert_installed("kubectl");
    let (_sandbox, home) = world();
    let first = home.path().join("first");
    let second = home.path().join("second");
    let both = format!("{}:{}", first.display(), second.display());
    std::fs::write(&second, "apiVersion: v1\nkind: Config\n").expect("the file is writable");

    let run = run_with(
        &home,
        "rolekeeper",
        &["setup", "kube", "dev", "--write"],
        &[("KUBECONFIG", &both)],
    );
    assert_eq!(run.code, 0, "{run:?}");
    assert!(!first.exists());
    let text = std::fs::read_to_string(&second).expect("a kubeconfig");
    assert!(text.contains("name: dev"));

    let named = first.to_str().expect("UTF-8");
    setup(&home, &["kube", "dev", "--file", named]);
    assert!(first.exists() && !home.path().join(".kube/config").exists());
}

#[test]
fn kubectl_setup_refuses_foreign_user_and_invalid_file() {
    assert_installed("kubectl");
    let (_sandbox, home) = world();
    let folder = home.path().join(".kube");
    std::fs::create_dir(&folder).expect("a folder");
    let file = folder.join("config");

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
        std::fs::write(&file, text).expect("the file is writable");

        let run = run(&home, "rolekeeper", &["setup", "kube", "dev", "--write"]);
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.stderr.contains(reason), "{run:?}");
        assert!(!run.stderr.contains("canary"), "{run:?}");
        assert_eq!(std::fs::read_to_string(&file).expect("a kubeconfig"), text);
    }
}

#[test]
fn kubectl_setup_refuses_user_of_another_file_or_context() {
    assert_installed("kubectl");
    let (_sandbox, home) = world();
    let a = home.path().join("a");
    let b = home.path().join("b");
    let both = format!("{}:{}", a.display(), b.display());
    let cluster = "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster: {server: 'https://k.example.test/y'}\n\
        contexts:\n- name: x\n  context: {cluster: c, user: dev}\n";
    let theirs = format!("{cluster}users:\n- name: dev\n  user: {{token: canary}}\n");
    let ours = "apiVersion: v1\nkind: Config\nusers:\n- name: dev\n  user:\n    exec: {apiVersion: client.authentication.k8s.io/v1, \
        command: /bin/rolekeeper, args: [kube, dev], interactiveMode: Never, provideClusterInfo: false}\n";
    let file = a.to_str().expect("UTF-8");
    let named: &[&str] = &["--file", file];
    let context = "the context x already has the user dev, and would send the token to https://k.example.test";
    let other_file = "another file of KUBECONFIG already has a user dev";

    for (second, options, reason, hint) in [
        (
            theirs.as_str(),
            &[][..],
            "already has another user dev",
            "--name",
        ),
        (
            &theirs,
            named,
            other_file,
            "choose another name with --name",
        ),
        (ours, named, other_file, "choose another name with --name"),
        (
            cluster,
            &[],
            context,
            "add --server https://k.example.test ",
        ),
        (
            cluster,
            named,
            context,
            "add --server https://k.example.test ",
        ),
    ] {
        std::fs::write(&a, "apiVersion: v1\nkind: Config\n").expect("the file is writable");
        std::fs::write(&b, second).expect("the file is writable");
        let setup = |more: &[&str]| {
            let words = [&["setup", "kube", "dev", "--write"], options, more].concat();
            run_with(&home, "rolekeeper", &words, &[("KUBECONFIG", &both)])
        };

        let refused = setup(&[]);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(reason), "{refused:?}");
        assert!(refused.stderr.contains(hint), "{refused:?}");
        assert!(!refused.stderr.contains("canary"), "{refused:?}");
        assert_eq!(
            std::fs::read_to_string(&a).expect("a kubeconfig"),
            "apiVersion: v1\nkind: Config\n"
        );
        assert_eq!(std::fs::read_to_string(&b).expect("a kubeconfig"), second);

        let more: &[&str] = match reason == context {
            true => &["--server", "https://k.example.test"],
            false => &["--name", "work"],
        };
        let done = setup(more);
        assert_eq!(done.code, 0, "{done:?}");
    }

    // The user of setup is changed in its own file.
    std::fs::write(&a, "apiVersion: v1\nkind: Config\n").expect("the file is writable");
    std::fs::write(&b, ours).expect("the file is writable");
    let words = ["setup", "kube", "dev", "--write"];
    let done = run_with(&home, "rolekeeper", &words, &[("KUBECONFIG", &both)]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        !std::fs::read_to_string(&a)
            .expect("a kubeconfig")
            .contains("dev")
    );
    let client = programs().rolekeeper.canonicalize().expect("it is built");
    let text = std::fs::read_to_string(&b).expect("a kubeconfig");
    assert!(text.contains(client.to_str().expect("UTF-8")), "{text}");
}

#[test]
fn kubectl_setups_at_once_lose_no_user() {
    assert_installed("kubectl");
    let (_sandbox, home) = world();
    let names: Vec<String> = (0..6).map(|n| format!("p{n}")).collect();

    std::thread::scope(|scope| {
        for name in &names {
            let home = &home;
            scope.spawn(move || setup(home, &["kube", "dev", "--name", name]));
        }
    });

    let text = std::fs::read_to_string(home.path().join(".kube/config")).expect("a kubeconfig");
    for name in &names {
        assert!(text.contains(&format!("name: {name}\n")), "{text}");
    }
}

fn set_cluster(home: &Home, server: &str, authority: &Path) {
    let run = kubectl(
        home,
        &[
            "config",
            "set-cluster",
            "c",
            "--server",
            server,
            "--certificate-authority",
            authority.to_str().expect("UTF-8"),
        ],
    );
    assert_eq!(run.code, 0, "{run:?}");
}

fn set_context(home: &Home) {
    for arguments in [
        &[
            "config",
            "set-context",
            "c",
            "--cluster",
            "c",
            "--user",
            "dev",
        ][..],
        &["config", "use-context", "c"],
    ] {
        let run = kubectl(home, arguments);
        assert_eq!(run.code, 0, "{run:?}");
    }
}

fn get_version(home: &Home) -> Run {
    kubectl(home, &["get", "--raw", "/version"])
}

#[test]
fn kubectl_sends_session_token_to_its_server_or_prints_error() {
    assert_installed("kubectl");
    let (_sandbox, home) = world();
    let daemon: Daemon<'_> = home.daemon(&[]);
    let (server, tls) = api_server();
    let url = format!("https://{}", tls.address);
    let authority = home.private_file("authority.pem", &tls.authority);
    set_cluster(&home, &url, &authority);
    setup(&home, &["kube", "dev", "--server", &url]);
    set_context(&home);

    let run = get_version(&home);
    assert!(run.code == 0 && run.stdout.contains("\"major\""), "{run:?}");
    let expected = format!("Bearer {}", session_token(&home));
    let requests = server.take_requests();
    // Some builds of kubectl first request the version without credentials.
    let sent: Vec<_> = requests
        .iter()
        .filter_map(|request| request.header("authorization"))
        .collect();
    assert!(
        !sent.is_empty() && sent.iter().all(|header| *header == expected),
        "it is the session token"
    );

    // Another server, which is configured with the same user, gets no token.
    let (other_server, other_tls) = api_server();
    let other_url = format!("https://{}", other_tls.address);
    let other_authority = home.private_file("other.pem", &other_tls.authority);
    set_cluster(&home, &other_url, &other_authority);
    let run = get_version(&home);
    assert!(run.code != 0 && run.stderr.contains(&other_url), "{run:?}");
    assert!(
        other_server
            .take_requests()
            .iter()
            .all(|request| request.header("authorization").is_none())
    );

    set_cluster(&home, &url, &authority);
    hold(&home);
    let run = get_version(&home);
    assert!(
        run.code != 0 && run.stderr.contains(HELD) && run.stderr.contains("rolekeeper resume dev"),
        "{run:?}"
    );

    drop(daemon);
    let run = get_version(&home);
    assert!(
        run.code != 0 && run.stderr.contains("no daemon is running"),
        "{run:?}"
    );
}

/// A proxy of an attacker, which connects every request to this address.
fn proxy_to(address: SocketAddr) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));

    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.expect("a connection");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).expect("a request");
                request.extend(byte);
            }
            let server = TcpStream::connect(address).expect("the server listens");
            client
                .write_all(b"HTTP/1.1 200 OK\r\n\r\n")
                .expect("the client waits");
            for (mut from, mut to) in [
                (client.try_clone(), server.try_clone()),
                (Ok(server), Ok(client)),
            ]
            .map(|(from, to)| (from.expect("a socket"), to.expect("a socket")))
            {
                thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        }
    });

    url
}

/// The cluster's address is the allowed one, and other settings of the kubeconfig lead to another server.
#[test]
fn kubectl_sends_no_token_where_settings_of_the_cluster_lead_elsewhere() {
    assert_installed("kubectl");
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let (server, tls) = api_server();
    let (other_server, other_tls) = api_server();
    let url = format!("https://{}", tls.address);
    let authority = home.private_file("authority.pem", &tls.authority);
    let other_authority = home.private_file("other.pem", &other_tls.authority);
    set_cluster(&home, &url, &authority);
    setup(&home, &["kube", "dev", "--server", &url]);
    set_context(&home);
    let set = |option: &str| {
        let run = kubectl(&home, &["config", "set-cluster", "c", option]);
        assert_eq!(run.code, 0, "{run:?}");
    };
    let is_sent = |server: &MockServer| {
        let requests = server.take_requests();
        requests
            .iter()
            .any(|request| request.header("authorization").is_some())
    };

    // Without another authority, a proxy sees nothing.
    set(&format!("--proxy-url={}", proxy_to(tls.address)));
    assert_eq!(get_version(&home).code, 0);
    assert!(is_sent(&server));

    set(&format!("--proxy-url={}", proxy_to(other_tls.address)));
    let run = get_version(&home);
    assert!(run.code != 0 && !is_sent(&other_server), "{run:?}");

    set_cluster(&home, &url, &other_authority);
    let run = get_version(&home);
    assert!(
        !is_sent(&other_server),
        "the token went to the other server"
    );
    assert!(
        run.stderr
            .contains("is not in --certificate-authority-data"),
        "{run:?}"
    );

    set("--certificate-authority=");
    set("--insecure-skip-tls-verify=true");
    let run = get_version(&home);
    assert!(
        !is_sent(&other_server),
        "the token went to the other server"
    );
    assert!(run.stderr.contains("insecure-skip-tls-verify"), "{run:?}");
}

/// The user name and the password of basic authentication.
fn basic_auth(request: &Request) -> Option<(String, String)> {
    let encoded = request.header("authorization")?.strip_prefix("Basic ")?;
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;

    text.split_once(':')
        .map(|(user, password)| (user.into(), password.into()))
}

/// A mock server that responds if the password is a session token.
fn protected_server(respond: fn(&Request) -> Reply) -> MockServer {
    MockServer::start(move |request| match basic_auth(request) {
        Some((_, password)) if password.starts_with("bysess_") => respond(request),
        _ => Reply::new(
            "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"here\"",
            "",
        ),
    })
}

/// The passwords of the requests since the last call.
fn passwords(server: &MockServer) -> Vec<String> {
    server
        .take_requests()
        .iter()
        .filter_map(basic_auth)
        .map(|(_, password)| password)
        .collect()
}

/// The response of a registry: an image's manifest, or the configuration that the manifest names.
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

/// Runs `docker manifest inspect` on an image of the registry.
fn inspect_image(home: &Home, registry: &TlsDoor) -> Run {
    let image = format!("{}/team/app:1", registry.address);

    run(
        home,
        "docker",
        &["manifest", "inspect", "--insecure", &image],
    )
}

#[test]
fn docker_sends_session_token_to_its_registry_only() {
    assert_installed("docker");
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let registry = protected_server(image);
    let tls = tls_door(&registry.url, "127.0.0.1");
    let bin = home.path().join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    setup(
        &home,
        &[
            "docker",
            "dev",
            "--host",
            &tls.address.to_string(),
            "--bin",
            bin.to_str().expect("UTF-8"),
        ],
    );

    let run = inspect_image(&home, &tls);
    assert!(run.stdout.contains("schemaVersion"), "{run:?}");
    let sent = passwords(&registry);
    assert!(
        !sent.is_empty()
            && sent
                .iter()
                .all(|password| *password == session_token(&home))
    );

    let other_registry = protected_server(image);
    let other_tls = tls_door(&other_registry.url, "127.0.0.1");
    assert_ne!(inspect_image(&home, &other_tls).code, 0);
    assert_eq!(passwords(&other_registry), Vec::<String>::new());

    hold(&home);
    let run = inspect_image(&home, &tls);
    assert!(
        run.code != 0 && (run.stdout.contains(HELD) || run.stderr.contains(HELD)),
        "{run:?}"
    );
    assert_eq!(passwords(&registry), Vec::<String>::new());
}

/// The response of a git host: one branch.
fn branches(_request: &Request) -> Reply {
    Reply::new(
        "200 OK",
        "0123456789abcdef0123456789abcdef01234567\trefs/heads/main\n",
    )
}

fn list_branches(home: &Home, host: &MockServer) -> Run {
    run(
        home,
        "git",
        &["ls-remote", &format!("{}/team/app.git", host.url)],
    )
}

#[test]
fn git_sends_session_token_to_its_host_only() {
    assert_installed("git");
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let server = protected_server(branches);
    let host = server.url.trim_start_matches("http://");
    setup(&home, &["git", "dev", "--host", host]);

    // Setup configures https. rolekeeper allows http on the local machine, which the mock server uses.
    let config = home.path().join(".gitconfig");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let with_http = text.replace(&format!("https://{host}"), &server.url);
    std::fs::write(&config, with_http).expect("the file is writable");

    let run = list_branches(&home, &server);
    assert!(
        run.code == 0 && run.stdout.contains("refs/heads/main"),
        "{run:?}"
    );
    let sent = passwords(&server);
    assert!(
        !sent.is_empty()
            && sent
                .iter()
                .all(|password| *password == session_token(&home))
    );

    let other_server = protected_server(branches);
    assert_ne!(list_branches(&home, &other_server).code, 0);
    assert_eq!(passwords(&other_server), Vec::<String>::new());

    hold(&home);
    let run = list_branches(&home, &server);
    assert!(run.code != 0 && run.stderr.contains(HELD), "{run:?}");
    assert!(
        !run.stderr.contains("terminal prompts disabled"),
        "git does not ask for a password: {run:?}"
    );
}
