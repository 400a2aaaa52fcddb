//! The only unsafe code: reading whole chunks of records with their headers as bytes, commits whose results come back, and what we may do.
//!
//! rdkafka 0.39 has no safe call for six things. A header name that is not UTF-8 makes its header iterator panic, and any producer can
//! write one. Records of all partitions come through the same queue as rebalances and commit results, so a full window would have to stop
//! both or neither; here the partitions' queues are forwarded to a queue of their own. The third is the result of a commit that nobody
//! waits for; the fourth, what was committed with an offset; the fifth, which rights a client has (KIP-430); the sixth, to be
//! told that something has come into a queue, which rdkafka has for queues of partitions alone.
#![allow(
    unsafe_code,
    clippy::wildcard_enum_match_arm,
    reason = "librdkafka has two hundred errors"
)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::bindings as native;
use rdkafka::bindings::rd_kafka_resp_err_t as NativeError;
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::clock::Timestamp;
use crate::record::{Header, Record};

use super::commit_error::{CommitError, commit_error};
use super::mailbox::Mailbox;

/// What came out of a queue.
#[derive(Debug)]
pub(super) enum Fetched {
    Record(Record),
    /// The partition was read to its end; `offset` is the one after the last there is.
    EndOfPartition {
        topic: Arc<str>,
        partition: i32,
        offset: i64,
    },
    /// From this offset on the records of the partition were written under this leader.
    Led {
        topic: Arc<str>,
        partition: i32,
        offset: i64,
        leader: i32,
    },
    /// The partition cannot be read on where it was left, and librdkafka has stopped reading it.
    Astray {
        topic: Arc<str>,
        partition: i32,
        /// Whether its log was cut below that place.
        was_cut: bool,
        /// In librdkafka's words.
        why: String,
    },
    /// A batch does not read. Nothing that comes of this partition behind it may be taken.
    Damaged {
        topic: Arc<str>,
        partition: i32,
        /// The first offset of the batch, by its own bytes; nothing where the broker itself cannot
        /// read it.
        base: Option<i64>,
        /// In librdkafka's words.
        why: String,
    },
    /// Something else, in librdkafka's words.
    Error(String),
}

/// One partition's result of a commit: which, the offset that was sent, and the error if there was one.
pub(super) type CommitResult = ((Arc<str>, i32), i64, Option<CommitError>);

/// A consumer's queues: one that every assigned partition's records are forwarded to, one for the results of commits, and the consumer's own,
/// where rebalances and errors arrive.
///
/// They must be dropped before the consumer they belong to.
pub(super) struct Queues {
    /// Is told when something comes into one that was empty.
    mailbox: Arc<Mailbox>,
    client: *mut native::rd_kafka_t,
    records: *mut native::rd_kafka_queue_t,
    commits: *mut native::rd_kafka_queue_t,
    events: *mut native::rd_kafka_queue_t,
    topics: TopicNames,
}

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for Queues {}

impl Queues {
    /// The queues of this consumer. Whenever something comes into one that was empty, `mailbox` is stirred.
    pub(super) fn new<C: ConsumerContext>(
        consumer: &BaseConsumer<C>,
        mailbox: Arc<Mailbox>,
    ) -> Self {
        let client = consumer.client().native_ptr();
        // SAFETY: the client is valid as long as the consumer lives; each handle is given back in `drop`.
        let queues = unsafe {
            Self {
                mailbox,
                client,
                records: native::rd_kafka_queue_new(client),
                commits: native::rd_kafka_queue_new(client),
                events: native::rd_kafka_queue_get_consumer(client),
                topics: TopicNames::default(),
            }
        };
        for queue in queues.all() {
            let mailbox = Arc::as_ptr(&queues.mailbox).cast_mut().cast();
            // SAFETY: the mailbox lives as long as `queues`, and `drop` takes the callback back before that ends.
            unsafe { native::rd_kafka_queue_cb_event_enable(queue, Some(stir), mailbox) }
        }
        queues
    }

    fn all(&self) -> impl Iterator<Item = *mut native::rd_kafka_queue_t> + use<> {
        let all = [self.records, self.commits, self.events];
        all.into_iter().filter(|queue| !queue.is_null())
    }

