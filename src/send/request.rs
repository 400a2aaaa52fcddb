//! One request, made and not yet sent.

use std::fmt::{self, Write as _};

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tracing::debug;

use crate::clock::Timestamp;
use crate::delivery::DeliveryId;
use crate::record::Record;

use super::headers::{HeaderError, header};
use super::options::WebhookOptions;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
pub(super) const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const TOPIC: HeaderName = HeaderName::from_static("postrider-topic");
const PARTITION: HeaderName = HeaderName::from_static("postrider-partition");
const OFFSET: HeaderName = HeaderName::from_static("postrider-offset");
const ATTEMPT: HeaderName = HeaderName::from_static("postrider-attempt");

/// How many headers a request has beside the file's: our own, and what the client adds.
const OWN_HEADERS: usize = 10;
/// Room for their values, unless the topic's name is a long one.
const OWN_BYTES: usize = 128;

/// What a receiver gets to see of one delivery: its body, and the headers that were made from the record.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content {
    body: Bytes,
    headers: HeaderMap,
}

impl Content {
    /// A body, and no header of its own.
    #[must_use]
    pub fn new(body: Bytes) -> Self {
        let headers = HeaderMap::new();
        Self { body, headers }
    }

    /// Adds a header, in place of the file's own of that name.
    ///
    /// # Errors
    /// When no header can carry the value, so that none can smuggle in a second one; or when it is not the file's to set.
    pub fn set_header(&mut self, name: &str, value: &str) -> Result<(), HeaderError> {
        let (name, value) = header(name, value)?;
        self.headers.insert(name, value);
        Ok(())
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Content");
        shown.field("body_bytes", &self.body.len());
        shown.field("headers", &self.headers).finish()
    }
}

/// One request. `Debug` shows nothing of the body.
#[derive(Clone)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Every header but those of the HTTP client itself.
    pub headers: HeaderMap,
    /// The body, as it was signed.
    pub body: Bytes,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Request");
        shown.field("method", &self.method);
        shown.field("headers", &self.headers);
        shown.field("body_bytes", &self.body.len()).finish()
    }
}

impl Request {
    /// The request for attempt number `attempt` at this delivery. What is nearer to the record wins: a rendered header over one that
    /// is passed on, and both over a fixed one. What Postrider says of itself cannot be replaced.
    pub(super) fn new(
        options: &WebhookOptions,
        content_type: &HeaderValue,
        (record, id, attempt): (&Record, DeliveryId, u32),
        content: &Content,
        now: Timestamp,
    ) -> Self {
        let mut headers = options.headers.clone();
        headers.reserve(OWN_HEADERS);
        headers
            .entry(CONTENT_TYPE)
            .or_insert_with(|| content_type.clone());
        for name in &options.pass_headers {
            pass(record, name, &mut headers);
        }
        for (name, value) in &content.headers {
            headers.insert(name.clone(), value.clone());
        }
        say_what_it_is(&mut headers, record, id, attempt, now);
        if let Some(signing) = &options.signing {
            let signatures = signing.signatures(id, now, &content.body);
            // Cannot fail: a signature is ASCII by construction.
            if let Ok(value) = HeaderValue::try_from(signatures) {
                headers.insert(WEBHOOK_SIGNATURE, value);
            }
        }
        Self {
            method: options.method.clone(),
            headers,
            body: content.body.clone(),
        }
    }
}

/// Says which delivery this is and which attempt. The values share one piece of memory: the HTTP client copies the headers more than once,
/// and the copy of a piece only counts.
fn say_what_it_is(
    headers: &mut HeaderMap,
    record: &Record,
    id: DeliveryId,
    attempt: u32,
    now: Timestamp,
) {
    let seconds = now.as_seconds();
    let own: [(HeaderName, &dyn fmt::Display); 6] = [
        (WEBHOOK_ID, &id),
        (WEBHOOK_TIMESTAMP, &seconds),
        (TOPIC, &record.topic),
        (PARTITION, &record.partition),
        (OFFSET, &record.offset),
        (ATTEMPT, &attempt),
    ];
    let mut text = String::with_capacity(OWN_BYTES);
    let ends = own.each_ref().map(|(_, value)| {
        // Writing into memory does not fail.
        write!(text, "{value}").ok();
        text.len()
    });
    let text = Bytes::from(text);
    let mut begin = 0;
    for ((name, _), end) in own.into_iter().zip(ends) {
        // Cannot fail: the id and the numbers are ASCII by construction, a topic's name by Kafka's rules.
        if let Ok(value) = HeaderValue::from_maybe_shared(text.slice(begin..end)) {
            headers.insert(name, value);
        }
        begin = end;
    }
}

