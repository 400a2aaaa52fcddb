//! `webhook.signing`: what requests are signed with.

use super::reader::{Reader, Value};
use super::refusal::Refusal;
use super::secret::{Secret, string_or_secret_beside};
use crate::clock::Timestamp;
use crate::send::{SigningOptions, SigningScheme, SigningSecret, SigningSecretError};

const EXAMPLE: &str = "[{ env = \"SIGNING_SECRET\" }]";

/// The signing that `reader`, a webhook, asks for.
pub(super) fn read(reader: &Reader<'_>) -> Option<SigningOptions> {
    let section = reader.take("signing")?;
    let reader = section.table()?;
    let schemes = SigningScheme::ALL.map(|scheme| (scheme.name(), scheme));
    let later = ["github", "stripe", "template"];
    let scheme = reader.require("scheme", "write scheme = \"standard-webhooks\"");
    let scheme = scheme.and_then(|value| value.one_of(&schemes, &later));
    let value = reader.require("secrets", &format!("write secrets = {EXAMPLE}"));
    let secrets = value.as_ref().and_then(|value| value.list(EXAMPLE));
    let entries = secrets.unwrap_or_default();
    let secrets: Option<Vec<_>> = entries
        .iter()
        .map(|value| secret(value, scheme))
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

/// One secret, and whether it ends. One that ends may be of the scheme before: receivers change over while both sign.
fn secret(value: &Value<'_>, scheme: Option<SigningScheme>) -> Option<(SigningSecret, bool)> {
    let mut not_after = None;
    let text = string_or_secret_beside(value, |reader| {
        not_after = reader.take("not_after").map(|value| moment(&value));
    });
    let text = text.map(Secret::expose)?;
    let ends = not_after.is_some();
    let own = SigningScheme::of(&text);
    let scheme = match scheme {
        Some(scheme) if !ends => scheme,
        scheme => own.or(scheme).unwrap_or(SigningScheme::StandardWebhooks),
    };
    let secret = SigningSecret::new(&text, scheme, not_after.flatten());
    let refusal = |error: SigningSecretError| Refusal::new(error.to_string(), hint(error, scheme));
    value
        .accept(secret.map_err(refusal))
        .map(|secret| (secret, ends))
}

fn hint(error: SigningSecretError, scheme: SigningScheme) -> String {
    let make = match scheme {
        SigningScheme::StandardWebhooks => "echo whsec_$(openssl rand -base64 32)",
        SigningScheme::StandardWebhooksEd25519 => {
            "postrider keys new --scheme standard-webhooks-ed25519"
        }
    };
    let prefix = scheme.prefix();
    match error {
        SigningSecretError::Prefix(_) | SigningSecretError::Base64(_) => {
            format!("a secret is {prefix} and base64; make one: {make}")
        }
        SigningSecretError::OtherScheme(_) => format!(
            "make one for this scheme: {make}; the one it replaces may stay beside it with a `not_after`"
        ),
        SigningSecretError::Public => {
            format!("the receiver needs that one; here belongs the secret, {prefix} and base64")
        }
        SigningSecretError::Length(_)
        | SigningSecretError::KeyLength(_)
        | SigningSecretError::NoPair => format!("make one: {make}"),
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
