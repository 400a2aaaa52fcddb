//! The least program that brings records to a webhook: rdkafka, reqwest, and so many requests at once. It retries nothing, decides nothing
//! and commits what it has read, not what was delivered.
//!
//! Frozen: Postrider is measured against this loop from version to version.

use std::sync::Arc;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::Message;
use tokio::sync::Semaphore;

/// Delivers `records` records of `topic`, `in_flight` at once.
pub(crate) fn run(brokers: &str, topic: &str, records: usize, url: &str, in_flight: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(deliver(brokers, topic, records, url, in_flight));
    super::done(0.0);
}

async fn deliver(brokers: &str, topic: &str, records: usize, url: &str, in_flight: usize) {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("bare-loop-{}", std::process::id()))
        .set("auto.offset.reset", "earliest")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[topic]).expect("a subscription");
    // Without TLS, whose certificates would be loaded for nothing.
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
        .expect("a client");
    let places = Arc::new(Semaphore::new(in_flight));
    for _ in 0..records {
        let place = Arc::clone(&places)
            .acquire_owned()
            .await
            .expect("never closed");
        let message = consumer.recv().await.expect("a record");
        let body = message.payload().unwrap_or_default().to_vec();
        let request = client
            .post(url)
            .header("content-type", "application/json")
            .body(body);
        tokio::spawn(async move {
            let response = request.send().await.expect("an answer");
            assert!(response.status().is_success(), "{}", response.status());
            response.bytes().await.expect("a body");
            drop(place);
        });
    }
    let all = u32::try_from(in_flight).expect("a small number");
    drop(places.acquire_many(all).await);
}