    /// Sends the records of a partition here instead of to the consumer's own queue. To be called before the partition is assigned.
    pub(super) fn take_over(&mut self, topic: &str, partition: i32) {
        self.topics.forget_leader(topic, partition);
        let Ok(topic) = CString::new(topic) else {
            return;
        };
        // SAFETY: all handles are valid here; librdkafka counts the references, so the partition's is given back at once.
        unsafe {
            let of_partition =
                native::rd_kafka_queue_get_partition(self.client, topic.as_ptr(), partition);
            if !of_partition.is_null() {
                native::rd_kafka_queue_forward(of_partition, self.records);
                native::rd_kafka_queue_destroy(of_partition);
            }
        }
    }

    /// Whether a rebalance, an error or a line of the log waits to be polled.
    pub(super) fn has_events(&self) -> bool {
        // SAFETY: the handle is valid until `drop`.
        !self.events.is_null() && unsafe { native::rd_kafka_queue_length(self.events) } > 0
    }

    /// Takes what is there, up to `max` and up to what `is_last`. Says whether that was all.
    ///
    /// One by one: librdkafka 2.12's call for batches takes the end of a partition for a record and counts itself one offset further, so
    /// that after a pause it steps over the next record, or finds no such offset and begins the partition again.
    pub(super) fn read(
        &mut self,
        max: usize,
        into: &mut Vec<Fetched>,
        is_last: impl Fn(&Fetched) -> bool,
    ) -> bool {
        for _ in 0..max {
            // SAFETY: the queue is valid until `drop`. A message belongs to us until it is destroyed, which happens exactly once, after
            // everything in it has been copied.
            unsafe {
                let message = native::rd_kafka_consume_queue(self.records, 0);
                if message.is_null() {
                    return true;
                }
                into.extend(self.topics.leader_of(message));
                into.push(self.topics.fetched(message));
                native::rd_kafka_message_destroy(message);
            }
            if into.last().is_some_and(&is_last) {
                return false;
            }
        }
        false
    }

    /// A record that reached the consumer's own queue all the same: a partition's forwarding ends with its assignment, and the two can
    /// cross.
    pub(super) fn stray(&mut self, message: &BorrowedMessage<'_>) -> Fetched {
        // SAFETY: the message is valid as long as it is borrowed, and everything in it is copied.
        unsafe { self.topics.fetched(message.ptr()) }
    }

    /// Sends a commit. Its result comes from [`Queues::commit_results`]; rdkafka 0.39 would tell nobody of it, because librdkafka reports
    /// an asynchronous commit only to a callback that rdkafka does not set, or to a queue like this one.
    pub(super) fn commit(&self, list: &TopicPartitionList) -> Result<(), CommitError> {
        // SAFETY: the list is copied by the call; without a callback the result is an event on the queue.
        let error = unsafe {
            native::rd_kafka_commit_queue(
                self.client,
                list.ptr(),
                self.commits,
                None,
                ptr::null_mut(),
            )
        };
        commit_error(error).map_or(Ok(()), Err)
    }

    /// The next result of a commit, within `wait`.
    pub(super) fn commit_results(&mut self, wait: Duration) -> Option<Vec<CommitResult>> {
        // SAFETY: an event belongs to us until it is destroyed, and the list in it lives as long. The list's metadata is not looked at:
        // anyone may have written it, in any encoding.
        unsafe {
            let event = native::rd_kafka_queue_poll(self.commits, millis(wait));
            if event.is_null() {
                return None;
            }
            let whole = commit_error(native::rd_kafka_event_error(event));
            let list = native::rd_kafka_event_topic_partition_list(event);
            let mut results = Vec::new();
            if !list.is_null() {
                let count = usize::try_from((*list).cnt).unwrap_or(0);
                for element in std::slice::from_raw_parts((*list).elems, count) {
                    let topic = self.topics.shared(CStr::from_ptr(element.topic));
                    let error = commit_error(element.err).or_else(|| whole.clone());
                    results.push(((topic, element.partition), element.offset, error));
                }
            }
            native::rd_kafka_event_destroy(event);
            Some(results)
        }
    }
}

/// What was committed with offsets, byte for byte: rdkafka would want it to be UTF-8, and anyone may have written it. Nothing where it is
/// empty.
pub(super) fn metadata(list: &TopicPartitionList) -> BTreeMap<(Arc<str>, i32), Bytes> {
    let mut found = BTreeMap::new();
    // SAFETY: the list and what it points to are valid as long as it is borrowed, and everything is copied.
    unsafe {
        let list = &*list.ptr();
        if list.elems.is_null() {
            return found;
        }
        let count = usize::try_from(list.cnt).unwrap_or(0);
        for element in std::slice::from_raw_parts(list.elems, count) {
            let metadata = bytes(element.metadata, element.metadata_size);
            if let Some(metadata) = metadata.filter(|metadata| !metadata.is_empty()) {
                let topic: Arc<str> = CStr::from_ptr(element.topic).to_string_lossy().into();
                found.insert((topic, element.partition), metadata);
            }
        }
    }
    found
}

