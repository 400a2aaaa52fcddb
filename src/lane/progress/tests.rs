//! The codec against random progresses, damage, and texts of others.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "the list has one range, and is not one of its numbers"
)]

use super::*;

const OWNER: Owner<'static> = Owner {
    cluster_id: "cluster-1",
    destination_id: "shop",
    topic: "orders",
    partition: 3,
};

/// SplitMix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Mostly small, sometimes as large as it may be.
    fn number(&mut self, limit: u64) -> i64 {
        let scale = [4, 100, 10_000, limit][usize::try_from(self.below(4)).unwrap()];
        i64::try_from(self.below(scale.min(limit))).unwrap()
    }
}

fn random(random: &mut Random) -> (i64, Progress) {
    let base = random.number(1 << 40);
    let (mut settled, mut budgets) = (Vec::new(), Vec::new());
    let mut next = base;
    for _ in 0..random.below(60) {
        let start = next + random.number(1 << 30);
        let end = start + 1 + random.number(1 << 30);
        settled.push(start..end);
        next = end + 1;
    }
    next = base;
    for _ in 0..random.below(40) {
        let offset = next + random.number(1 << 30);
        let first = 1_700_000_000 + random.number(1 << 20);
        budgets.push(Budget {
            offset,
            attempts: u32::try_from(random.number(u64::from(u32::MAX) + 1)).unwrap(),
            faults: u32::try_from(random.below(4)).unwrap(),
            first_attempt: Timestamp(first * 1000),
            due: Timestamp((first + random.number(1 << 32)) * 1000),
            held: Duration::from_secs(u64::try_from(random.number(1 << 32)).unwrap()),
        });
        next = offset + 1;
    }
    let caution = random_caution(random, base);
    let progress = Progress {
        settled,
        budgets,
        caution,
        topic_id: TopicId::new(random.below(3).into()),
    };
    (base, progress)
}

fn random_caution(random: &mut Random, base: i64) -> Caution {
    if random.below(3) == 0 {
        return Caution::default();
    }
    let mut offset = || base + random.number(1 << 30);
    let (until, alone) = (offset() + 1, offset());
    let accused = (0..5).map(|_| offset()).collect::<Vec<_>>();
    let mut number = |limit| u32::try_from(random.below(limit)).unwrap();
    Caution {
        starts: number(1 << 32),
        until: (number(2) == 1).then_some(until),
        alone: (number(2) == 1).then_some((alone, 1 + number(1 << 20))),
        accused: accused
            .into_iter()
            .take(number(6) as usize)
            .map(|offset| (offset, number(300)))
            .collect(),
    }
}

fn decode(base: i64, text: &[u8]) -> Option<Progress> {
    Progress::decode(OWNER, base, text)
}

/// A text with the right hash around any body: what only our own code, or somebody who read it, would write.
fn sealed(body: &[u8]) -> String {
    let mut bytes = hash(OWNER, body).to_vec();
    bytes.extend_from_slice(body);
    format!("{PREFIX}{}", STANDARD_NO_PAD.encode(bytes))
}

#[test]
fn what_was_written_is_read() {
    let mut numbers = Random(1);
    let mut long = 0;
    for _ in 0..5000 {
        let (base, progress) = random(&mut numbers);
        match progress.encode(OWNER, base) {
            Some(text) if text.is_empty() => assert_eq!(progress, Progress::default()),
            Some(text) => {
                assert!(text.len() <= METADATA_MAX && text.is_ascii());
                assert_eq!(decode(base, text.as_bytes()).as_ref(), Some(&progress));
            }
            None => long += 1,
        }
    }
    assert!(long < 500, "{long} of 5000 were too long");
}

