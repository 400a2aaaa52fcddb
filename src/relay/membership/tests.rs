//! Two and more configurations in one group, under virtual time: instances that are deployed one by one, taken back, killed, frozen, and started again,
//! with clocks that are days off. What is asked: nobody reads by older rules after one with newer ones has said that it is ready; and
//! somebody reads.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::{Now, Tick, Timestamp};
use crate::kafka::StateRecord;

use super::super::peers::Peers;
use super::*;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    /// An instance with an older file does not leave.
    Stays,
    /// One with a newer file says that it is ready before the others have left.
    DoesNotWait,
    /// One that ends takes its word away, so that an older one is back before it is started again.
    TakesItsWordAway,
    /// An instance joins its group before it has heard of others.
    JoinsUnheard,
}

const SEEDS: u64 = 300;
const STEP: u64 = 50;
/// The time in which things happen, and the time after it in which all becomes well.
const TROUBLE: u64 = 300_000;
const CALM: u64 = 100_000;
/// The rest of a minute when an instance is killed that has just been frozen for a quarter of one.
const KILLED_COUNTS: u64 = 22_000;
const ENDED_COUNTS: u64 = 58_000;
/// Whoever wakes reads what it has in its hands, until it hears.
const WAKES: u64 = 2000;

struct Rng(u64);

impl Rng {
    fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        low + self.0 % (high - low + 1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.between(1, 100) <= percent
    }
}

/// A file on one machine.
#[derive(Debug, Clone)]
struct File {
    rules: &'static str,
    placed: u64,
}

/// One process.
struct Node {
    file: File,
    /// How far its clock is off.
    skew: i64,
    name: String,
    peers: Peers,
    seat: Seat,
    read_to: usize,
    reads_at: u64,
    proof: bool,
    /// Our word on its way, and when it arrives.
    word: Option<(u64, Vec<u8>)>,
    /// When it is a member as it was told.
    follows_at: u64,
    reads: bool,
    ready_at: Option<u64>,
    frozen_until: u64,
}

/// One that is dead: until when its word must count, and until when it may.
struct Ghost {
    file: File,
    must: u64,
    may: u64,
}

struct World {
    rng: Rng,
    bug: Option<Bug>,
    now: u64,
    broker_skew: i64,
    log: Vec<StateRecord>,
    nodes: Vec<Option<Node>>,
    files: Vec<File>,
    skews: Vec<i64>,
    ghosts: Vec<Ghost>,
    nobody_since: Option<u64>,
    deployed: u64,
    started: u64,
}

