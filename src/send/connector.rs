//! How a connection to a receiver is made: straight or through a proxy, with TLS or without, in bounded time.

use std::cell::Cell;
use std::error::Error as StdError;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use tower_service::Service;

use super::tls::{Tls, is_secure};

/// When a connection on which nothing comes is asked whether the other side is there, how often, and how many times.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long what was sent may stay unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

tokio::task_local! {
    /// Whether a connection was begun for the request that this task makes.
    pub(super) static CONNECTED: Cell<bool>;
}

/// What a proxy has to do with it that there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("no connection through the proxy")]
pub(super) struct ProxyError(#[source] BoxError);

type TunnelError = <Tunnel<HttpsConnector<HttpConnector>> as Service<Uri>>::Error;
type BoxError = Box<dyn StdError + Send + Sync>;

/// Makes the connections of one destination. A copy is one count.
#[derive(Clone)]
pub(super) struct Connector(Arc<Ways>);

struct Ways {
    tcp: HttpConnector,
    tls: Tls,
    proxy: Option<Via>,
    timeout: Duration,
}

/// The proxy that everything goes through.
pub(super) struct Via {
    pub(super) uri: Uri,
    /// What a request for a tunnel carries.
    pub(super) headers: HeaderMap,
}

impl Connector {
    /// Connections by `tls`, through `proxy` if there is one; each is there within `timeout`, TLS included, or has failed.
    pub(super) fn new(tls: Tls, proxy: Option<Via>, timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Where a name has several addresses, each has its part of the time.
        tcp.set_connect_timeout(Some(timeout));
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        Self(Arc::new(Ways {
            tcp,
            tls,
            proxy,
            timeout,
        }))
    }
}

impl Ways {
    /// Straight to a receiver that speaks no TLS.
    async fn connect(&self, to: Uri) -> Result<Link, BoxError> {
        let stream = self.tcp.clone().call(to).await?;
        Ok(Link::over(stream))
    }

    /// Straight to a receiver that speaks TLS.
    async fn connect_by_tls(&self, to: Uri) -> Result<Link, BoxError> {
        let mut receiver = HttpsConnector::from((self.tcp.clone(), self.tls.to_receiver()));
        Ok(Link::over(receiver.call(to).await?))
    }

    /// To the proxy, which makes the requests for us.
    async fn connect_to(&self, via: &Via) -> Result<Link, BoxError> {
        let mut proxy = HttpsConnector::from((self.tcp.clone(), self.tls.to_proxy()));
        let stream = proxy.call(via.uri.clone()).await.map_err(ProxyError)?;
        Ok(Link {
            is_forwarded: true,
            ..Link::over(stream)
        })
    }

    /// Through the proxy to a receiver that speaks TLS.
    async fn connect_through(&self, via: &Via, to: Uri) -> Result<Link, BoxError> {
        let proxy = HttpsConnector::from((self.tcp.clone(), self.tls.to_proxy()));
        let tunnel = Tunnel::new(via.uri.clone(), proxy).with_headers(via.headers.clone());
        let mut receiver = HttpsConnector::from((tunnel, self.tls.to_receiver()));
        let stream = receiver.call(to).await.map_err(|error| {
            // What is not the tunnel's is the receiver's: its certificate, for instance.
            match error.is::<TunnelError>() {
                true => ProxyError(error).into(),
                false => error,
            }
        });
        Ok(Link::over(stream?))
    }
}

impl Service<Uri> for Connector {
    type Response = Link;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Link, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        // Fails only outside of a request of ours, where nobody asks.
        CONNECTED.try_with(|connected| connected.set(true)).ok();
        let ways = Arc::clone(&self.0);
        let is_secure = is_secure(&to);
        // Each way is a future of its own: who needs no TLS does not pay for its size on the stack of each lane.
        Box::pin(async move {
            let connecting: Pin<Box<dyn Future<Output = _> + Send>> = match &ways.proxy {
                None if is_secure => Box::pin(ways.connect_by_tls(to)),
                None => Box::pin(ways.connect(to)),
                Some(via) if is_secure => Box::pin(ways.connect_through(via, to)),
                Some(via) => Box::pin(ways.connect_to(via)),
            };
            let connected = tokio::time::timeout(ways.timeout, connecting).await;
            connected.unwrap_or_else(|_| {
                let late = io::Error::new(io::ErrorKind::TimedOut, "connecting timed out");
                Err(late.into())
            })
        })
    }
}

/// What bytes go over: TCP, TLS, TLS inside of what leads there, which may be TLS too.
trait Stream: Connection + Read + Write + Send + Unpin {}

impl<T: Connection + Read + Write + Send + Unpin> Stream for T {}

/// A connection. Small, as it is moved often before it is used.
pub(super) struct Link {
    stream: Box<dyn Stream>,
    /// Whether whole requests are handed to a proxy, which makes them for us.
    is_forwarded: bool,
}

impl Link {
    fn over(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            is_forwarded: false,
        }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut dyn Stream> {
        Pin::new(&mut *self.get_mut().stream)
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.is_forwarded)
    }
}

impl Read for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl Write for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, parts)
    }
}
