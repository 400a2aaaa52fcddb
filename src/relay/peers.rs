//! Which rules the other instances have. Of all that run, the file that was put in its place last counts: whoever has other rules for a destination
//! leaves that destination's group to those who have them, for it would step over what only the newer file takes.
//!
//! Every instance writes `rules/NAME` into the state topic again and again. One that has not been heard of for a minute is gone and does not count,
//! so that a file that is taken back, or a new one that does not start, leaves nobody waiting for ever. Who ends says so, and counts for that minute
//! too: it may only be started again.
//!
//! All times are the broker's: each instance learns from a record of its own what the broker's clock says, and reckons the age of its file from there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Now, Tick, Timestamp};
use crate::kafka::StateRecord;

/// How often an instance says that it is there.
const RENEW: Duration = Duration::from_secs(20);
/// One that was silent for longer is gone: two words may be lost.
const LIVE: Duration = Duration::from_secs(60);
/// More instances than anybody runs: what is beyond is not ours.
const PEERS_MAX: usize = 1000;

/// What the key of a word begins with.
const KEY: &str = "rules/";

/// What an instance says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Word {
    /// When its file was put in its place, in milliseconds since 1970.
    placed: i64,
    /// By the destination's id, what tells its rules from others.
    rules: BTreeMap<String, String>,
    /// The destinations that it has left to an instance with a newer file.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    out: BTreeSet<String>,
    /// It has ended in good order.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ended: bool,
}

/// What is known of the instances.
#[derive(Debug)]
pub(super) struct Peers {
    name: String,
    own: Word,
    others: BTreeMap<String, Other>,
    /// Whether the broker's clock is known, and how far it is ahead of this machine's.
    has_time: bool,
    ahead: i64,
    /// When we last heard ourselves: whoever does not has no say in who else is silent.
    heard_itself: Option<Tick>,
    /// Whether our own word, as it is, has come back; and since when it is so.
    announced: bool,
    since: Tick,
    /// When our word is due again.
    due: Tick,
}

#[derive(Debug)]
struct Other {
    word: Word,
    appended: Option<Timestamp>,
    /// When it is gone unless it is heard again.
    until: Tick,
}

/// How the rules of this instance stand to those of the others, for one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stand {
    /// Nobody who reads has others.
    Alone,
    /// They are the newest, and this instance may still read by older ones.
    Newest {
        /// Its name.
        older: String,
    },
    /// Another instance has newer ones.
    Outdated {
        /// Its name.
        by: String,
        /// When its file was put in its place.
        placed: Timestamp,
        /// Whether it has ended, and may be started again.
        ended: bool,
    },
}

impl Peers {
    /// For the instance of this name, which no other has; its file is of `placed`, by this machine's clock.
    pub(super) fn new(name: String, placed: Timestamp, rules: BTreeMap<String, String>) -> Self {
        Self {
            name,
            own: Word {
                placed: placed.0,
                rules,
                out: BTreeSet::new(),
                ended: false,
            },
            others: BTreeMap::new(),
            has_time: false,
            ahead: 0,
            since: Tick::default(),
            heard_itself: None,
            announced: false,
            due: Tick::default(),
        }
    }

    /// The key of our own word.
    pub(super) fn key(&self) -> String {
        Self::key_of(&self.name)
    }

    /// The key of the word of an instance.
    pub(super) fn key_of(name: &str) -> String {
        format!("{KEY}{name}")
    }

    /// A record of ours has come back that the broker appended at this time, just now. The first one says how old the words are that were there
    /// before us.
    pub(super) fn learn_time(&mut self, appended: Option<Timestamp>, now: Now) {
        self.heard_itself = Some(now.tick);
        if std::mem::replace(&mut self.has_time, true) {
            return;
        }
        let Some(broker) = appended else { return };
        let ahead = broker.0.saturating_sub(now.wall.0);
        self.ahead = ahead;
        self.own.placed = self.own.placed.saturating_add(ahead);
        for other in self.others.values_mut() {
            let age = other.appended.map_or(0, |at| broker.0.saturating_sub(at.0));
            let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
            other.until = other.until.min(now.tick + LIVE.saturating_sub(age));
        }
    }