/// Passes on the last header of that name. One that HTTP cannot carry is left out: a broken trace is no reason to lose a record.
fn pass(record: &Record, name: &HeaderName, headers: &mut HeaderMap) {
    let named = |header: &&crate::record::Header| {
        header.name.eq_ignore_ascii_case(name.as_str().as_bytes())
    };
    let Some(header_value) = record
        .headers
        .iter()
        .rfind(named)
        .and_then(|h| h.value.as_ref())
    else {
        return;
    };
    let printable = header_value.iter().all(|b| matches!(b, b' '..=b'~'));
    match HeaderValue::from_bytes(header_value) {
        Ok(mut value) if printable => {
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        Ok(_) | Err(_) => debug!(
            topic = &*record.topic,
            partition = record.partition,
            offset = record.offset,
            header = name.as_str(),
            "header not passed on: HTTP cannot carry its value"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::SigningOptions;
    use super::super::sign::{SigningScheme, SigningSecret};
    use super::*;
    use crate::record::Header;

    fn record(headers: &[(&'static str, &'static str)]) -> Record {
        let header = |(name, value): &(&'static str, &'static str)| Header {
            name: Bytes::from_static(name.as_bytes()),
            value: Some(Bytes::from_static(value.as_bytes())),
        };
        Record {
            topic: "owner".into(),
            partition: 3,
            offset: 7,
            timestamp: None,
            key: None,
            value: Some(Bytes::from_static(b"{}")),
            headers: headers.iter().map(header).collect(),
        }
    }

    fn request(options: &WebhookOptions, record: &Record, content: &Content) -> Request {
        let json = HeaderValue::from_static("application/json");
        let id = DeliveryId([1; 16]);
        Request::new(options, &json, (record, id, 2), content, Timestamp(5_000))
    }

    fn options() -> WebhookOptions {
        WebhookOptions::new("http://h/x".parse().unwrap())
    }

    #[test]
    fn headers_are_passed_on_when_http_can_carry_them() {
        let mut options = options();
        options.pass_headers = ["traceparent", "x-broken", "x-line", "x-absent"]
            .map(HeaderName::from_static)
            .to_vec();
        let record = record(&[
            ("traceparent", "00-old"),
            ("TraceParent", "00-new"),
            ("x-broken", "größe"),
            ("x-line", "a\r\nx-evil: 1"),
            ("x-other", "1"),
        ]);
        let made = request(&options, &record, &Content::default());
        assert_eq!(made.headers["traceparent"], "00-new");
        for name in ["x-broken", "x-line", "x-evil", "x-other", "x-absent"] {
            assert!(!made.headers.contains_key(name), "{name}");
        }
        assert!(!format!("{made:?}").contains("00-new"));
    }

    #[test]
    fn what_is_nearer_to_the_record_wins() {
        let mut options = options();
        let fixed = |name: &str| header(name, "fixed").unwrap();
        options
            .headers
            .extend(["a", "b", "c", "content-type"].map(fixed));
        options.pass_headers = ["b", "c"].map(HeaderName::from_static).to_vec();
        let mut content = Content::new(Bytes::from_static(b"body"));
        content.set_header("C", "rendered").unwrap();
        let made = request(
            &options,
            &record(&[("b", "passed"), ("c", "passed")]),
            &content,
        );
        let value = |name: &str| made.headers[name].to_str().unwrap();
        assert_eq!(
            ["a", "b", "c", "content-type"].map(value),
            ["fixed", "passed", "rendered", "fixed"]
        );
        assert_eq!(
            (value("postrider-attempt"), value("webhook-timestamp")),
            ("2", "5")
        );
        assert_eq!(made.body, "body");
        assert!(!made.headers.contains_key("webhook-signature"));
    }

    #[test]
    fn rendered_headers_cannot_inject() {
        let mut content = Content::default();
        for value in ["a\r\nb: c", "a\nb", "größe", "a\0"] {
            let refused = content.set_header("x", value);
            assert_eq!(refused, Err(HeaderError::Value), "{value:?}");
        }
        let refused = content.set_header("webhook-id", "x");
        assert_eq!(refused, Err(HeaderError::Reserved));
    }

    #[test]
    fn the_signature_is_over_the_body_that_is_sent() {
        let text = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
        let secret = SigningSecret::new(text, SigningScheme::StandardWebhooks, None).unwrap();
        let signing = SigningOptions {
            secrets: vec![secret],
        };
        let mut options = options();
        options.signing = Some(signing.clone());
        let content = Content::new(Bytes::from_static(b"rendered"));
        let made = request(&options, &record(&[]), &content);
        let expected = signing.signatures(DeliveryId([1; 16]), Timestamp(5_000), b"rendered");
        assert_eq!(made.headers["webhook-signature"], expected);
    }
}
