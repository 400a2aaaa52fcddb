//! Signatures as Standard Webhooks 1.0.0 has them: HMAC-SHA256 or Ed25519 over `id.timestamp.body`, one for each secret.
//!
//! Several secrets are for changing them: while both are signed with, receivers may know either.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use thiserror::Error;

use crate::clock::Timestamp;
use crate::delivery::DeliveryId;

use super::key_pair::{PUBLIC_PREFIX, PrivateKey};

const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// How requests are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningScheme {
    /// HMAC-SHA256, with a secret that the receiver has too.
    StandardWebhooks,
    /// Ed25519, of which the receiver has the public key alone.
    StandardWebhooksEd25519,
}

/// What requests are signed with. `Debug` shows how many secrets there are, and nothing of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningOptions {
    /// In the order of the file; at least one of them never ends.
    pub secrets: Vec<SigningSecret>,
}

/// One secret, and until when it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret {
    key: Key,
    not_after: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Eq)]
enum Key {
    Shared(Vec<u8>),
    Private(PrivateKey),
}

/// Why a text is no secret of Standard Webhooks. Says nothing of the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SigningSecretError {
    /// Something else before it.
    #[error("does not begin with `{}`", .0.prefix())]
    Prefix(SigningScheme),
    /// Something else than base64 behind it.
    #[error("is not base64 after `{}`", .0.prefix())]
    Base64(SigningScheme),
    /// A secret that is too short or too long.
    #[error("holds {0} bytes; Standard Webhooks asks for 24 to 64")]
    Length(usize),
    /// A private key that is too short or too long.
    #[error(
        "holds {0} bytes; a private key of Ed25519 has 32, or 64 with its public key behind it"
    )]
    KeyLength(usize),
    /// A public key behind the private one that is of another.
    #[error("holds a private key and the public key of another")]
    NoPair,
    /// A public key, which signs nothing.
    #[error("is a public key, which can only verify")]
    Public,
    /// A secret of the other scheme.
    #[error("is a secret of the scheme \"{}\"", .0.name())]
    OtherScheme(SigningScheme),
}

impl SigningScheme {
    /// Every scheme.
    pub const ALL: [Self; 2] = [Self::StandardWebhooks, Self::StandardWebhooksEd25519];

    /// As the file calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::StandardWebhooks => "standard-webhooks",
            Self::StandardWebhooksEd25519 => "standard-webhooks-ed25519",
        }
    }

    /// The scheme that a secret says itself it is for.
    #[must_use]
    pub fn of(secret: &str) -> Option<Self> {
        let begins = |scheme: &Self| secret.starts_with(scheme.prefix());
        Self::ALL.into_iter().find(begins)
    }

    /// What its secrets begin with.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::StandardWebhooks => "whsec_",
            Self::StandardWebhooksEd25519 => "whsk_",
        }
    }

    /// The bytes of one of its secrets.
    pub(super) fn decode(self, secret: &str) -> Result<Vec<u8>, SigningSecretError> {
        let other = Self::of(secret).filter(|scheme| *scheme != self);
        let encoded = match (secret.strip_prefix(self.prefix()), other) {
            (Some(encoded), _) => encoded,
            (None, Some(other)) => return Err(SigningSecretError::OtherScheme(other)),
            (None, None) if secret.starts_with(PUBLIC_PREFIX) => {
                return Err(SigningSecretError::Public);
            }
            (None, None) => return Err(SigningSecretError::Prefix(self)),
        };
        let bytes = STANDARD.decode(encoded);
        bytes.map_err(|_| SigningSecretError::Base64(self))
    }
}

impl SigningSecret {
    /// The secret, written as `scheme` wants it. After `not_after` nothing is signed with it.
    ///
    /// # Errors
    /// When it is not written like that, or is too short or too long.
    pub fn new(
        text: &str,
        scheme: SigningScheme,
        not_after: Option<Timestamp>,
    ) -> Result<Self, SigningSecretError> {
        let bytes = scheme.decode(text)?;
        let key = match scheme {
            SigningScheme::StandardWebhooks if KEY_BYTES.contains(&bytes.len()) => {
                Key::Shared(bytes)
            }
            SigningScheme::StandardWebhooks => {
                return Err(SigningSecretError::Length(bytes.len()));
            }
            SigningScheme::StandardWebhooksEd25519 => Key::Private(PrivateKey::from_bytes(&bytes)?),
        };
        Ok(Self { key, not_after })
    }

    /// What must be seen by nobody, in each way in which it is written.
    pub(super) fn hidden(&self) -> Vec<Vec<u8>> {
        match &self.key {
            Key::Shared(key) => vec![key.clone()],
            Key::Private(key) => vec![key.seed().to_vec(), key.with_public()],
        }
    }

    /// Whether one of `signatures`, as `webhook-signature` carries them, is this secret's over a message of this id, timestamp and body. The
    /// comparison takes the same time whatever differs.
    #[must_use]
    pub fn verifies(&self, signatures: &str, id: &str, timestamp: &str, body: &[u8]) -> bool {
        let head = format!("{id}.{timestamp}.");
        let wanted = self.signature(&[head.as_bytes(), body]);
        let same = |signature: &str| {
            let differs = signature.bytes().zip(wanted.bytes());
            let differs = differs.fold(0, |all, (a, b)| all | (a ^ b));
            signature.len() == wanted.len() && differs == 0
        };
        signatures.split(' ').any(same)
    }

    fn signature(&self, parts: &[&[u8]]) -> String {
        match &self.key {
            Key::Shared(key) => {
                let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key");
                parts.iter().for_each(|part| mac.update(part));
                format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
            }
            Key::Private(key) => format!("v1a,{}", STANDARD.encode(key.sign(&parts.concat()))),
        }
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret")
    }
}

