//! The receivers: found, connected to and trusted by the code of delivery, and let in there.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::clock::{Clock, Timestamp};
use crate::config::{Config, DestinationConfig};
use crate::delivery::{Attempt, DeliveryId, DeliveryKey, Epoch, FailureReason, Outcome};
use crate::lane::Send;
use crate::record::Record;
use crate::relay::{Outlet, outlet};
use crate::send::SystemTrust;

use super::finding::{Finding, State};

/// How many receivers are asked at once.
const AT_ONCE: usize = 16;

/// Asks each destination's receiver, and with `send_test` sends it a record.
pub(super) async fn look(
    config: &Config,
    destinations: &[&DestinationConfig],
    send_test: bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let trust = SystemTrust::default();
    for chunk in destinations.chunks(AT_ONCE) {
        let mut asked = JoinSet::new();
        for (at, destination) in chunk.iter().enumerate() {
            let about = format!("destination {}", destination.name);
            let host = destination.webhook.url.to_string();
            match outlet(config, destination, &trust) {
                Ok(outlet) => {
                    let send = test_record(config, destination);
                    asked.spawn(async move {
                        let (state, text) = ask(&outlet, &send, &host, send_test).await;
                        (at, Finding { about, state, text })
                    });
                }
                Err(error) => {
                    let source = std::error::Error::source(&error);
                    let text = source.map_or_else(|| error.to_string(), ToString::to_string);
                    let state = State::Wrong;
                    findings.push(Finding { about, state, text });
                }
            }
        }
        let mut answers = asked.join_all().await;
        answers.sort_by_key(|(at, _)| *at);
        findings.extend(answers.into_iter().map(|(_, finding)| finding));
    }
    findings
}

async fn ask(outlet: &Arc<Outlet>, send: &Send, host: &str, send_test: bool) -> (State, String) {
    let now = Clock::wall();
    if !send_test {
        return knocked(host, &outlet.knock(send, now).await);
    }
    let payload = send.record.value.clone().unwrap_or_default();
    match outlet.content(send, payload) {
        Ok(content) => sent(host, &outlet.attempt(send, &content, now).await),
        Err(why) => {
            let text = format!(
                "nothing was sent to {host}: its templates want what the test record does not have ({why}); what they want is tried without --send-test"
            );
            (State::Warning, text)
        }
    }
}

/// What a receiver that was asked for nothing makes known.
fn knocked(host: &str, attempt: &Attempt) -> (State, String) {
    match attempt.status {
        None => away(host, attempt),
        Some(status @ (401 | 403 | 407)) => {
            let text = format!(
                "{host} is reached, and does not let us in: it answers {status}; look at `headers` and `signing` of the destination"
            );
            (State::Wrong, text)
        }
        Some(status @ 300..=399) => {
            let text = format!(
                "{host} answers {status}, a redirect, which is never followed: write the address where it leads"
            );
            (State::Wrong, text)
        }
        Some(status @ (404 | 410)) => {
            let text = format!(
                "{host} is reached, and answers {status} to HEAD: is the path of `url` right? --send-test tells"
            );
            (State::Warning, text)
        }
        Some(status @ 500..) => {
            let text = format!("{host} is reached, and answers {status} to HEAD");
            (State::Warning, text)
        }
        Some(status @ 200..=299) => {
            let text = format!(
                "{host} is reached and lets us in: it answers {status} to HEAD; only --send-test tells whether it takes records"
            );
            (State::Ok, text)
        }
        // Many receivers know nothing but POST, and say so before they ask who is there.
        Some(status) => {
            let text = format!(
                "{host} is reached: it answers {status} to HEAD; only --send-test tells whether it lets us in and takes records"
            );
            (State::Ok, text)
        }
    }
}

/// What became of a test record.
fn sent(host: &str, attempt: &Attempt) -> (State, String) {
    if attempt.outcome == Outcome::Delivered {
        let status = attempt.status.unwrap_or_default();
        let text = format!("{host} has taken a test record: it answers {status}");
        return (State::Ok, text);
    }
    if attempt.status.is_none() {
        return away(host, attempt);
    }
    let outcome = attempt.outcome.name();
    let error = &attempt.error;
    let text = format!("{host} has not taken a test record ({outcome}): {error}");
    (State::Wrong, text)
}

/// What no answer means, by where it ended.
fn away(host: &str, attempt: &Attempt) -> (State, String) {
    let hint = match attempt.reason {
        Some(FailureReason::Dns) => {
            "the name is not resolved: look at `url`, and at this machine's DNS"
        }
        Some(FailureReason::Tls) => {
            "TLS fails: is its certificate signed by an authority that this machine (or `tls.ca`) trusts, and made for this name? Does it ask for one of ours (`tls.client_cert`)?"
        }
        Some(FailureReason::Proxy) => {
            "the proxy does not lead there: look at `proxy`, its address, name and password"
        }
        Some(FailureReason::Timeout) => "it takes longer than `timeouts` allows",
        Some(_) | None => "nobody answers there: is it running, and is no firewall between?",
    };
    let text = format!("{host} is not reached: {hint} ({})", attempt.error);
    (State::Unreachable, text)
}

/// A record that says what it is. It was never in Kafka.
fn test_record(config: &Config, destination: &DestinationConfig) -> Send {
    let mine = |rule: &&crate::rules::RuleOptions| {
        let to = rule.deliver_to.iter();
        to.into_iter().any(|name| **name == *destination.name)
    };
    let rule = config.rules.iter().find(mine);
    let topic = rule.and_then(|rule| rule.topics.first());
    let topic: Arc<str> = topic.map_or_else(|| "test".into(), |topic| topic.text().into());
    let Timestamp(now_ms) = Clock::wall();
    let value = format!(
        "{{\"type\":\"postrider.test\",\"message\":\"a test of postrider check --send-test\",\"time_ms\":{now_ms}}}"
    );
    let record = Record {
        topic,
        partition: 0,
        offset: 0,
        timestamp: Some(Timestamp(now_ms)),
        key: Some(Bytes::from_static(b"postrider-test")),
        value: Some(Bytes::from(value)),
        headers: Vec::new(),
    };
    Send {
        key: DeliveryKey {
            epoch: Epoch(0),
            offset: 0,
        },
        id: DeliveryId::new("postrider check --send-test", &record, &destination.id),
        record: Arc::new(record),
        rule: rule.map_or_else(|| "test".into(), |rule| Arc::clone(&rule.name)),
        attempt: 1,
    }
}
