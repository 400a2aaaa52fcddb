//! A load generator: the same requests without a Kafka and without an HTTP library, to learn what the receiver can take.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::contest::record;

/// Makes `records` requests over so many connections, one at a time on each.
pub(crate) fn run(address: &str, records: usize, connections: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let request = request(address);
    runtime.block_on(async {
        let mut workers = tokio::task::JoinSet::new();
        for number in 0..connections {
            let share = records / connections + usize::from(number < records % connections);
            workers.spawn(send(address.to_owned(), request.clone(), share));
        }
        workers.join_all().await;
    });
    super::done(0.0);
}

fn request(address: &str) -> Vec<u8> {
    let body = record(0);
    let head = format!(
        "POST /hooks HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\naccept: */*\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

async fn send(address: String, request: Vec<u8>, count: usize) {
    let mut stream = TcpStream::connect(&address).await.expect("a connection");
    stream.set_nodelay(true).expect("an option of the socket");
    let mut answer = [0; 512];
    for _ in 0..count {
        stream
            .write_all(&request)
            .await
            .expect("the request is sent");
        let mut length = 0;
        while !answer[..length].ends_with(b"\r\n\r\n") {
            let more = stream.read(&mut answer[length..]).await.expect("an answer");
            assert!(more > 0, "the receiver has closed the connection");
            length += more;
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "another answer");
    }
}
