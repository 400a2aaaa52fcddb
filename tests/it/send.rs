//! The sender alone, against the scripted receiver: connections that die, and answers that say more than their status.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use postrider::clock::Timestamp;
use postrider::delivery::{Attempt, DeliveryId, FailureReason, Outcome};
use postrider::record::Record;
use postrider::send::{Content, SuccessCondition, SystemTrust, Webhook, WebhookOptions};

use crate::harness::receiver::{Answer, Receiver};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn record() -> Record {
    Record {
        topic: "owner".into(),
        partition: 0,
        offset: 7,
        timestamp: None,
        key: None,
        value: Some(Bytes::from_static(b"{}")),
        headers: vec![],
    }
}

/// Makes the attempts one after the other over one client, so that connections are kept.
fn attempts(
    receiver: &Receiver,
    count: u32,
    adapt: impl FnOnce(&mut WebhookOptions),
) -> Vec<Attempt> {
    let mut options = WebhookOptions::new(receiver.url().parse().unwrap());
    options.total_timeout = Duration::from_secs(2);
    adapt(&mut options);
    let webhook = Webhook::new(
        options,
        &SystemTrust::default(),
        "application/json",
        1024,
        usize::MAX,
    )
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut ended = vec![];
        for number in 1..=count {
            let content = Content::new(Bytes::from_static(b"{}"));
            let id = DeliveryId([9; 16]);
            let make = || webhook.request(&record(), id, number, &content, NOW);
            ended.push(webhook.attempt(make, NOW).await);
        }
        ended
    })
}

fn outcomes(attempts: &[Attempt]) -> Vec<(Outcome, Option<FailureReason>)> {
    attempts.iter().map(|a| (a.outcome, a.reason)).collect()
}

#[test]
fn a_kept_connection_that_died_costs_no_attempt() {
    for dead in [Answer::reset(), Answer::close()] {
        // The second request meets a dead connection, and only it.
        let receiver = Receiver::start(move |request| match request.number {
            1 => dead.clone(),
            _ => Answer::ok(),
        });
        let ended = attempts(&receiver, 3, |_| {});
        assert_eq!(outcomes(&ended), [(Outcome::Delivered, None); 3]);
        let seen = receiver.attempts();
        let numbers: Vec<_> = seen.iter().map(|a| a.attempt).collect();
        assert_eq!(numbers, [1, 2, 2, 3].map(Some));
        assert!(
            seen.iter()
                .all(|a| a.id == seen[0].id && a.body_length == 2)
        );
    }
}

#[test]
fn a_fresh_connection_that_breaks_is_the_receivers_failure() {
    for dead in [Answer::reset(), Answer::close()] {
        let receiver = Receiver::start(move |_| dead.clone());
        let ended = attempts(&receiver, 2, |_| {});
        let failed = (Outcome::Retry, Some(FailureReason::Reset));
        assert_eq!(outcomes(&ended), [failed; 2]);
        assert_eq!(receiver.attempt_count(), 2, "nothing goes out twice");
    }
}

#[test]
fn a_receiver_that_always_dies_gets_each_request_twice_at_most() {
    let receiver = Receiver::start(|request| match request.number {
        0 => Answer::ok(),
        _ => Answer::close(),
    });
    let ended = attempts(&receiver, 2, |_| {});
    assert_eq!(ended[1].outcome, Outcome::Retry);
    assert_eq!(receiver.attempt_count(), 3);
}

#[test]
fn a_kept_connection_without_an_answer_is_not_tried_again() {
    let receiver = Receiver::start(|request| match request.number {
        0 => Answer::ok(),
        _ => Answer::hang(),
    });
    let ended = attempts(&receiver, 2, |options| {
        options.total_timeout = Duration::from_millis(300);
    });
    assert_eq!(ended[1].reason, Some(FailureReason::Timeout));
    assert_eq!(receiver.attempt_count(), 2);
}

#[test]
fn a_success_must_be_one_by_the_condition_too() {
    let asked = AtomicUsize::new(0);
    let receiver = Receiver::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::ok().body("no_such_channel"),
        1 => Answer::ok().body("ok\n"),
        2 => Answer::status(404).body("ok"),
        3 => Answer::status(409).body("taken already"),
        _ => Answer::ok().body("ok").truncated(),
    });
    let ended = attempts(&receiver, 5, |options| {
        options.success = Some(SuccessCondition {
            text: Some("ok".to_owned()),
            ..SuccessCondition::default()
        });
        let selector = "409".parse().unwrap();
        options.outcomes.set(selector, Outcome::Delivered).unwrap();
    });
    let unmet = (Outcome::Retry, Some(FailureReason::SuccessCondition));
    let outcomes = outcomes(&ended);
    assert_eq!(outcomes[0], unmet);
    assert_eq!(outcomes[1], (Outcome::Delivered, None));
    assert_eq!(
        outcomes[2].0,
        Outcome::EndpointFault,
        "only a 2xx is looked into"
    );
    assert_eq!(
        outcomes[3].0,
        Outcome::Delivered,
        "409 was made a success by its status"
    );
    assert_eq!(
        (ended[0].status, &*ended[0].excerpt),
        (Some(200), &b"no_such_channel"[..])
    );
    assert!(
        !ended[0].error.contains("no_such_channel"),
        "{}",
        ended[0].error
    );
}
