//! The scripted receiver, with the client that the daemon uses.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::place::{Place, sha256};
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::wait::wait_until;

const SOON: Duration = Duration::from_secs(10);

/// One POST about a record, as a relay would make it.
fn post(offset: i64) -> impl FnOnce(&reqwest::Client, &Receiver) -> reqwest::RequestBuilder {
    move |client, receiver| {
        client
            .post(receiver.url())
            .header("webhook-id", format!("msg_{offset}"))
            .header("postrider-topic", "owner")
            .header("postrider-partition", "3")
            .header("postrider-offset", offset.to_string())
            .header("postrider-attempt", "1")
            .body(format!("body {offset}"))
    }
}

fn client() -> reqwest::Client {
    // A machine without certificates has no TLS, and this client needs none.
    let builder = reqwest::Client::builder().no_proxy().timeout(SOON);
    builder.tls_certs_only([]).build().unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Sends the records one after the other and says what came back of each: the status, or `None`.
fn send(receiver: &Receiver, offsets: &[i64]) -> Vec<Option<u16>> {
    block_on(async {
        let client = client();
        let mut statuses = vec![];
        for offset in offsets {
            let answer = post(*offset)(&client, receiver).send().await;
            statuses.push(answer.ok().map(|a| a.status().as_u16()));
        }
        statuses
    })
}

#[test]
fn the_ledger_has_every_attempt() {
    let receiver = Receiver::start(|request| match (request.offset(), request.earlier) {
        (7, 0) => Answer::status(503).header("retry-after", "1").body("busy"),
        (8, _) => Answer::status(422),
        _ => Answer::ok(),
    });
    assert_eq!(
        send(&receiver, &[7, 8, 7]),
        [Some(503), Some(422), Some(200)]
    );
    receiver.wait_attempts(3, SOON);
    assert_eq!(receiver.accepted_count(), 1);
    let attempts = receiver.attempts();
    let statuses: Vec<_> = attempts.iter().map(|a| a.status).collect();
    assert_eq!(statuses, [Some(503), Some(422), Some(200)]);
    let first = &attempts[0];
    assert_eq!(
        (first.number, first.method.as_str(), first.path.as_str()),
        (0, "POST", "/hook")
    );
    assert_eq!(first.id.as_deref(), Some("msg_7"));
    assert_eq!(first.place, Some(Place::new("owner", 3, 7)));
    assert_eq!(first.attempt, Some(1));
    assert_eq!(first.body.as_deref(), Some("body 7".as_bytes()));
    assert_eq!(
        (first.body_length, first.body_sha256),
        (6, sha256(b"body 7"))
    );
    assert_eq!(first.header("webhook-id"), Some("msg_7"));
    assert!(first.arrived <= attempts[1].arrived && first.took().unwrap() < SOON);
}

#[test]
fn large_bodies_are_hashed_and_not_kept() {
    let receiver = Receiver::ok();
    let body = vec![b'x'; 5_000_000];
    let request = client().post(receiver.url()).body(body.clone());
    let sent = block_on(async { request.send().await });
    assert_eq!(sent.unwrap().status(), 200);
    let attempts = receiver.attempts();
    assert_eq!(
        (attempts[0].body_length, attempts[0].body_sha256),
        (body.len(), sha256(&body))
    );
    assert!(attempts[0].body.is_none() && attempts[0].place.is_none());
}

#[test]
fn bodies_in_chunks_are_read_and_the_connection_goes_on() {
    let receiver = Receiver::ok();
    let mut stream = TcpStream::connect(("127.0.0.1", receiver.port())).unwrap();
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    write!(stream, "{head}3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").unwrap();
    write!(
        stream,
        "POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 1\r\n\r\nf"
    )
    .unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    let attempts = receiver.attempts();
    assert_eq!(attempts[0].body.as_deref(), Some("abcde".as_bytes()));
    assert_eq!(attempts[1].body.as_deref(), Some("f".as_bytes()));
}

#[test]
fn no_answer_comes_in_three_manners() {
    let receiver = Receiver::start(|request| match request.offset() {
        0 => Answer::close(),
        1 => Answer::reset(),
        _ => Answer::hang(),
    });
    assert_eq!(send(&receiver, &[0, 1]), [None, None]);
    let patience = Duration::from_millis(200);
    let begin = Instant::now();
    let hung = block_on(async { post(2)(&client(), &receiver).timeout(patience).send().await });
    assert!(hung.unwrap_err().is_timeout());
    assert!(begin.elapsed() >= patience);
    wait_until(SOON, "the receiver sees that the client has gone", || {
        receiver.waiting_count() == 0
    });
    assert!(
        receiver
            .attempts()
            .iter()
            .all(|a| a.status.is_none() && !a.accepted())
    );
}

#[test]
fn bodies_without_an_end_and_bodies_that_break_off() {
    let receiver = Receiver::start(|request| match request.offset() {
        0 => Answer::ok().endless(),
        _ => Answer::ok().body("half").truncated(),
    });
    block_on(async {
        let client = client();
        let mut endless = post(0)(&client, &receiver).send().await.unwrap();
        let mut read = 0;
        while read < 200_000 {
            read += endless.chunk().await.unwrap().unwrap().len();
        }
        drop(endless);
        let truncated = post(1)(&client, &receiver).send().await.unwrap();
        assert_eq!(truncated.status(), 200);
        assert!(truncated.bytes().await.is_err());
    });
    wait_until(SOON, "the receiver sees that the client has gone", || {
        receiver.waiting_count() == 0
    });
    let attempts = receiver.attempts();
    assert!(
        attempts
            .iter()
            .all(super::harness::ledger::Attempt::accepted)
    );
    assert!((200_000..20_000_000).contains(&attempts[0].answer_bytes));
}

#[test]
fn stopped_it_refuses_and_resumed_it_is_where_it_was() {
    let receiver = Receiver::start(|request| match request.offset() {
        0 => Answer::ok(),
        _ => Answer::ok().after(Duration::from_secs(60)),
    });
    assert_eq!(send(&receiver, &[0]), [Some(200)]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| send(&receiver, &[1]));
        receiver.wait_attempts(2, SOON);
        receiver.stop();
        assert_eq!(waiting.join().unwrap(), [None], "the connection was broken");
    });
    assert_eq!(send(&receiver, &[0]), [None], "the connection was refused");
    receiver.script(|_| Answer::status(201));
    receiver.resume();
    assert_eq!(send(&receiver, &[1]), [Some(201)]);
    let statuses: Vec<_> = receiver.attempts().iter().map(|a| a.status).collect();
    assert_eq!(statuses, [Some(200), None, Some(201)]);
}

#[test]
fn it_is_fast_enough_to_load_a_relay() {
    const CONNECTIONS: i64 = 16;
    const EACH: i64 = 250;
    let receiver = std::sync::Arc::new(Receiver::ok());
    let begin = Instant::now();
    block_on(async {
        let client = client();
        let mut tasks = tokio::task::JoinSet::new();
        for connection in 0..CONNECTIONS {
            let (client, receiver) = (client.clone(), std::sync::Arc::clone(&receiver));
            tasks.spawn(async move {
                for n in 0..EACH {
                    let sent = post(connection * EACH + n)(&client, &receiver).send().await;
                    assert_eq!(sent.unwrap().status(), 200);
                }
            });
        }
        tasks.join_all().await;
    });
    let took = begin.elapsed();
    let count = usize::try_from(CONNECTIONS * EACH).unwrap();
    assert_eq!(
        (receiver.attempt_count(), receiver.accepted_count()),
        (count, count)
    );
    println!("{count} requests in {took:?}");
    // It does ten times that; a machine that is busy with all the other tests may not.
    assert!(
        took < Duration::from_secs(8),
        "{count} requests took {took:?}"
    );
}
