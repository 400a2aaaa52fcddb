//! What the file may say about a webhook.

use std::time::Duration;

use http::Method;
use http::header::{HeaderMap, HeaderName};

use super::{
    EndpointUrl, OutcomeTable, ProxyOptions, SigningOptions, SuccessCondition, TlsOptions,
};

/// One `[destinations.NAME.webhook]`, already checked. `Debug` shows neither the URL's path nor what the headers hold.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookOptions {
    /// Where requests go.
    pub url: EndpointUrl,
    /// POST unless the file says otherwise.
    pub method: Method,
    /// Headers of every request, each marked sensitive; none that Postrider sets itself.
    pub headers: HeaderMap,
    /// Headers of the record that go out with it, under their own names.
    pub pass_headers: Vec<HeaderName>,
    /// What requests are signed with, if they are.
    pub signing: Option<SigningOptions>,
    /// What a 2xx answer must be beyond its status.
    pub success: Option<SuccessCondition>,
    /// Who we are towards the receiver and who vouches for it, where that is not what the system says.
    pub tls: Option<TlsOptions>,
    /// What requests go through; nothing unless the file says so, whatever the environment says.
    pub proxy: Option<ProxyOptions>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long an attempt may take, connection and answer included.
    pub total_timeout: Duration,
    /// How much of an answer's body is read.
    pub response_max_bytes: usize,
    /// What an answer means.
    pub outcomes: OutcomeTable,
}

impl WebhookOptions {
    /// The defaults, for `url`.
    #[must_use]
    pub fn new(url: EndpointUrl) -> Self {
        Self {
            url,
            method: Method::POST,
            headers: HeaderMap::new(),
            pass_headers: Vec::new(),
            signing: None,
            success: None,
            tls: None,
            proxy: None,
            connect_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(15),
            response_max_bytes: 64 * 1024,
            outcomes: OutcomeTable::default(),
        }
    }
}
