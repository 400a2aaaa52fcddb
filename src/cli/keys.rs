//! `postrider keys`: secrets for signatures.

use std::fs::File;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;

use super::{complain, exit, say};

/// How long a secret is; Standard Webhooks asks for 24 to 64.
const SECRET_BYTES: usize = 32;

/// Secrets for signatures.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:
  (umask 077; postrider keys new > shop.secret)     then: secrets = [{ file = \"shop.secret\" }]"
)]
pub(super) struct KeysArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print a new secret for `webhook.signing` (HMAC-SHA256). The receiver needs the same one.
    New,
}

pub(super) fn main(arguments: &KeysArguments) -> u8 {
    let What::New = &arguments.what;
    let mut key = [0; SECRET_BYTES];
    let read = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut key));
    if let Err(error) = read {
        complain(&format!(
            "error: /dev/urandom gives no random bytes: {error}"
        ));
        return exit::UNAVAILABLE;
    }
    say(&format!("whsec_{}\n", STANDARD.encode(key)));
    exit::OK
}
