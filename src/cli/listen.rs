//! `postrider listen`: a receiver for trying things. It answers on this machine alone, and keeps nothing.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::config;
use crate::send::{PublicKey, SigningScheme, SigningSecret, SigningSecretError};
use crate::signal::Signals;

use super::common::Common;
use super::explain::plain;
use super::{complain, exit, output, say};

/// More than Kafka usually takes for one record.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// So much of a body is shown to people.
const BODY_CHARACTERS: usize = 4096;
/// How far a signature's time may be off, as Standard Webhooks advises.
const TOLERANCE_S: i64 = 300;
/// A longer wait than any sender's patience.
const DELAY_MAX: Duration = Duration::from_secs(3600);

/// A receiver to try things with: shows each request, and checks its signature
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider listen                                     then: url = \"http://localhost:8000/hooks\"
  postrider listen --secret \"$(cat shop.secret)\"       answers 401 where the signature is wrong
  postrider listen --status 503                        see what retries do
  postrider listen --fail-every 3 --delay 200ms        slow, and every third answer is a 503
  postrider listen --format json | jq .headers

It can be reached from this machine alone. Ctrl-C ends it.")]
pub(super) struct ListenArguments {
    /// The port of 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8000)]
    port: u16,
    /// What signatures are checked with: the shared secret, whsec_..., or the public key, whpk_...
    #[arg(long, value_name = "SECRET", value_parser = secret)]
    secret: Option<Verifier>,
    /// The status of every answer
    #[arg(long, value_name = "N", default_value = "200", value_parser = status)]
    status: StatusCode,
    /// Answer 503 to every N-th request
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    fail_every: Option<u64>,
    /// Wait before each answer: 200ms, 2s
    #[arg(long, value_name = "DURATION", value_parser = delay)]
    delay: Option<Duration>,
}

/// What a receiver has of the sender's.
#[derive(Debug, Clone)]
enum Verifier {
    Shared(SigningSecret),
    Public(PublicKey),
}

fn secret(text: &str) -> Result<Verifier, String> {
    let text = text.trim();
    if let Some(key) = PublicKey::new(text) {
        return Ok(Verifier::Public(key));
    }
    match SigningSecret::new(text, SigningScheme::StandardWebhooks, None) {
        Ok(secret) => Ok(Verifier::Shared(secret)),
        Err(SigningSecretError::OtherScheme(_)) => Err(
            "it is a private key, which is the sender's alone; `postrider keys public` shows its public one"
                .to_owned(),
        ),
        Err(SigningSecretError::Public) => {
            Err("it is no public key: whpk_ and the base64 of 32 bytes".to_owned())
        }
        Err(error) => Err(format!("it {error}; `postrider keys new` makes one")),
    }
}

fn status(text: &str) -> Result<StatusCode, String> {
    let number: Option<u16> = text.parse().ok();
    let status = number.filter(|number| (200..=599).contains(number));
    let status = status.and_then(|number| StatusCode::from_u16(number).ok());
    status.ok_or_else(|| "write a status from 200 to 599".to_owned())
}

fn delay(text: &str) -> Result<Duration, String> {
    let delay = config::duration(text)?;
    match delay <= DELAY_MAX {
        true => Ok(delay),
        false => Err("an hour at most".to_owned()),
    }
}

/// The receiver.
struct Receiver {
    json: bool,
    secret: Option<Verifier>,
    status: StatusCode,
    fail_every: Option<u64>,
    delay: Duration,
    count: AtomicU64,
    /// Cancelled when nobody reads what is shown.
    unread: CancellationToken,
}

/// One request, and how it was answered.
#[derive(Debug, Serialize)]
struct Seen {
    at: String,
    method: String,
    path: String,
    status: u16,
    signature: &'static str,
    headers: Vec<(String, String)>,
    body: String,
}

pub(super) fn main(common: &Common, arguments: &ListenArguments) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let served = match runtime {
        Ok(runtime) => runtime.block_on(serve(common, arguments)),
        Err(error) => Err(error),
    };
    match served {
        Ok(()) => exit::OK,
        Err(error) => {
            let port = arguments.port;
            complain(&format!(
                "error: cannot listen on 127.0.0.1:{port}: {error}"
            ));
            complain("  say another port: --port N");
            exit::UNAVAILABLE
        }
    }
}

