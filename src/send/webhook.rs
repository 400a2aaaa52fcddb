//! One attempt at a webhook, and what came back.

use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::Error;
use tokio::time::Sleep;

use crate::clock::Timestamp;
use crate::delivery::{Attempt, DeliveryId, FailureReason, Outcome};
use crate::descriptors;
use crate::record::Record;

use super::client::Sender;
use super::failure::{causes, failure, is_out_of_descriptors, reason};
use super::options::WebhookOptions;
use super::outcomes::Failure;
use super::request::{Content, Request, WEBHOOK_SIGNATURE};
use super::retry_after::retry_after;
use super::scrub::Scrub;
use super::success::SuccessCondition;
use super::tls::SystemTrust;

/// How long a request waits for a file descriptor before the lane hears of it. Its signature may not become too old meanwhile.
const DESCRIPTOR_PATIENCE: Duration = Duration::from_secs(60);
/// How often it looks whether there is one, at first and later.
const DESCRIPTOR_PAUSE_FIRST: Duration = Duration::from_millis(50);
const DESCRIPTOR_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long the rest of a body may take once its head has said that the record was taken.
const SUCCESS_BODY: Duration = Duration::from_secs(1);

/// The end of the time that an attempt has.
type Limit<'a> = Pin<&'a mut Sleep>;

/// What comes of `work`, unless the time is up before.
async fn within<T>(limit: Limit<'_>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = limit => None,
    }
}

/// There is no file descriptor for a connection, so nothing was sent.
struct NoDescriptor;

/// A destination's HTTP client.
#[derive(Debug)]
pub struct Webhook {
    sender: Sender,
    options: WebhookOptions,
    content_type: HeaderValue,
    excerpt_bytes: usize,
    scrub: Scrub,
}

