//! `webhook.signing`: what requests are signed with.

use super::reader::{Reader, Value};
use super::refusal::Refusal;
use super::secret::{Secret, string_or_secret_beside};
use crate::clock::Timestamp;
use crate::send::{SigningOptions, SigningSecret, SigningSecretError};

const EXAMPLE: &str = "[{ env = \"SIGNING_SECRET\" }]";

/// The signing that `reader`, a webhook, asks for.
pub(super) fn read(reader: &Reader<'_>) -> Option<SigningOptions> {
    let section = reader.take("signing")?;
    let reader = section.table()?;
    let schemes = [("standard-webhooks", ())];
    let later = ["standard-webhooks-ed25519", "github", "stripe", "template"];
    let scheme = reader.require("scheme", "write scheme = \"standard-webhooks\"");
    let scheme = scheme.and_then(|value| value.one_of(&schemes, &later));
    let value = reader.require("secrets", &format!("write secrets = {EXAMPLE}"));
    let secrets = value.as_ref().and_then(|value| value.list(EXAMPLE));
    let entries = secrets.unwrap_or_default();
    let secrets: Option<Vec<_>> = entries
        .iter()
        .map(secret)
        .collect::<Vec<_>>()
        .into_iter()
        .collect();
    reader.finish();
    if let (Some(value), Some(secrets)) = (value, &secrets)
        && !secrets.is_empty()
        && secrets.iter().all(|(_, ends)| *ends)
    {
        let hint = "leave `not_after` out of the newest one, or one day nothing could be signed";
        value.error("has only secrets that end", hint);
    }
    scheme?;
    let secrets = secrets?.into_iter().map(|(secret, _)| secret);
    Some(SigningOptions {
        secrets: secrets.collect(),
    })
}

/// One secret, and whether it ends.
fn secret(value: &Value<'_>) -> Option<(SigningSecret, bool)> {
    let mut not_after = None;
    let text = string_or_secret_beside(value, |reader| {
        not_after = reader.take("not_after").map(|value| moment(&value));
    });
    let text = text.map(Secret::expose)?;
    let ends = not_after.is_some();
    let secret = SigningSecret::new(&text, not_after.flatten());
    let secret = value.accept(secret.map_err(|error| Refusal::new(error.to_string(), hint(error))));
    secret.map(|secret| (secret, ends))
}

fn hint(error: SigningSecretError) -> &'static str {
    match error {
        SigningSecretError::Prefix | SigningSecretError::Base64 => {
            "a secret is whsec_ and base64; make one: echo whsec_$(openssl rand -base64 32)"
        }
        SigningSecretError::Length(_) => "make one: echo whsec_$(openssl rand -base64 32)",
    }
}

fn moment(value: &Value<'_>) -> Option<Timestamp> {
    let text = match value.datetime() {
        Some(text) => text,
        None => value.text()?,
    };
    let hint = "write it like \"2026-12-31T00:00:00Z\"";
    let moment = text.parse::<jiff::Timestamp>();
    let moment = moment.map_err(|_| Refusal::new("is not a time with its offset from UTC", hint));
    value
        .accept(moment)
        .map(|time| Timestamp(time.as_millisecond()))
}
