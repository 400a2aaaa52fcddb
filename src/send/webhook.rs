//! One attempt at a webhook: the record's bytes as they are, and what came back.

use std::error::Error as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Request, Response};

use crate::clock::Timestamp;
use crate::delivery::{Attempt, DeliveryId, FailureReason, Outcome};
use crate::record::Record;

use super::options::WebhookOptions;
use super::outcomes::Failure;
use super::retry_after::retry_after;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const TOPIC: HeaderName = HeaderName::from_static("postrider-topic");
const PARTITION: HeaderName = HeaderName::from_static("postrider-partition");
const OFFSET: HeaderName = HeaderName::from_static("postrider-offset");
const ATTEMPT: HeaderName = HeaderName::from_static("postrider-attempt");

/// How many headers a request has beside the file's: those above, and what the client adds.
const OWN_HEADERS: usize = 10;

/// How long the rest of a body may take once its head has said that the record was taken.
const SUCCESS_BODY: Duration = Duration::from_secs(1);

/// A destination's HTTP client.
#[derive(Debug)]
pub struct Webhook {
    client: Client,
    options: WebhookOptions,
    content_type: HeaderValue,
    excerpt_bytes: usize,
}

/// Why no client can be made for a webhook.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// TLS cannot check anybody.
    #[error(
        "the HTTP client for {url} cannot be made: no CA certificates are installed, and https needs them (on Debian: apt-get install ca-certificates)"
    )]
    NoCertificates {
        /// Scheme and host.
        url: String,
    },
    /// Anything else.
    #[error("the HTTP client for {url} cannot be made: {reason}")]
    Client {
        /// Scheme and host.
        url: String,
        /// Why.
        reason: String,
    },
}

impl Webhook {
    /// A client for these options. `content_type` is sent unless the file sets one; of a failed answer's body `excerpt_bytes` are kept.
    ///
    /// # Errors
    /// When the URL is https and no CA certificates are installed.
    pub fn new(
        options: WebhookOptions,
        content_type: &'static str,
        excerpt_bytes: usize,
    ) -> Result<Self, WebhookError> {
        let mut builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .connect_timeout(options.connect_timeout)
            .timeout(options.total_timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("postrider/", env!("CARGO_PKG_VERSION")));
        let tls = options.url.as_url().scheme() == "https";
        if !tls {
            // Without this the client refuses to be made where no CA certificates are installed, although nothing will ask for one.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| {
            let reason = causes(&error.without_url());
            let url = options.url.to_string();
            if tls && reason.to_ascii_lowercase().contains("certificates") {
                WebhookError::NoCertificates { url }
            } else {
                WebhookError::Client { url, reason }
            }
        })?;
        let content_type = options
            .headers
            .get(CONTENT_TYPE)
            .cloned()
            .unwrap_or_else(|| HeaderValue::from_static(content_type));
        Ok(Self {
            client,
            options,
            content_type,
            excerpt_bytes,
        })
    }

    /// Makes one request for `record` and says how it ended. Never fails: what goes wrong is the outcome.
    pub async fn attempt(
        &self,
        record: &Record,
        id: DeliveryId,
        attempt: u32,
        now: Timestamp,
    ) -> Attempt {
        let url = self.options.url.as_url().clone();
        let mut request = Request::new(self.options.method.clone(), url);
        *request.headers_mut() = self.headers(record, id, attempt, now);
        *request.body_mut() = Some(record.value.clone().unwrap_or_default().into());
        match self.client.execute(request).await {
            Ok(response) => self.answered(response, now).await,
            Err(error) => self.failed(error),
        }
    }

    fn headers(&self, record: &Record, id: DeliveryId, attempt: u32, now: Timestamp) -> HeaderMap {
        let mut headers = self.options.headers.clone();
        headers.reserve(OWN_HEADERS);
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(now.as_seconds()));
        headers.insert(PARTITION, HeaderValue::from(record.partition));
        headers.insert(OFFSET, HeaderValue::from(record.offset));
        headers.insert(ATTEMPT, HeaderValue::from(attempt));
        // Neither can fail: an id is ASCII by construction and a topic's name by Kafka's rules.
        if let Ok(id) = HeaderValue::try_from(id.to_string()) {
            headers.insert(WEBHOOK_ID, id);
        }
        if let Ok(topic) = HeaderValue::from_str(&record.topic) {
            headers.insert(TOPIC, topic);
        }
        headers
    }

    async fn answered(&self, response: Response, now: Timestamp) -> Attempt {
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers(), now);
        let outcome = self.options.outcomes.outcome(status, retry_after.is_some());
        if outcome == Outcome::Delivered {
            // The status is the acknowledgement. The body is read only so that the connection can be used again.
            drop(tokio::time::timeout(SUCCESS_BODY, self.body(response)).await);
            return Attempt::delivered(status);
        }
        let (body, broken) = self.body(response).await;
        let broken = broken
            .map(|why| format!("; its body {why}"))
            .unwrap_or_default();
        Attempt {
            outcome,
            reason: reason(status),
            status: Some(status),
            error: format!("the receiver answered {status}{broken}"),
            excerpt: body.slice(..body.len().min(self.excerpt_bytes)),
            retry_after,
        }
    }

    /// The body, up to the limit, and what was wrong with it.
    async fn body(&self, mut response: Response) -> (Bytes, Option<&'static str>) {
        let mut body = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let room = self.options.response_max_bytes - body.len();
                    body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                    if chunk.len() > room {
                        return (body.freeze(), Some("is longer than response_max"));
                    }
                }
                Ok(None) => return (body.freeze(), None),
                Err(_) => return (body.freeze(), Some("broke off")),
            }
        }
    }

    fn failed(&self, error: reqwest::Error) -> Attempt {
        let failure = failure(&error, self.options.url.as_url().scheme() == "https");
        Attempt {
            outcome: self.options.outcomes.failure(failure),
            reason: Some(failure.reason()),
            status: None,
            // The error's own text would show the URL, and with it the token that may be in it.
            error: causes(&error.without_url()),
            excerpt: Bytes::new(),
            retry_after: None,
        }
    }
}

/// The label of a status that is no success.
fn reason(status: u16) -> Option<FailureReason> {
    Some(match status {
        401 => FailureReason::Http401,
        403 => FailureReason::Http403,
        404 => FailureReason::Http404,
        408 => FailureReason::Http408,
        410 => FailureReason::Http410,
        429 => FailureReason::Http429,
        400..=499 => FailureReason::Http4xx,
        500.. => FailureReason::Http5xx,
        300..=399 => FailureReason::Http3xx,
        0..=299 => return None,
    })
}

/// Which of the ways to fail without an answer this is.
fn failure(error: &reqwest::Error, tls: bool) -> Failure {
    let chain = causes(error);
    if chain.contains("dns error") {
        let unknown = [
            "Name or service not known",
            "No address associated",
            "nodename nor servname",
        ];
        let unknown = unknown.iter().any(|text| chain.contains(text));
        return if unknown {
            Failure::UnknownHost
        } else {
            Failure::Dns
        };
    }
    if error.is_timeout() {
        return Failure::Timeout;
    }
    if !error.is_connect() {
        return Failure::Reset;
    }
    // A connection that was made and then failed before the first request, on a URL with TLS, failed in the handshake. What the
    // system refused has the system's error number.
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            let handshake =
                tls && io.raw_os_error().is_none() && io.kind() != std::io::ErrorKind::TimedOut;
            return if handshake {
                Failure::Tls
            } else {
                Failure::Connect
            };
        }
        source = cause.source();
    }
    Failure::Connect
}

/// An error and its causes, in one line.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
