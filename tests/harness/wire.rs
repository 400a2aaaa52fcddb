//! The little of Kafka's own protocol that the client library cannot say: header names and metadata of offsets that are not UTF-8.
//!
//! One record out (Produce v3), one record in (Fetch v4), one offset of a group (OffsetCommit v2), to the broker that is asked and no other: enough for tests, which run one
//! broker. Of compressed batches it reads those in LZ4, which is what the daemon writes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::lz4;
use super::place::{Header, New, Place, Stored};

const PRODUCE: (i16, i16) = (0, 3);
const FETCH: (i16, i16) = (1, 4);
const OFFSET_COMMIT: (i16, i16) = (8, 2);

/// Commits an offset for a group without members, with metadata of any bytes.
pub fn commit(broker: &str, group: &str, place: &Place, metadata: &[u8]) {
    let mut body = Out::default();
    body.string(group);
    body.i32(-1); // no generation,
    body.string(""); // and no member: a tool's commit
    body.i64(-1); // kept as long as the broker likes
    body.i32(1);
    body.string(&place.topic);
    body.i32(1);
    body.i32(place.partition);
    body.i64(place.offset);
    body.i16(i16::try_from(metadata.len()).expect("a length"));
    body.0.extend(metadata);
    let answer = ask(broker, OFFSET_COMMIT, &body.0);
    let mut answer = In(&answer);
    answer.partition_answer(&place.topic);
    assert_eq!(answer.i16(), 0, "the broker's error code for {place}");
}

/// Produces one record to the partition it names, or to the first, and says where it is.
pub fn produce(broker: &str, record: &New) -> Stored {
    let partition = record.partition.unwrap_or(0);
    let timestamp = record.timestamp.unwrap_or_else(now_ms);
    let mut body = Out::default();
    body.i16(-1); // no transactional id
    body.i16(-1); // acks from all
    body.i32(10_000);
    body.i32(1);
    body.string(&record.topic);
    body.i32(1);
    body.i32(partition);
    let batch = batch(record, timestamp);
    body.i32(length(&batch));
    body.0.extend(batch);
    let answer = ask(broker, PRODUCE, &body.0);
    let mut answer = In(&answer);
    answer.partition_answer(&record.topic);
    assert_eq!(
        answer.i16(),
        0,
        "the broker's error code for a record to {}",
        record.topic
    );
    let offset = answer.i64();
    Stored {
        place: Place::new(&record.topic, partition, offset),
        timestamp: Some(timestamp),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
    }
}

/// The record at a place.
pub fn fetch(broker: &str, place: &Place) -> Stored {
    let mut body = Out::default();
    body.i32(-1); // not a replica
    body.i32(1000);
    body.i32(1);
    body.i32(64 << 20);
    body.0.push(1); // read committed
    body.i32(1);
    body.string(&place.topic);
    body.i32(1);
    body.i32(place.partition);
    body.i64(place.offset);
    body.i32(64 << 20);
    let answer = ask(broker, FETCH, &body.0);
    let mut answer = In(&answer);
    answer.i32(); // throttle time
    answer.partition_answer(&place.topic);
    assert_eq!(answer.i16(), 0, "the broker's error code for {place}");
    answer.take(16); // high watermark, last stable offset
    for _ in 0..answer.i32().max(0) {
        answer.take(16); // an aborted transaction
    }
    let batches = answer.i32().max(0);
    let batches = answer.take(usize::try_from(batches).expect("a length"));
    find(batches, place).unwrap_or_else(|| panic!("no record at {place}"))
}

/// Sends one request over a connection of its own and returns the body of its answer.
fn ask(broker: &str, (key, version): (i16, i16), body: &[u8]) -> Vec<u8> {
    let mut request = Out::default();
    request.i16(key);
    request.i16(version);
    request.i32(1); // correlation id
    request.string("harness");
    request.0.extend(body);
    let mut stream = TcpStream::connect(broker).expect("the broker listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    stream
        .write_all(&length(&request.0).to_be_bytes())
        .expect("the broker reads");
    stream.write_all(&request.0).expect("the broker reads");
    let mut size = [0; 4];
    stream.read_exact(&mut size).expect("the broker answers");
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size)).expect("a length")];
    stream
        .read_exact(&mut answer)
        .expect("the broker answers in full");
    answer.split_off(4) // past the correlation id
}

