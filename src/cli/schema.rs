//! `postrider schema`: what editors want to know of the file.

use crate::config;

use super::{exit, say};

/// Print the JSON Schema of the file.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider schema > postrider.schema.json

Editors with a TOML language server (taplo, tombi) complete and explain the keys of a file that begins
with the line:
  #:schema ./postrider.schema.json")]
pub(super) struct SchemaArguments {}

pub(super) fn main(_: &SchemaArguments) -> u8 {
    say(config::SCHEMA);
    exit::OK
}
