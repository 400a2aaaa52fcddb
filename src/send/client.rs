//! The HTTP client of one destination, and what it does about connections that died in its pool.

use std::cell::Cell;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use reqwest::{Client, Response, Url};
use tower_layer::Layer;
use tower_service::Service;

use super::failure::broke_before_answer;
use super::options::WebhookOptions;
use super::request::Request;

tokio::task_local! {
    /// Whether a connection was begun for the request that this task makes.
    static CONNECTED: Cell<bool>;
}

/// Sends requests over connections that are kept.
///
/// A receiver may close a kept connection at the very moment a request goes out on it. Nobody is to blame for that, so such a request goes
/// out again at once, on a connection of its own, and spends no attempt. Whether the receiver saw the first one cannot be known; both carry the
/// same `webhook-id`.
#[derive(Debug)]
pub(super) struct Sender {
    client: Client,
    /// Made when it is first needed: keeps no connections, so that whatever goes out over it goes over a fresh one.
    fresh: OnceLock<Client>,
}

impl Sender {
    pub(super) fn new(options: &WebhookOptions) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: client(options, usize::MAX)?,
            fresh: OnceLock::new(),
        })
    }

    /// Sends what `make` makes; its time is limited from outside. What goes out a second time is made a second time: a copy that is
    /// nearly never needed would cost every request.
    pub(super) async fn send(
        &self,
        options: &WebhookOptions,
        make: impl Fn() -> Request,
    ) -> Result<Response, reqwest::Error> {
        let url = options.url.as_url();
        let kept = async {
            let result = exchange(&self.client, url, make()).await;
            (result, CONNECTED.with(Cell::get))
        };
        let (result, connected) = CONNECTED.scope(Cell::new(false), kept).await;
        match result {
            Err(error) if !connected && broke_before_answer(&error) => {
                tracing::debug!(endpoint = %options.url, "a kept connection was dead: the request goes out again");
                let fresh = match self.fresh.get() {
                    Some(fresh) => fresh,
                    None => {
                        let made = client(options, 0)?;
                        self.fresh.get_or_init(|| made)
                    }
                };
                exchange(fresh, url, make()).await
            }
            result => result,
        }
    }
}

fn exchange(
    client: &Client,
    url: &Url,
    request: Request,
) -> impl Future<Output = Result<Response, reqwest::Error>> + use<> {
    let mut exchange = reqwest::Request::new(request.method, url.clone());
    *exchange.headers_mut() = request.headers;
    *exchange.body_mut() = Some(request.body.into());
    client.execute(exchange)
}

fn client(options: &WebhookOptions, idle_max: usize) -> Result<Client, reqwest::Error> {
    let mut builder = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        // The limit spares each request a copy of itself.
        .retry(reqwest::retry::never().max_retries_per_request(0))
        .no_proxy()
        .connect_timeout(options.connect_timeout)
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(idle_max)
        .connector_layer(NoteConnections)
        .user_agent(concat!("postrider/", env!("CARGO_PKG_VERSION")));
    if let Some(proxy) = &options.proxy {
        builder = builder.proxy(proxy.for_client()?);
    }
    if options.url.as_url().scheme() != "https" {
        // Without this the client refuses to be made where no CA certificates are installed, although nothing will ask for one.
        builder = builder.tls_certs_only([]);
    }
    builder.build()
}

/// Notes that a connection is begun, in the task that waits for it.
#[derive(Debug, Clone, Copy)]
struct NoteConnections;

#[derive(Debug, Clone)]
struct Noting<S>(S);

impl<S> Layer<S> for NoteConnections {
    type Service = Noting<S>;

    fn layer(&self, inner: S) -> Noting<S> {
        Noting(inner)
    }
}

impl<S: Service<R>, R> Service<R> for Noting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        // Fails only outside of a request of ours, where nobody asks.
        CONNECTED.try_with(|connected| connected.set(true)).ok();
        self.0.call(request)
    }
}
