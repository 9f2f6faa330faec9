//! TLS: the token is sent to whom the system's certificates vouch for, and to nobody else.

use rolekeeper_tests::harness::{Home, SandboxProcess, programs};

use super::tls_door::{TlsDoor, tls_door};

/// A home whose upstream is the door, and which trusts the authorities in `trusted`.
fn ask(sandbox: &SandboxProcess, door: &TlsDoor, trusted: &str) -> rolekeeper_tests::harness::Run {
    let home = Home::default();
    home.configure_for(sandbox, "dev", &[("dev", "S3ReadOnly")]);
    let text = std::fs::read_to_string(home.config_path()).unwrap();
    home.configure(&text.replace(sandbox.endpoint(), &format!("https://{}", door.address)));
    let mut command = home.command(&programs().rolekeeperd);
    command.env("SSL_CERT_FILE", home.private_file("authorities.pem", trusted));
    let _daemon = home.daemon_by(command);
    home.rolekeeper(&["credential-process", "dev"])
}

#[test]
fn a_server_that_the_systems_certificates_vouch_for_is_sent_the_token() {
    let sandbox = SandboxProcess::start(&[]);
    let door = tls_door(sandbox.endpoint(), "127.0.0.1");
    assert!(ask(&sandbox, &door, &door.authority).json()["AccessKeyId"].is_string());
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn a_server_of_an_unknown_authority_or_another_name_is_sent_nothing() {
    let sandbox = SandboxProcess::start(&[]);
    let (door, other) = (tls_door(sandbox.endpoint(), "127.0.0.1"), tls_door(sandbox.endpoint(), "iam.example.test"));
    for run in [ask(&sandbox, &door, &other.authority), ask(&sandbox, &other, &other.authority)] {
        assert!(run.code == 7 && run.stderr.contains("certificate"), "{run:?}");
    }
    assert_eq!(sandbox.calls("assumeRole"), 0);
}