/// Why no client can be made for a webhook.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// TLS cannot check anybody.
    #[error(
        "the HTTP client for {url} cannot be made: no CA certificates were found (SSL_CERT_FILE, SSL_CERT_DIR or the system's), and https needs them (on Debian: apt-get install ca-certificates)"
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
    /// A client for these options, which asks `trust` unless the file names its authorities. `content_type` is sent unless the file sets one; of a failed answer's body `excerpt_bytes` are kept, and of
    /// the connections `connections_kept_max` while nothing goes out on them.
    ///
    /// # Errors
    /// When the URL or the proxy is https and no CA certificates are installed.
    pub fn new(
        options: WebhookOptions,
        trust: &SystemTrust,
        content_type: &'static str,
        excerpt_bytes: usize,
        connections_kept_max: usize,
    ) -> Result<Self, WebhookError> {
        let sender = Sender::new(&options, trust, connections_kept_max).map_err(|error| {
            let reason = error.to_string();
            let url = options.url.to_string();
            if reason.to_ascii_lowercase().contains("certificates") {
                WebhookError::NoCertificates { url }
            } else {
                WebhookError::Client { url, reason }
            }
        })?;
        Ok(Self {
            sender,
            scrub: Scrub::new(&options),
            options,
            content_type: HeaderValue::from_static(content_type),
            excerpt_bytes,
        })
    }

    /// The request for attempt number `attempt` at the delivery `id` of `record`, signed as of `now`.
    #[must_use]
    pub fn request(
        &self,
        record: &Record,
        id: DeliveryId,
        attempt: u32,
        content: &Content,
        now: Timestamp,
    ) -> Request {
        let delivery = (record, id, attempt);
        Request::new(&self.options, &self.content_type, delivery, content, now)
    }

    /// What of a request may be seen by others than its receiver: its headers and its body, with a mark in place of every secret.
    #[must_use]
    pub fn shown(&self, request: &Request) -> (Vec<(String, String)>, Bytes) {
        let rendered = self
            .scrub
            .with_request(&request.headers, &self.options.headers);
        let scrub = rendered.as_ref().unwrap_or(&self.scrub);
        let clean = |bytes: &[u8]| scrub.first(&Bytes::copy_from_slice(bytes), usize::MAX, false);
        let headers = request.headers.iter().map(|(name, value)| {
            let value = match name == WEBHOOK_SIGNATURE {
                true => "[signature]".into(),
                false => clean(value.as_bytes()),
            };
            let value = String::from_utf8_lossy(&value).into_owned();
            (name.to_string(), value)
        });
        (headers.collect(), clean(&request.body))
    }

    /// Makes one attempt and says how it ended. Never fails: what goes wrong is the outcome.
    ///
    /// `make` makes the request, a second time when the first met a dead connection.
    pub async fn attempt(&self, make: impl Fn() -> Request, now: Timestamp) -> Attempt {
        match self.once(&make, now).await {
            Ok(attempt) => attempt,
            Err(NoDescriptor) => Box::pin(self.once_there_is_a_descriptor(&make, now)).await,
        }
    }

    async fn once(
        &self,
        make: &impl Fn() -> Request,
        now: Timestamp,
    ) -> Result<Attempt, NoDescriptor> {
        // One timer for all of it, a second request and the body included.
        let mut limit = pin!(tokio::time::sleep(self.options.total_timeout));
        let sent = self.sender.send(&self.options, make);
        Ok(match within(limit.as_mut(), sent).await {
            Some(Ok(response)) => self.answered(response, limit, now, make).await,
            Some(Err(error)) if is_out_of_descriptors(&error) => return Err(NoDescriptor),
            Some(Err(error)) => self.failed(&error),
            None => self.failure(Failure::Timeout, "operation timed out".to_owned()),
        })
    }

    /// Tries again until there is a file descriptor, or a connection that another request has left. Nothing was sent so far, which is nobody's
    /// fault but ours: neither the record's nor the endpoint's. It keeps its place among those in flight, so that no more are begun.
    async fn once_there_is_a_descriptor(
        &self,
        make: &impl Fn() -> Request,
        now: Timestamp,
    ) -> Attempt {
        let (mut waited, mut pause) = (Duration::ZERO, DESCRIPTOR_PAUSE_FIRST);
        while waited < DESCRIPTOR_PATIENCE {
            descriptors::say_shortage("a connection to a receiver");
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(DESCRIPTOR_PAUSE_MAX);
            if let Ok(attempt) = self.once(make, now).await {
                return attempt;
            }
        }
        // The endpoint is held and the record waits, as if the receiver asked for less: no attempt is spent.
        Attempt {
            outcome: Outcome::PushBack,
            reason: Some(FailureReason::Connect),
            status: None,
            error: "no file descriptor was left for a connection".to_owned(),
            excerpt: Bytes::new(),
            retry_after: None,
        }
    }

    async fn answered(
        &self,
        response: Response<Incoming>,
        limit: Limit<'_>,
        now: Timestamp,
        make: &impl Fn() -> Request,
    ) -> Attempt {
        let status = response.status();
        let retry_after = retry_after(response.headers(), now);
        let outcome = self
            .options
            .outcomes
            .outcome(status.as_u16(), retry_after.is_some());
        let condition = self.options.success.as_ref();
        if outcome == Outcome::Delivered {
            return match condition.filter(|_| status.is_success()) {
                Some(condition) => {
                    Box::pin(self.judged(response, condition, retry_after, limit, make)).await
                }
                None => {
                    // The status is the acknowledgement. The body is read only so that the connection can be used again.
                    if response.body().size_hint().exact() != Some(0) {
                        drop(self.brief_body(response, limit).await);
                    }
                    Attempt::delivered(status.as_u16())
                }
            };
        }
        let (body, broken) = Box::pin(self.body(response, limit)).await;
        let excerpt = self.excerpt(&body, broken.is_some(), make);
        let broken = broken
            .map(|why| format!("; its body {why}"))
            .unwrap_or_default();
        Attempt {
            outcome,
            reason: reason(status.as_u16()),
            status: Some(status.as_u16()),
            error: format!("the receiver answered {}{broken}", status.as_u16()),
            excerpt,
            retry_after,
        }
    }

    /// A success by its status, which must be one by `condition` too.
    async fn judged(
        &self,
        response: Response<Incoming>,
        condition: &SuccessCondition,
        retry_after: Option<Duration>,
        limit: Limit<'_>,
        make: &impl Fn() -> Request,
    ) -> Attempt {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let (body, broken) = if condition.needs_body() {
            self.body(response, limit).await
        } else {
            (self.brief_body(response, limit).await, None)
        };
        let Err(unmet) = condition.check(status, &headers, &body) else {
            return Attempt::delivered(status);
        };
        let excerpt = self.excerpt(&body, broken.is_some(), make);
        let broken = broken
            .map(|why| format!("; its body {why}"))
            .unwrap_or_default();
        Attempt {
            outcome: Outcome::Retry,
            reason: Some(FailureReason::SuccessCondition),
            status: Some(status),
            error: format!(
                "the receiver answered {status}, but {unmet} that `success` asks for{broken}"
            ),
            excerpt,
            retry_after,
        }
    }

    /// The first bytes of an answer, without what was sent there and is for nobody else.
    fn excerpt(&self, body: &Bytes, broken: bool, make: &impl Fn() -> Request) -> Bytes {
        if body.is_empty() || self.excerpt_bytes == 0 {
            return Bytes::new();
        }
        let rendered = self
            .scrub
            .with_request(&make().headers, &self.options.headers);
        let scrub = rendered.as_ref().unwrap_or(&self.scrub);
        scrub.first(body, self.excerpt_bytes, broken)
    }

    /// The body of an answer that needs none, if it comes soon. In a box, because most answers have none, and every request would carry
    /// room for reading it.
    fn brief_body<'a>(
        &'a self,
        response: Response<Incoming>,
        limit: Limit<'a>,
    ) -> Pin<Box<impl Future<Output = Bytes> + 'a>> {
        Box::pin(async move {
            let read = tokio::time::timeout(SUCCESS_BODY, self.body(response, limit)).await;
            read.map(|(body, _)| body).unwrap_or_default()
        })
    }

    /// The body, as much as is taken of it and as came in time, and what was wrong with it.
    async fn body(
        &self,
        response: Response<Incoming>,
        mut limit: Limit<'_>,
    ) -> (Bytes, Option<&'static str>) {
        let mut body = BytesMut::new();
        let mut incoming = response.into_body();
        loop {
            match within(limit.as_mut(), incoming.frame()).await {
                Some(Some(Ok(frame))) => {
                    // What is no data is a trailer.
                    let Ok(chunk) = frame.into_data() else {
                        continue;
                    };
                    let room = self.options.response_max_bytes - body.len();
                    body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                    if chunk.len() > room {
                        return (body.freeze(), Some("is longer than response_max"));
                    }
                }
                Some(None) => return (body.freeze(), None),
                Some(Some(Err(_))) | None => return (body.freeze(), Some("broke off")),
            }
        }
    }

    fn failed(&self, error: &Error) -> Attempt {
        let failure = failure(error, self.options.url.as_url().scheme() == "https");
        self.failure(failure, causes(error))
    }

    fn failure(&self, failure: Failure, error: String) -> Attempt {
        Attempt {
            outcome: self.options.outcomes.failure(failure),
            reason: Some(failure.reason()),
            status: None,
            error,
            excerpt: Bytes::new(),
            retry_after: None,
        }
    }
}
