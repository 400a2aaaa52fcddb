//! The HTTP client of one destination, and what it does about connections that died in its pool.

use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::connector::{CONNECTED, Connector, Via};
use super::failure::broke_before_answer;
use super::options::WebhookOptions;
use super::request::Request;
use super::tls::{SystemTrust, Tls, is_secure};

/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(30);

const OUR_NAME: HeaderValue =
    HeaderValue::from_static(concat!("postrider/", env!("CARGO_PKG_VERSION")));
const ANYTHING: HeaderValue = HeaderValue::from_static("*/*");

/// Sends requests over connections that are kept.
///
/// A receiver may close a kept connection at the very moment a request goes out on it. Nobody is to blame for that, so such a request goes
/// out again at once, on a connection of its own, and spends no attempt. Whether the receiver saw the first one cannot be known; both carry the
/// same `webhook-id`.
pub(super) struct Sender {
    client: Client<Connector, Full<Bytes>>,
    /// Made when it is first needed: keeps no connections, so that whatever goes out over it goes over a fresh one.
    fresh: OnceLock<Client<Connector, Full<Bytes>>>,
    connector: Connector,
    uri: Uri,
    /// What a proxy wants to see of each request that it makes for us.
    proxy_authorization: Option<HeaderValue>,
}

impl Sender {
    /// A client for these options, that keeps so many connections at most while nothing goes out on them.
    ///
    /// # Errors
    /// When TLS is needed and the system has no CA certificates.
    pub(super) fn new(
        options: &WebhookOptions,
        trust: &SystemTrust,
        kept_max: usize,
    ) -> Result<Self, rustls::Error> {
        let uri = options.url.as_uri().clone();
        let proxy = options.proxy.as_ref();
        let authorization = proxy.and_then(|proxy| proxy.authorization());
        let via = proxy.map(|proxy| Via {
            uri: proxy.uri().clone(),
            headers: introduction(authorization.clone()),
        });
        let connector = Connector::new(Tls::new(options, trust)?, via, options.connect_timeout);
        Ok(Self {
            client: client(&connector, kept_max),
            fresh: OnceLock::new(),
            connector,
            proxy_authorization: authorization.filter(|_| !is_secure(&uri)),
            uri,
        })
    }

    /// Sends what `make` makes; its time is limited from outside. What goes out a second time is made a second time: a copy that is
    /// nearly never needed would cost every request.
    pub(super) async fn send(
        &self,
        options: &WebhookOptions,
        make: impl Fn() -> Request,
    ) -> Result<Response<Incoming>, Error> {
        let kept = async {
            let result = self.client.request(self.request(make())).await;
            (result, CONNECTED.with(Cell::get))
        };
        let (result, connected) = CONNECTED.scope(Cell::new(false), kept).await;
        match result {
            Err(error) if !connected && broke_before_answer(&error) => {
                tracing::debug!(endpoint = %options.url, "a kept connection was dead: the request goes out again");
                let fresh = self.fresh.get_or_init(|| client(&self.connector, 0));
                fresh.request(self.request(make())).await
            }
            result => result,
        }
    }

    fn request(&self, made: Request) -> http::Request<Full<Bytes>> {
        let mut request = http::Request::new(Full::new(made.body));
        *request.method_mut() = made.method;
        *request.uri_mut() = self.uri.clone();
        let mut headers = made.headers;
        headers.entry(USER_AGENT).or_insert(OUR_NAME);
        headers.entry(ACCEPT).or_insert(ANYTHING);
        if let Some(authorization) = &self.proxy_authorization {
            headers
                .entry(PROXY_AUTHORIZATION)
                .or_insert_with(|| authorization.clone());
        }
        *request.headers_mut() = headers;
        request
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

/// What a proxy is told when it is asked for a tunnel.
fn introduction(authorization: Option<HeaderValue>) -> HeaderMap {
    let authorization = authorization.map(|value| (PROXY_AUTHORIZATION, value));
    HeaderMap::from_iter(authorization.into_iter().chain([(USER_AGENT, OUR_NAME)]))
}

fn client(connector: &Connector, kept_max: usize) -> Client<Connector, Full<Bytes>> {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(kept_max)
        .build(connector.clone())
}