impl Drop for Queues {
    fn drop(&mut self) {
        for queue in self.all() {
            // SAFETY: made or taken in `new`, given back once. librdkafka calls back with the queue locked, and takes the callback back in the
            // same way, so that nobody is in it afterwards.
            unsafe {
                native::rd_kafka_queue_cb_event_enable(queue, None, ptr::null_mut());
                native::rd_kafka_queue_destroy(queue);
            }
        }
    }
}

/// Something has come into a queue that was empty. Called on a thread of librdkafka, with the queue locked: may not call librdkafka.
unsafe extern "C" fn stir(_: *mut native::rd_kafka_t, mailbox: *mut c_void) {
    // SAFETY: what `Queues::new` gave, which lives until `drop`.
    unsafe { (*mailbox.cast_const().cast::<Mailbox>()).stir() }
}

/// A copy of everything in a message, whoever wrote it.
pub(super) fn copied(message: &BorrowedMessage<'_>) -> Fetched {
    // SAFETY: the message is valid as long as it is borrowed, and everything in it is copied.
    unsafe { TopicNames::default().fetched(message.ptr()) }
}

fn millis(wait: Duration) -> i32 {
    i32::try_from(wait.as_millis()).unwrap_or(i32::MAX)
}

/// What an error code means; `None` when it means success.
pub(super) fn error_text(error: NativeError) -> Option<String> {
    if error == NativeError::RD_KAFKA_RESP_ERR_NO_ERROR {
        return None;
    }
    // SAFETY: librdkafka answers every code with a static text.
    let text = unsafe { text_of(native::rd_kafka_err2str(error)) };
    Some(text.unwrap_or_else(|| format!("{error:?}")))
}

/// One shared name per topic, so that records do not carry a copy each.
#[derive(Default)]
struct TopicNames {
    known: Vec<Arc<str>>,
    /// The leader of the last record of each partition, by the place of its topic.
    leaders: BTreeMap<(usize, i32), i32>,
}

