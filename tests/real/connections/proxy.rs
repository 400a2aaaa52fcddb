//! A proxy that makes tunnels for whoever knows its password.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use crate::harness::http::{Raw, read_request};

/// Leads to what is on this machine, whatever the host's name.
pub(super) struct Proxy {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

impl Proxy {
    /// One that wants this value of `proxy-authorization`.
    pub(super) fn start(authorization: &'static str) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let ledger = Arc::clone(&asked);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let ledger = Arc::clone(&ledger);
                tokio::spawn(async move { tunnel(stream, authorization, &ledger).await });
            }
        });
        Self {
            port,
            asked,
            _runtime: runtime,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where tunnels were asked to.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn tunnel(
    mut stream: TcpStream,
    authorization: &str,
    asked: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let Some(request) = read_request(&mut BufReader::new(&mut stream)).await? else {
        return Ok(());
    };
    assert_eq!(request.method, "CONNECT");
    if header(&request, "proxy-authorization") != Some(authorization) {
        let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
        return stream.write_all(refusal).await;
    }
    asked.lock().unwrap().push(request.path.clone());
    let (_, port) = request.path.rsplit_once(':').unwrap();
    let mut there = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).await?;
    stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut stream, &mut there).await?;
    Ok(())
}

fn header<'a>(request: &'a Raw, name: &str) -> Option<&'a str> {
    let found = request.headers.iter().find(|(known, _)| known == name);
    found.and_then(|(_, value)| std::str::from_utf8(value).ok())
}