/// Answers until Ctrl-C, or until nobody reads what is shown.
async fn serve(common: &Common, arguments: &ListenArguments) -> std::io::Result<()> {
    let mut signals = Signals::listen()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port)).await?;
    let address = listener.local_addr()?;
    complain(&format!("listening on http://{address}; Ctrl-C ends it"));
    let unread = CancellationToken::new();
    let receiver = Arc::new(Receiver {
        unread: unread.clone(),
        json: common.is_json(),
        secret: arguments.secret.clone(),
        status: arguments.status,
        fail_every: arguments.fail_every,
        delay: arguments.delay.unwrap_or_default(),
        count: AtomicU64::new(0),
    });
    let routes = Router::new()
        .fallback(take)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(receiver);
    tokio::select! {
        served = async { axum::serve(listener, routes).await } => served,
        () = unread.cancelled() => Ok(()),
        _ = signals.next() => Ok(()),
    }
}

async fn take(
    State(receiver): State<Arc<Receiver>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    tokio::time::sleep(receiver.delay).await;
    let signature = receiver.signature(&headers, &body);
    let (status, answer) = receiver.answer(signature);
    let named = headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.to_string(), value)
    });
    let seen = Seen {
        at: now(),
        method: method.to_string(),
        path: uri.to_string(),
        status: status.as_u16(),
        signature: signature.word(),
        headers: named.collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    say(&match receiver.json {
        true => serde_json::to_string(&seen).unwrap_or_default() + "\n",
        false => seen.shown(),
    });
    if !output::is_read() {
        receiver.unread.cancel();
    }
    (status, answer)
}

/// What a signature says of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signature {
    Valid,
    Wrong,
    Missing,
    /// Right, and of another time.
    Old,
    /// There is no secret to check it with.
    Unchecked,
}

impl Signature {
    fn word(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Wrong => "wrong",
            Self::Missing => "missing",
            Self::Old => "valid, but its time is off by more than five minutes",
            Self::Unchecked => "not checked: no --secret",
        }
    }
}

impl Receiver {
    fn signature(&self, headers: &HeaderMap, body: &[u8]) -> Signature {
        let Some(secret) = &self.secret else {
            return Signature::Unchecked;
        };
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let signed = (
            text("webhook-id"),
            text("webhook-timestamp"),
            text("webhook-signature"),
        );
        let (Some(id), Some(time), Some(signatures)) = signed else {
            return Signature::Missing;
        };
        let verified = match secret {
            Verifier::Shared(secret) => secret.verifies(signatures, id, time, body),
            Verifier::Public(key) => key.verifies(signatures, id, time, body),
        };
        if !verified {
            return Signature::Wrong;
        }
        let now = Clock::wall().as_seconds();
        let off = time
            .parse()
            .map(|time: i64| now.saturating_sub(time).saturating_abs());
        match off {
            Ok(off) if off <= TOLERANCE_S => Signature::Valid,
            Ok(_) | Err(_) => Signature::Old,
        }
    }

    fn answer(&self, signature: Signature) -> (StatusCode, &'static str) {
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        match signature {
            Signature::Wrong | Signature::Missing | Signature::Old => {
                (StatusCode::UNAUTHORIZED, "the signature is not right\n")
            }
            Signature::Valid | Signature::Unchecked => match self.fail_every {
                Some(every) if number.is_multiple_of(every) => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "as asked by --fail-every\n",
                ),
                Some(_) | None => (self.status, ""),
            },
        }
    }
}

impl Seen {
    fn shown(&self) -> String {
        let Self {
            at,
            method,
            path,
            status,
            signature,
            headers,
            body,
        } = self;
        let path = plain(path);
        let mut text = format!("{at} {method} {path} -> {status}; signature {signature}\n");
        for (name, value) in headers {
            text.push_str(&format!("  {name}: {}\n", plain(value)));
        }
        text.push('\n');
        let shown: String = body.chars().take(BODY_CHARACTERS).collect();
        for line in shown.lines() {
            text.push_str(&format!("  {}\n", plain(line)));
        }
        if shown.len() < body.len() {
            text.push_str(&format!(
                "  ... ({} bytes; --format json shows all)\n",
                body.len()
            ));
        }
        text.push('\n');
        text
    }
}

/// The time as people read it, in UTC.
fn now() -> String {
    let Timestamp(ms) = Clock::wall();
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    format!("{time:.3}")
}
