//! The routes of operators: on the socket, where they may change things, and on the address, where they may look.

use std::sync::Arc;

use axum::extract::connect_info::ConnectInfo;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::{mpsc, oneshot};

use super::access::{Access, with_token};
use super::api::{Ask, DiffRequest, LogLevelRequest, OrderReport, OrderRequest, OrderResult, Verb};
use super::connections::Peer;
use super::hosts::known_host;

/// What a request may have on the socket: a whole file, which has a mebibyte at most, twice that when all of it must be escaped.
pub(super) const DIFF_BYTES_MAX: usize = 3 * 1024 * 1024;

type Asks = mpsc::Sender<Ask>;

#[derive(Debug, serde::Deserialize)]
struct Of {
    destination: String,
}

/// Everything, for whoever may write to the socket.
pub(super) fn on_socket(asks: Asks) -> Router {
    let routes = Router::new()
        .route("/api/v1/status", get(status))
        .route("/api/v1/health", get(health))
        .route("/api/v1/retries", get(retries))
        .route(
            "/api/v1/diff",
            post(diff).layer(DefaultBodyLimit::max(DIFF_BYTES_MAX)),
        );
    routes.merge(changing()).with_state(asks)
}

/// What may be seen by whoever reaches the address, and what whoever has the token may change there. A file to be compared goes over the socket
/// alone: it names other files, and the address takes no body of its size.
pub(super) fn on_address(asks: Asks, access: &Arc<Access>) -> Router {
    let token = middleware::from_fn_with_state(Arc::clone(access), with_token);
    let host = middleware::from_fn_with_state(Arc::clone(access), known_host);
    let named = Router::new()
        .route("/", get(index))
        .route("/api/v1/status", get(status))
        .route("/api/v1/diff", post(refused))
        .merge(changing().route_layer(token.clone()))
        .layer(host);
    let by_any_name = Router::new().route("/-/reload", post(reload));
    named.merge(by_any_name.route_layer(token)).with_state(asks)
}

/// What changes something.
fn changing() -> Router<Asks> {
    let mut routes = Router::new()
        .route("/api/v1/log-level", post(log_level))
        .route("/api/v1/reload", post(reload));
    for verb in Verb::ALL {
        let order = move |asks, peer, request| order(verb, asks, peer, request);
        routes = routes.route(&format!("/api/v1/{}", verb.path()), post(order));
    }
    routes
}

async fn index() -> &'static str {
    concat!(
        "postrider ",
        env!("CARGO_PKG_VERSION"),
        "\n\n/metrics  /livez  /readyz  /api/v1/status\n"
    )
}

async fn status(State(asks): State<Asks>) -> Response {
    answer(&asks, Ask::Status).await
}

async fn health(State(asks): State<Asks>) -> Response {
    answer(&asks, Ask::Health).await
}

/// `?destination=NAME`.
async fn retries(State(asks): State<Asks>, Query(of): Query<Of>) -> Response {
    answer(&asks, |reply| Ask::Retries(of.destination, reply)).await
}

/// The body says who asks, as they call themselves. The status is that of an order.
async fn reload(
    State(asks): State<Asks>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Result<Json<OrderRequest>, JsonRejection>,
) -> Response {
    let claimed = request.map(|Json(request)| request.who).unwrap_or_default();
    let who = who(&claimed, peer);
    let (reply, answer) = oneshot::channel();
    if asks.send(Ask::Reload(who, reply)).await.is_err() {
        return gone();
    }
    match answer.await {
        Ok(report) => (status_of(report.result), Json(report)).into_response(),
        Err(_) => gone(),
    }
}

async fn diff(
    State(asks): State<Asks>,
    request: Result<Json<DiffRequest>, JsonRejection>,
) -> Response {
    match request {
        Ok(Json(request)) => answer(&asks, |reply| Ask::Diff(request, reply)).await,
        Err(rejection) => rejection.into_response(),
    }
}

/// Whatever was asked, the status says how it went: 200, 409 or 503.
async fn order(
    verb: Verb,
    State(asks): State<Asks>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Result<Json<OrderRequest>, JsonRejection>,
) -> Response {
    let mut request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return rejection.into_response(),
    };
    request.who = who(&request.who, peer);
    request.reason = one_line(&request.reason, 500);
    let (reply, answer) = oneshot::channel();
    if asks.send(Ask::Order(verb, request, reply)).await.is_err() {
        return gone();
    }
    let Ok(report) = answer.await else {
        return gone();
    };
    reported(report)
}

/// From which level on is logged.
async fn log_level(
    State(asks): State<Asks>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Result<Json<LogLevelRequest>, JsonRejection>,
) -> Response {
    let mut request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return rejection.into_response(),
    };
    request.who = who(&request.who, peer);
    let (reply, answer) = oneshot::channel();
    if asks.send(Ask::LogLevel(request, reply)).await.is_err() {
        return gone();
    }
    answer.await.map_or_else(|_| gone(), reported)
}

fn reported(report: OrderReport) -> Response {
    (status_of(report.result), Json(report)).into_response()
}

fn status_of(result: OrderResult) -> StatusCode {
    match result {
        OrderResult::Done => StatusCode::OK,
        OrderResult::Refused => StatusCode::CONFLICT,
        OrderResult::Unknown => StatusCode::NOT_FOUND,
        OrderResult::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn refused() -> Response {
    let report = OrderReport {
        result: OrderResult::Refused,
        text: "files are compared over the socket alone: [admin] socket".to_owned(),
    };
    (StatusCode::FORBIDDEN, Json(report)).into_response()
}

async fn answer<T: serde::Serialize>(
    asks: &Asks,
    ask: impl FnOnce(oneshot::Sender<T>) -> Ask,
) -> Response {
    let (reply, answer) = oneshot::channel();
    if asks.send(ask(reply)).await.is_err() {
        return gone();
    }
    match answer.await {
        Ok(report) => Json(report).into_response(),
        Err(_) => gone(),
    }
}

fn gone() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "postrider is ending\n").into_response()
}

/// What they call themselves, and what is known of them.
fn who(claimed: &str, peer: Peer) -> String {
    let claimed = one_line(claimed, 100);
    let known = match peer {
        Peer::User(Some(uid)) => format!("uid {uid}"),
        Peer::User(None) if claimed.is_empty() => "somebody".to_owned(),
        Peer::User(None) => return claimed,
        Peer::Somebody => "over HTTP, with the token".to_owned(),
    };
    match claimed.as_str() {
        "" => known,
        name => format!("{name} ({known})"),
    }
}

/// Fit for one line of a log or of a table.
fn one_line(text: &str, characters_max: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let plain: String = plain.take(characters_max).collect();
    plain.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_told_in_one_line() {
        let user = |uid| Peer::User(Some(uid));
        assert_eq!(who("anna", user(1000)), "anna (uid 1000)");
        assert_eq!(who("", user(0)), "uid 0");
        assert_eq!(who("a\nb\u{1b}[2J", Peer::User(None)), "a b [2J");
        assert_eq!(who("", Peer::Somebody), "over HTTP, with the token");
        assert_eq!(one_line(&"x".repeat(1000), 500).len(), 500);
    }
}
