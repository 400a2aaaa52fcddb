//! A receiver that answers 200 to everything, as cheaply as one thread can, and notes when the first and the last request came.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A receiver on a thread of its own. Dropping it ends it.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    tally: Arc<Tally>,
    _stop: oneshot::Sender<()>,
}

struct Tally {
    begin: Instant,
    requests: AtomicU64,
    bytes: AtomicU64,
    /// Microseconds since `begin`.
    first: AtomicU64,
    last: AtomicU64,
}

impl Tally {
    fn count(&self, bytes: usize) {
        let now = u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        if self.requests.load(Ordering::Relaxed) == 0 {
            self.first.store(now, Ordering::Relaxed);
        }
        self.last.store(now, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Release);
    }
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = {
            let _entered = runtime.enter();
            let socket = TcpSocket::new_v4().expect("a socket");
            let anywhere = "127.0.0.1:0".parse().expect("an address");
            socket.bind(anywhere).expect("a free port");
            // A thousand connections may come at once; what finds no room comes again a second later.
            socket.listen(4096).expect("a socket that listens")
        };
        let address = listener.local_addr().expect("an address");
        let tally = Arc::new(Tally {
            begin: Instant::now(),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&tally);
        std::thread::spawn(move || serve(&runtime, &listener, shared, stopped));
        Self {
            address,
            tally,
            _stop: stop,
        }
    }

    /// Requests answered so far.
    pub(crate) fn requests(&self) -> u64 {
        self.tally.requests.load(Ordering::Acquire)
    }

    /// Bytes in all their bodies.
    pub(crate) fn bytes(&self) -> u64 {
        self.tally.bytes.load(Ordering::Relaxed)
    }

    /// From the first request to the last.
    pub(crate) fn time(&self) -> Duration {
        let first = self.tally.first.load(Ordering::Relaxed);
        let last = self.tally.last.load(Ordering::Relaxed);
        Duration::from_micros(last - first)
    }
}

fn serve(
    runtime: &Runtime,
    listener: &TcpListener,
    tally: Arc<Tally>,
    stopped: oneshot::Receiver<()>,
) {
    runtime.block_on(async move {
        let accept = async {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&tally)));
            }
        };
        tokio::select! {
            () = accept => {}
            _ = stopped => {}
        }
    });
}

/// Answers one connection's requests until it is closed.
async fn answer(mut stream: TcpStream, tally: Arc<Tally>) {
    stream.set_nodelay(true).ok();
    let mut buffer = vec![0; 16 * 1024];
    let mut filled = 0;
    loop {
        let Ok(more) = stream.read(&mut buffer[filled..]).await else {
            return;
        };
        if more == 0 {
            return;
        }
        filled += more;
        while let Some((head, body)) = request(&buffer[..filled]) {
            tally.count(body);
            buffer.copy_within(head + body..filled, 0);
            filled -= head + body;
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}

/// The lengths of the head and the body of the request that `bytes` begin with, if it is complete.
fn request(bytes: &[u8]) -> Option<(usize, usize)> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let name = b"content-length:";
    let length = bytes[..head]
        .split(|byte| *byte == b'\n')
        .find(|line| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name))?;
    let body: usize = std::str::from_utf8(&length[name.len()..])
        .ok()?
        .trim()
        .parse()
        .ok()?;
    (bytes.len() >= head + body).then_some((head, body))
}
