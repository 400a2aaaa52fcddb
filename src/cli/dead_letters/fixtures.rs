//! What the tests of these commands share.

use crate::clock::Timestamp;
use crate::delivery::DeliveryId;
use crate::kafka::Letter;
use crate::lane::Shed;
use crate::record::Record;

/// The dead letter of delivery `n`, which had been replayed `round` times.
pub(super) fn letter(n: u8, round: u32) -> Letter {
    Letter {
        partition: 0,
        offset: i64::from(n),
        written: Some(Timestamp(5000)),
        id: DeliveryId([n; 16]),
        destination: "hook-id".to_owned(),
        rule: Some("r".to_owned()),
        reason: "rejected".to_owned(),
        status: Some(503),
        error: "the receiver answered 503".to_owned(),
        excerpt: "busy".into(),
        attempts: 3,
        first_attempt: Some(Timestamp(1000)),
        last_attempt: Some(Timestamp(4000)),
        cluster_id: "c".to_owned(),
        round,
        shed: Shed::Nothing,
        record: Record {
            topic: "in".into(),
            partition: 2,
            offset: i64::from(n) * 10,
            timestamp: Some(Timestamp(500)),
            key: Some(format!("k{n}").into()),
            value: Some("{}".into()),
            headers: Vec::new(),
        },
    }
}
