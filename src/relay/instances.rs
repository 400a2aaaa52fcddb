//! Which instances run, and which of them have obeyed an order: each has one key in the state topic, and says there what it has obeyed last.
//!
//! An instance that ends takes its key away. One that was killed is missed by the next order, which waits for it once and takes its key away;
//! one that was only slow writes it again when it sees that.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tracing::debug;

use crate::clock::Clock;
use crate::kafka::StateRecord;
use crate::lane::Found;

use super::operators::FrontDesk;

/// What the key of an instance begins with.
const KEY: &str = "instance/";
/// The header that names an order, so that its obedience can be told.
pub(super) const ORDER: &str = "postrider-order";
/// How long instances have to say that they obey.
const ANSWER_WAIT: Duration = Duration::from_secs(3);
/// How long the end of an instance waits for its key to be taken away.
const LEAVE_WAIT: Duration = Duration::from_secs(1);

/// The value of an instance's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Word {
    /// Since when it runs, in milliseconds since 1970.
    since: i64,
    /// The last order that it has obeyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order: Option<String>,
    /// Where it found the record that the order is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    found: Option<String>,
}

/// What is known of the instances.
#[derive(Debug, Default)]
pub(super) struct Instances {
    running: BTreeSet<String>,
    /// The answers to orders that were given here, by order and instance.
    awaited: BTreeMap<String, BTreeMap<String, Option<Found>>>,
    /// Orders given here.
    given: u64,
    /// Whether this one has taken its leave.
    left: bool,
}

/// Who has obeyed an order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Obeyed {
    /// So many instances.
    pub(super) instances: usize,
    /// So many that are known have not said so.
    pub(super) silent: usize,
    /// Where the record was found that it is about: by whoever knows most of it.
    pub(super) found: Option<Found>,
}

/// Who this instance is.
#[derive(Debug)]
pub(super) struct Myself {
    /// Unlike any other's.
    pub(super) name: String,
    since: i64,
    /// Rung when an instance has said something.
    heard: Notify,
}

impl Myself {
    pub(super) fn new() -> Self {
        let since = Clock::wall().0;
        // In containers every process is the first, and two may start in the same millisecond.
        let random = RandomState::new().hash_one(since);
        Self {
            name: format!("{}-{since}-{random:016x}", std::process::id()),
            since,
            heard: Notify::new(),
        }
    }
}

impl Instances {
    /// Takes in the word of an instance. True: it is our own key, and somebody took it away.
    fn hear(&mut self, name: &str, word: Option<Word>, me: &str) -> bool {
        let Some(word) = word else {
            self.running.remove(name);
            return name == me && !self.left;
        };
        self.running.insert(name.to_owned());
        let awaited = word.order.and_then(|order| self.awaited.get_mut(&order));
        if let Some(answers) = awaited {
            let found = word.found.as_deref().and_then(found);
            answers.insert(name.to_owned(), found);
        }
        false
    }

    /// Who has obeyed an order so far, and who has not said so.
    fn obeyed(&self, order: &str) -> (Obeyed, Vec<String>) {
        let Some(answers) = self.awaited.get(order) else {
            return (Obeyed::default(), Vec::new());
        };
        let silent = self
            .running
            .iter()
            .filter(|name| !answers.contains_key(*name));
        let silent: Vec<String> = silent.cloned().collect();
        let obeyed = Obeyed {
            instances: answers.len(),
            silent: silent.len(),
            found: answers.values().copied().flatten().max(),
        };
        (obeyed, silent)
    }
}

impl FrontDesk {
    /// Takes in what an instance says. False: the record is of another kind.
    pub(super) fn hear_instance(&self, record: &StateRecord) -> InstanceWord {
        let Some(name) = record.key.strip_prefix(KEY) else {
            return InstanceWord::None;
        };
        let value = record.value.as_deref();
        // What cannot be read is the word of another version: it runs.
        let word = value.map(|value| {
            serde_json::from_slice(value).unwrap_or(Word {
                since: 0,
                order: None,
                found: None,
            })
        });
        let taken = self.known().instances.hear(name, word, &self.me.name);
        self.me.heard.notify_waiters();
        if taken && self.known().read {
            InstanceWord::OursTaken
        } else {
            InstanceWord::Heard
        }
    }

    /// Says that this instance runs, and what it has obeyed last.
    pub(super) async fn announce(&self, order: Option<String>, found: Option<Found>) {
        let word = Word {
            since: self.me.since,
            order,
            found: found.map(|found| name(found).to_owned()),
        };
        let value = serde_json::to_vec(&word).unwrap_or_default();
        let key = format!("{KEY}{}", self.me.name);
        // Whoever waits for it hears nothing, and says so.
        if let Err(problem) = self
            .write(&key, Some(&value), &self.me.name, "", None)
            .await
        {
            debug!("{problem}");
        }
    }

