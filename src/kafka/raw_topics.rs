//! The ids of topics: a topic that was deleted and made again has its old name and another id. rdkafka 0.39 has no call that tells it.
#![allow(
    unsafe_code,
    reason = "librdkafka's DescribeTopics is only in its C interface"
)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::lane::TopicId;

/// What the broker says of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It is there; before Kafka 2.8 it has no id.
    There(Option<TopicId>),
    /// There is none of this name.
    Missing,
}

impl Found {
    pub(super) fn id(self) -> Option<TopicId> {
        match self {
            Self::There(id) => id,
            Self::Missing => None,
        }
    }
}

/// What the broker says of each of these topics; one that it will not describe is left out. Waits up to `timeout` for the broker; not for a runtime's worker.
///
/// # Errors
/// When the broker does not answer in time, in librdkafka's words.
pub(super) fn describe<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    timeout: Duration,
) -> Result<BTreeMap<Arc<str>, Found>, String> {
    let names: Vec<CString> = topics
        .iter()
        .filter_map(|topic| CString::new(*topic).ok())
        .collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let client = client.native_ptr();
    // SAFETY: the client outlives the call. Everything that is made here is given back here, in the opposite order, after its last use; the
    // request has copied the names and the options when it returns. What the event holds is copied before the event is destroyed.
    unsafe {
        let queue = native::rd_kafka_queue_new(client);
        let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = native::rd_kafka_AdminOptions_new(client, operation);
        native::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
        let collection =
            native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        native::rd_kafka_DescribeTopics(client, collection, options, queue);
        let event = native::rd_kafka_queue_poll(queue, millis);
        let answer = if event.is_null() {
            Err("the broker was too slow".to_owned())
        } else {
            let answer = found(event);
            native::rd_kafka_event_destroy(event);
            answer
        };
        native::rd_kafka_TopicCollection_destroy(collection);
        native::rd_kafka_AdminOptions_destroy(options);
        native::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// # Safety
/// `event` is a valid answer to DescribeTopics.
unsafe fn found(event: *mut native::rd_kafka_event_t) -> Result<BTreeMap<Arc<str>, Found>, String> {
    let mut all = BTreeMap::new();
    unsafe {
        if native::rd_kafka_event_error(event)
            != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            let text = native::rd_kafka_event_error_string(event);
            return Err(CStr::from_ptr(text).to_string_lossy().into_owned());
        }
        let result = native::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let topics = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        for at in 0..count {
            let topic = *topics.add(at);
            let name = CStr::from_ptr(native::rd_kafka_TopicDescription_name(topic));
            let name: Arc<str> = name.to_string_lossy().into();
            let error = native::rd_kafka_TopicDescription_error(topic);
            let code = native::rd_kafka_error_code(error);
            if code == native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART {
                all.insert(name, Found::Missing);
                continue;
            }
            if code != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                continue;
            }
            let id = native::rd_kafka_TopicDescription_topic_id(topic);
            if id.is_null() {
                all.insert(name, Found::There(None));
                continue;
            }
            let high = native::rd_kafka_Uuid_most_significant_bits(id).cast_unsigned();
            let low = native::rd_kafka_Uuid_least_significant_bits(id).cast_unsigned();
            let id = (u128::from(high) << 64) | u128::from(low);
            all.insert(name, Found::There(TopicId::new(id)));
        }
    }
    Ok(all)
}

/// Asks the leaders of these partitions for their ends, and waits for no answer: what counts is that librdkafka's threads for these brokers are woken.
///
/// rdkafka's `offsets_for_times` would wait, behind a fetch that the broker answers late; and when it gives up, librdkafka 2.12 still writes the answer into
/// the frame that it has left.
pub(super) fn ask_leaders<C: ClientContext>(client: &Client<C>, ends: &TopicPartitionList) {
    let client = client.native_ptr();
    // SAFETY: the client outlives the call, which copies the list and the options. The answer to a queue that is gone is dropped.
    unsafe {
        let queue = native::rd_kafka_queue_new(client);
        let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
        let options = native::rd_kafka_AdminOptions_new(client, operation);
        native::rd_kafka_ListOffsets(client, ends.ptr(), options, queue);
        native::rd_kafka_AdminOptions_destroy(options);
        native::rd_kafka_queue_destroy(queue);
    }
}
