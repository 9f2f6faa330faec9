//! TLS: the token goes only to servers that the system's authorities or the configured ones vouch
//! for, also through a proxy.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rolekeeper_tests::harness::{Home, Run, SandboxProcess, programs};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use super::tls_door::{TlsDoor, door, tls_door};

/// Requests a lease of a home whose upstream is the TLS server, and which trusts the authorities in
/// `trusted`.
fn ask(sandbox: &SandboxProcess, door: &TlsDoor, trusted: &str) -> Run {
    ask_with(sandbox, door, trusted, "", &[])
}

/// The same with more lines for the upstream, where `HOME` stands for the home's folder, and more
/// variables.
fn ask_with(
    sandbox: &SandboxProcess,
    door: &TlsDoor,
    trusted: &str,
    more: &str,
    variables: &[(&str, &str)],
) -> Run {
    let home = Home::default();
    home.configure_for(sandbox, "dev", &[("dev", "S3ReadOnly")]);
    let text = std::fs::read_to_string(home.config_path()).unwrap();
    home.configure(&text.replace(sandbox.endpoint(), &format!("https://{}", door.address)));
    home.configure_more(&more.replace("HOME", home.path().to_str().unwrap()), "");
    home.private_file("own.pem", &door.authority);
    let mut command = home.command(&programs().rolekeeperd);
    command.env(
        "SSL_CERT_FILE",
        home.private_file("authorities.pem", trusted),
    );
    command.envs(variables.iter().copied());
    let _daemon = home.daemon_from(command);

    home.rolekeeper(&["credential-process", "dev"])
}

#[test]
fn server_trusted_by_the_system_gets_the_token() {
    let sandbox = SandboxProcess::start(&[]);
    let door = tls_door(sandbox.endpoint(), "127.0.0.1");
    assert!(ask(&sandbox, &door, &door.authority).json()["AccessKeyId"].is_string());
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn untrusted_authority_or_wrong_name_gets_no_token() {
    let sandbox = SandboxProcess::start(&[]);
    let door = tls_door(sandbox.endpoint(), "127.0.0.1");
    let other = tls_door(sandbox.endpoint(), "iam.example.test");

    for run in [
        ask(&sandbox, &door, &other.authority),
        ask(&sandbox, &other, &other.authority),
    ] {
        assert!(
            run.code == 7 && run.stderr.contains("certificate"),
            "{run:?}"
        );
    }

    assert_eq!(sandbox.calls("assumeRole"), 0);
}

#[test]
fn certificate_errors_say_what_to_do() {
    let sandbox = SandboxProcess::start(&[]);
    let door = tls_door(sandbox.endpoint(), "127.0.0.1");
    let other = tls_door(sandbox.endpoint(), "iam.example.test");
    let as_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = self_signed_door(sandbox.endpoint(), "127.0.0.1", as_ca);
    let pinned = "ca = \"HOME/own.pem\"";

    for (run, message, hint) in [
        (
            ask(&sandbox, &door, &other.authority),
            "the server's certificate is not signed by an authority that this system trusts",
            "try: set the upstream's `ca` to a file with the authority's certificate (PEM)",
        ),
        (
            ask(&sandbox, &other, &other.authority),
            "the server's certificate is not for 127.0.0.1, but for iam.example.test",
            "try: set `endpoint` to a name that the certificate is for",
        ),
        (
            ask_with(&sandbox, &ca, &ca.authority, pinned, &[]),
            "the server's certificate is the certificate of an authority (CA:TRUE)",
            "openssl req -x509 -addext basicConstraints=critical,CA:FALSE",
        ),
    ] {
        assert!(
            run.code == 7 && run.stderr.contains(message) && run.stderr.contains(hint),
            "{run:?}"
        );
    }

    // The last hint works.
    let leaf = self_signed_door(sandbox.endpoint(), "127.0.0.1", IsCa::ExplicitNoCa);
    assert_eq!(
        ask_with(&sandbox, &leaf, &other.authority, pinned, &[]).code,
        0
    );
}

#[test]
fn unusable_proxy_variable_is_named() {
    let sandbox = SandboxProcess::start(&[]);
    let door = tls_door(sandbox.endpoint(), "127.0.0.1");
    let socks = ("ALL_PROXY", "socks5h://me:canary@127.0.0.1:9");
    let run = ask_with(&sandbox, &door, &door.authority, "", &[socks]);
    assert!(
        run.code == 7
            && run.stderr.contains(
                "the proxy of the variable ALL_PROXY has the scheme socks5h, which is not supported"
            )
            && run.stderr.contains("try: set ALL_PROXY=http://HOST:PORT")
            && !run.stderr.contains("canary"),
        "{run:?}"
    );

    // The last hint works.
    let none = "proxy = \"none\"";
    assert_eq!(
        ask_with(&sandbox, &door, &door.authority, none, &[socks]).code,
        0
    );
}

#[test]
fn configured_ca_replaces_system_authorities() {
    let sandbox = SandboxProcess::start(&[]);
    let door = tls_door(sandbox.endpoint(), "127.0.0.1");
    let other = tls_door(sandbox.endpoint(), "127.0.0.1");
    let pinned = "ca = \"HOME/own.pem\"";
    assert_eq!(
        ask_with(&sandbox, &door, &other.authority, pinned, &[]).code,
        0
    );

    // The system's authorities are not used then.
    let wrong = "ca = \"HOME/authorities.pem\"";
    let run = ask_with(&sandbox, &door, &other.authority, wrong, &[]);
    assert!(
        run.code == 7 && run.stderr.contains("certificate"),
        "{run:?}"
    );
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn invalid_ca_file_prevents_start() {
    let sandbox = SandboxProcess::start(&[]);
    for (text, message) in [
        ("", "the file has no certificate"),
        ("-----BEGIN CERTIFICATE-----\nx\n", "cannot be used"),
    ] {
        let home = Home::default();
        home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
        let configuration = std::fs::read_to_string(home.config_path()).unwrap();
        home.configure(&configuration.replace(sandbox.endpoint(), "https://iam.example.test"));
        let path = home.private_file("ca.pem", text);
        home.configure_more(&format!("ca = {path:?}"), "");
        for args in [&[][..], &["--check"]] {
            let run = home.rolekeeperd(args);
            assert!(
                run.code == 1 && run.stderr.contains("ca.pem") && run.stderr.contains(message),
                "{run:?}"
            );
            assert!(
                run.stderr
                    .contains("try: set the upstream's `ca` to a file with certificates in PEM"),
                "{run:?}"
            );
        }
    }
}

/// An HTTP proxy with CONNECT, and the head of each request to it.
fn proxy() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, requests) = mpsc::channel();

    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut outside = stream.unwrap();
            let mut head = String::new();
            let mut lines = BufReader::new(outside.try_clone().unwrap());
            while !head.ends_with("\r\n\r\n") && lines.read_line(&mut head).unwrap() > 0 {}

            let target = head.split(' ').nth(1).unwrap().to_owned();

            if sender.send(head).is_err() {
                return;
            }

            let mut inside = TcpStream::connect(target).unwrap();
            outside.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let mut from = outside.try_clone().unwrap();
            let mut to = inside.try_clone().unwrap();
            thread::spawn(move || std::io::copy(&mut from, &mut to));

            thread::spawn(move || {
                let _ = std::io::copy(&mut inside, &mut outside);
                let _ = outside.shutdown(std::net::Shutdown::Both);
                drop(inside.read(&mut []));
            });
        }
    });

    (address, requests)
}

