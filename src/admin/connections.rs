//! Takes connections and answers on them, all within bounds: how many there are, how long a request may take to come and its answer to be
//! taken, how large a request may be.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::connect_info::ConnectInfo;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use tracing::{debug, warn};

use super::patience::Impatient;
use super::places::{Place, Places};

/// No head needs more, and no body but that of a whole file.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// No request needs more.
const HEADERS_MAX: usize = 64;
/// How long it is not tried to take another connection after the system has refused.
const BACK_OFF: Duration = Duration::from_secs(1);
/// After so many refusals it is said again: five minutes of them.
const REFUSALS_PER_WORD: u32 = 300;
/// At the end, so long is waited for answers under way.
const FAREWELL: Duration = Duration::from_secs(2);

/// What those at the other end may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How many there may be.
    pub(super) connections: usize,
    /// Until a request's head is there, from the moment the one before it was answered: the time of a kept connection too.
    pub(super) head: Duration,
    /// How many bytes a body may have.
    pub(super) body_bytes: usize,
    /// From then on until its body is there.
    pub(super) body: Duration,
    /// How long an answer may take to be taken.
    pub(super) answer: Duration,
}

impl Bounds {
    /// What is usual, for so many.
    pub(super) const fn for_connections(connections: usize) -> Self {
        Self {
            connections,
            head: Duration::from_secs(10),
            body_bytes: REQUEST_BYTES_MAX,
            body: Duration::from_secs(10),
            answer: Duration::from_secs(30),
        }
    }
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
pub(super) enum Peer {
    /// Of the socket: which user, as the kernel says.
    User(Option<u32>),
    /// Of the address, where nobody says.
    Somebody,
}

/// Where connections come from.
pub(super) trait Listener: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        Ok((Self::accept(self).await?.0, Peer::Somebody))
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = Self::accept(self).await?;
        let peer = Peer::User(stream.peer_cred().ok().map(|peer| peer.uid()));
        Ok((stream, peer))
    }
}

/// Serves whoever comes, until `stop`. `name` is what the listener is called.
pub(super) async fn serve<L: Listener>(
    name: &'static str,
    listener: L,
    routes: Router,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let places = Places::new(bounds.connections);
    let mut connections = JoinSet::new();
    let mut refusals = 0;
    let taking = async {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    refusals = 0;
                    let place = Arc::new(places.take().await);
                    let (routes, stop) = (routes.clone(), stop.clone());
                    connections.spawn(converse(stream, peer, routes, bounds, place, stop));
                }
                Err(error) if is_of_the_other_side(&error) => {}
                Err(error) => {
                    if refusals % REFUSALS_PER_WORD == 0 {
                        warn!(%error, listener = name, "cannot take a connection, and tries again every second");
                    }
                    refusals += 1;
                    sleep(BACK_OFF).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = taking => {}
    }
    drop(listener);
    let answered = async { while connections.join_next().await.is_some() {} };
    if timeout(FAREWELL, answered).await.is_err() {
        debug!(listener = name, "some do not take their answers");
    }
}

/// It went away before it was taken; that says nothing of the next.
fn is_of_the_other_side(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}

/// Answers on one connection until it ends, its place is needed, or everything stops.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    routes: Router,
    bounds: Bounds,
    place: Arc<Place>,
    stop: CancellationToken,
) {
    let service = service_fn(|request| {
        let (routes, place) = (routes.clone(), Arc::clone(&place));
        async move {
            place.works();
            let response = answer(request, peer, routes, bounds).await;
            place.waits();
            Ok::<_, Infallible>(response)
        }
    });
    let io = TokioIo::new(Impatient::new(stream, bounds.answer));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(REQUEST_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = place.leave().cancelled() => Ok(()),
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection has ended before its time");
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: Peer,
    mut routes: Router,
    bounds: Bounds,
) -> Response {
    let (mut head, body) = request.into_parts();
    let announced = body.size_hint().lower();
    if usize::try_from(announced).map_or(true, |bytes| bytes > bounds.body_bytes) {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    }
    let body = match timeout(bounds.body, to_bytes(Body::new(body), bounds.body_bytes)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    head.extensions.insert(ConnectInfo(peer));
    let request = Request::from_parts(head, Body::from(body));
    let Ok(response) = routes.call(request).await;
    response
}