    /// Takes this instance's key away, as far as that is quickly done.
    pub(super) async fn leave(&self) {
        self.known().instances.left = true;
        let key = format!("{KEY}{}", self.me.name);
        let write = self.write(&key, None, &self.me.name, "", None);
        let (_, _) = tokio::join!(tokio::time::timeout(LEAVE_WAIT, write), self.end_rollout());
    }

    /// A name for an order, whose answers are awaited from here on.
    pub(super) fn begin_order(&self) -> String {
        let mut known = self.known();
        known.instances.given += 1;
        let order = format!("{}-{}", self.me.name, known.instances.given);
        known
            .instances
            .awaited
            .insert(order.clone(), BTreeMap::new());
        order
    }

    /// Waits for every instance to say that it has obeyed; those that do not are taken for ended.
    pub(super) async fn gather(&self, order: &str) -> Obeyed {
        let until = self.clock.instant(self.clock.now().tick + ANSWER_WAIT);
        loop {
            let heard = self.me.heard.notified();
            let (obeyed, _) = self.known().instances.obeyed(order);
            if obeyed.silent == 0 && obeyed.instances > 0 {
                break;
            }
            if tokio::time::timeout_at(until.into(), heard).await.is_err() {
                break;
            }
        }
        let (obeyed, silent) = {
            let mut known = self.known();
            let found = known.instances.obeyed(order);
            known.instances.awaited.remove(order);
            found
        };
        // One that does not hear itself has no say in who else is silent.
        if !silent.contains(&self.me.name) && obeyed.instances > 0 {
            for name in silent {
                let key = format!("{KEY}{name}");
                let gone = self.write(&key, None, &self.me.name, "silent", None);
                drop(gone.await);
            }
        }
        obeyed
    }

    /// An order that was not given after all.
    pub(super) fn drop_order(&self, order: &str) {
        self.known().instances.awaited.remove(order);
    }
}

/// What became of a record of the state topic that may be an instance's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InstanceWord {
    /// It is none.
    None,
    /// It was noted.
    Heard,
    /// Somebody took us for ended.
    OursTaken,
}

impl Obeyed {
    /// In words, for the end of a sentence.
    pub(super) fn words(&self) -> String {
        let mut text = match self.instances {
            0 => "no instance has said yet that it obeys".to_owned(),
            1 => "1 instance obeys".to_owned(),
            count => format!("{count} instances obey"),
        };
        match self.silent {
            0 => {}
            1 => text
                .push_str("; 1 more has not answered: it has ended, or obeys when it hears of it"),
            count => text.push_str(&format!(
                "; {count} more have not answered: they have ended, or obey when they hear of it"
            )),
        }
        text
    }
}

const FOUND: [(Found, &str); 7] = [
    (Found::Elsewhere, "elsewhere"),
    (Found::Settled, "settled"),
    (Found::Ahead, "ahead"),
    (Found::Damaged, "damaged"),
    (Found::Leaving, "leaving"),
    (Found::InFlight, "in_flight"),
    (Found::Waiting, "waiting"),
];

fn name(wanted: Found) -> &'static str {
    let mut found = FOUND.iter().filter(|(found, _)| *found == wanted);
    found.next().map_or("elsewhere", |(_, name)| name)
}

fn found(wanted: &str) -> Option<Found> {
    let mut found = FOUND.iter().filter(|(_, name)| *name == wanted);
    found.next().map(|(found, _)| *found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(order: Option<&str>, found: Option<Found>) -> Option<Word> {
        Some(Word {
            since: 5,
            order: order.map(str::to_owned),
            found: found.map(|found| name(found).to_owned()),
        })
    }

    #[test]
    fn an_order_is_obeyed_when_every_instance_has_said_so() {
        let mut instances = Instances::default();
        instances.awaited.insert("o".to_owned(), BTreeMap::new());
        for name in ["a", "b", "c"] {
            assert!(!instances.hear(name, word(None, None), "a"));
        }
        instances.hear("b", word(Some("o"), Some(Found::Ahead)), "a");
        instances.hear("c", word(Some("other"), Some(Found::Waiting)), "a");
        let (obeyed, silent) = instances.obeyed("o");
        assert_eq!((obeyed.instances, obeyed.silent), (1, 2));
        assert_eq!(silent, ["a", "c"]);
        instances.hear("a", word(Some("o"), Some(Found::Elsewhere)), "a");
        instances.hear("c", None, "a");
        let (obeyed, _) = instances.obeyed("o");
        assert_eq!(obeyed.found, Some(Found::Ahead), "who knows most");
        assert_eq!(obeyed.words(), "2 instances obey");
    }

    #[test]
    fn whoever_is_taken_for_ended_and_is_not_hears_of_it() {
        let mut instances = Instances::default();
        instances.hear("a", word(None, None), "a");
        assert!(instances.hear("a", None, "a"));
        assert!(!instances.hear("b", None, "a"));
        instances.left = true;
        assert!(!instances.hear("a", None, "a"));
    }
}
