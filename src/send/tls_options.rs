//! What the file says about TLS towards a receiver.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::tls;

/// One `webhook.tls`, already checked. `Debug` shows nothing of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    client: Option<(Certificates, ClientKey)>,
    ca: Option<Certificates>,
}

/// Certificates, at least one.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificates(Arc<[CertificateDer<'static>]>);

/// A private key.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey(Arc<PrivateKeyDer<'static>>);

/// Why a text holds not what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Nothing of the kind is in it.
    #[error("holds no certificate in PEM form")]
    NoCertificate,
    /// Nothing of the kind is in it.
    #[error("holds no private key in PEM form")]
    NoKey,
    /// The key can only be read with a password.
    #[error("holds a private key that is encrypted")]
    Encrypted,
    /// What begins like one does not go on like one.
    #[error("is damaged: what stands in it is not PEM")]
    Damaged,
}

impl PemError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::NoCertificate => "a line `-----BEGIN CERTIFICATE-----` begins one",
            Self::NoKey => {
                "a line like `-----BEGIN PRIVATE KEY-----` begins one; in the same file as the certificate it is found too"
            }
            Self::Encrypted => {
                "`openssl pkey -in ENCRYPTED -out KEY` takes the password away; keep KEY where only Postrider reads it,\nas a systemd credential for instance"
            }
            Self::Damaged => "copy it again, with all of its lines",
        }
    }
}

/// Why certificate, key and authorities make no TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

impl Certificates {
    /// All certificates in this text (RFC 7468).
    ///
    /// # Errors
    /// When there is none, or one is damaged.
    pub fn from_pem(text: &str) -> Result<Self, PemError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        let found = found.map_err(|_| PemError::Damaged)?;
        match found.is_empty() {
            true => Err(PemError::NoCertificate),
            false => Ok(Self(found.into())),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.0.iter()
    }
}

impl ClientKey {
    /// The first private key in this text (RFC 7468): PKCS#8, PKCS#1 or SEC1.
    ///
    /// # Errors
    /// When there is none, it is encrypted or damaged.
    pub fn from_pem(text: &str) -> Result<Self, PemError> {
        match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
            Ok(key) => Ok(Self(Arc::new(key))),
            Err(_) if text.contains("ENCRYPTED") => Err(PemError::Encrypted),
            Err(rustls::pki_types::pem::Error::NoItemsFound) => Err(PemError::NoKey),
            Err(_) => Err(PemError::Damaged),
        }
    }
}

impl TlsOptions {
    /// Shows the receiver this certificate, by its key, and takes only a receiver whom one of the authorities `ca` vouches for, or, without
    /// any, one whom the system trusts.
    ///
    /// # Errors
    /// When the key is not that of the certificate, or of a kind that is not known, or the certificate of an authority cannot be read.
    pub fn new(
        client: Option<(Certificates, ClientKey)>,
        ca: Option<Certificates>,
    ) -> Result<Self, TlsError> {
        let options = Self { client, ca };
        match tls::check(&options) {
            Ok(()) => Ok(options),
            Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError(
                "`client_key` is not the key of `client_cert`".to_owned(),
            )),
            Err(error) => Err(TlsError(format!("no TLS can be made of it: {error}"))),
        }
    }

    pub(super) fn client(&self) -> Option<(&Certificates, &PrivateKeyDer<'static>)> {
        let (certificates, key) = self.client.as_ref()?;
        Some((certificates, &key.0))
    }

    pub(super) fn ca(&self) -> Option<&Certificates> {
        self.ca.as_ref()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates({})", self.0.len())
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKey")
    }
}
