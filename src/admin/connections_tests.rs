//! Bounds on a listener of its own, with times that a test can wait for.

use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connections::{Bounds, serve};
use crate::clock::Clock;

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);

struct Server {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(bounds: Bounds) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new()
            .route("/", get(async || "well"))
            .route("/large", get(async || "x".repeat(64 << 20)))
            .route("/slow", get(async || sleep(LONG).await))
            .route("/body", post(async |body: String| body));
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve("a test", listener, routes, bounds, stop.clone()));
        Self {
            address,
            stop,
            task,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends this and gives the beginning of what comes back; empty when the connection ends without a word.
    async fn say(&self, text: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        hear(&mut stream).await
    }
}

async fn hear(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 4096];
    let read = timeout(LONG, stream.read(&mut buffer)).await;
    let read = read.expect("an answer or an end").unwrap_or(0);
    String::from_utf8_lossy(&buffer[..read]).into_owned()
}

fn bounds() -> Bounds {
    Bounds {
        connections: 3,
        head: LONG,
        body_bytes: 16 * 1024,
        body: LONG,
        answer: LONG,
    }
}

const ASK: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn a_request_has_its_time_to_come() {
    let server = Server::start(Bounds {
        head: SHORT,
        body: SHORT,
        ..bounds()
    })
    .await;
    let clock = Clock::start();
    let begun = clock.now().tick;
    assert_eq!(server.say("").await, "");
    assert_eq!(server.say("GET / HTTP/1.1\r\nhost:").await, "");
    let mut kept = server.connect().await;
    kept.write_all(ASK.as_bytes()).await.unwrap();
    assert!(hear(&mut kept).await.ends_with("well"));
    assert_eq!(hear(&mut kept).await, "", "a kept connection is closed");
    let half = "POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf";
    assert!(server.say(half).await.starts_with("HTTP/1.1 408"));
    let took = clock.now().tick.since(begun);
    assert!(took >= 4 * SHORT, "{took:?}");
}

#[tokio::test]
async fn a_request_has_a_size() {
    let server = Server::start(bounds()).await;
    let head = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    assert!(server.say(&head).await.starts_with("HTTP/1.1 431"));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(65));
    assert!(server.say(&many).await.starts_with("HTTP/1.1 431"));
    let body = "POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\n\r\n";
    assert!(server.say(body).await.starts_with("HTTP/1.1 413"));
    let body = "POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";
    assert!(server.say(body).await.ends_with("\r\n\r\nhi"));
}

#[tokio::test]
async fn an_answer_has_its_time_to_be_taken() {
    let server = Server::start(Bounds {
        answer: SHORT,
        ..bounds()
    })
    .await;
    let mut stream = server.connect().await;
    let ask = ASK.replace(" / ", " /large ");
    stream.write_all(ask.as_bytes()).await.unwrap();
    sleep(2 * SHORT).await;
    let mut answer = Vec::new();
    // Cut off, in whatever way the kernel says so.
    let ended = timeout(LONG, stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok());
    assert!(answer.len() < 64 << 20, "{}", answer.len());
    let mut reader = server.connect().await;
    let ask = ask.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    reader.write_all(ask.as_bytes()).await.unwrap();
    let mut whole = Vec::new();
    reader.read_to_end(&mut whole).await.unwrap();
    assert!(whole.len() > 64 << 20, "{}", whole.len());
}

#[tokio::test]
async fn those_who_wait_make_room_and_those_who_are_answered_do_not() {
    let server = Server::start(bounds()).await;
    let mut asked = server.connect().await;
    let ask = ASK.replace(" / ", " /slow ");
    asked.write_all(ask.as_bytes()).await.unwrap();
    sleep(SHORT).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(server.connect().await);
    }
    assert!(server.say(ASK).await.ends_with("well"));
    let mut left = 0;
    for stream in &mut silent {
        let mut byte = [0];
        left += usize::from(timeout(SHORT, stream.read(&mut byte)).await.is_ok());
    }
    assert_eq!(left, 19, "two of three places, and the last one asked");
    let nothing = timeout(SHORT, asked.read(&mut [0])).await;
    assert!(nothing.is_err(), "it is still being answered");
    server.stop.cancel();
    timeout(LONG, server.task).await.unwrap().unwrap();
}