#[test]
fn parts_of_seconds_round_away_from_being_early() {
    let budget = Budget {
        offset: 5,
        attempts: 1,
        faults: 0,
        first_attempt: Timestamp(1_999),
        due: Timestamp(5_001),
        held: Duration::from_millis(1_999),
    };
    let progress = Progress {
        settled: Vec::new(),
        budgets: vec![budget],
        ..Progress::default()
    };
    let text = progress.encode(OWNER, 5).unwrap();
    let read = decode(5, text.as_bytes()).unwrap();
    let rounded = Budget {
        first_attempt: Timestamp(1_000),
        due: Timestamp(6_000),
        held: Duration::from_secs(1),
        ..budget
    };
    assert_eq!(read.budgets, [rounded]);
}

#[test]
fn a_damaged_text_says_nothing() {
    let mut numbers = Random(2);
    for _ in 0..40 {
        let (base, progress) = random(&mut numbers);
        let Some(text) = progress.encode(OWNER, base) else {
            continue;
        };
        let text = text.into_bytes();
        for length in 0..text.len() {
            assert_eq!(decode(base, &text[..length]), None, "cut at {length}");
        }
        for place in 0..text.len() {
            let mut damaged = text.clone();
            for _ in 0..4 {
                damaged[place] = (numbers.next() & 0xff) as u8;
                let read = decode(base, &damaged);
                assert!(damaged == text || read.is_none(), "changed at {place}");
            }
        }
        let longer = [text.as_slice(), b"A"].concat();
        assert_eq!(decode(base, &longer), None);
    }
}

#[test]
fn every_change_of_one_byte_says_nothing() {
    let progress = Progress {
        settled: vec![101..110, 120..121],
        budgets: Vec::new(),
        ..Progress::default()
    };
    let text = progress.encode(OWNER, 100).unwrap().into_bytes();
    for place in 0..text.len() {
        for byte in 0..=255 {
            let mut damaged = text.clone();
            damaged[place] = byte;
            assert!(damaged == text || decode(100, &damaged).is_none());
        }
    }
}

#[test]
fn what_belongs_to_another_says_nothing() {
    let progress = Progress {
        settled: vec![12..20],
        budgets: Vec::new(),
        ..Progress::default()
    };
    let text = progress.encode(OWNER, 10).unwrap().into_bytes();
    assert!(decode(10, &text).is_some());
    assert_eq!(decode(11, &text), None);
    let others = [
        Owner {
            cluster_id: "cluster-2",
            ..OWNER
        },
        Owner {
            destination_id: "sho",
            ..OWNER
        },
        Owner {
            topic: "porders",
            destination_id: "sho",
            ..OWNER
        },
        Owner {
            topic: "orders2",
            ..OWNER
        },
        Owner {
            partition: 4,
            ..OWNER
        },
    ];
    for other in others {
        assert_eq!(Progress::decode(other, 10, &text), None, "{other:?}");
    }
    for foreign in [
        b"".as_slice(),
        b"pr1.",
        b"pr2.AAAA",
        b"{\"host\":\"a\"}",
        b"\xff\xfe\x00",
        &[b'A'; 100_000],
    ] {
        assert_eq!(decode(10, foreign), None);
    }
}

