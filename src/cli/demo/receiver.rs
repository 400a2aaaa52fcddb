//! A webhook receiver in this process: takes notifications, keeps a ledger of them, and is in trouble when the story says so.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;

use crate::clock::{Clock, Tick};

use super::broker::Origin;

/// What such a receiver does with a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// GraphSpace's one view that lights up the browser: takes whatever comes.
    View,
    /// A bridge to e-mail: refuses for good what has no address to write to.
    Mail,
}

/// One webhook receiver.
pub(super) struct Receiver {
    kind: Kind,
    clock: Clock,
    in_trouble: AtomicBool,
    ledger: Mutex<Vec<Arrival>>,
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    id: String,
    pub(super) origin: Origin,
    pub(super) at: Tick,
    status: StatusCode,
}

/// What a receiver can say about everything it got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Different deliveries that were acknowledged.
    pub(super) deliveries: u64,
    /// Acknowledged more than once.
    pub(super) repeats: u64,
    /// Requests answered with 422.
    pub(super) refused: u64,
    /// Requests answered with 503.
    pub(super) unavailable: u64,
}

impl Receiver {
    /// Starts one on a free port of this machine, and says its address.
    pub(super) async fn start(kind: Kind, clock: Clock) -> anyhow::Result<(Arc<Self>, String)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("no port of 127.0.0.1 can be had for a webhook receiver")?;
        let address = listener.local_addr()?.to_string();
        let receiver = Arc::new(Self {
            kind,
            clock,
            in_trouble: AtomicBool::new(false),
            ledger: Mutex::default(),
        });
        let routes = Router::new()
            .fallback(take)
            .with_state(Arc::clone(&receiver));
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, "a webhook receiver of the demo has ended");
            }
        });
        Ok((receiver, address))
    }

    /// Answers 503 from now on, or no longer.
    pub(super) fn trouble(&self, in_trouble: bool) {
        self.in_trouble.store(in_trouble, Ordering::Relaxed);
    }

    /// What came so far.
    pub(super) fn taken(&self) -> Taken {
        let mut taken = Taken::default();
        let mut ids = BTreeSet::new();
        for arrival in self.ledger().iter() {
            match arrival.status {
                StatusCode::OK if ids.insert(arrival.id.clone()) => taken.deliveries += 1,
                StatusCode::OK => taken.repeats += 1,
                StatusCode::UNPROCESSABLE_ENTITY => taken.refused += 1,
                _ => taken.unavailable += 1,
            }
        }
        taken
    }

    /// Every acknowledged request since `since`.
    pub(super) fn acknowledged(&self, since: Tick) -> Vec<Arrival> {
        let wanted = |arrival: &&Arrival| arrival.at >= since && arrival.status == StatusCode::OK;
        self.ledger().iter().filter(wanted).cloned().collect()
    }

    fn answer(&self, body: &[u8]) -> (StatusCode, &'static str) {
        if self.in_trouble.load(Ordering::Relaxed) {
            return (
                StatusCode::SERVICE_UNAVAILABLE,
                "the mail server is being restarted\n",
            );
        }
        let value = serde_json::from_slice(body).unwrap_or(serde_json::Value::Null);
        if self.kind == Kind::Mail
            && value
                .get("owner_email")
                .is_some_and(|email| email.is_null())
        {
            return (
                StatusCode::UNPROCESSABLE_ENTITY,
                "nobody to write to: owner_email is null\n",
            );
        }
        (StatusCode::OK, "")
    }

    fn ledger(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn take(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    };
    let (status, text) = receiver.answer(&body);
    let arrival = Arrival {
        id: header("webhook-id").to_owned(),
        origin: Origin {
            topic: header("postrider-topic").to_owned(),
            partition: header("postrider-partition").parse().unwrap_or(-1),
            offset: header("postrider-offset").parse().unwrap_or(-1),
        },
        at: receiver.clock.now().tick,
        status,
    };
    receiver.ledger().push(arrival);
    (status, text)
}
