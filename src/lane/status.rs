//! What a lane does at this moment, and why: as data, and in words for a person.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Tick, Timestamp};

use super::counts::Waiting;
use super::endpoint::State as Endpoint;
use super::endpoints::{EndpointStates, Slot};
use super::ladder::Source;
use super::machine::Lane;
use super::options::BrakeMode;
use super::window::Partition;

/// What a lane does, and what waits in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneStatus {
    /// What it does.
    pub doing: Doing,
    /// What was read and is not settled, by what it waits for.
    pub waiting: Waiting,
    /// The partitions it holds of the topics that the rules name, each with its position.
    pub positions: Vec<PartitionPosition>,
    /// How far these are from their ends, together; `None`: not known. The lane itself does not know it.
    pub lag: Option<u64>,
    /// The same by topic.
    pub lag_by_topic: BTreeMap<Arc<str>, u64>,
    /// The timestamp of the oldest record that waits.
    pub oldest_waiting: Option<Timestamp>,
    /// The last attempt that failed; of the endpoint that is spoken of, where there are many.
    pub last_failure: Option<LastFailure>,
    /// The endpoint that is spoken of: the worst of many. `None`: the destination has one, or all of them are well.
    pub endpoint: Option<Arc<str>>,
    /// How many endpoints are in which state.
    pub endpoints: EndpointStates,
    /// Keys whose records wait behind one that has failed, those with most of them first; and how many such keys there are.
    pub held: Vec<HeldKey>,
    /// How many keys there are of which that is true.
    pub held_keys: usize,
}

/// A key whose records wait behind one that has failed, or for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldKey {
    /// The key.
    pub key: Bytes,
    /// Where the first of its records stands.
    pub topic: Arc<str>,
    /// The same.
    pub partition: i32,
    /// The same.
    pub offset: i64,
    /// Records behind that one; or all of them, when they wait for a person.
    pub behind: usize,
    /// Whether they wait to be released.
    pub by_a_person: bool,
}

impl HeldKey {
    /// The key as a text: what is not UTF-8 in it, or not to be printed, is escaped; a long one is cut.
    #[must_use]
    pub fn name(&self) -> String {
        key_name(&self.key)
    }
}

/// A key as a text.
#[must_use]
pub fn key_name(key: &[u8]) -> String {
    const CHARACTERS_MAX: usize = 64;
    let text = String::from_utf8_lossy(key);
    let escaped = || text.chars().flat_map(char::escape_debug);
    let shown: String = escaped().take(CHARACTERS_MAX).collect();
    match escaped().nth(CHARACTERS_MAX) {
        Some(_) => format!("{shown}..."),
        None => shown,
    }
}

/// Where a lane stands in a partition: everything below is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionPosition {
    /// The topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// The first offset that is not settled.
    pub offset: i64,
    /// The timestamp of the record there, if it was read and has one.
    pub oldest: Option<Timestamp>,
}

/// What a lane does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doing {
    /// Its group has not said yet which partitions it has, or it is not allowed to begin.
    Starting,
    /// It delivers what there is.
    Running,
    /// The receiver asked for a pause: nothing is sent until then.
    Held {
        /// The end of the pause.
        until: Timestamp,
    },
    /// One record met a fault of the endpoint; another is tried, to tell whose fault it is.
    Doubt,
    /// The process ended at one place again and again: records go one at a time.
    OneAtATime {
        /// The topic.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// The position.
        offset: i64,
    },
    /// The endpoint counts as broken: nothing is sent but probes.
    Open {
        /// Since when.
        since: Timestamp,
        /// When it is tried next; `None`: a probe is under way.
        next_probe: Option<Timestamp>,
    },
    /// The endpoint said that it is gone for good.
    Gone {
        /// When.
        since: Timestamp,
    },
    /// A person paused it.
    Paused {
        /// Who and why, where that is known.
        by: Option<Box<Asked>>,
    },
    /// Most records were rejected: one a minute goes on, or none.
    Braked {
        /// Since when.
        since: Timestamp,
        /// Whether nothing at all goes on.
        stopped: bool,
    },
    /// A topic of our own cannot be written, so records cannot end there.
    Blocked,
    /// Records expired unread in this partition, and the file wants a person to decide; the others are read.
    Expired {
        /// The topic.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// How many records are gone.
        lost: u64,
    },
    /// A batch of this partition does not read, and nothing behind it is read until a person has it
    /// stepped over; the others are read.
    Damaged {
        /// The destination, for the command that steps over it.
        destination: Arc<str>,
        /// The topic.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// The first offset that is not read.
        offset: i64,
    },
    /// What is in flight may end, then the lane does.
    Draining,
}