impl TopicNames {
    fn shared(&mut self, name: &CStr) -> Arc<str> {
        if let Some(known) = self
            .known
            .iter()
            .find(|known| known.as_bytes() == name.to_bytes())
        {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.to_string_lossy().into();
        self.known.push(Arc::clone(&name));
        name
    }

    fn forget_leader(&mut self, topic: &str, partition: i32) {
        if let Some(place) = self.known.iter().position(|known| **known == *topic) {
            self.leaders.remove(&(place, partition));
        }
    }

    /// Under which leader a record was written, where that is another than that of the record before it.
    ///
    /// # Safety
    /// `message` points to a valid message.
    unsafe fn leader_of(&mut self, message: *const native::rd_kafka_message_t) -> Option<Fetched> {
        unsafe {
            let m = &*message;
            if m.err != NativeError::RD_KAFKA_RESP_ERR_NO_ERROR || m.rkt.is_null() {
                return None;
            }
            let leader = native::rd_kafka_message_leader_epoch(message);
            let topic = self.shared(CStr::from_ptr(native::rd_kafka_topic_name(m.rkt)));
            let place = self
                .known
                .iter()
                .position(|known| Arc::ptr_eq(known, &topic))?;
            let before = self.leaders.insert((place, m.partition), leader);
            (leader >= 0 && before != Some(leader)).then_some(Fetched::Led {
                topic,
                partition: m.partition,
                offset: m.offset,
                leader,
            })
        }
    }

    /// Copies everything out of a message.
    ///
    /// # Safety
    /// `message` points to a valid message.
    unsafe fn fetched(&mut self, message: *const native::rd_kafka_message_t) -> Fetched {
        unsafe {
            let m = &*message;
            let topic = if m.rkt.is_null() {
                Arc::from("")
            } else {
                self.shared(CStr::from_ptr(native::rd_kafka_topic_name(m.rkt)))
            };
            match m.err {
                NativeError::RD_KAFKA_RESP_ERR_NO_ERROR => Fetched::Record(Record {
                    topic,
                    partition: m.partition,
                    offset: m.offset,
                    timestamp: timestamp(message),
                    key: bytes(m.key, m.key_len),
                    value: bytes(m.payload, m.len),
                    headers: headers(message),
                }),
                NativeError::RD_KAFKA_RESP_ERR__PARTITION_EOF => Fetched::EndOfPartition {
                    topic,
                    partition: m.partition,
                    offset: m.offset,
                },
                NativeError::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET => {
                    let why = text_of(native::rd_kafka_message_errstr(message)).unwrap_or_default();
                    Fetched::Astray {
                        topic,
                        partition: m.partition,
                        was_cut: why.contains("log truncation"),
                        why,
                    }
                }
                error if does_not_read(error) => Fetched::Damaged {
                    topic,
                    partition: m.partition,
                    base: (error != NativeError::RD_KAFKA_RESP_ERR_INVALID_MSG).then_some(m.offset),
                    why: text_of(native::rd_kafka_message_errstr(message)).unwrap_or_default(),
                },
                _ => {
                    let text = native::rd_kafka_message_errstr(message);
                    Fetched::Error(text_of(text).unwrap_or_else(|| "unknown error".to_owned()))
                }
            }
        }
    }
}

/// Whether an error of a partition means that what is written there is not what was written once:
/// by its checksum, by its compression, by a format that nobody knows, or by the broker's own word.
fn does_not_read(error: NativeError) -> bool {
    matches!(
        error,
        NativeError::RD_KAFKA_RESP_ERR__BAD_MSG
            | NativeError::RD_KAFKA_RESP_ERR__BAD_COMPRESSION
            | NativeError::RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED
            | NativeError::RD_KAFKA_RESP_ERR_INVALID_MSG
    )
}

unsafe fn timestamp(message: *const native::rd_kafka_message_t) -> Option<Timestamp> {
    let mut kind = native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    let value = unsafe { native::rd_kafka_message_timestamp(message, &raw mut kind) };
    (kind != native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && value >= 0)
        .then_some(Timestamp(value))
}

unsafe fn headers(message: *const native::rd_kafka_message_t) -> Vec<Header> {
    let mut list = ptr::null_mut();
    let mut headers = Vec::new();
    unsafe {
        let found = native::rd_kafka_message_headers(message, &raw mut list);
        if found != NativeError::RD_KAFKA_RESP_ERR_NO_ERROR {
            return headers;
        }
        let mut name: *const c_char = ptr::null();
        let mut value: *const c_void = ptr::null();
        let mut length = 0;
        while native::rd_kafka_header_get_all(
            list,
            headers.len(),
            &raw mut name,
            &raw mut value,
            &raw mut length,
        ) == NativeError::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            headers.push(Header {
                name: Bytes::copy_from_slice(CStr::from_ptr(name).to_bytes()),
                value: bytes(value, length),
            });
        }
    }
    headers
}

/// Operations on a topic or a group, by the numbers of Kafka's protocol; else why they are not told.
pub(super) type Operations = Result<Vec<i32>, NativeError>;

/// What this client may do with topics of these names; with `groups`, with consumer groups. Waits for the answer; changes nothing.
pub(super) fn operations<C: ClientContext>(
    client: &Client<C>,
    groups: bool,
    names: &[CString],
    timeout: Duration,
) -> Result<Vec<(String, Operations)>, NativeError> {
    use native::rd_kafka_admin_op_t as Admin;
    let kind = if groups {
        Admin::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS
    } else {
        Admin::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS
    };
    let client = client.native_ptr();
    let mut names: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let list = names.as_mut_ptr();
    // SAFETY: the client outlives this call, and the names too; librdkafka copies them. Whatever is made here is destroyed here, once, the
    // event after everything in it has been copied.
    unsafe {
        let options = native::rd_kafka_AdminOptions_new(client, kind);
        let wait = millis(timeout);
        native::rd_kafka_AdminOptions_set_request_timeout(options, wait, ptr::null_mut(), 0);
        let refused = native::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
        if !refused.is_null() {
            native::rd_kafka_error_destroy(refused);
        }
        let queue = native::rd_kafka_queue_new(client);
        if groups {
            native::rd_kafka_DescribeConsumerGroups(client, list, names.len(), options, queue);
        } else {
            let topics = native::rd_kafka_TopicCollection_of_topic_names(list, names.len());
            native::rd_kafka_DescribeTopics(client, topics, options, queue);
            native::rd_kafka_TopicCollection_destroy(topics);
        }
        let event = native::rd_kafka_queue_poll(queue, wait.saturating_add(1000));
        let answer = if event.is_null() {
            Err(NativeError::RD_KAFKA_RESP_ERR__TIMED_OUT)
        } else {
            match native::rd_kafka_event_error(event) {
                NativeError::RD_KAFKA_RESP_ERR_NO_ERROR if groups => Ok(of_groups(event)),
                NativeError::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(of_topics(event)),
                error => Err(error),
            }
        };
        if !event.is_null() {
            native::rd_kafka_event_destroy(event);
        }
        native::rd_kafka_queue_destroy(queue);
        native::rd_kafka_AdminOptions_destroy(options);
        answer
    }
}

