//! What would become of a record: judged, rendered and signed by the very code of delivery, and sent nowhere. For `explain` and `test`.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::{Clock, Timestamp};
use crate::config::{Config, DestinationConfig};
use crate::delivery::{DeliveryId, DeliveryKey, Epoch, Verdict};
use crate::kafka::AUDIT;
use crate::lane::Send;
use crate::record::Record;
use crate::relay::{Outlet, outlet};
use crate::rules::{Matcher, RuleAnswer, is_reserved};
use crate::send::SystemTrust;

/// Every lane of a file, none of which runs.
pub(super) struct Trial {
    lanes: Vec<Lane>,
    audit: Option<Matcher>,
    prefix: String,
    cluster_id: String,
}

struct Lane {
    name: Arc<str>,
    id: Arc<str>,
    matcher: Matcher,
    /// Scheme and host: the rest of an address is a secret.
    address: String,
    outlet: Result<Arc<Outlet>, String>,
}

/// What becomes of a record in one lane.
pub(super) struct Fate {
    /// The destination; `audit` stands for what belongs to none.
    pub(super) destination: Arc<str>,
    pub(super) verdict: Verdict,
    /// The rule that drops it, in the audit.
    pub(super) dropped_by: Option<Arc<str>>,
    pub(super) answers: Vec<RuleAnswer>,
    /// What is sent, where something is.
    pub(super) request: Option<Result<Shown, Unrenderable>>,
}

/// A request as others than its receiver may see it.
pub(super) struct Shown {
    pub(super) method: String,
    pub(super) address: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

/// Why nothing can be sent for a record that a rule takes.
pub(super) struct Unrenderable {
    pub(super) why: String,
    /// Whether the file says that such a record is dropped; else it becomes a dead letter.
    pub(super) drops: bool,
}

impl Trial {
    /// The lanes of this file. The cluster's id is a part of every delivery's id.
    pub(super) fn new(config: &Config, cluster_id: &str) -> Self {
        let file = config.rule_file();
        let names: Vec<&str> = config.destinations.iter().map(|d| &*d.name).collect();
        let counting = (!file.needs_audit()).then_some(&names[..]);
        let trust = SystemTrust::default();
        let lane = |destination: &DestinationConfig| Lane {
            name: Arc::clone(&destination.name),
            id: Arc::clone(&destination.id),
            matcher: Matcher::for_destination(&file, &destination.name, counting),
            address: destination.webhook.url.to_string(),
            outlet: outlet(config, destination, &trust).map_err(|error| causes(&error)),
        };
        Self {
            lanes: config.destinations.iter().map(lane).collect(),
            audit: file.needs_audit().then(|| Matcher::for_audit(&file)),
            prefix: config.kafka.prefix.clone(),
            cluster_id: cluster_id.to_owned(),
        }
    }

    /// Whether no lane ever reads this topic: it is one of our own, or Kafka's.
    pub(super) fn is_reserved(&self, topic: &str) -> bool {
        is_reserved(topic, &self.prefix)
    }

    /// The record's type, where it has one.
    pub(super) fn kind(&self, record: &Record) -> Option<String> {
        let lane = self.lanes.first().map(|lane| &lane.matcher);
        lane.or(self.audit.as_ref())?.kind(record)
    }

    /// What becomes of it in each lane, or in the one of `only`.
    pub(super) fn fates(&mut self, record: &Arc<Record>, only: Option<&str>) -> Vec<Fate> {
        let cluster_id = self.cluster_id.clone();
        let wanted = |name: &str| only.is_none_or(|only| only == name);
        let lanes = self.lanes.iter_mut().filter(|lane| wanted(&lane.name));
        let mut fates: Vec<Fate> = lanes.map(|lane| lane.fate(record, &cluster_id)).collect();
        if let Some(audit) = self.audit.as_mut().filter(|_| only.is_none()) {
            let judgement = audit.judge(record);
            fates.push(Fate {
                destination: AUDIT.into(),
                verdict: judgement.verdict,
                dropped_by: judgement.dropped_by,
                answers: audit.explain(record),
                request: None,
            });
        }
        fates
    }
}

impl Lane {
    fn fate(&mut self, record: &Arc<Record>, cluster_id: &str) -> Fate {
        let judgement = self.matcher.judge(record);
        let request = match &judgement.verdict {
            Verdict::Deliver { rule } => Some(self.request(record, rule, cluster_id)),
            Verdict::NotMatched
            | Verdict::Dropped
            | Verdict::Foreign
            | Verdict::DeadLetter { .. } => None,
        };
        Fate {
            destination: Arc::clone(&self.name),
            verdict: judgement.verdict,
            dropped_by: judgement.dropped_by,
            answers: self.matcher.explain(record),
            request,
        }
    }

    /// The first attempt's request.
    fn request(
        &self,
        record: &Arc<Record>,
        rule: &Arc<str>,
        cluster_id: &str,
    ) -> Result<Shown, Unrenderable> {
        let unmade = |why: &String| Unrenderable {
            why: why.clone(),
            drops: false,
        };
        let outlet = self.outlet.as_ref().map_err(unmade)?;
        let refused = |why: String| Unrenderable {
            why,
            drops: outlet.drops,
        };
        if let Some(sequence) = &outlet.sequence {
            sequence
                .key(record, rule)
                .map_err(|error| refused(error.to_string()))?;
        }
        let send = Send {
            key: DeliveryKey {
                epoch: Epoch(0),
                offset: record.offset,
            },
            id: DeliveryId::new(cluster_id, record, &self.id),
            record: Arc::clone(record),
            rule: Arc::clone(rule),
            attempt: 1,
        };
        let payload = self.matcher.payload(record);
        let content = outlet.content(&send, payload).map_err(refused)?;
        let now: Timestamp = Clock::wall();
        let request = outlet.webhook.request(record, send.id, 1, &content, now);
        let (headers, body) = outlet.webhook.shown(&request);
        Ok(Shown {
            method: request.method.to_string(),
            address: self.address.clone(),
            headers,
            body,
        })
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let source = error.source();
    source.map_or_else(|| error.to_string(), ToString::to_string)
}