/// Who asked for something, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Who.
    pub who: String,
    /// Why, in that person's words.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// Of a pause: whether the consumer group is left too.
    pub left: bool,
    /// Of a pause: when it ends by itself.
    pub until: Option<Timestamp>,
}

/// The last attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// Why, by its name in the metrics.
    pub reason: Option<&'static str>,
    /// What happened, in words, without URLs or secrets.
    pub error: String,
    /// When it ended.
    pub at: Timestamp,
}

impl Doing {
    /// The name in the status and in metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Held { .. } => "held",
            Self::Doubt => "doubt",
            Self::OneAtATime { .. } => "one_at_a_time",
            Self::Open { .. } => "open",
            Self::Gone { .. } => "gone",
            Self::Paused { .. } => "paused",
            Self::Braked { .. } => "braked",
            Self::Blocked => "blocked",
            Self::Expired { .. } => "expired",
            Self::Damaged { .. } => "blocked",
            Self::Draining => "stopping",
        }
    }

    /// Whether records go out, or would if there were any.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        matches!(
            self,
            Self::Starting | Self::Running | Self::Doubt | Self::OneAtATime { .. }
        )
    }
}

impl LaneStatus {
    /// The same in words; `name` is what the destination's endpoint is called: its host.
    #[must_use]
    pub fn words(&self, now: Timestamp, name: &str) -> String {
        let words = self.words_without_keys(now, name);
        match self.held_words() {
            Some(held) => format!("{words}; {held}"),
            None => words,
        }
    }

    /// Which keys hold back their records.
    fn held_words(&self) -> Option<String> {
        let behind: usize = self.waiting.order;
        let first = self.held.first()?;
        let names: Vec<String> = self.held.iter().map(HeldKey::name).collect();
        let more = match self.held_keys - names.len() {
            0 => String::new(),
            count => format!(" and {} more", grouped(count as u64)),
        };
        let release = match self.held.iter().any(|held| held.by_a_person) {
            true => "; `postrider release` lets a key go on that waits for a person",
            false => "",
        };
        let HeldKey {
            topic,
            partition,
            offset,
            ..
        } = first;
        Some(format!(
            "{} behind others of their keys: {}{more} (the first at {topic}/{partition} offset {offset}){release}",
            match behind {
                1 => "1 record waits".to_owned(),
                count => format!("{} records wait", grouped(count as u64)),
            },
            names.join(", "),
        ))
    }

    fn words_without_keys(&self, now: Timestamp, name: &str) -> String {
        let Some(endpoint) = &self.endpoint else {
            return self.words_of(now, name);
        };
        let words = self.words_of(now, &format!("{endpoint} at {name}"));
        format!("{words}; {}", self.others_words())
    }

    /// How many endpoints of many take nothing.
    fn others_words(&self) -> String {
        let EndpointStates {
            open,
            half_open,
            gone,
            ..
        } = self.endpoints;
        let left_alone = open + half_open;
        let mut words = format!(
            "{} of {} {} open",
            grouped(left_alone as u64),
            count_of(self.endpoints.total() as u64, "endpoint"),
            if left_alone == 1 { "is" } else { "are" }
        );
        if gone > 0 {
            words.push_str(&format!(", {} gone", grouped(gone as u64)));
        }
        words.push_str(", the others go on");
        words
    }

