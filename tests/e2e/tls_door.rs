//! A TLS server in front of a plain one, with its own certificate authority.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The server's address, and the certificate of its authority in PEM. It stops when dropped.
pub(crate) struct TlsDoor {
    pub(crate) address: SocketAddr,
    pub(crate) authority: String,
    _runtime: tokio::runtime::Runtime,
}

/// `behind` is the URL of the plain service, `name` the subject of the certificate.
pub(crate) fn tls_door(behind: &str, name: &str) -> TlsDoor {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Authorities of one name with different keys are not told apart by it.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    params
        .distinguished_name
        .push(DnType::CommonName, format!("authority {number}"));
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();

    door(behind, certificate.der().clone(), &key, authority.pem())
}

/// A server with this certificate and key, which the authority has signed.
pub(crate) fn door(
    behind: &str,
    certificate: CertificateDer<'static>,
    key: &KeyPair,
    authority: String,
) -> TlsDoor {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let behind = behind.trim_start_matches("http://").to_owned();

    runtime.spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut outside) = acceptor.accept(stream).await else {
                continue;
            };
            let mut inside = TcpStream::connect(&behind).await.unwrap();
            tokio::spawn(
                async move { tokio::io::copy_bidirectional(&mut outside, &mut inside).await },
            );
        }
    });

    TlsDoor {
        address,
        authority,
        _runtime: runtime,
    }
}
