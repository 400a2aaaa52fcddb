//! Why a commit was refused, of the two hundred errors that librdkafka has.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "librdkafka has two hundred errors"
)]

use rdkafka::bindings::rd_kafka_resp_err_t as NativeError;

use crate::delivery::CommitFailure;

use super::raw::error_text;

/// Why a commit was refused: for the metrics, and in librdkafka's words.
pub(super) type CommitError = (CommitFailure, String);

/// What the answer to a commit means; `None` when it is acknowledged.
pub(super) fn commit_error(error: NativeError) -> Option<CommitError> {
    use NativeError as E;
    let failure = match error {
        E::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS => CommitFailure::Rebalance,
        E::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION | E::RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH => {
            CommitFailure::StaleGeneration
        }
        E::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID | E::RD_KAFKA_RESP_ERR_FENCED_MEMBER_EPOCH => {
            CommitFailure::Fenced
        }
        E::RD_KAFKA_RESP_ERR_NOT_COORDINATOR
        | E::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE
        | E::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS
        | E::RD_KAFKA_RESP_ERR__WAIT_COORD => CommitFailure::Coordinator,
        E::RD_KAFKA_RESP_ERR__TIMED_OUT
        | E::RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE
        | E::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT => CommitFailure::Timeout,
        E::RD_KAFKA_RESP_ERR__TRANSPORT | E::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN => {
            CommitFailure::Unreachable
        }
        E::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE => CommitFailure::MetadataTooLarge,
        E::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED
        | E::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED => CommitFailure::Unauthorized,
        E::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
        | E::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID
        | E::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
        | E::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION => CommitFailure::UnknownTopic,
        _ => CommitFailure::Other,
    };
    error_text(error).map(|text| (failure, text))
}