#[test]
fn proxy_is_used_as_configured_and_sees_no_token() {
    let sandbox = SandboxProcess::start(&[]);
    let door = tls_door(sandbox.endpoint(), "127.0.0.1");
    let (address, requests) = proxy();
    let url = format!("http://{address}");
    let https = ("HTTPS_PROXY", url.as_str());
    let other = ("HTTPS_PROXY", "http://127.0.0.1:9");
    let configured = format!("proxy = \"{}\"", url.replace("//", "//me:canary@"));

    for (more, variables, is_used) in [
        ("", &[https][..], true),
        ("", &[https, ("NO_PROXY", "127.0.0.1")], false),
        ("proxy = \"none\"", &[https], false),
        (configured.as_str(), &[other], true),
    ] {
        let run = ask_with(&sandbox, &door, &door.authority, more, variables);
        assert_eq!(run.code, 0, "{more} {variables:?} {run:?}");

        let heads: Vec<String> = requests.try_iter().collect();
        assert_eq!(
            !heads.is_empty(),
            is_used,
            "{more} {variables:?}: {heads:?}"
        );

        for head in heads {
            assert!(
                head.starts_with(&format!("CONNECT {} ", door.address)),
                "{head}"
            );
            assert!(
                !head.to_lowercase().contains("bearer") && !head.contains(sandbox.token("dev")),
                "{head}"
            );

            let has_credentials = head.to_lowercase().contains("proxy-authorization: basic ");
            assert_eq!(has_credentials, more.contains("canary"), "{head}");
        }
    }
}

/// A server whose certificate is its own authority.
fn self_signed_door(behind: &str, name: &str, is_ca: IsCa) -> TlsDoor {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.is_ca = is_ca;
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();

    door(behind, certificate.der().clone(), &key, certificate.pem())
}
