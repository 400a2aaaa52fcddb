//! TLS towards receivers and proxies.

use std::sync::{Arc, OnceLock};

use http::Uri;
use http::uri::Scheme;
use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use rustls_platform_verifier::Verifier;

use super::options::WebhookOptions;
use super::tls_options::{Certificates, TlsOptions};

/// Protocols that a receiver may choose from, the better first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What TLS is made with. A copy is two counts.
#[derive(Clone)]
pub(super) struct Tls {
    receiver: Arc<ClientConfig>,
    /// To ask a proxy for a tunnel is HTTP/1.1.
    proxy: Arc<ClientConfig>,
}

/// Whom the system trusts: read when it is first needed, and once for all clients that are made with this.
#[derive(Debug, Default)]
pub struct SystemTrust(OnceLock<Arc<Verifier>>);

impl SystemTrust {
    fn verifier(&self) -> Result<Arc<Verifier>, rustls::Error> {
        if let Some(verifier) = self.0.get() {
            return Ok(Arc::clone(verifier));
        }
        let verifier = Verifier::new(Arc::new(aws_lc_rs::default_provider()))?;
        Ok(Arc::clone(self.0.get_or_init(|| Arc::new(verifier))))
    }
}

/// Whose certificates are taken.
enum Trust<'a> {
    /// Whom the system trusts.
    System(&'a SystemTrust),
    /// Those whom one of these authorities vouches for.
    Only(&'a Certificates),
    /// Plain HTTP asks for no certificates, and so needs none on the system.
    Nobody,
}

impl Tls {
    /// What a webhook with these options needs.
    ///
    /// # Errors
    /// When the system's CA certificates are needed and it has none.
    pub(super) fn new(
        options: &WebhookOptions,
        system: &SystemTrust,
    ) -> Result<Self, rustls::Error> {
        let own = options.tls.as_ref();
        let trust = match own.and_then(TlsOptions::ca) {
            _ if !is_secure(options.url.as_uri()) => Trust::Nobody,
            Some(ca) => Trust::Only(ca),
            None => Trust::System(system),
        };
        let mut receiver = present(config(&trust)?, own)?;
        receiver.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
        forget_sessions(&trust, &mut receiver);
        let proxy = options.proxy.as_ref();
        let trust = match proxy.is_some_and(|proxy| is_secure(proxy.uri())) {
            true => Trust::System(system),
            false => Trust::Nobody,
        };
        let mut proxy = config(&trust)?.with_no_client_auth();
        forget_sessions(&trust, &mut proxy);
        Ok(Self {
            receiver: Arc::new(receiver),
            proxy: Arc::new(proxy),
        })
    }

    pub(super) fn to_receiver(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.receiver)
    }

    pub(super) fn to_proxy(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.proxy)
    }
}

/// Whether requests to this address are made over TLS.
pub(super) fn is_secure(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

/// Whether TLS can be made with these options.
///
/// # Errors
/// When an authority's certificate cannot be read, or the key is not that of the certificate, or of a kind that is not known.
pub(super) fn check(options: &TlsOptions) -> Result<(), rustls::Error> {
    let trust = options.ca().map_or(Trust::Nobody, Trust::Only);
    present(config(&trust)?, Some(options)).map(drop)
}

type Builder = ConfigBuilder<ClientConfig, WantsClientCert>;

fn config(trust: &Trust<'_>) -> Result<Builder, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions()?;
    let mut authorities = RootCertStore::empty();
    match trust {
        Trust::System(system) => {
            let config = config.dangerous();
            return Ok(config.with_custom_certificate_verifier(system.verifier()?));
        }
        Trust::Only(certificates) => {
            for certificate in certificates.iter() {
                authorities.add(certificate.clone())?;
            }
        }
        Trust::Nobody => {}
    }
    Ok(config.with_root_certificates(authorities))
}

/// Where TLS is never made, there are no sessions to go on with: room for them is more than all the rest.
fn forget_sessions(trust: &Trust<'_>, config: &mut ClientConfig) {
    if matches!(trust, Trust::Nobody) {
        config.resumption = Resumption::disabled();
    }
}

/// Shows the receiver who we are, if it is to know.
fn present(config: Builder, options: Option<&TlsOptions>) -> Result<ClientConfig, rustls::Error> {
    match options.and_then(TlsOptions::client) {
        Some((certificates, key)) => {
            config.with_client_auth_cert(certificates.iter().cloned().collect(), key.clone_key())
        }
        None => Ok(config.with_no_client_auth()),
    }
}