fn at(ms: u64) -> Tick {
    Tick(Duration::from_millis(ms))
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap()
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let count = usize::try_from(rng.between(2, 4)).unwrap();
        let day = 86_400_000;
        let mut skew = || match rng.chance(50) {
            true => 0,
            false => signed(rng.between(0, 2 * day)) - signed(day),
        };
        let (broker_skew, skews) = (skew(), (0..count).map(|_| skew()).collect());
        let first = File {
            rules: "x",
            placed: 0,
        };
        Self {
            rng,
            bug,
            now: 10_000,
            broker_skew,
            log: Vec::new(),
            nodes: (0..count).map(|_| None).collect(),
            files: vec![first; count],
            skews,
            ghosts: Vec::new(),
            nobody_since: None,
            deployed: 0,
            started: 0,
        }
    }

    fn append(&mut self, key: String, value: Option<Vec<u8>>) {
        let broker = signed(self.now) + self.broker_skew;
        self.log.push(StateRecord {
            key,
            value,
            headers: BTreeMap::new(),
            appended: Some(Timestamp(broker)),
        });
    }

    fn start(&mut self, number: usize) {
        self.started += 1;
        let name = format!("{number}-{}", self.started);
        let (file, skew) = (self.files[number].clone(), self.skews[number]);
        let rules = BTreeMap::from([("shop".to_owned(), file.rules.to_owned())]);
        let placed = Timestamp(signed(file.placed) + skew);
        self.nodes[number] = Some(Node {
            peers: Peers::new(name.clone(), placed, rules),
            file,
            skew,
            name,
            seat: Seat::default(),
            read_to: 0,
            reads_at: self.now + self.rng.between(100, 2000),
            proof: false,
            word: None,
            follows_at: 0,
            reads: self.bug == Some(Bug::JoinsUnheard),
            ready_at: None,
            frozen_until: 0,
        });
    }

    fn end(&mut self, number: usize, in_good_order: bool) {
        let Some(mut node) = self.nodes[number].take() else {
            return;
        };
        if in_good_order && let Some(word) = node.peers.last_word() {
            let word = (self.bug != Some(Bug::TakesItsWordAway)).then_some(word);
            self.append(node.peers.key(), word);
        }
        let counts = if in_good_order {
            ENDED_COUNTS
        } else {
            KILLED_COUNTS
        };
        // What was said by one that was not ready, or is frozen for long, may be forgotten sooner.
        let counts = match node.ready_at.is_some() && node.frozen_until <= self.now {
            true => counts,
            false => 0,
        };
        self.ghosts.push(Ghost {
            file: node.file,
            must: self.now + counts,
            may: self.now + 2 * 60_000,
        });
    }

    /// Something happens to one of them.
    fn disturb(&mut self) {
        let number = usize::try_from(self.rng.between(0, self.nodes.len() as u64 - 1)).unwrap();
        match self.rng.between(0, 9) {
            0 | 1 if let Some(node) = &mut self.nodes[number] => {
                node.frozen_until = self.now + self.rng.between(1000, 15_000);
            }
            2 | 3 => self.end(number, false),
            4 | 5 => self.end(number, true),
            _ => {
                // Another text, or one that was there before; two seconds apart, for clocks are compared by messages.
                if self.deployed + 3000 < self.now {
                    self.deployed = self.now;
                    let in_good_order = self.rng.chance(80);
                    self.end(number, in_good_order);
                    let rules = ["x", "y", "z"][usize::try_from(self.rng.between(0, 2)).unwrap()];
                    let placed = self.now;
                    self.files[number] = File { rules, placed };
                }
            }
        }
    }

    fn step(&mut self, number: usize) {
        let Some(mut node) = self.nodes[number].take() else {
            return;
        };
        if let Some((_, word)) = node.word.take_if(|(due, _)| *due <= self.now) {
            self.append(node.peers.key(), Some(word));
        }
        if node.frozen_until <= self.now {
            self.read(&mut node);
            self.say(&mut node);
            self.follow(&mut node);
        }
        self.nodes[number] = Some(node);
    }

    fn read(&mut self, node: &mut Node) {
        if self.now < node.reads_at {
            return;
        }
        node.reads_at = self.now + self.rng.between(0, 300);
        let now = Now {
            tick: at(self.now),
            wall: Timestamp(signed(self.now) + node.skew),
        };
        for record in &self.log[node.read_to..] {
            let is_proof =
                record.key == "check" && record.value.as_deref() == Some(node.name.as_bytes());
            if is_proof {
                node.peers.learn_time(record.appended, now);
            }
            node.peers.hear(record, now.tick);
        }
        node.read_to = self.log.len();
        if !std::mem::replace(&mut node.proof, true) {
            let name = node.name.clone().into_bytes();
            self.append("check".to_owned(), Some(name));
        }
    }

    fn say(&mut self, node: &mut Node) {
        if node.word.is_some() {
            return;
        }
        if let Some(word) = node.peers.word_due(at(self.now)) {
            if self.rng.chance(5) {
                node.peers.not_said(at(self.now));
            } else {
                node.word = Some((self.now + self.rng.between(5, 300), word));
            }
        }
        for name in node.peers.bury() {
            self.append(Peers::key_of(&name), None);
        }
    }

    fn follow(&mut self, node: &mut Node) {
        if !node.peers.is_announced() {
            return;
        }
        let mut stand = node.peers.stand("shop", at(self.now));
        let stays = self.bug == Some(Bug::Stays) && matches!(stand, Stand::Outdated { .. });
        let hurries = self.bug == Some(Bug::DoesNotWait) && matches!(stand, Stand::Newest { .. });
        if stays || hurries {
            stand = Stand::Alone;
        }
        let wanted = node.seat.wanted(&stand, at(self.now));
        if wanted != node.seat.membership() {
            node.seat.told(wanted, at(self.now));
            let (least, most) = match wanted {
                Membership::In => (300, 3000),
                Membership::Starting | Membership::Outdated => (10, 400),
            };
            node.follows_at = self.now + self.rng.between(least, most);
        }
        if self.now >= node.follows_at && wanted != Membership::Starting {
            node.reads = wanted == Membership::In;
        }
        match wanted {
            Membership::Starting => {}
            Membership::In => {
                node.ready_at.get_or_insert(self.now);
                node.peers.set_out("shop", false);
            }
            Membership::Outdated => {
                let out = node.seat.may_be_out(at(self.now)) && !node.reads;
                node.peers.set_out("shop", out);
            }
        }
    }

    /// The newest of those who are ready, or may come back.
    fn newest(&self) -> Option<File> {
        let ready = |node: &&Node| node.ready_at.is_some_and(|at| at < self.now);
        let living = self.nodes.iter().flatten().filter(ready).map(|n| &n.file);
        let dead = self.ghosts.iter().filter(|ghost| ghost.must > self.now);
        let all = living.chain(dead.map(|ghost| &ghost.file));
        all.max_by_key(|file| file.placed).cloned()
    }

    /// Whether these rules were deployed again since, by one that was not ready before it ended, or is not yet.
    fn came_back(&self, rules: &str, since: u64) -> bool {
        let living = self.nodes.iter().flatten().map(|node| &node.file);
        let dead = self.ghosts.iter().filter(|ghost| ghost.may > self.now);
        let mut all = living.chain(dead.map(|ghost| &ghost.file));
        all.any(|file| file.placed > since && file.rules == rules)
    }

    fn check(&mut self) -> Result<(), String> {
        let awake = |node: &&Node| node.frozen_until + WAKES <= self.now;
        let Some(newest) = self.newest() else {
            return Ok(());
        };
        let reads = |node: &&Node| node.reads && node.frozen_until <= self.now;
        for node in self.nodes.iter().flatten().filter(reads).filter(awake) {
            let rules = node.file.rules;
            if node.file.placed < newest.placed
                && rules != newest.rules
                && !self.came_back(rules, newest.placed)
            {
                let (name, file, now) = (&node.name, &node.file, self.now);
                return Err(format!("{now}: {name} reads by {file:?}, not {newest:?}"));
            }
        }
        let able = self
            .nodes
            .iter()
            .flatten()
            .any(|node| node.frozen_until <= self.now);
        if !able || self.nodes.iter().flatten().any(|node| node.reads) {
            self.nobody_since = None;
            return Ok(());
        }
        let since = *self.nobody_since.get_or_insert(self.now);
        if self.now - since > 85_000 {
            return Err(format!("{}: nobody reads since {since}", self.now));
        }
        Ok(())
    }

    /// When all is quiet, those read who have the newest rules, and no others.
    fn check_end(&self) -> Result<(), String> {
        let files = self.nodes.iter().flatten().map(|node| &node.file);
        let newest = files.max_by_key(|file| file.placed).unwrap().rules;
        for node in self.nodes.iter().flatten() {
            if node.reads != (node.file.rules == newest) {
                return Err(format!("at the end {} reads: {}", node.name, node.reads));
            }
        }
        Ok(())
    }

    fn run(mut self) -> Result<(), String> {
        let mut disturbed = 5000;
        let end = self.now + TROUBLE;
        while self.now < end + CALM {
            self.now += STEP;
            if self.now >= disturbed && self.now < end {
                self.disturb();
                disturbed = self.now + self.rng.between(500, 25_000);
            }
            for number in 0..self.nodes.len() {
                if self.nodes[number].is_none() && (self.now >= end || self.rng.chance(2)) {
                    self.start(number);
                }
                self.step(number);
            }
            self.check()?;
        }
        self.check_end()
    }
}

#[test]
fn nobody_reads_by_older_rules_than_one_who_is_ready() {
    let asked = std::env::var("POSTRIDER_SIM_SEEDS").ok();
    let seeds = asked.and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    for seed in 0..seeds {
        if let Err(problem) = World::new(seed, None).run() {
            panic!("seed {seed}: {problem}");
        }
    }
}

#[test]
fn planted_bugs_are_found() {
    for bug in [
        Bug::Stays,
        Bug::DoesNotWait,
        Bug::TakesItsWordAway,
        Bug::JoinsUnheard,
    ] {
        let found = (0..SEEDS).any(|seed| World::new(seed, Some(bug)).run().is_err());
        assert!(found, "{bug:?} is not found");
    }
}
