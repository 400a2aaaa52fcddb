//! Which topics the patterns of the file mean: asked of the cluster by one client for all lanes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::kafka::{Broker, Mailbox};
use crate::rules::TopicSet;

use super::operators::FrontDesk;

/// After a failure the next question comes sooner.
const AFTER_FAILURE: Duration = Duration::from_secs(2);
/// A topic that so many answers in a row do not name is gone. One answer alone may come from a broker that has only just started, and
/// would take partitions from lanes that are busy with them.
const MISSED_MAX: u32 = 5;

/// Asks again and again, and tells every lane that has patterns.
pub(super) struct TopicWatch {
    pub(super) broker: Arc<Broker>,
    pub(super) prefix: String,
    pub(super) refresh: Duration,
    pub(super) desk: Arc<FrontDesk>,
}

/// A lane whose topics are not all named.
pub(super) struct Watched {
    destination: Arc<str>,
    topics: TopicSet,
    mailbox: Arc<Mailbox>,
    known: Mutex<Known>,
}

/// The topics of a lane, each with the number of answers in a row that did not name it.
#[derive(Debug, Default)]
struct Known {
    missed: BTreeMap<String, u32>,
    /// Whether it was said that nothing fits.
    said_none: bool,
}

impl TopicWatch {
    /// Runs until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            let doors = self.desk.doors.all();
            let lanes: Vec<_> = doors.iter().filter_map(|d| d.watched.clone()).collect();
            if lanes.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.desk.lanes_changed.notified() => continue,
                }
            }
            let broker = Arc::clone(&self.broker);
            let answer = tokio::task::spawn_blocking(move || broker.topics()).await;
            let wait = match answer {
                Ok(Ok(existing)) => {
                    for lane in &lanes {
                        lane.look(&existing, &self.prefix);
                    }
                    self.refresh
                }
                Ok(Err(error)) => {
                    // Whether Kafka answers is the upkeep's to say.
                    debug!(%error, "the topics of the cluster are not known");
                    AFTER_FAILURE.min(self.refresh)
                }
                Err(error) => {
                    warn!(%error, "the question for the topics of the cluster ended badly");
                    self.refresh
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.desk.lanes_changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

impl Watched {
    pub(super) fn new(destination: &Arc<str>, topics: TopicSet, mailbox: Arc<Mailbox>) -> Self {
        Self {
            destination: Arc::clone(destination),
            topics,
            mailbox,
            known: Mutex::default(),
        }
    }

    fn look(&self, existing: &BTreeSet<String>, prefix: &str) {
        let found = self.topics.resolve(existing, prefix);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if found.is_empty() && !std::mem::replace(&mut known.said_none, true) {
            warn!(
                destination = &*self.destination,
                "no topic fits: topics of our own never do, nor those that may not be described"
            );
        }
        let Some((new, gone)) = known.update(found) else {
            return;
        };
        info!(
            destination = &*self.destination,
            ?new,
            ?gone,
            "topics by pattern"
        );
        let topics = known.missed.keys().cloned();
        self.mailbox.subscribe(topics.collect());
    }
}

impl Known {
    /// Takes an answer in; gives what is new and what is gone, if anything is.
    fn update(&mut self, found: BTreeSet<String>) -> Option<(Vec<String>, Vec<String>)> {
        for (topic, missed) in &mut self.missed {
            *missed = if found.contains(topic) {
                0
            } else {
                *missed + 1
            };
        }
        let gone = self
            .missed
            .iter()
            .filter(|(_, missed)| **missed >= MISSED_MAX);
        let gone: Vec<String> = gone.map(|(topic, _)| topic.clone()).collect();
        self.missed.retain(|_, missed| *missed < MISSED_MAX);
        let mut new = Vec::new();
        for topic in found {
            if self.missed.insert(topic.clone(), 0).is_none() {
                new.push(topic);
            }
        }
        (!new.is_empty() || !gone.is_empty()).then_some((new, gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_new_once_and_gone_after_several_answers() {
        let set = |topics: &[&str]| topics.iter().map(ToString::to_string).collect();
        let mut known = Known::default();
        assert_eq!(known.update(set(&[])), None);
        assert_eq!(known.update(set(&["a", "b"])).unwrap().0, ["a", "b"]);
        assert_eq!(known.update(set(&["a", "b"])), None);
        for _ in 1..MISSED_MAX {
            assert_eq!(known.update(set(&["a"])), None, "one answer is no evidence");
        }
        let (new, gone) = known.update(set(&["a", "c"])).unwrap();
        assert_eq!((new, gone), (vec!["c".to_owned()], vec!["b".to_owned()]));
        for _ in 1..MISSED_MAX {
            assert_eq!(known.update(set(&["a"])), None);
        }
        assert_eq!(
            known.update(set(&["a", "c"])),
            None,
            "it was there all the time"
        );
    }
}