impl SigningOptions {
    /// What `webhook-signature` carries at `now`, separated by spaces.
    pub(super) fn signatures(&self, id: DeliveryId, now: Timestamp, body: &[u8]) -> String {
        let head = format!("{id}.{}.", now.as_seconds());
        self.sign(now, &[head.as_bytes(), body])
    }

    fn sign(&self, now: Timestamp, parts: &[&[u8]]) -> String {
        let in_use = |secret: &&SigningSecret| secret.not_after.is_none_or(|end| now <= end);
        let signatures = self.secrets.iter().filter(in_use);
        signatures
            .map(|secret| secret.signature(parts))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HMAC: SigningScheme = SigningScheme::StandardWebhooks;
    const ED25519: SigningScheme = SigningScheme::StandardWebhooksEd25519;
    const FIRST: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SECOND: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    const PARTS: &[&[u8]] = &[
        b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.",
        br#"{"test": 2432232314}"#,
    ];

    /// Made by Python's `hmac` from the message that the reference implementations test with.
    const SIGNED: [&str; 2] = [
        "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "/485aUtxlie+TIScVpHggMfqOB4so2KWb7+Gf727B44=",
    ];

    fn options(not_after: Option<i64>) -> SigningOptions {
        let first = SigningSecret::new(FIRST, HMAC, not_after.map(Timestamp)).unwrap();
        let secrets = vec![first, SigningSecret::new(SECOND, HMAC, None).unwrap()];
        SigningOptions { secrets }
    }

    #[test]
    fn every_secret_signs() {
        let [first, second] = SIGNED;
        let signed = options(None).sign(Timestamp(0), PARTS);
        assert_eq!(signed, format!("v1,{first} v1,{second}"));
    }

    #[test]
    fn a_signature_is_known_for_what_it_signs() {
        let secret = SigningSecret::new(FIRST, HMAC, None).unwrap();
        let other = SigningSecret::new(SECOND, HMAC, None).unwrap();
        let id = DeliveryId([7; 16]);
        let signed = options(None).signatures(id, Timestamp(1_000), b"x");
        let id = id.to_string();
        assert!(secret.verifies(&signed, &id, "1", b"x"));
        assert!(other.verifies(&signed, &id, "1", b"x"));
        assert!(!secret.verifies(&signed, &id, "2", b"x"));
        assert!(!secret.verifies(&signed, &id, "1", b"y"));
        assert!(!secret.verifies("", &id, "1", b"x"));
    }

    #[test]
    fn a_secret_signs_until_its_end() {
        let options = options(Some(1000));
        let count = |now| options.sign(Timestamp(now), PARTS).split(' ').count();
        assert_eq!((count(1000), count(1001)), (2, 1));
    }

    #[test]
    fn the_timestamp_is_in_seconds() {
        let id = DeliveryId([7; 16]);
        let one = options(None).signatures(id, Timestamp(1_999), b"x");
        let same = options(None).sign(Timestamp(0), &[format!("{id}.1.x").as_bytes()]);
        assert_eq!(one, same);
    }

    /// The key is RFC 8032's of test 3; the signature was made by OpenSSL 3.0 from the message above.
    #[test]
    fn a_private_key_signs_beside_a_shared_secret() {
        let seed = "whsk_xaqN9D+fg3vtt0QvMdy3sWbThTUHbwlLhc46LgtEWPc=";
        let key = SigningSecret::new(seed, ED25519, None).unwrap();
        let mut options = options(None);
        options.secrets.insert(0, key);
        let signed = options.sign(Timestamp(0), PARTS);
        let [first, second] = SIGNED;
        let own = "CbWWbcW7B69jFUBICrevjm7uB16AqaX4X9zprrpWvW4012zWjiDpguw4L1VnBIktLL4pyfhNhZgLFTYi5s10AA==";
        assert_eq!(signed, format!("v1a,{own} v1,{first} v1,{second}"));
        let id = DeliveryId([7; 16]);
        let signed = options.signatures(id, Timestamp(1_000), b"x");
        let public = PrivateKey::new(seed).unwrap().public();
        let id = id.to_string();
        assert!(public.verifies(&signed, &id, "1", b"x"));
        assert!(options.secrets[0].verifies(&signed, &id, "1", b"x"));
        for (id, time, body) in [("y", "1", b"x"), (&id, "2", b"x"), (&id, "1", b"y")] {
            assert!(!public.verifies(&signed, id, time, body));
        }
        assert!(!public.verifies("v1a,AAAA v1, x", &id, "1", b"x"));
    }

    #[test]
    fn what_is_no_secret_is_refused_and_never_shown() {
        let error = |text: &str| SigningSecret::new(text, HMAC, None).unwrap_err();
        assert_eq!(error("MfKQ9r8G"), SigningSecretError::Prefix(HMAC));
        assert_eq!(error("whsec_hunter2!"), SigningSecretError::Base64(HMAC));
        assert_eq!(error("whsec_AAECAw=="), SigningSecretError::Length(4));
        let long = format!("whsec_{}", STANDARD.encode([1; 65]));
        assert_eq!(error(&long), SigningSecretError::Length(65));
        assert_eq!(error("whsk_AA=="), SigningSecretError::OtherScheme(ED25519));
        assert_eq!(error("whpk_AA=="), SigningSecretError::Public);
        let shown = format!("{:?}", options(None));
        assert!(!shown.contains("1614") && !shown.contains("key"), "{shown}");
        let key = PrivateKey::from_seed([7; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "PrivateKey");
    }
}