    fn words_of(&self, now: Timestamp, name: &str) -> String {
        let wait = self.wait_words();
        let why = self.failure_words();
        match &self.doing {
            Doing::Starting => "starting: no partitions yet".to_owned(),
            Doing::Running => self.running_words(now, &why),
            Doing::Held { until } => format!(
                "held for {}, as {name} asked ({why}); {wait}, nothing lost",
                span(*until, now)
            ),
            Doing::Doubt => format!("{name} refused a record ({why}); trying another; {wait}"),
            Doing::OneAtATime {
                topic,
                partition,
                offset,
            } => format!(
                "one record at a time, to find the one that ends the process: it ended again and again at {topic} partition {partition} offset {offset}; {wait}, nothing lost"
            ),
            Doing::Open { since, next_probe } => {
                let probe = match next_probe {
                    Some(at) => format!("next probe in {}", span(*at, now)),
                    None => "a probe is under way".to_owned(),
                };
                let since = clock(*since, now);
                format!("waiting for {name}: {why} since {since}, {wait}, {probe}, nothing lost")
            }
            Doing::Gone { since } => format!(
                "{name} says it is gone for good ({why}) since {}; {wait}; change its configuration, or resume it",
                clock(*since, now)
            ),
            Doing::Paused { by: None } => format!("paused; {wait}, nothing lost"),
            Doing::Paused { by: Some(asked) } => {
                let Asked {
                    who, reason, at, ..
                } = &**asked;
                let more = self.pause_words(asked, now);
                format!(
                    "paused by {who} since {}: {reason}; {more}",
                    clock(*at, now)
                )
            }
            Doing::Braked { since, stopped } => {
                let pace = if *stopped {
                    "nothing"
                } else {
                    "one record a minute"
                };
                format!(
                    "braked since {}: most records were rejected (last: {why}); {pace} goes on until it is resumed; {wait}",
                    clock(*since, now)
                )
            }
            Doing::Blocked => {
                format!("blocked: a topic of our own cannot be written; {wait}, nothing lost")
            }
            Doing::Expired {
                topic,
                partition,
                lost,
            } => {
                format!(
                    "{topic} partition {partition} stands still: {} expired before they were read; decide with on_records_lost = \"earliest\" and a restart, or pause --leave and reset the offset; {wait}",
                    count_of(*lost, "record")
                )
            }
            Doing::Damaged {
                destination,
                topic,
                partition,
                offset,
            } => {
                format!(
                    "{topic} partition {partition} stands still at offset {offset}: a batch there does not read; `postrider skip -d {destination} --topic {topic} --partition {partition} --offset {offset}` steps over it, and its records are lost; {wait}"
                )
            }
            Doing::Draining => match self.waiting.in_flight {
                0 => "stopping".to_owned(),
                count => format!(
                    "stopping: {} in flight may end",
                    count_of(count as u64, "request")
                ),
            },
        }
    }

    /// What else is to be known of a pause; what waits is not known outside the group.
    fn pause_words(&self, asked: &Asked, now: Timestamp) -> String {
        let what = match (asked.left, self.positions.is_empty()) {
            (false, _) => format!("{}, nothing lost", self.wait_words()),
            (true, false) => "leaving its consumer group".to_owned(),
            (true, true) => "out of its consumer group, whose offsets may be changed".to_owned(),
        };
        match asked.until {
            Some(until) => format!("{what}; goes on by itself in {}", span(until, now)),
            None => what,
        }
    }

    fn running_words(&self, now: Timestamp, why: &str) -> String {
        let records = self.records();
        if records == 0 {
            return "running: nothing waits".to_owned();
        }
        let retries = match self.waiting.retry {
            0 => String::new(),
            count => format!(
                ", {} for the next attempt (last: {why} at {})",
                grouped(count as u64),
                clock(self.last_failure.as_ref().map_or(now, |f| f.at), now)
            ),
        };
        format!("running: {}{retries}", self.wait_words())
    }

    /// What waits: what was read, or with what is not read yet when that is known.
    fn records(&self) -> u64 {
        let here = self.waiting.total() as u64;
        self.lag.map_or(here, |lag| lag.max(here))
    }

    fn wait_words(&self) -> String {
        match self.records() {
            0 => "nothing waits".to_owned(),
            1 => "1 record waits".to_owned(),
            count => format!("{} records wait", grouped(count)),
        }
    }

    /// The status, or else the reason, or else that there is none.
    fn failure_words(&self) -> String {
        match &self.last_failure {
            Some(LastFailure {
                status: Some(status),
                ..
            }) => status.to_string(),
            Some(LastFailure {
                reason: Some(reason),
                ..
            }) => reason.replace('_', " "),
            Some(_) | None => "failures".to_owned(),
        }
    }
}

impl Lane {
    /// What the lane does at this moment, and why.
    #[must_use]
    pub fn status(&self) -> LaneStatus {
        let (doing, of) = if self.handover.is_draining() {
            (Doing::Draining, None)
        } else if self.paused {
            (Doing::Paused { by: None }, None)
        } else if self.partitions.is_empty() && self.cluster_id.is_empty() {
            // Where there are more instances than partitions, some are told that they have none: they stand by.
            (Doing::Starting, None)
        } else {
            self.doing()
        };
        let (held, held_keys) = self.keys_that_hold();
        LaneStatus {
            doing,
            waiting: self.waiting(),
            positions: self.held_positions(),
            lag: None,
            lag_by_topic: BTreeMap::new(),
            oldest_waiting: self.oldest_waiting(),
            last_failure: of
                .map_or(&self.last_failure, |slot| {
                    &self.endpoints[slot].last_failure
                })
                .clone(),
            endpoint: of.and_then(|slot| self.endpoints[slot].key.clone()),
            endpoints: self.endpoint_states(),
            held,
            held_keys,
        }
    }

