//! The epochs of partitions' leaders in librdkafka's lists (KIP-320): rdkafka 0.39 has no call that tells or sets them.
#![allow(
    unsafe_code,
    reason = "librdkafka's leader epochs are only in its C interface"
)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::bindings::rd_kafka_resp_err_t as NativeError;
use rdkafka::client::{Client, ClientContext};
use rdkafka::topic_partition_list::TopicPartitionList;

/// The leader epoch of each element that has one.
pub(super) fn leader_epochs(list: &TopicPartitionList) -> BTreeMap<(Arc<str>, i32), i32> {
    let mut found = BTreeMap::new();
    // SAFETY: the list and what it points to are valid as long as it is borrowed, and everything is copied.
    unsafe {
        let list = &*list.ptr();
        if list.elems.is_null() {
            return found;
        }
        let count = usize::try_from(list.cnt).unwrap_or(0);
        for element in std::slice::from_raw_parts(list.elems, count) {
            let leader = native::rd_kafka_topic_partition_get_leader_epoch(element);
            if leader >= 0 {
                let topic: Arc<str> = CStr::from_ptr(element.topic).to_string_lossy().into();
                found.insert((topic, element.partition), leader);
            }
        }
    }
    found
}

/// Sets the leader epoch of an element. Does nothing where the list has no such element.
pub(super) fn set_leader_epoch(
    list: &mut TopicPartitionList,
    topic: &str,
    partition: i32,
    leader: i32,
) {
    let Ok(topic) = CString::new(topic) else {
        return;
    };
    // SAFETY: the list is borrowed alone; what is found in it belongs to it.
    unsafe {
        let element =
            native::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), partition);
        if !element.is_null() {
            native::rd_kafka_topic_partition_set_leader_epoch(element, leader);
        }
    }
}

/// Reads on at the list's offsets after the broker was asked whether the log up to there is still what was written under the list's leader
/// epochs. Waits up to `timeout` for librdkafka to begin, not for the answer. Gives whether it has begun for all.
pub(super) fn seek_checked<C: ClientContext>(
    client: &Client<C>,
    list: &TopicPartitionList,
    timeout: Duration,
) -> bool {
    let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client outlives the call, which writes errors into the list's elements and keeps nothing of it. The error is ours.
    unsafe {
        let error = native::rd_kafka_seek_partitions(client.native_ptr(), list.ptr(), timeout);
        if !error.is_null() {
            native::rd_kafka_error_destroy(error);
            return false;
        }
        let list = &*list.ptr();
        let count = usize::try_from(list.cnt).unwrap_or(0);
        if list.elems.is_null() {
            return true;
        }
        let elements = std::slice::from_raw_parts(list.elems, count);
        let begun = |element: &native::rd_kafka_topic_partition_t| {
            element.err == NativeError::RD_KAFKA_RESP_ERR_NO_ERROR
        };
        elements.iter().all(begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_epoch_goes_into_a_list_and_comes_out_of_it() {
        let mut list = TopicPartitionList::new();
        list.add_partition("t", 0);
        list.add_partition("t", 1);
        set_leader_epoch(&mut list, "t", 1, 7);
        set_leader_epoch(&mut list, "u", 1, 8);
        let found = leader_epochs(&list);
        assert_eq!(found, BTreeMap::from([(("t".into(), 1), 7)]));
    }
}