    /// Takes a record of the state topic in; whether it is one of these.
    pub(super) fn hear(&mut self, record: &StateRecord, now: Tick) -> bool {
        let Some(name) = record.key.strip_prefix(KEY) else {
            return false;
        };
        let value = record.value.as_deref();
        let word = value.and_then(|value| serde_json::from_slice::<Word>(value).ok());
        if name == self.name {
            match word {
                Some(word) => {
                    self.heard_itself = Some(now);
                    // One that was on its way while the file changed is not it.
                    let own = &self.own;
                    self.announced |= word.rules == own.rules && word.placed == own.placed;
                }
                // Somebody took us for gone.
                None => self.due = now,
            }
            return true;
        }
        let known = self.others.contains_key(name);
        match word {
            Some(word) if known || self.others.len() < PEERS_MAX => {
                let other = Other {
                    word,
                    appended: record.appended,
                    until: now + LIVE,
                };
                self.others.insert(name.to_owned(), other);
            }
            _ => {
                self.others.remove(name);
            }
        }
        true
    }

    /// This instance has taken over another file, which is a deployment like any other: the others are told at once, and those with older rules leave.
    pub(super) fn redeploy(
        &mut self,
        placed: Timestamp,
        rules: BTreeMap<String, String>,
        now: Tick,
    ) {
        let placed = placed.0.saturating_add(self.ahead);
        if self.own.placed == placed && self.own.rules == rules {
            return;
        }
        self.own.out.retain(|id| rules.contains_key(id));
        self.own.placed = placed;
        self.own.rules = rules;
        self.announced = false;
        self.since = now;
        self.due = Tick::default();
    }

    /// Since when our word is what it is.
    pub(super) fn since(&self) -> Tick {
        self.since
    }

    /// An instance that is alive and has older rules for a destination, which it has not left.
    pub(super) fn older(&self, now: Tick) -> Option<String> {
        let older = |id: &String| match self.stand(id, now) {
            Stand::Newest { older } => Some(older),
            Stand::Alone | Stand::Outdated { .. } => None,
        };
        self.own.rules.keys().find_map(older)
    }

    /// Whether the others have been told of us.
    pub(super) fn is_announced(&self) -> bool {
        self.announced
    }

    /// Our word, when it is due to be said.
    pub(super) fn word_due(&mut self, now: Tick) -> Option<Vec<u8>> {
        let heard = self.heard_itself.filter(|_| self.has_time)?;
        // Whoever seems to be gone is so only when we are still heard ourselves.
        let silent = |other: &Other| other.until <= now && heard < other.until;
        let asks = self.others.values().any(silent) && now.since(heard) >= RENEW / 10;
        if self.due > now && !asks {
            return None;
        }
        self.due = now + RENEW;
        self.word()
    }

    /// Our last word; nothing when none was ever said.
    pub(super) fn last_word(&mut self) -> Option<Vec<u8>> {
        self.own.ended = true;
        self.word().filter(|_| self.announced)
    }

    fn word(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(&self.own).ok()
    }

    /// The word could not be said: it is soon tried again.
    pub(super) fn not_said(&mut self, now: Tick) {
        self.due = self.due.min(now + RENEW / 10);
    }

    /// This instance has left the group of a destination to a newer one, or does not stay away from it any more.
    pub(super) fn set_out(&mut self, id: &str, out: bool) {
        let changed = if out {
            self.own.out.insert(id.to_owned())
        } else {
            self.own.out.remove(id)
        };
        if changed {
            self.due = Tick::default();
        }
    }

    /// Whether it has said so.
    pub(super) fn is_out(&self, id: &str) -> bool {
        self.own.out.contains(id)
    }

    /// Forgets who is gone, and gives their names.
    pub(super) fn bury(&mut self) -> Vec<String> {
        let Some(heard) = self.heard_itself else {
            return Vec::new();
        };
        let gone = |other: &Other| other.until <= heard;
        let names = self.others.iter().filter(|(_, other)| gone(other));
        let names = names.map(|(name, _)| name.clone()).collect();
        self.others.retain(|_, other| !gone(other));
        names
    }

