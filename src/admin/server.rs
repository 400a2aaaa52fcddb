//! The HTTP server of metrics and probes.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

use super::access::Access;
use super::api::Ask;
use super::connections::{self, Bounds};
use super::descriptors;
use super::health::Health;
use super::operators::on_address;
use super::socket::SocketError;

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be had.
    #[error("cannot listen on {address} ([admin] listen)")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The socket cannot be had.
    #[error("no socket for operators ([admin] socket)")]
    Socket(#[from] SocketError),
}

#[derive(Clone)]
struct Shown {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Binds the address now and serves it until `stop`, to those whom `access` lets.
///
/// # Errors
/// When the address cannot be had.
pub async fn serve(
    address: SocketAddr,
    access: Arc<Access>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    asks: mpsc::Sender<Ask>,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + use<>, AdminError> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| AdminError::Bind { address, source })?;
    let routes = Router::new()
        .route("/metrics", get(render))
        .route("/livez", get(alive))
        .route("/-/healthy", get(alive))
        .route("/readyz", get(ready))
        .route("/-/ready", get(ready))
        .with_state(Shown { metrics, health })
        .merge(on_address(asks, &access));
    let bounds = Bounds::for_connections(descriptors::shares().0);
    Ok(connections::serve(
        "the admin server",
        listener,
        routes,
        bounds,
        stop,
    ))
}

async fn render(State(shown): State<Shown>) -> Response {
    match shown.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn alive(State(shown): State<Shown>) -> Response {
    let overdue = shown.health.overdue();
    if overdue.is_empty() {
        return "alive\n".into_response();
    }
    let text = format!("stuck: {}\n", overdue.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn ready(State(shown): State<Shown>) -> Response {
    let reasons = shown.health.not_ready();
    let warnings = shown.health.warnings();
    let warnings = warnings
        .iter()
        .map(|warning| format!("warning: {warning}\n"));
    let warnings: String = warnings.collect();
    if reasons.is_empty() {
        return format!("ready\n{warnings}").into_response();
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!("not ready: {}\n{warnings}", reasons.join("; ")),
    )
        .into_response()
}
