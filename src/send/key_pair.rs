//! Ed25519 keys as Standard Webhooks writes them: `whsk_` and base64 for the private one, `whpk_` for the public one that receivers verify with.

use std::fmt;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, VerificationAlgorithm as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::sign::{SigningScheme, SigningSecretError};

pub(super) const PUBLIC_PREFIX: &str = "whpk_";
/// RFC 8032's private key, from which everything else follows.
const SEED_BYTES: usize = 32;
const PUBLIC_BYTES: usize = 32;

/// Signs. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct PrivateKey {
    seed: [u8; SEED_BYTES],
    pair: Ed25519KeyPair,
}

/// Verifies; anybody may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; PUBLIC_BYTES]);

impl PrivateKey {
    /// The key of these random bytes.
    ///
    /// # Errors
    /// When the library cannot make it.
    pub fn from_seed(seed: [u8; SEED_BYTES]) -> Result<Self, SigningSecretError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed);
        let pair = pair.map_err(|_| SigningSecretError::KeyLength(seed.len()))?;
        Ok(Self { seed, pair })
    }

    /// What stands behind `whsk_`: 32 bytes, or 64 where the public key is written behind them, as many libraries do.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, SigningSecretError> {
        let wrong = |_| SigningSecretError::KeyLength(bytes.len());
        let (seed, public) = bytes.split_at(bytes.len().min(SEED_BYTES));
        let key = Self::from_seed(seed.try_into().map_err(wrong)?)?;
        match public.len() {
            0 => Ok(key),
            PUBLIC_BYTES if key.public().0 == public => Ok(key),
            PUBLIC_BYTES => Err(SigningSecretError::NoPair),
            _ => Err(SigningSecretError::KeyLength(bytes.len())),
        }
    }

    /// The key written as `whsk_` and base64.
    ///
    /// # Errors
    /// When it is not written like that, or is no such key.
    pub fn new(text: &str) -> Result<Self, SigningSecretError> {
        let bytes = SigningScheme::StandardWebhooksEd25519.decode(text)?;
        Self::from_bytes(&bytes)
    }

    /// As the file wants it. This is the secret itself.
    #[must_use]
    pub fn expose(&self) -> String {
        let prefix = SigningScheme::StandardWebhooksEd25519.prefix();
        format!("{prefix}{}", STANDARD.encode(self.seed))
    }

    /// What its receivers need.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; PUBLIC_BYTES];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    pub(super) fn seed(&self) -> &[u8] {
        &self.seed
    }

    /// The 64 bytes that are also written for it.
    pub(super) fn with_public(&self) -> Vec<u8> {
        [self.seed, self.public().0].concat()
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        self.seed == other.seed
    }
}

impl Eq for PrivateKey {}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

impl PublicKey {
    /// The key written as `whpk_` and base64; `None` when this is not one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.strip_prefix(PUBLIC_PREFIX)?).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// Whether one of `signatures`, as `webhook-signature` carries them, is of its private key, over a message of this id, timestamp and body.
    #[must_use]
    pub fn verifies(&self, signatures: &str, id: &str, timestamp: &str, body: &[u8]) -> bool {
        let message = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
        let signed = |signature: &str| {
            let encoded = signature.strip_prefix("v1a,").ok_or(Unspecified)?;
            let signature = STANDARD.decode(encoded).map_err(|_| Unspecified)?;
            ED25519.verify_sig(&self.0, &message, &signature)
        };
        signatures.split(' ').any(|text| signed(text).is_ok())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_PREFIX}{}", STANDARD.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1: private key, public key, message and signature of test 3, and of test "SHA(abc)".
    const VECTORS: [[&str; 4]; 2] = [
        [
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ],
        [
            "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
            "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
        ],
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        let pairs = hex.as_bytes().chunks(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        pairs.map(|pair| byte(pair).unwrap()).collect()
    }

    fn written(key: &[u8]) -> String {
        format!("whsk_{}", STANDARD.encode(key))
    }

    #[test]
    fn it_signs_as_the_standard_says() {
        for [seed, public, message, signature] in VECTORS {
            let [seed, public, message] = [seed, public, message].map(bytes);
            let key = PrivateKey::new(&written(&seed)).unwrap();
            assert_eq!(key.public().0[..], public);
            assert_eq!(key.sign(&message), bytes(signature));
            let with_public = written(&[&seed[..], &public].concat());
            assert_eq!(PrivateKey::new(&with_public).unwrap(), key);
            assert_eq!(key.expose(), written(&seed));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let [seed, public, ..] = VECTORS[0].map(bytes);
        let error = |text: &str| PrivateKey::new(text).unwrap_err();
        for length in [0, 24, 31, 33, 48, 63, 65] {
            let text = written(&vec![1; length]);
            assert_eq!(error(&text), SigningSecretError::KeyLength(length));
        }
        let other = bytes(VECTORS[1][1]);
        let text = written(&[&seed[..], &other].concat());
        assert_eq!(error(&text), SigningSecretError::NoPair);
        let text = format!("whpk_{}", STANDARD.encode(&public));
        assert_eq!(error(&text), SigningSecretError::Public);
    }

    #[test]
    fn a_public_key_is_written_and_read() {
        let public = PublicKey(bytes(VECTORS[0][1]).try_into().unwrap());
        let text = public.to_string();
        assert_eq!(text, "whpk_/FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU=");
        assert_eq!(PublicKey::new(&text), Some(public));
        for text in ["", "whpk_", "whsk_/FHN", "whpk_AAAA", "whpk_!"] {
            assert_eq!(PublicKey::new(text), None, "{text}");
        }
    }
}
