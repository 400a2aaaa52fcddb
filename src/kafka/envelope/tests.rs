use rdkafka::message::Headers as _;

use super::*;
use crate::delivery::{DeliveryKey, Epoch};
use crate::lane::Step;

const ME: &str = "hook";
const WRITTEN: Timestamp = Timestamp(1_700_000_100_000);

/// xorshift64: the same values on every run.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// Null, empty, or a few bytes of any kind.
    fn bytes(&mut self) -> Option<Bytes> {
        let length = self.below(8).checked_sub(1)?;
        Some((0..length).map(|_| self.below(256) as u8).collect())
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(3) > 0).then(|| value(self))
    }

    fn header(&mut self) -> Header {
        let names = [
            "trace",
            "trace",
            "",
            "postrider-id",
            "postrider-key",
            NAME,
            VALUE,
            "größe",
        ];
        let name = match self.below(10) {
            8 => Bytes::from_static(b"\xff\xfe"),
            9 => Bytes::from_static(b"postrider-\xff"),
            at => Bytes::from_static(names[at as usize].as_bytes()),
        };
        Header {
            name,
            value: self.bytes(),
        }
    }

    fn time(&mut self) -> Timestamp {
        Timestamp(1_700_000_000_000 + self.below(1_000_000) as i64)
    }

    fn ladder_record(&mut self) -> LadderRecord {
        let headers = self.below(6);
        let record = Record {
            topic: "in.put_1-x".into(),
            partition: self.below(100) as i32,
            offset: self.below(1 << 40) as i64,
            timestamp: self.maybe(Self::time),
            key: self.bytes(),
            value: self.bytes(),
            headers: (0..headers).map(|_| self.header()).collect(),
        };
        let carried = Carried {
            id: DeliveryId::new("cluster", &record, ME),
            rule: "röle".into(),
            attempts: self.below(1 << 32) as u32,
            faults: self.below(4) as u32,
            hop: self.below(9) as u32,
            round: self.below(3) as u32,
            due: self.time(),
            first_attempt: self.maybe(Self::time),
            last_attempt: self.maybe(Self::time),
            held: Duration::from_millis(self.below(1 << 40)),
            status: self.maybe(|rng| rng.below(600) as u16),
            error: ["", "connect: refused", "größer\n\0"][self.below(3) as usize].to_owned(),
            cluster_id: "cluster".into(),
            appended: None,
        };
        let key = DeliveryKey {
            epoch: Epoch(1),
            offset: 1,
        };
        LadderRecord {
            makes_room: false,
            key,
            record: Arc::new(record),
            step: Step::OneMinute,
            carried,
        }
    }
}

/// What a consumer of the ladder reads.
fn written(ladder: &LadderRecord, destination: &str) -> Record {
    let headers = ladder_headers(ladder, destination, WRITTEN);
    Record {
        topic: "p.retry.1m".into(),
        partition: 3,
        offset: 77,
        timestamp: Some(Timestamp(WRITTEN.0 - 5)),
        key: Some(ladder.carried.id.to_string().into()),
        value: ladder.record.value.clone(),
        headers: headers
            .iter()
            .map(|header| Header {
                name: Bytes::copy_from_slice(header.key.as_bytes()),
                value: header.value.map(Bytes::copy_from_slice),
            })
            .collect(),
    }
}

fn without(mut record: Record, name: &str) -> Record {
    record.headers.retain(|header| header.name != name);
    record
}

fn with(record: Record, name: &'static str, value: &'static str) -> Record {
    let mut record = without(record, name);
    record.headers.push(Header {
        name: name.into(),
        value: Some(value.into()),
    });
    record
}

#[test]
fn a_record_comes_back_from_the_ladder_exactly_as_it_was() {
    let mut rng = Rng(0x5eed);
    for _ in 0..5000 {
        let ladder = rng.ladder_record();
        let opened = open(written(&ladder, ME), ME);
        let expected = Opened::Ours {
            record: (*ladder.record).clone(),
            carried: Box::new(Carried {
                appended: Some(WRITTEN),
                ..ladder.carried.clone()
            }),
        };
        assert_eq!(opened, Ok(expected));
    }
}

/// What a consumer of the dead letters reads.
fn dead(letter: &DeadLetter) -> Record {
    let headers = dead_letter_headers(letter, ME);
    let whole = letter.shed < Shed::Record;
    Record {
        topic: "p.dead-letters".into(),
        partition: 1,
        offset: 9,
        timestamp: Some(WRITTEN),
        key: letter.record.key.clone().filter(|_| whole),
        value: letter
            .record
            .value
            .clone()
            .filter(|_| letter.shed < Shed::Value),
        headers: headers
            .iter()
            .map(|header| Header {
                name: Bytes::copy_from_slice(header.key.as_bytes()),
                value: header.value.map(Bytes::copy_from_slice),
            })
            .collect(),
    }
}