/// A batch (format v2) of one record.
fn batch(record: &New, timestamp: i64) -> Vec<u8> {
    let mut fields = Out::default();
    fields.0.push(0); // the record's attributes
    fields.varint(0); // timestamp delta
    fields.varint(0); // offset delta
    fields.bytes(record.key.as_deref());
    fields.bytes(record.value.as_deref());
    fields.varint(i64::from(length(&record.headers)));
    for (name, value) in &record.headers {
        fields.bytes(Some(name));
        fields.bytes(value.as_deref());
    }
    let mut checked = Out::default();
    checked.i16(0); // the batch's attributes: not compressed
    checked.i32(0); // last offset delta
    checked.i64(timestamp);
    checked.i64(timestamp);
    checked.i64(-1); // no producer id,
    checked.i16(-1); // epoch
    checked.i32(-1); // and sequence
    checked.i32(1);
    checked.varint(i64::from(length(&fields.0)));
    checked.0.extend(fields.0);
    let mut batch = Out::default();
    batch.i64(0);
    batch.i32(length(&checked.0) + 9);
    batch.i32(-1); // partition leader epoch
    batch.0.push(2);
    batch.0.extend(crc32c(&checked.0).to_be_bytes());
    batch.0.extend(checked.0);
    batch.0
}

/// The record at `place` among batches of format v2.
fn find(batches: &[u8], place: &Place) -> Option<Stored> {
    let mut batches = In(batches);
    while batches.0.len() > 61 {
        let base = batches.i64();
        let size = usize::try_from(batches.i32()).expect("a length");
        let mut batch = In(batches.take(size.min(batches.0.len())));
        batch.take(9); // leader epoch, magic, checksum
        let compression = batch.i16() & 7;
        batch.take(4);
        let first_timestamp = batch.i64();
        batch.take(22);
        let count = batch.i32();
        let unpacked = match compression {
            0 => batch.0.to_vec(),
            3 => lz4::unpack(batch.0),
            other => panic!("the batch of {place} is compressed, and not with LZ4: {other}"),
        };
        let mut batch = In(&unpacked);
        for _ in 0..count {
            batch.varint(); // length
            batch.take(1);
            let timestamp = first_timestamp + batch.varint();
            let offset = base + batch.varint();
            let (key, value) = (batch.bytes(), batch.bytes());
            let count = batch.varint();
            let headers: Vec<Header> = (0..count)
                .map(|_| (batch.bytes().unwrap_or_default(), batch.bytes()))
                .collect();
            if offset == place.offset {
                let timestamp = Some(timestamp);
                return Some(Stored {
                    place: place.clone(),
                    timestamp,
                    key,
                    value,
                    headers,
                });
            }
        }
    }
    None
}

/// Castagnoli's checksum, bit by bit: one record does not need a table.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| {
            (c >> 1) ^ (0x82f6_3b78 * (c & 1))
        })
    })
}

fn length<T>(items: &[T]) -> i32 {
    i32::try_from(items.len()).expect("a length")
}

fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the end of time")
}

/// What goes out.
#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn i16(&mut self, value: i16) {
        self.0.extend(value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.0.extend(value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.0.extend(value.to_be_bytes());
    }

    fn string(&mut self, text: &str) {
        self.i16(i16::try_from(text.len()).expect("a short text"));
        self.0.extend(text.as_bytes());
    }

    fn varint(&mut self, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        while rest >= 0x80 {
            self.0.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
    }

    fn bytes(&mut self, bytes: Option<&[u8]>) {
        self.varint(bytes.map_or(-1, |b| i64::from(length(b))));
        self.0.extend(bytes.unwrap_or_default());
    }
}

/// What comes in; too little of it is a panic.
struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().expect("two bytes"))
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take(8).try_into().expect("eight bytes"))
    }

    fn varint(&mut self) -> i64 {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = self.take(1)[0];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return (value >> 1).cast_signed() ^ -(value & 1).cast_signed();
            }
        }
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = self.varint();
        (length >= 0).then(|| {
            self.take(usize::try_from(length).expect("a length"))
                .to_vec()
        })
    }

    /// Steps over the head of an answer about one topic and one partition, up to the error code.
    fn partition_answer(&mut self, topic: &str) {
        assert_eq!(self.i32(), 1, "one topic was asked for");
        let length = usize::try_from(self.i16()).expect("a length");
        assert_eq!(self.take(length), topic.as_bytes());
        assert_eq!(self.i32(), 1, "one partition was asked for");
        self.i32();
    }
}
