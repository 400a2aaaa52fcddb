//! What becomes of records: of those from a rule's topic by what the rules say, of those from the ladder by what they bring along.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use tracing::warn;

use crate::config::Config;
use crate::delivery::{DeadLetterReason, Verdict};
use crate::kafka::{FromLadder, Opened, Part};
use crate::lane::Incoming;
use crate::record::Record;
use crate::rules::{Judgement, Matcher};

use super::lane_task::LaneTask;
use super::panics;

/// Names of unknown destinations that are said; more of them are only counted.
const UNKNOWN_SAID_MAX: usize = 64;

/// Destinations whose records are on the ladder and not in the file. One lane counts them.
#[derive(Debug)]
pub(super) struct Unknown {
    file: RwLock<File>,
    said: Mutex<BTreeSet<String>>,
}

#[derive(Debug)]
struct File {
    /// The id of every destination in the file, disabled ones too.
    known: BTreeSet<Arc<str>>,
    /// The id of the one that counts.
    counts: Option<Arc<str>>,
}

impl Unknown {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            file: RwLock::new(File::of(config)),
            said: Mutex::default(),
        }
    }

    /// Goes by another file.
    pub(super) fn take(&self, config: &Config) {
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = File::of(config);
    }

    /// Whether the lane with this id counts a record of this destination.
    fn is_counted(&self, by: &str, destination: &str) -> bool {
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        file.counts.as_deref() == Some(by) && !file.known.contains(destination)
    }

    /// Whether a destination is to be said: once.
    fn is_news(&self, destination: &str) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.len() < UNKNOWN_SAID_MAX && said.insert(destination.to_owned())
    }
}

impl File {
    fn of(config: &Config) -> Self {
        let first = config.destinations.first();
        Self {
            known: config.ids.iter().cloned().collect(),
            counts: first.map(|destination| Arc::clone(&destination.id)),
        }
    }
}

impl LaneTask {
    pub(super) fn judge(&mut self, records: Vec<Record>) -> Vec<Incoming> {
        let mut taken: Option<(Arc<str>, u64)> = None;
        let mut unmatched = 0;
        let topic = records.first().map(|record| Arc::clone(&record.topic));
        let mut incoming = Vec::with_capacity(records.len());
        for record in records {
            let weight = record.weight() as u64;
            self.parts.members.handed(Part::Topics, weight);
            let judgement = judged(&mut self.parts.matcher, &record);
            unmatched += u64::from(judgement.unmatched);
            let verdict = judgement.verdict;
            let rule = match &verdict {
                Verdict::Deliver { rule } => Some(rule),
                Verdict::NotMatched
                | Verdict::Dropped
                | Verdict::Foreign
                | Verdict::DeadLetter { .. } => judgement.dropped_by.as_ref(),
            };
            if let Some(rule) = rule {
                match &mut taken {
                    Some((current, count)) if current == rule => *count += 1,
                    _ => {
                        if let Some((rule, count)) = taken.replace((Arc::clone(rule), 1)) {
                            self.parts.metrics.matched(&rule, count);
                        }
                    }
                }
            }
            let (verdict, order_key) = self.put_in_order(&record, verdict);
            incoming.push(Incoming {
                offset: record.offset,
                record: Arc::new(record),
                verdict,
                endpoint: None,
                order_key,
                carried: None,
            });
        }
        if let Some((rule, count)) = taken {
            self.parts.metrics.matched(&rule, count);
        }
        if let Some(topic) = topic.filter(|_| unmatched > 0) {
            self.parts.metrics.unmatched(&topic, unmatched);
        }
        incoming
    }

    /// Whether this lane keeps records in order.
    pub(super) fn keeps_order(&self) -> bool {
        let outlet = self.parts.outlet.as_ref();
        outlet.is_some_and(|outlet| outlet.sequence.is_some())
    }

