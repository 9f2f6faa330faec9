//! TLS: the token is sent to whom the system's certificates vouch for, and to nobody else.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rolekeeper_tests::harness::{Home, SandboxProcess, programs};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A door with TLS in front of a sandbox: its address, and its authority's certificate.
struct TlsDoor {
    address: SocketAddr,
    authority: String,
    _runtime: tokio::runtime::Runtime,
}

fn tls_door(sandbox: &SandboxProcess, name: &str) -> TlsDoor {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let behind = sandbox.endpoint().trim_start_matches("http://").to_owned();
    runtime.spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut outside) = acceptor.accept(stream).await else { continue };
            let mut inside = TcpStream::connect(&behind).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut outside, &mut inside).await });
        }
    });
    TlsDoor { address, authority: authority.pem(), _runtime: runtime }
}

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
    let door = tls_door(&sandbox, "127.0.0.1");
    assert!(ask(&sandbox, &door, &door.authority).json()["AccessKeyId"].is_string());
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn a_server_of_an_unknown_authority_or_another_name_is_sent_nothing() {
    let sandbox = SandboxProcess::start(&[]);
    let (door, other) = (tls_door(&sandbox, "127.0.0.1"), tls_door(&sandbox, "iam.example.test"));
    for run in [ask(&sandbox, &door, &other.authority), ask(&sandbox, &other, &other.authority)] {
        assert!(run.code == 7 && run.stderr.contains("certificate"), "{run:?}");
    }
    assert_eq!(sandbox.calls("assumeRole"), 0);
}