    /// How our rules for this destination stand to those of the others.
    pub(super) fn stand(&self, id: &str, now: Tick) -> Stand {
        let Some(rules) = self.own.rules.get(id) else {
            return Stand::Alone;
        };
        let heard = self.heard_itself.unwrap_or(now);
        let alive = self.others.iter().filter(|(_, o)| heard < o.until);
        let known: Vec<(&String, &String, &Word)> = alive
            .filter_map(|(name, other)| Some((other.word.rules.get(id)?, name, &other.word)))
            .collect();
        // Of two files of one moment one must be the newer, and all must think the same of it.
        let newest = known
            .iter()
            .max_by_key(|(rules, _, word)| (word.placed, *rules));
        if let Some((theirs, name, word)) = newest
            && *theirs != rules
            && (word.placed, *theirs) > (self.own.placed, rules)
        {
            return Stand::Outdated {
                by: (*name).clone(),
                placed: Timestamp(word.placed),
                ended: word.ended,
            };
        }
        let reads = |word: &Word| !word.ended && !word.out.contains(id);
        let older = known
            .iter()
            .find(|(theirs, _, word)| *theirs != rules && reads(word));
        match older {
            Some((_, name, _)) => Stand::Newest {
                older: (*name).clone(),
            },
            None => Stand::Alone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: Timestamp = Timestamp(1_000_000);
    const START: Tick = Tick(Duration::ZERO);

    fn after(seconds: u64) -> Tick {
        START + Duration::from_secs(seconds)
    }

    /// What an instance says, so many seconds before [`WALL`].
    fn said(by: &Peers, seconds_ago: i64) -> StateRecord {
        StateRecord {
            key: by.key(),
            value: by.word(),
            headers: BTreeMap::new(),
            appended: Some(Timestamp(WALL.0 - seconds_ago * 1000)),
        }
    }

    fn peers(name: &str, placed: i64, rules: &str) -> Peers {
        let rules = BTreeMap::from([("shop".to_owned(), rules.to_owned())]);
        let mut peers = Peers::new(name.to_owned(), Timestamp(placed), rules);
        let now = Now {
            tick: START,
            wall: WALL,
        };
        peers.learn_time(Some(WALL), now);
        peers
    }

    fn outdated(peers: &Peers) -> Option<String> {
        match peers.stand("shop", START) {
            Stand::Outdated { by, .. } => Some(by),
            Stand::Alone | Stand::Newest { .. } => None,
        }
    }

    #[test]
    fn the_older_file_gives_way_and_the_newer_waits_for_that() {
        let (mut old, mut new) = (peers("a", 1, "x"), peers("b", 2, "y"));
        assert!(old.hear(&said(&new, 0), START));
        assert!(new.hear(&said(&old, 0), START));
        assert_eq!(outdated(&old).as_deref(), Some("b"));
        let older = "a".to_owned();
        assert_eq!(new.stand("shop", START), Stand::Newest { older });
        assert_eq!(old.stand("unheard-of", START), Stand::Alone);
        old.set_out("shop", true);
        new.hear(&said(&old, 0), START);
        assert_eq!(new.stand("shop", START), Stand::Alone);
        old.set_out("shop", false);
        old.last_word();
        new.hear(&said(&old, 0), START);
        assert_eq!(new.stand("shop", START), Stand::Alone, "it has ended");
    }

    #[test]
    fn of_two_files_of_one_moment_exactly_one_gives_way() {
        let (mut one, mut other) = (peers("a", 1, "x"), peers("b", 1, "y"));
        one.hear(&said(&other, 0), START);
        other.hear(&said(&one, 0), START);
        assert!(outdated(&one).is_some() != outdated(&other).is_some());
    }

    #[test]
    fn whoever_has_the_rules_of_the_newest_file_goes_on_whatever_its_own_is() {
        // The first text was put back on "c", after "b" had brought the second.
        let (mut first, mut second) = (peers("a", 1, "x"), peers("b", 2, "y"));
        let third = peers("c", 3, "x");
        first.hear(&said(&second, 0), START);
        assert_eq!(outdated(&first).as_deref(), Some("b"));
        first.hear(&said(&third, 0), START);
        second.hear(&said(&third, 0), START);
        assert_eq!(outdated(&first), None);
        assert_eq!(outdated(&second).as_deref(), Some("c"));
    }

    #[test]
    fn the_same_rules_in_a_newer_file_change_nothing() {
        let mut old = peers("a", 1, "x");
        old.hear(&said(&peers("b", 2, "x"), 0), START);
        assert_eq!(old.stand("shop", START), Stand::Alone);
    }

    #[test]
    fn one_that_was_silent_for_a_minute_is_gone_when_we_hear_ourselves() {
        let (mut old, new) = (peers("a", 1, "x"), peers("b", 2, "y"));
        old.hear(&said(&new, 0), START);
        assert!(old.word_due(START).is_some());
        assert!(old.word_due(after(19)).is_none());
        // Kafka is away for us too.
        assert!(old.bury().is_empty());
        assert!(matches!(
            old.stand("shop", after(90)),
            Stand::Outdated { .. }
        ));
        assert!(old.word_due(after(90)).is_some());
        old.hear(&said(&old, 0), after(90));
        assert_eq!(old.stand("shop", after(90)), Stand::Alone);
        assert_eq!(old.bury(), ["b"]);
        assert!(old.bury().is_empty());
    }

    #[test]
    fn the_age_of_what_was_there_before_is_told_by_the_brokers_clock() {
        let new = peers("b", 2, "y");
        let rules = BTreeMap::from([("shop".to_owned(), "x".to_owned())]);
        // This machine's clock is a day behind.
        let behind = 24 * 3600 * 1000;
        let mut old = Peers::new("a".to_owned(), Timestamp(1 - behind), rules);
        old.hear(&said(&new, 50), START);
        assert!(old.word_due(START).is_none(), "the time is not known");
        let now = Now {
            tick: START,
            wall: Timestamp(WALL.0 - behind),
        };
        old.learn_time(Some(WALL), now);
        assert_eq!(old.own.placed, 1);
        assert!(matches!(old.stand("shop", START), Stand::Outdated { .. }));
        old.hear(&said(&old, 0), after(11));
        assert_eq!(old.stand("shop", after(11)), Stand::Alone);
    }

    #[test]
    fn whoever_ended_may_come_back() {
        let (mut old, mut new) = (peers("a", 1, "x"), peers("b", 2, "y"));
        assert_eq!(new.last_word(), None, "it has said nothing");
        new.hear(&said(&new, 0), START);
        assert!(new.last_word().is_some());
        old.hear(&said(&new, 0), START);
        let stand = old.stand("shop", START);
        assert!(matches!(stand, Stand::Outdated { ended: true, .. }));
        let taken = StateRecord {
            value: None,
            ..said(&new, 0)
        };
        old.hear(&taken, START);
        assert_eq!(old.stand("shop", START), Stand::Alone);
    }

    #[test]
    fn what_is_no_word_of_an_instance_is_left_to_others() {
        let mut own = peers("a", 1, "x");
        for key in ["pause/shop", "instance/b", "rules", "check"] {
            let record = StateRecord {
                key: key.to_owned(),
                ..said(&peers("b", 2, "y"), 0)
            };
            assert!(!own.hear(&record, START), "{key}");
        }
        assert!(!own.is_announced());
        own.hear(&said(&peers("a", 2, "y"), 0), START);
        assert_eq!(own.stand("shop", START), Stand::Alone, "our own word");
        assert!(!own.is_announced(), "and not what it is");
        own.hear(&said(&peers("a", 1, "x"), 0), START);
        assert!(own.is_announced());
    }

    #[test]
    fn a_reload_is_a_deployment() {
        let (mut one, mut other) = (peers("a", 1, "x"), peers("b", 1, "x"));
        one.hear(&said(&other, 0), START);
        other.hear(&said(&one, 0), START);
        let rules = |rules: &str| BTreeMap::from([("shop".to_owned(), rules.to_owned())]);
        one.set_out("gone", true);
        one.redeploy(Timestamp(5), rules("y"), after(1));
        assert!(!one.is_announced() && !one.is_out("gone"));
        assert_eq!(one.older(after(1)).as_deref(), Some("b"));
        assert!(one.word_due(after(1)).is_some(), "at once");
        other.hear(&said(&one, 0), after(1));
        assert_eq!(outdated(&other).as_deref(), Some("a"));
        other.set_out("shop", true);
        one.hear(&said(&other, 0), after(2));
        assert_eq!(one.older(after(2)), None);
        other.redeploy(Timestamp(9), rules("y"), after(3));
        assert_eq!(outdated(&other), None, "the same rules, whenever they came");
        one.hear(&said(&other, 0), after(3));
        assert_eq!(one.stand("shop", after(3)), Stand::Alone);
    }
}