    /// The key that puts a record in order, where the file wants one. A record for which none can be made is one for which nothing can be sent.
    fn put_in_order(&self, record: &Record, verdict: Verdict) -> (Verdict, Option<Bytes>) {
        let outlet = self.parts.outlet.as_ref();
        let sequence = outlet.and_then(|outlet| Some((outlet, outlet.sequence.as_ref()?)));
        let Some((outlet, sequence)) = sequence else {
            return (verdict, None);
        };
        let rule = match &verdict {
            Verdict::Deliver { rule } => rule,
            Verdict::DeadLetter { .. } => return (verdict, sequence.key_unread(record)),
            Verdict::NotMatched | Verdict::Dropped | Verdict::Foreign => return (verdict, None),
        };
        let make = std::panic::AssertUnwindSafe(|| sequence.key(record, rule));
        match std::panic::catch_unwind(make) {
            Ok(Ok(key)) => (verdict, key),
            Ok(Err(_)) if outlet.drops => (Verdict::Dropped, None),
            Ok(Err(error)) => {
                let (reason, error) = (DeadLetterReason::Unrenderable, error.to_string());
                (Verdict::DeadLetter { reason, error }, None)
            }
            Err(_) => {
                let place = panics::place();
                let error = format!("the code that puts this record in order panicked{place}");
                let reason = DeadLetterReason::Panic;
                (Verdict::DeadLetter { reason, error }, None)
            }
        }
    }

    /// A record of the ladder was judged when it was new; it is delivered unless its rule is gone. A replayed one may have died before a rule
    /// was found for it: the rules are asked again.
    pub(super) fn judge_ladder(&mut self, records: Vec<FromLadder>) -> Vec<Incoming> {
        let mut incoming = Vec::with_capacity(records.len());
        for FromLadder {
            offset,
            weight,
            opened,
        } in records
        {
            self.parts.members.handed(Part::Ladder, weight);
            let (record, verdict, carried) = match opened {
                Opened::Foreign {
                    record,
                    destination,
                } => {
                    self.foreign(destination);
                    (record, Verdict::Foreign, None)
                }
                Opened::Ours { record, carried } => {
                    let rule = Arc::clone(&carried.rule);
                    let verdict = if rule.is_empty() {
                        judged(&mut self.parts.matcher, &record).verdict
                    } else if self.rules.contains(&rule) {
                        Verdict::Deliver { rule }
                    } else {
                        Verdict::DeadLetter {
                            reason: DeadLetterReason::RuleRemoved,
                            error: format!("the rule {rule} does not deliver here any more"),
                        }
                    };
                    (record, verdict, Some(carried))
                }
            };
            incoming.push(Incoming {
                offset,
                record: Arc::new(record),
                verdict,
                endpoint: None,
                order_key: None,
                carried,
            });
        }
        incoming
    }

    /// A record of another destination: nobody may step over it who does not know that the other one will read it.
    fn foreign(&mut self, destination: String) {
        let unknown = &self.parts.unknown;
        if !unknown.is_counted(&self.parts.id, &destination) {
            return;
        }
        self.parts.metrics.unknown_on_ladder();
        if unknown.is_news(&destination) {
            warn!(
                id = destination,
                "records on the ladder are for a destination that is not in the file: they stay there until their topic's retention ends; `postrider retries list -d ID` shows them"
            );
        }
    }
}

/// What the rules say of a record. A panic over one record makes a dead letter of that record and ends nothing else.
fn judged(matcher: &mut Matcher, record: &Record) -> Judgement {
    let judge = std::panic::AssertUnwindSafe(|| matcher.judge(record));
    std::panic::catch_unwind(judge).unwrap_or_else(|_| Judgement {
        verdict: Verdict::DeadLetter {
            reason: DeadLetterReason::Panic,
            error: format!(
                "the code that judges this record panicked{}",
                panics::place()
            ),
        },
        dropped_by: None,
        unmatched: false,
    })
}
