//! Which rules the other instances have: one whose file is older than another's leaves its destinations to that one, for it would step over what
//! only the newer file takes.
//!
//! Every instance writes `instance/NAME` into the state topic again and again: when its file was put in its place, and for every destination
//! what tells its rules from others. One that has not been heard of for a while is dead and does not count, so that a file that is taken back, or a
//! new one that does not start, leaves nobody waiting.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Tick, Timestamp};
use crate::kafka::StateRecord;

/// How often an instance says that it is there.
pub(super) const RENEW: Duration = Duration::from_secs(20);
/// One that was silent for longer is dead: two words may be lost.
const LIVE: Duration = Duration::from_secs(70);
/// More instances than anybody runs: what is beyond is not ours.
const PEERS_MAX: usize = 1000;

const KIND: &str = "instance";

/// What an instance says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Word {
    /// When its file was put in its place, in milliseconds since 1970.
    pub(super) placed: i64,
    /// By the destination's id, what tells its rules from others.
    pub(super) rules: BTreeMap<String, String>,
}

/// What is known of the instances.
#[derive(Debug)]
pub(super) struct Peers {
    name: String,
    own: Word,
    others: BTreeMap<String, Other>,
}

#[derive(Debug)]
struct Other {
    word: Word,
    /// When it is dead unless it is heard again.
    until: Tick,
}

impl Peers {
    /// For the instance of this name, which no other has.
    pub(super) fn new(name: String, own: Word) -> Self {
        Self {
            name,
            own,
            others: BTreeMap::new(),
        }
    }

    /// The key of our own word.
    pub(super) fn key(&self) -> String {
        format!("{KIND}/{}", self.name)
    }

    /// Our own word, as it is written.
    pub(super) fn word(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(&self.own).ok()
    }

    /// Takes a record of the state topic in; whether it is one of these. `wall` is the time by this machine's clock, for what was written before
    /// we listened.
    pub(super) fn hear(&mut self, record: &StateRecord, now: Tick, wall: Timestamp) -> bool {
        let Some((KIND, name)) = record.key.split_once('/') else {
            return false;
        };
        let value = record.value.as_deref();
        let word = value.and_then(|value| serde_json::from_slice::<Word>(value).ok());
        let known = self.others.contains_key(name);
        match word {
            Some(word) if name != self.name && (known || self.others.len() < PEERS_MAX) => {
                let age = record.appended.map_or(0, |at| wall.0.saturating_sub(at.0));
                let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
                let until = now + LIVE.saturating_sub(age);
                self.others.insert(name.to_owned(), Other { word, until });
            }
            _ => {
                self.others.remove(name);
            }
        }
        true
    }

    /// The instance with the newest file that takes other records for this destination than ours, if that is newer than ours.
    pub(super) fn newer(&self, id: &str, now: Tick) -> Option<&str> {
        let own = (self.own.placed, self.own.rules.get(id)?);
        let alive = |other: &&Other| now < other.until;
        let others = self.others.iter().filter(|(_, other)| alive(other));
        let of = others.filter_map(|(name, Other { word, .. })| {
            let rules = word.rules.get(id)?;
            // Of two files of the same moment one must be the newer one, and both must think the same of it.
            (rules != own.1 && (word.placed, rules) > own).then_some((word.placed, rules, name))
        });
        of.max().map(|(.., name)| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);
    const START: Tick = Tick(Duration::ZERO);

    fn word(placed: i64, rules: &str) -> Word {
        let rules = BTreeMap::from([("shop".to_owned(), rules.to_owned())]);
        Word { placed, rules }
    }

    fn said(by: &Peers, seconds_ago: i64) -> StateRecord {
        StateRecord {
            key: by.key(),
            value: by.word(),
            headers: BTreeMap::new(),
            appended: Some(Timestamp(NOW.0 - seconds_ago * 1000)),
        }
    }

    fn peers(name: &str, placed: i64, rules: &str) -> Peers {
        Peers::new(name.to_owned(), word(placed, rules))
    }

    #[test]
    fn the_older_file_gives_way_and_the_newer_does_not() {
        let (mut old, mut new) = (peers("a", 1, "x"), peers("b", 2, "y"));
        assert!(old.hear(&said(&new, 0), START, NOW));
        assert!(new.hear(&said(&old, 0), START, NOW));
        assert_eq!(old.newer("shop", START), Some("b"));
        assert_eq!(new.newer("shop", START), None);
        assert_eq!(old.newer("unheard-of", START), None);
    }

    #[test]
    fn of_two_files_of_one_moment_exactly_one_gives_way() {
        let (mut one, mut other) = (peers("a", 1, "x"), peers("b", 1, "y"));
        one.hear(&said(&other, 0), START, NOW);
        other.hear(&said(&one, 0), START, NOW);
        let gives_way = [&one, &other].map(|peers| peers.newer("shop", START).is_some());
        assert!(gives_way[0] != gives_way[1]);
    }

    #[test]
    fn the_same_rules_in_a_newer_file_change_nothing() {
        let mut old = peers("a", 1, "x");
        old.hear(&said(&peers("b", 2, "x"), 0), START, NOW);
        assert_eq!(old.newer("shop", START), None);
    }

    #[test]
    fn who_is_dead_or_has_left_does_not_count() {
        let new = peers("b", 2, "y");
        let mut old = peers("a", 1, "x");
        old.hear(&said(&new, 60), START, NOW);
        assert_eq!(old.newer("shop", START), Some("b"));
        assert_eq!(old.newer("shop", START + Duration::from_secs(11)), None);
        old.hear(&said(&new, 3600), START, NOW);
        assert_eq!(old.newer("shop", START), None);
        old.hear(&said(&new, 0), START, NOW);
        let left = StateRecord {
            value: None,
            ..said(&new, 0)
        };
        old.hear(&left, START, NOW);
        assert_eq!(old.newer("shop", START), None);
    }

    #[test]
    fn what_is_no_word_of_an_instance_is_left_to_others() {
        let mut own = peers("a", 1, "x");
        for key in ["pause/shop", "instance", "check"] {
            let record = StateRecord {
                key: key.to_owned(),
                ..said(&peers("b", 2, "y"), 0)
            };
            assert!(!own.hear(&record, START, NOW), "{key}");
        }
        let own_word = said(&peers("a", 2, "y"), 0);
        own.hear(&own_word, START, NOW);
        assert_eq!(own.newer("shop", START), None, "our own word");
    }
}
