//! An HTTP receiver on loopback that answers as its script says and writes down every attempt.
//!
//! It speaks HTTP/1.1 by hand, because half of its work is to behave as no proper server does: to hang, to close, to reset, to send a body
//! without an end. It has a runtime of its own on a thread of its own, so tests are plain functions.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

pub use super::ledger::{Attempt, Request};

use super::http::{Raw, read_request};
use super::place::Place;
use super::port::free_port;
use super::wait::{wait_for, wait_until};

/// What a receiver does with one request.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    delay: Duration,
    manner: Manner,
}

/// How it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// As a proper server does.
    Whole,
    /// Not at all; the connection stays open until the other side closes it.
    Hang,
    /// Not at all; the connection is closed.
    Close,
    /// Not at all; the connection is reset.
    Reset,
    /// A body that does not end until the other side has had enough.
    Endless,
    /// A head that announces more than comes before the connection is closed.
    Truncated,
}

impl Answer {
    /// 200 without a body.
    pub fn ok() -> Self {
        Self::status(200)
    }

    /// A status without a body.
    pub fn status(status: u16) -> Self {
        let (headers, body, delay) = (vec![], vec![], Duration::ZERO);
        Self {
            status,
            headers,
            body,
            delay,
            manner: Manner::Whole,
        }
    }

    /// No answer; the connection stays open.
    pub fn hang() -> Self {
        Self {
            manner: Manner::Hang,
            ..Self::ok()
        }
    }

    /// No answer; the connection is closed.
    pub fn close() -> Self {
        Self {
            manner: Manner::Close,
            ..Self::ok()
        }
    }

    /// No answer; the connection is reset.
    pub fn reset() -> Self {
        Self {
            manner: Manner::Reset,
            ..Self::ok()
        }
    }

    /// With a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// After a while.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// With a body that does not end, 16 KiB every millisecond.
    pub fn endless(mut self) -> Self {
        self.manner = Manner::Endless;
        self
    }