/// Texts with the right hash whose bodies are not what this code writes: none is taken by half, none costs memory, none panics.
#[test]
fn a_right_hash_around_nonsense_says_nothing() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let bodies: Vec<Vec<u8>> = vec![
        vec![],
        vec![10],
        vec![10, 0],
        // A trailing byte, an unknown form, an overlong zero.
        vec![10, 0, RUNS, 0, 0],
        vec![10, 0, 2, 0],
        vec![10, 0x80, 0x00, RUNS, 0],
        // Counts and lengths that lie.
        [&[10, 0, RUNS], huge.as_slice()].concat(),
        [&[10], huge.as_slice()].concat(),
        [&[10, 0, BITMAP, 0], huge.as_slice()].concat(),
        [&[10, 0, RUNS, 1], huge.as_slice(), &[0]].concat(),
        // A number of more than 64 bits.
        vec![
            10, 0, RUNS, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0,
        ],
        // A bitmap that begins or ends with nothing, and one of no bytes.
        vec![10, 0, BITMAP, 0, 1, 0b10],
        vec![10, 0, BITMAP, 0, 2, 1, 0],
        vec![10, 0, BITMAP, 0, 0],
        // A base time that no budget has.
        vec![10, 1, 50, 0, 4, 1, 0, 0, RUNS, 0],
    ];
    for body in &bodies {
        assert_eq!(decode(10, sealed(body).as_bytes()), None, "{body:?}");
    }
    let mut numbers = Random(3);
    for _ in 0..50_000 {
        let length = numbers.below(40);
        let mut body = vec![10];
        body.extend((0..length).map(|_| {
            [numbers.below(4), numbers.next() & 0xff][usize::try_from(numbers.below(2)).unwrap()]
                as u8
        }));
        if let Some(progress) = decode(10, sealed(&body).as_bytes()) {
            for range in &progress.settled {
                assert!(10 <= range.start && range.start < range.end);
            }
            for two in progress.settled.windows(2) {
                assert!(two[0].end < two[1].start);
            }
            for two in progress.budgets.windows(2) {
                assert!(two[0].offset < two[1].offset);
            }
            assert!(progress.budgets.iter().all(|budget| budget.offset >= 10));
        }
    }
}

#[test]
fn what_is_out_of_order_is_not_written() {
    let runs = |settled: Vec<Range<i64>>| Progress {
        settled,
        budgets: Vec::new(),
        ..Progress::default()
    };
    assert_eq!(runs(vec![5..6]).encode(OWNER, 10), None);
    assert_eq!(runs(vec![20..22, 12..14]).encode(OWNER, 10), None);
    assert_eq!(runs(vec![12..14, 14..16]).encode(OWNER, 10), None);
    #[expect(clippy::reversed_empty_ranges, reason = "what must not be")]
    let reversed = 14..12;
    assert_eq!(runs(vec![reversed]).encode(OWNER, 10), None);
    assert_eq!(runs(vec![12..14]).encode(OWNER, -1), None);
}

fn budgets(count: i64) -> Progress {
    let first = 1_700_000_000;
    let budget = |n: i64| Budget {
        offset: 1_000_000 + n * 11,
        attempts: 1 + u32::try_from(n % 8).unwrap(),
        faults: 0,
        first_attempt: Timestamp((first + n * 7 % 600) * 1000),
        due: Timestamp((first + n * 7 % 600 + 20 + n % 300) * 1000),
        held: Duration::ZERO,
    };
    Progress {
        settled: Vec::new(),
        budgets: (0..count).map(budget).collect(),
        ..Progress::default()
    }
}

fn fits(progress: &Progress) -> bool {
    progress.encode(OWNER, 1_000_000).is_some()
}

/// What a lane may count on: these numbers are in its decisions of when to hand records over.
#[test]
fn how_much_fits() {
    let most = (0..5000).rev().find(|n| fits(&budgets(*n))).unwrap();
    assert!(most >= 300, "{most} budgets");
    // Every second record of a whole window settled, in any pattern.
    let every_second = |count: i64, gap: i64| Progress {
        settled: (0..count)
            .map(|n| 1_000_001 + n * gap..1_000_002 + n * gap)
            .collect(),
        budgets: Vec::new(),
        ..Progress::default()
    };
    assert!(fits(&every_second(8000, 2)), "17,000 offsets as a bitmap");
    let far = (0..5000)
        .rev()
        .find(|n| fits(&every_second(*n, 90)))
        .unwrap();
    assert!(far >= 1000, "{far} runs that lie 90 apart");
    let farther = (0..5000)
        .rev()
        .find(|n| fits(&every_second(*n, 9000)))
        .unwrap();
    assert!(farther >= 700, "{farther} runs that lie 9000 apart");
    println!("budgets: {most}, runs 90 apart: {far}, 9000 apart: {farther}");
}
