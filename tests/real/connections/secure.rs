//! A receiver behind TLS, whose certificate an authority of its own has signed.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, crypto};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;

/// Who signs certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, where `SSL_CERT_FILE` can name it.
    pub(super) file: PathBuf,
    certificate: CertificateDer<'static>,
}

impl Authority {
    pub(super) fn new(folder: &Path, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let file = folder.join(format!("{name}.pem"));
        let own = params.self_signed(&key).unwrap();
        fs::write(&file, own.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        Self {
            issuer,
            file,
            certificate: own.der().clone(),
        }
    }

    /// Writes a certificate for whoever has this name, and its key, beside its own: `NAME.crt` and `NAME.key`.
    pub(super) fn vouch_for(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let beside = |end: &str| self.file.with_file_name(format!("{name}.{end}"));
        fs::write(beside("crt"), certificate.pem()).unwrap();
        fs::write(beside("key"), key.serialize_pem()).unwrap();
    }
}

/// One request: the version it was made in, its path and its body.
pub(super) type Seen = (Version, String, Bytes);

/// Answers 200 to everything and keeps what it was sent.
pub(super) struct SecureReceiver {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _runtime: Runtime,
}

impl SecureReceiver {
    /// One that `authority` vouches for, and that speaks these protocols (by their ALPN names).
    pub(super) fn start(authority: &Authority, protocols: &[&str]) -> Self {
        Self::start_for(authority, protocols, None)
    }

    /// The same; answers only those for whom `clients` vouches, if anybody.
    pub(super) fn start_for(
        authority: &Authority,
        protocols: &[&str],
        clients: Option<&Authority>,
    ) -> Self {
        let acceptor = acceptor(authority, protocols, clients);
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let ledger = Arc::clone(&seen);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), stream, Arc::clone(&ledger)));
            }
        });
        Self {
            address,
            seen,
            _runtime: runtime,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("https://localhost:{}/hooks?v=1", self.address.port())
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn acceptor(authority: &Authority, protocols: &[&str], clients: Option<&Authority>) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let verifier = clients.map(|clients| {
        let mut roots = RootCertStore::empty();
        roots.add(clients.certificate.clone()).unwrap();
        let provider = Arc::clone(&provider);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        verifier.build().unwrap()
    });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let names = protocols.iter().map(|name| name.as_bytes().to_vec());
    config.alpn_protocols = names.collect();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, ledger: Arc<Mutex<Vec<Seen>>>) {
    // Whoever does not trust the certificate goes away.
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let answer = service_fn(|request: hyper::Request<Incoming>| {
        let ledger = Arc::clone(&ledger);
        async move {
            let (version, target) = (request.version(), request.uri().clone());
            let path = target.path_and_query().map(ToString::to_string);
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let seen = (version, path.unwrap_or_default(), body);
            ledger.lock().unwrap().push(seen);
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let stream = TokioIo::new(stream);
    if is_http2 {
        let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        http2.serve_connection(stream, answer).await.ok();
    } else {
        let http1 = hyper::server::conn::http1::Builder::new();
        http1.serve_connection(stream, answer).await.ok();
    }
}