    fn held_positions(&self) -> Vec<PartitionPosition> {
        let held = self.partitions.values();
        let of_rules = held.filter(|held| held.source == Source::Topic);
        let position = |held: &Partition| PartitionPosition {
            topic: Arc::clone(&held.topic),
            partition: held.partition,
            offset: held.position(),
            oldest: held
                .unsettled()
                .next()
                .and_then(|(_, d)| d.record.timestamp),
        };
        of_rules.map(position).collect()
    }

    /// What its endpoints and its brake let it do: of many, the worst is spoken of.
    fn doing(&self) -> (Doing, Option<Slot>) {
        let now = self.now;
        let gone = matches!(self.endpoints[Slot::SOLE].state, Endpoint::Gone);
        if let Some(since) = self.brake.since().filter(|_| !gone) {
            let braked = Doing::Braked {
                since: before(now.wall, now.tick.since(since)),
                stopped: self.options.brake.mode == BrakeMode::Stop,
            };
            return (braked, None);
        }
        if !self.endpoints.are_many() {
            return (self.doing_of(Slot::SOLE), None);
        }
        let all = self.endpoints.all();
        let of_all = all.map(|(slot, _)| (self.doing_of(slot), Some(slot)));
        // Of those that are equally bad, the one that is so for the longest.
        let worst = of_all.min_by_key(|(doing, _)| match doing {
            Doing::Open { since, .. } => (0, *since),
            Doing::Gone { since } => (1, *since),
            Doing::Held { until } => (2, Timestamp(i64::MAX - until.0)),
            Doing::Doubt => (3, Timestamp::default()),
            Doing::OneAtATime { .. } => (4, Timestamp::default()),
            Doing::Starting
            | Doing::Running
            | Doing::Paused { .. }
            | Doing::Braked { .. }
            | Doing::Blocked
            | Doing::Expired { .. }
            | Doing::Damaged { .. }
            | Doing::Draining => (5, Timestamp::default()),
        });
        match worst {
            Some((Doing::Running, _)) | None => (Doing::Running, None),
            Some(worst) => worst,
        }
    }

    fn doing_of(&self, slot: Slot) -> Doing {
        let now = self.now;
        let at = |tick: Tick| after(now.wall, tick.since(now.tick));
        let endpoint = &self.endpoints[slot];
        match &endpoint.state {
            Endpoint::Gone => {
                let failure = endpoint
                    .last_failure
                    .as_ref()
                    .or(self.last_failure.as_ref());
                let since = failure.map_or(now.wall, |failure| failure.at);
                Doing::Gone { since }
            }
            Endpoint::Open(open) => Doing::Open {
                since: open.since.wall,
                next_probe: open
                    .trial
                    .is_none()
                    .then(|| at(open.next_probe.max(endpoint.hold.until()))),
            },
            _ if endpoint.hold.is_held(now.tick) => Doing::Held {
                until: at(endpoint.hold.until()),
            },
            Endpoint::Doubt(_) => Doing::Doubt,
            Endpoint::Closed => self.doing_one_at_a_time().unwrap_or(Doing::Running),
        }
    }
}

fn before(at: Timestamp, span: Duration) -> Timestamp {
    let span_ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Timestamp(at.0.saturating_sub(span_ms))
}

fn after(at: Timestamp, wait: Duration) -> Timestamp {
    let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
    Timestamp(at.0.saturating_add(wait_ms))
}

/// The time until `at`: `40 s`, `5 min`, `2 h 5 min`; rounded up, so that it never says that it is over before it is.
fn span(at: Timestamp, now: Timestamp) -> String {
    let left_ms = at.0.saturating_sub(now.0).max(0);
    let seconds = left_ms.saturating_add(999) / 1000;
    let minutes = seconds.saturating_add(59) / 60;
    match (seconds, minutes) {
        (..=119, _) => format!("{seconds} s"),
        (_, ..=119) => format!("{minutes} min"),
        (_, minutes) if minutes % 60 == 0 => format!("{} h", minutes / 60),
        (_, minutes) => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

/// The time of day, in UTC; with the date when that is another one.
fn clock(at: Timestamp, now: Timestamp) -> String {
    let moment = |at: Timestamp| jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    let (at, now) = (moment(at), moment(now));
    let day = |moment: jiff::Timestamp| moment.strftime("%Y-%m-%d").to_string();
    if day(at) == day(now) {
        at.strftime("%H:%M UTC").to_string()
    } else {
        at.strftime("%Y-%m-%d %H:%M UTC").to_string()
    }
}

fn count_of(count: u64, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {noun}{s}", grouped(count))
}

/// `1,204`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
