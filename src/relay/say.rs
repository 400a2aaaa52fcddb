//! What is said of single deliveries, with the fields of the contract: one line for each that ends as a dead letter; each attempt at `debug`.

use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::delivery::{Attempt, FailureReason};
use crate::lane::{DeadLetter, HeldKey, LadderRecord, Notice, Send, WriteError, key_name};
use crate::record::Record;

use super::report::Written;

/// At `debug`, because there may be thousands a second.
pub(super) fn attempt_ended(destination: &str, send: &Send, attempt: &Attempt, took: Duration) {
    debug!(
        destination,
        topic = &*send.record.topic,
        partition = send.record.partition,
        offset = send.record.offset,
        id = %send.id,
        rule = &*send.rule,
        attempt = send.attempt,
        status = attempt.status,
        reason = attempt.reason.map(FailureReason::name),
        outcome = attempt.outcome.name(),
        duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "attempt ended"
    );
}

/// Where a record was first, as the log names it.
fn place(record: &Record) -> (&str, i32, i64) {
    (&record.topic, record.partition, record.offset)
}

/// One line for each record that ends as a dead letter; one that goes to the ladder is not at its end, and there may be many of them.
pub(super) fn written(destination: &str, written: &Written) {
    match written {
        Written::DeadLetter(letter) => dead_letter_written(destination, letter),
        Written::Ladder(deferred) => {
            let LadderRecord { carried, step, .. } = &**deferred;
            let (topic, partition, offset) = place(&deferred.record);
            debug!(
                destination, topic, partition, offset, id = %carried.id, rule = &*carried.rule,
                attempt = carried.attempts, step = step.name(), hop = carried.hop, error = carried.error,
                "record deferred"
            );
        }
    }
}

/// `attempt` is the number of its last.
fn dead_letter_written(destination: &str, letter: &DeadLetter) {
    let DeadLetter {
        record,
        id,
        reason,
        status,
        attempts: attempt,
        error,
        ..
    } = letter;
    let (topic, partition, offset) = place(record);
    warn!(
        destination, topic, partition, offset, %id, rule = letter.rule.as_deref(), reason = reason.name(),
        status, attempt, error, "dead letter written"
    );
}

/// The topic does not take it whole.
pub(super) fn too_large(destination: &str, letter: &DeadLetter) {
    let DeadLetter {
        record, id, shed, ..
    } = letter;
    let (topic, partition, offset) = place(record);
    debug!(
        destination, topic, partition, offset, %id, ?shed,
        "dead letter too large for its topic: written again with less in it"
    );
}

/// No step of the ladder takes it.
pub(super) fn too_large_for_ladder(destination: &str, deferred: &LadderRecord) {
    let LadderRecord {
        record, carried, ..
    } = deferred;
    let (topic, partition, offset) = place(record);
    debug!(
        destination, topic, partition, offset, id = %carried.id,
        "record too large for the ladder"
    );
}

/// Said once, not for each record and each try: a window's worth of records tries again twice a minute for as long as the topic is away.
pub(super) fn not_written(destination: &str, written: &Written, failure: &WriteError) {
    match written {
        Written::DeadLetter(letter) => {
            let DeadLetter {
                record, id, reason, ..
            } = &**letter;
            let (topic, partition, offset) = place(record);
            warn!(
                destination, topic, partition, offset, %id, reason = reason.name(), ?failure,
                "dead letter not written: this record and those that follow stay, and are written again until it succeeds"
            );
        }
        Written::Ladder(deferred) => {
            let LadderRecord { carried, step, .. } = &**deferred;
            let (topic, partition, offset) = place(&deferred.record);
            warn!(
                destination, topic, partition, offset, id = %carried.id, step = step.name(), ?failure,
                "record not written to the ladder: this one and those that follow stay, and are written again until it succeeds"
            );
        }
    }
}

/// The file says that a record for which nothing can be sent ends here.
pub(super) fn dropped(destination: &str, send: &Send, error: &str) {
    let Send {
        record, id, rule, ..
    } = send;
    let (topic, partition, offset) = place(record);
    warn!(
        destination, topic, partition, offset, %id, rule = &**rule, error,
        "record dropped: nothing can be sent for it"
    );
}

/// What a person on call wants to know of an endpoint.
pub(super) fn notice(destination: &str, notice: &Notice) {
    match notice {
        Notice::Opened {
            endpoint,
            why,
            next_probe,
        } => warn!(
            destination,
            endpoint = endpoint.as_deref(),
            status = why.status,
            reason = why.reason.map(FailureReason::name),
            next_probe_s = next_probe.as_secs(),
            "endpoint opened: it fails; records wait without spending an attempt, one is tried now and then"
        ),
        Notice::Closed { endpoint, open_for } => info!(
            destination,
            endpoint = endpoint.as_deref(),
            open_for_s = open_for.as_secs(),
            "endpoint closed: it works again"
        ),
        Notice::Gone {
            endpoint: Some(endpoint),
        } => warn!(
            destination,
            endpoint = &**endpoint,
            "endpoint gone (410): its records end as dead letters until `postrider resume`; the others go on"
        ),
        Notice::Gone { endpoint: None } => warn!(
            destination,
            "endpoint gone (410): nothing is sent there until `postrider resume` or another configuration says so"
        ),
        Notice::Suspect { key, faults } => debug!(
            destination,
            offset = key.offset,
            faults,
            "a record meets a fault while others pass: set aside"
        ),
        Notice::KeyHeld { key } => warn!(
            destination,
            key = key_name(key),
            "a record ended as a dead letter: the others of its key wait until `postrider release` lets them go on"
        ),
        Notice::HeldUp { keys, count } => {
            let names: Vec<String> = keys.iter().map(HeldKey::name).collect();
            warn!(
                destination,
                keys = names.join(", "),
                count,
                "nothing more is read: the window is full of records that wait behind others of their keys"
            );
        }
        Notice::ReadsNoFurther { topic, partition } => warn!(
            destination,
            topic = &**topic,
            partition,
            "partition read no further: too many keys of it wait for another attempt; it goes on when some of them have ended"
        ),
        Notice::Braked => warn!(
            destination,
            "braked: most records are rejected; the lane slows down instead of filling the dead letters. Look at them, then `postrider resume`"
        ),
        Notice::Released => info!(destination, "brake released: records are taken again"),
        Notice::SkipEnded { place, settlement } => info!(
            destination,
            topic = &*place.0,
            partition = place.1,
            offset = place.2,
            settlement = settlement.name(),
            "a record that was to be skipped has come to its end"
        ),
        Notice::SteppedOver { place } => info!(
            destination,
            topic = &*place.0,
            partition = place.1,
            offset = place.2,
            "a record that was to be skipped does not read, and was stepped over"
        ),
        Notice::Cautious {
            topic,
            partition,
            offset,
        } => warn!(
            destination,
            topic = &**topic,
            partition,
            offset,
            "the process ended at this position again and again: records go one at a time, to find the one that ends it"
        ),
        Notice::CauseRemoved => info!(
            destination,
            "the record that ended the process is out of the way"
        ),
        Notice::CautionOver => info!(destination, "records go as many at a time as usual"),
        Notice::EndsTheProcess { record, .. } => {
            let (topic, partition, offset) = place(record);
            error!(
                destination,
                topic,
                partition,
                offset,
                "the process ended again and again while this record alone was being delivered: it becomes a dead letter"
            );
        }
    }
}