unsafe fn of_topics(event: *mut native::rd_kafka_event_t) -> Vec<(String, Operations)> {
    let mut count = 0;
    unsafe {
        let result = native::rd_kafka_event_DescribeTopics_result(event);
        let found = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        let one = |at| {
            let topic = *found.add(at);
            let name = text_of(native::rd_kafka_TopicDescription_name(topic)).unwrap_or_default();
            let error = native::rd_kafka_TopicDescription_error(topic);
            let mut count = 0;
            let list =
                native::rd_kafka_TopicDescription_authorized_operations(topic, &raw mut count);
            (name, numbers(error, list, count))
        };
        (0..count).map(one).collect()
    }
}

unsafe fn of_groups(event: *mut native::rd_kafka_event_t) -> Vec<(String, Operations)> {
    let mut count = 0;
    unsafe {
        let result = native::rd_kafka_event_DescribeConsumerGroups_result(event);
        let found = native::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        let one = |at| {
            let group = *found.add(at);
            let name = native::rd_kafka_ConsumerGroupDescription_group_id(group);
            let error = native::rd_kafka_ConsumerGroupDescription_error(group);
            let mut count = 0;
            let list = native::rd_kafka_ConsumerGroupDescription_authorized_operations(
                group,
                &raw mut count,
            );
            let name = text_of(name).unwrap_or_default();
            (name, numbers(error, list, count))
        };
        (0..count).map(one).collect()
    }
}

/// The numbers of operations; read as such, because a number that a broker made up is no value of the enumeration.
unsafe fn numbers(
    error: *const native::rd_kafka_error_t,
    list: *const native::rd_kafka_AclOperation_t,
    count: usize,
) -> Operations {
    unsafe {
        // No error has the code of none.
        match native::rd_kafka_error_code(error) {
            NativeError::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            code => return Err(code),
        }
        if list.is_null() {
            return Ok(Vec::new());
        }
        let list = std::slice::from_raw_parts(list.cast::<i32>(), count);
        Ok(list.to_vec())
    }
}

/// A copy of the bytes; `None` for null, which is not the same as empty.
unsafe fn bytes(start: *const c_void, length: usize) -> Option<Bytes> {
    if start.is_null() {
        return None;
    }
    let slice = unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) };
    Some(Bytes::copy_from_slice(slice))
}

unsafe fn text_of(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    Some(
        unsafe { CStr::from_ptr(text) }
            .to_string_lossy()
            .into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_text_never_becomes_a_label() {
        let named = |error| commit_error(error).map(|(failure, _)| failure.name());
        assert_eq!(named(NativeError::RD_KAFKA_RESP_ERR_NO_ERROR), None);
        let refused = NativeError::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS;
        assert_eq!(named(refused), Some("rebalance"));
        let rare = NativeError::RD_KAFKA_RESP_ERR_INVALID_COMMIT_OFFSET_SIZE;
        assert_eq!(named(rare), Some("other"));
    }

    #[test]
    fn metadata_is_read_byte_for_byte_whoever_wrote_it() {
        let mut list = TopicPartitionList::new();
        for partition in 0..3 {
            list.add_partition("t", partition);
        }
        list.add_partition("u", 1).set_metadata("gr\u{f6}\0");
        let foreign = *b"\xff\xfe\0x";
        // SAFETY: the list has three elements; librdkafka frees what it has allocated itself.
        unsafe {
            let element = &mut *(*list.ptr()).elems.add(1);
            element.metadata = native::rd_kafka_mem_malloc(ptr::null_mut(), foreign.len());
            element.metadata_size = foreign.len();
            ptr::copy_nonoverlapping(foreign.as_ptr(), element.metadata.cast(), foreign.len());
        }
        let found = metadata(&list);
        let of = |topic: &str, partition| found.get(&(topic.into(), partition)).map(Bytes::as_ref);
        assert_eq!(of("t", 0), None);
        assert_eq!(of("t", 1), Some(&foreign[..]));
        assert_eq!(of("u", 1), Some("gr\u{f6}\0".as_bytes()));
    }
}
