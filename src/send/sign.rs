//! Signatures as Standard Webhooks 1.0.0 has them: HMAC-SHA256 over `id.timestamp.body`, one for each secret.
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

const PREFIX: &str = "whsec_";
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What requests are signed with. `Debug` shows how many secrets there are, and nothing of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningOptions {
    /// In the order of the file; at least one of them never ends.
    pub secrets: Vec<SigningSecret>,
}

/// One secret, and until when it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret {
    key: Vec<u8>,
    not_after: Option<Timestamp>,
}

/// Why a text is no secret of Standard Webhooks. Says nothing of the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SigningSecretError {
    /// No `whsec_` before it.
    #[error("does not begin with `whsec_`")]
    Prefix,
    /// Something else than base64 behind it.
    #[error("is not base64 after `whsec_`")]
    Base64,
    /// A key that is too short or too long.
    #[error("holds {0} bytes; Standard Webhooks asks for 24 to 64")]
    Length(usize),
}

impl SigningSecret {
    /// The secret written as `whsec_` and base64. After `not_after` nothing is signed with it.
    ///
    /// # Errors
    /// When it is not written like that, or is too short or too long.
    pub fn new(text: &str, not_after: Option<Timestamp>) -> Result<Self, SigningSecretError> {
        let encoded = text
            .strip_prefix(PREFIX)
            .ok_or(SigningSecretError::Prefix)?;
        let key = STANDARD
            .decode(encoded)
            .map_err(|_| SigningSecretError::Base64)?;
        if !KEY_BYTES.contains(&key.len()) {
            return Err(SigningSecretError::Length(key.len()));
        }
        Ok(Self { key, not_after })
    }

    /// What must be seen by nobody.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
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
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes any key");
        parts.iter().for_each(|part| mac.update(part));
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
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
        let first = SigningSecret::new(FIRST, not_after.map(Timestamp)).unwrap();
        let secrets = vec![first, SigningSecret::new(SECOND, None).unwrap()];
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
        let secret = SigningSecret::new(FIRST, None).unwrap();
        let other = SigningSecret::new(SECOND, None).unwrap();
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

    #[test]
    fn what_is_no_secret_is_refused_and_never_shown() {
        let error = |text: &str| SigningSecret::new(text, None).unwrap_err();
        assert_eq!(error("MfKQ9r8G"), SigningSecretError::Prefix);
        assert_eq!(error("whsec_hunter2!"), SigningSecretError::Base64);
        assert_eq!(error("whsec_AAECAw=="), SigningSecretError::Length(4));
        let long = format!("whsec_{}", STANDARD.encode([1; 65]));
        assert_eq!(error(&long), SigningSecretError::Length(65));
        let shown = format!("{:?}", options(None));
        assert!(!shown.contains("1614") && !shown.contains("key"), "{shown}");
    }
}
