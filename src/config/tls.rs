//! `webhook.tls`: who we are towards a receiver, and who vouches for it.

use super::reader::{Reader, Value};
use super::refusal::Refusal;
use super::secret::{Secret, string_or_secret};
use crate::send::{Certificates, ClientKey, EndpointUrl, PemError, TlsOptions};

/// What stands in `tls`, beside the address that it is for; `None` when there is nothing, or it is no good.
pub(super) fn read(reader: &Reader<'_>, url: Option<&EndpointUrl>) -> Option<TlsOptions> {
    let section = reader.take("tls")?;
    let reader = section.table()?;
    let (cert, key) = (reader.take("client_cert"), reader.take("client_key"));
    let ca = reader.take("ca");
    reader.finish();
    if url.is_some_and(|url| url.as_url().scheme() != "https") {
        let hint =
            "write an https:// address, or take `tls` out: over http nobody asks for certificates";
        section.error_at_key("`tls` stands beside an http:// address", hint);
    }
    for (there, missing) in [
        (&cert, (&key, "client_key")),
        (&key, (&cert, "client_cert")),
    ] {
        if let (Some(value), (None, name)) = (there, missing) {
            let message = format!("`{}` has no `{name}` beside it", value.key);
            value.error_at_key(message, "write both, or neither");
        }
    }
    let certificates = |value: &Value<'_>| pem(value, Certificates::from_pem);
    let ca = ca.map(|value| certificates(&value));
    let client = match (&cert, &key) {
        (Some(cert), Some(key)) => {
            let (cert, key) = (certificates(cert), pem(key, ClientKey::from_pem));
            Some((cert?, key?))
        }
        _ => None,
    };
    let options = TlsOptions::new(client, ca.map_or(Some(None), |found| found.map(Some))?);
    match options {
        Ok(options) => Some(options),
        Err(error) => {
            let hint = "`openssl x509 -in CERT -noout -pubkey` and `openssl pkey -in KEY -pubout` print the same for a pair";
            section.error_at_key(error.to_string(), hint);
            None
        }
    }
}

fn pem<T>(value: &Value<'_>, parse: impl Fn(&str) -> Result<T, PemError>) -> Option<T> {
    let text = string_or_secret(value).map(Secret::expose)?;
    let parsed = parse(&text).map_err(|error| {
        let hint = match value.is_table() || text.contains('\n') {
            true => error.hint(),
            false => "what stands here is the text itself: for a file that holds it, write { file = \"path\" }",
        };
        Refusal::new(error.to_string(), hint)
    });
    value.accept(parsed)
}
