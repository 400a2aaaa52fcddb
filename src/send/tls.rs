//! TLS towards receivers and proxies.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

/// Protocols that a receiver may choose from, the better first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What TLS is made with. A copy is two counts.
#[derive(Clone)]
pub(super) struct Tls {
    receiver: Arc<ClientConfig>,
    /// To ask a proxy for a tunnel is HTTP/1.1.
    proxy: Arc<ClientConfig>,
}

impl Tls {
    /// Trusts whom the system trusts.
    ///
    /// # Errors
    /// When the system has no CA certificates.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Arc::new(Verifier::new(Arc::clone(&provider))?);
        let config = versions(provider)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        Ok(Self::of(config.with_no_client_auth()))
    }

    /// Trusts nobody: for plain HTTP, which asks for no certificates and so needs none on the system.
    ///
    /// # Errors
    /// None that is known.
    pub(super) fn unused() -> Result<Self, rustls::Error> {
        let nobody = RootCertStore::empty();
        let config = versions(Arc::new(aws_lc_rs::default_provider()))?;
        let config = config.with_root_certificates(nobody);
        Ok(Self::of(config.with_no_client_auth()))
    }

    fn of(config: ClientConfig) -> Self {
        let mut receiver = config.clone();
        receiver.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
        Self {
            receiver: Arc::new(receiver),
            proxy: Arc::new(config),
        }
    }

    pub(super) fn to_receiver(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.receiver)
    }

    pub(super) fn to_proxy(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.proxy)
    }
}

type Versions = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn versions(provider: Arc<CryptoProvider>) -> Result<Versions, rustls::Error> {
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}
