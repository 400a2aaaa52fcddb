//! `postrider keys`: secrets for signatures.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde_json::json;

use crate::send::{PrivateKey, SigningScheme, SigningSecretError};

use super::common::Common;
use super::{complain, exit, say};

/// How long a secret is; Standard Webhooks asks for 24 to 64, and Ed25519 for this.
const SECRET_BYTES: usize = 32;
/// More than any key.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Secrets for signatures.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:
  (umask 077; postrider keys new > shop.secret)     then: secrets = [{ file = \"shop.secret\" }]
  (umask 077; postrider keys new --scheme standard-webhooks-ed25519 > shop.key)
  postrider keys public shop.key                    what the receiver needs"
)]
pub(super) struct KeysArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print a new secret for `webhook.signing`.
    #[command(after_help = "Examples:
  (umask 077; postrider keys new > shop.secret)     the receiver needs the same one
  (umask 077; postrider keys new --scheme standard-webhooks-ed25519 > shop.key)

The private key of Ed25519 (whsk_...) is the answer, and its public one (whpk_...) is said beside it, on
standard error: so the file holds what `secrets` wants. With --format json both are in the answer.")]
    New {
        /// What signs: standard-webhooks (HMAC-SHA256, both sides have the secret) or standard-webhooks-ed25519
        #[arg(long, value_name = "SCHEME", default_value = "standard-webhooks", value_parser = scheme)]
        scheme: SigningScheme,
    },
    /// Print the public key of a private one.
    #[command(after_help = "Examples:
  postrider keys public shop.key
  systemd-creds decrypt shop.key.cred - | postrider keys public

The key is not taken from the command line, where everybody on the machine would see it.")]
    Public {
        /// The file that holds the private key (whsk_...); without it, or with -, it is read from standard input
        file: Option<PathBuf>,
    },
}

fn scheme(text: &str) -> Result<SigningScheme, String> {
    let found = SigningScheme::ALL.into_iter().find(|s| s.name() == text);
    found.ok_or_else(|| {
        let names = SigningScheme::ALL.map(SigningScheme::name);
        format!("write {}", names.join(" or "))
    })
}

pub(super) fn main(common: &Common, arguments: &KeysArguments) -> u8 {
    match &arguments.what {
        What::New { scheme } => new(common, *scheme),
        What::Public { file } => public(common, file.as_deref()),
    }
}

fn new(common: &Common, scheme: SigningScheme) -> u8 {
    let mut bytes = [0; SECRET_BYTES];
    let read = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes));
    if let Err(error) = read {
        complain(&format!(
            "error: /dev/urandom gives no random bytes: {error}"
        ));
        return exit::UNAVAILABLE;
    }
    let (secret, public) = match scheme {
        SigningScheme::StandardWebhooks => {
            let secret = format!("{}{}", scheme.prefix(), STANDARD.encode(bytes));
            (secret, None)
        }
        SigningScheme::StandardWebhooksEd25519 => match PrivateKey::from_seed(bytes) {
            Ok(key) => (key.expose(), Some(key.public().to_string())),
            Err(error) => {
                complain(&format!("error: a key that was made {error}"));
                return exit::SOFTWARE;
            }
        },
    };
    match (common.is_json(), public) {
        (true, None) => say(&format!("{}\n", json!({ "secret": secret }))),
        (true, Some(public)) => {
            let both = json!({ "secret": secret, "public": public });
            say(&format!("{both}\n"));
        }
        (false, public) => {
            say(&format!("{secret}\n"));
            if let Some(public) = public {
                complain(&format!("the receiver's public key: {public}"));
            }
        }
    }
    exit::OK
}

fn public(common: &Common, file: Option<&Path>) -> u8 {
    let file = file.filter(|file| file.as_os_str() != "-");
    if file.is_some_and(|file| !file.exists() && is_secret(file)) {
        complain("error: a key does not belong in the command line, where others see it");
        complain(
            "  name a file that holds it, or write it to standard input; then replace this key: it has been seen",
        );
        return exit::USAGE;
    }
    let from = file.map_or_else(|| "standard input".to_owned(), |f| f.display().to_string());
    let text = match read(file) {
        Ok(text) => text,
        Err(error) => {
            complain(&format!("error: {from} cannot be read: {error}"));
            return exit::NO;
        }
    };
    match PrivateKey::new(text.trim()) {
        Ok(key) => {
            let public = key.public().to_string();
            say(&match common.is_json() {
                true => format!("{}\n", json!({ "public": public })),
                false => format!("{public}\n"),
            });
            exit::OK
        }
        Err(error) => {
            complain(&format!("error: what {from} holds {error}"));
            complain(&format!("  {}", hint(error)));
            exit::NO
        }
    }
}

fn is_secret(text: &Path) -> bool {
    text.to_str()
        .is_some_and(|text| SigningScheme::of(text).is_some())
}

fn read(file: Option<&Path>) -> io::Result<String> {
    let mut text = String::new();
    let read = match file {
        Some(file) => File::open(file)?
            .take(FILE_BYTES_MAX)
            .read_to_string(&mut text),
        None => {
            let input = io::stdin();
            if input.is_terminal() {
                complain("the private key (whsk_...), and then Ctrl-D:");
            }
            input.lock().take(FILE_BYTES_MAX).read_to_string(&mut text)
        }
    };
    read.map(|_| text)
}

fn hint(error: SigningSecretError) -> &'static str {
    match error {
        SigningSecretError::OtherScheme(_) => {
            "a shared secret has no public key: the receiver needs the secret itself"
        }
        SigningSecretError::Public => "that is what the receiver needs",
        SigningSecretError::Prefix(_)
        | SigningSecretError::Base64(_)
        | SigningSecretError::Length(_)
        | SigningSecretError::KeyLength(_)
        | SigningSecretError::NoPair => {
            "a private key is whsk_ and base64; make one: postrider keys new --scheme standard-webhooks-ed25519"
        }
    }
}