    /// With a body that breaks off after what [`body`](Self::body) gave.
    pub fn truncated(mut self) -> Self {
        self.manner = Manner::Truncated;
        self
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match self.manner {
            Manner::Endless => head.push_str("transfer-encoding: chunked\r\n"),
            Manner::Truncated => {
                head.push_str(&format!("content-length: {}\r\n", self.body.len() + 1000));
            }
            // These statuses never have a body, and announcing its length is wrong.
            _ if self.status == 204 || self.status == 304 => {}
            _ => head.push_str(&format!("content-length: {}\r\n", self.body.len())),
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

type Script = Arc<dyn Fn(&Request) -> Answer + Send + Sync>;

/// A receiver.
pub struct Receiver {
    port: u16,
    shared: Arc<Shared>,
    runtime: Mutex<Option<Runtime>>,
}

struct Shared {
    script: RwLock<Script>,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    attempts: Vec<Attempt>,
    seen: HashMap<Place, usize>,
    accepted: BTreeSet<Place>,
}

impl Receiver {
    /// A receiver that answers 200 to everything.
    pub fn ok() -> Self {
        Self::start(|_| Answer::ok())
    }

    /// A receiver that answers as the script says.
    pub fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let script: Script = Arc::new(script);
        let shared = Shared {
            script: RwLock::new(script),
            book: Mutex::default(),
        };
        let receiver = Self {
            port: free_port(),
            shared: Arc::new(shared),
            runtime: Mutex::new(None),
        };
        receiver.resume();
        receiver
    }

    /// From here on it answers as this script says.
    pub fn script(&self, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) {
        let script: Script = Arc::new(script);
        *self
            .shared
            .script
            .write()
            .unwrap_or_else(PoisonError::into_inner) = script;
    }

    /// Closes its port and breaks every connection: whoever comes is refused. Attempts that waited for an answer get none.
    pub fn stop(&self) {
        let runtime = self
            .runtime
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(runtime) = runtime {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// Opens the same port again; nothing happens when it is open.
    pub fn resume(&self) {
        let mut running = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_some() {
            return;
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        // For a moment after `stop` the old socket can live on in a child that is just being forked.
        let listener = wait_for(Duration::from_secs(5), "the port is free again", || {
            runtime
                .block_on(TcpListener::bind(("127.0.0.1", self.port)))
                .ok()
        });
        runtime.spawn(listen(listener, Arc::clone(&self.shared)));
        *running = Some(runtime);
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A URL that leads here.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// Every attempt until this moment, in order of arrival.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.shared.book().attempts.clone()
    }

    /// How many attempts there were.
    pub fn attempt_count(&self) -> usize {
        self.shared.book().attempts.len()
    }

    /// How many different records were accepted.
    pub fn accepted_count(&self) -> usize {
        self.shared.book().accepted.len()
    }

    /// How many requests wait for their answer at this moment.
    pub fn waiting_count(&self) -> usize {
        self.shared
            .book()
            .attempts
            .iter()
            .filter(|a| a.finished.is_none())
            .count()
    }

    /// Waits until there were `count` attempts or more.
    #[track_caller]
    pub fn wait_attempts(&self, count: usize, timeout: Duration) {
        let what = format!("{count} attempts at {}", self.url());
        wait_until(timeout, &what, || self.attempt_count() >= count);
    }

    /// Waits until `count` different records or more were accepted.
    #[track_caller]
    pub fn wait_accepted(&self, count: usize, timeout: Duration) {
        let what = format!("{count} records accepted at {}", self.url());
        wait_until(timeout, &what, || self.accepted_count() >= count);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let runtime = self
            .runtime
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a request into the ledger and asks the script.
    fn enter(&self, raw: Raw) -> (usize, Answer) {
        let mut request = Request {
            number: 0,
            earlier: 0,
            arrived: Instant::now(),
            method: raw.method,
            path: raw.path,
            headers: raw.headers.into(),
            body: Bytes::from(raw.body),
        };
        let mut attempt = Attempt::of(&request);
        {
            let mut book = self.book();
            request.number = book.attempts.len();
            attempt.number = request.number;
            if let Some(place) = &attempt.place {
                let seen = book.seen.entry(place.clone()).or_default();
                request.earlier = *seen;
                *seen += 1;
            }
            book.attempts.push(attempt);
        }
        let script = Arc::clone(&self.script.read().unwrap_or_else(PoisonError::into_inner));
        (request.number, script(&request))
    }

    /// Notes what was decided. The decision counts, not whether the other side was still there to read it: that is what makes repeats.
    fn decide(&self, number: usize, status: u16) {
        let mut book = self.book();
        let attempt = &mut book.attempts[number];
        attempt.status = Some(status);
        if attempt.accepted()
            && let Some(place) = attempt.place.clone()
        {
            book.accepted.insert(place);
        }
    }

    fn finish(&self, number: usize, answer_bytes: usize) {
        let attempt = &mut self.book().attempts[number];
        attempt.finished = Some(Instant::now());
        attempt.answer_bytes = answer_bytes;
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // Out of file handles, for example: the next one may work.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        tokio::spawn(serve(stream, Arc::clone(&shared)));
    }
}

/// Serves one connection to its end. What goes wrong on it ends it: the other side sees that, and the ledger has what came.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    stream.set_nodelay(true).ok();
    let mut stream = BufReader::new(stream);
    while let Ok(Some(raw)) = read_request(&mut stream).await {
        let closes = raw.closes();
        let (number, answer) = shared.enter(raw);
        if !answer.delay.is_zero() {
            tokio::time::sleep(answer.delay).await;
        }
        let mut written = 0;
        let kept = give(&mut stream, &shared, number, &answer, &mut written).await;
        shared.finish(number, written);
        if closes || !kept.unwrap_or(false) {
            break;
        }
    }
}

/// Gives the answer; says whether the connection may be used again.
async fn give(
    stream: &mut BufReader<TcpStream>,
    shared: &Shared,
    number: usize,
    answer: &Answer,
    written: &mut usize,
) -> io::Result<bool> {
    match answer.manner {
        Manner::Close => return Ok(false),
        Manner::Reset => {
            stream.get_ref().set_zero_linger()?;
            return Ok(false);
        }
        Manner::Hang => {
            let read = stream.read(&mut [0]).await;
            return read.map(|_| false);
        }
        Manner::Whole | Manner::Endless | Manner::Truncated => {}
    }
    shared.decide(number, answer.status);
    let mut bytes = answer.head();
    bytes.extend(&answer.body);
    stream.get_mut().write_all(&bytes).await?;
    *written = bytes.len();
    if answer.manner == Manner::Endless {
        never_end(stream.get_mut(), written).await?;
    }
    Ok(answer.manner == Manner::Whole)
}

/// Writes chunk after chunk until the other side has had enough.
async fn never_end(stream: &mut TcpStream, written: &mut usize) -> io::Result<()> {
    let mut chunk = b"4000\r\n".to_vec();
    chunk.resize(6 + 0x4000, b'x');
    chunk.extend(b"\r\n");
    loop {
        stream.write_all(&chunk).await?;
        *written += chunk.len();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