fn letter(rng: &mut Rng, shed: Shed) -> DeadLetter {
    let LadderRecord {
        key,
        record,
        carried,
        ..
    } = rng.ladder_record();
    DeadLetter {
        key,
        id: carried.id,
        record,
        rule: rng.maybe(|_| "röle".into()),
        reason: crate::delivery::DeadLetterReason::Rejected,
        status: carried.status,
        error: carried.error,
        excerpt: rng.bytes().unwrap_or_default(),
        attempts: carried.attempts,
        first_attempt: carried.first_attempt,
        last_attempt: carried.last_attempt,
        cluster_id: carried.cluster_id,
        shed,
        round: carried.round,
    }
}

#[test]
fn a_dead_letter_is_read_back_exactly_as_it_was_but_for_what_was_left_out() {
    let mut rng = Rng(0xdead);
    for shed in [Shed::Nothing, Shed::Excerpt, Shed::Value, Shed::Record].repeat(1000) {
        let written = letter(&mut rng, shed);
        let read = read_letter(dead(&written)).unwrap();
        let mut expected = (*written.record).clone();
        if shed >= Shed::Value {
            expected.value = None;
        }
        if shed == Shed::Record {
            expected.key = None;
            expected.headers.clear();
        }
        assert_eq!(read.record, expected);
        let excerpt = Some(written.excerpt).filter(|_| shed == Shed::Nothing);
        assert_eq!(read.excerpt, excerpt.unwrap_or_default());
        assert_eq!(
            (read.partition, read.offset, read.written),
            (1, 9, Some(WRITTEN))
        );
        assert_eq!(
            (read.id, read.round, read.shed),
            (written.id, written.round, shed)
        );
        assert_eq!((&*read.reason, &*read.destination), ("rejected", ME));
        assert_eq!(read.rule.as_deref(), written.rule.as_deref());
        assert_eq!((read.status, read.error), (written.status, written.error));
        assert_eq!(read.attempts, written.attempts);
    }
}

#[test]
fn what_is_cut_to_the_bone_is_small_whatever_the_record_was() {
    let mut cut = letter(&mut Rng(7), Shed::Record);
    cut.error = "ö".repeat(100_000);
    let headers = dead(&cut).headers;
    let length = |h: &Header| h.name.len() + h.value.as_ref().map_or(0, Bytes::len);
    assert!(headers.iter().map(length).sum::<usize>() < 2048);
}

#[test]
fn a_dead_letter_of_another_kind_is_not_guessed_at() {
    let good = dead(&letter(&mut Rng(8), Shed::Nothing));
    let why = |record: Record| read_letter(record).unwrap_err();
    assert!(why(with(good.clone(), "postrider-version", "2")).contains("version \"2\""));
    assert!(why(with(good.clone(), "postrider-shed", "key")).contains("\"key\""));
    assert!(why(without(good, "postrider-destination")).contains("destination"));
}

#[test]
fn what_is_for_another_destination_is_left_in_its_envelope() {
    let record = written(&Rng(1).ladder_record(), "other");
    let expected = Opened::Foreign {
        record: record.clone(),
        destination: "other".to_owned(),
    };
    assert_eq!(open(record, ME), Ok(expected));
}

#[test]
fn an_envelope_that_cannot_be_read_is_nobodys() {
    let good = written(&Rng(2).ladder_record(), ME);
    let why = |record: Record| open(record, ME).unwrap_err();
    assert!(why(with(good.clone(), "postrider-version", "2")).contains("version \"2\""));
    for name in [
        "version",
        "destination",
        "id",
        "rule",
        "hop",
        "due",
        "topic",
        "offset",
    ] {
        let name = format!("postrider-{name}");
        let error = why(without(good.clone(), &name));
        assert_eq!(error, format!("it has no header {name}"));
    }
    for (name, value) in [
        ("postrider-attempts", "-1"),
        ("postrider-partition", "99999999999"),
        ("postrider-id", "msg_12"),
        ("postrider-held-ms", ""),
    ] {
        assert!(
            why(with(good.clone(), name, value)).contains(name),
            "{name}"
        );
    }
    // A version that is not ours may mean anything by its other headers, the destination's included.
    let foreign = with(
        written(&Rng(3).ladder_record(), "other"),
        "postrider-version",
        "9",
    );
    assert!(open(foreign, ME).is_err());
}

#[test]
fn the_later_of_two_clocks_says_when_it_was_written() {
    let record = written(&Rng(4).ladder_record(), ME);
    let time = |record: &Record| match address(record, ME) {
        Ok(Address::Ours { written }) => written,
        other => panic!("{other:?}"),
    };
    assert_eq!(time(&record), Some(WRITTEN));
    let later = Record {
        timestamp: Some(Timestamp(WRITTEN.0 + 5)),
        ..record
    };
    assert_eq!(time(&later), later.timestamp);
}
