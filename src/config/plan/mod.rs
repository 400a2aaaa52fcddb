//! What a reload does: the difference of two files, lane by lane. Pure, and in words that hold no secret: of what may be one it is only said
//! that it has changed.
//!
//! A lane is restarted when its consumer reads something else (topics, group), when a rule that took records for it does so no more, or when its
//! order is another; everything else is swapped while it runs. What concerns the connection to Kafka or the operators' side has everything
//! begin anew, in the same process.

mod words;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::kafka::AUDIT;
use crate::rules::{Matcher, RuleFile, RuleOptions};

use super::{Config, DestinationConfig};

/// What a reload does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Why everything begins anew; empty: it does not.
    pub everything: Vec<String>,
    /// What holds for the process, at once.
    pub process: Vec<String>,
    /// What holds only after the next start of the process.
    pub next_start: Vec<String>,
    /// Every lane of both files.
    pub lanes: Vec<LaneChange>,
}

/// What becomes of one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneChange {
    /// The destination's name, in the new file if it is there; or the audit's.
    pub name: Arc<str>,
    /// Its id there.
    pub id: Arc<str>,
    /// Its name in the old file, when the lane is there.
    pub was: Option<Arc<str>>,
    /// What becomes of it.
    pub what: Change,
    /// Topics that it has not read before, patterns as they are written.
    pub new_topics: Vec<String>,
}

/// What becomes of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It begins.
    Added,
    /// It drains and ends.
    Removed,
    /// It drains and begins anew, for these reasons; what else changes comes with it.
    Restarted(Vec<String>, Vec<String>),
    /// It goes on with these changes; without any when only rules have changed that are not its own, which decide who counts what no rule takes.
    Swapped(Vec<String>),
    /// It goes on as it is.
    Unchanged,
}

/// One lane of a file.
struct Lane<'a> {
    name: Arc<str>,
    id: Arc<str>,
    /// `None`: the audit.
    destination: Option<&'a DestinationConfig>,
    matcher: Matcher,
    config: &'a Config,
}

impl Plan {
    /// From the file that is in force to another.
    #[must_use]
    pub fn new(old: &Config, new: &Config) -> Self {
        let mut before = lanes(old);
        let mut changes = Vec::new();
        let mut begun = Vec::new();
        for lane in lanes(new) {
            let same_name = before.iter().position(|old| old.name == lane.name);
            match same_name {
                Some(at) => changes.push(change(&before.remove(at), &lane)),
                None => begun.push(lane),
            }
        }
        for lane in begun {
            let same_id = before.iter().position(|old| old.id == lane.id);
            changes.push(match same_id {
                Some(at) => change(&before.remove(at), &lane),
                None => LaneChange {
                    new_topics: topics(&lane).into_iter().collect(),
                    ..lane.becomes(None, Change::Added)
                },
            });
        }
        for lane in before {
            changes.push(lane.becomes(Some(&lane.name), Change::Removed));
        }
        changes.sort_by(|a, b| a.name.cmp(&b.name));
        if old.kafka.prefix != new.kafka.prefix || old.kafka.brokers != new.kafka.brokers {
            let all = lanes(new);
            for change in &mut changes {
                let lane = all.iter().find(|lane| lane.name == change.name);
                change.new_topics = lane.map_or_else(Vec::new, |l| topics(l).into_iter().collect());
            }
        }
        Self {
            everything: words::everything(old, new),
            process: words::process(old, new),
            next_start: words::next_start(old, new),
            lanes: changes,
        }
    }

    /// Whether nothing is different.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let rest = [&self.everything, &self.process, &self.next_start];
        let unchanged = |lane: &LaneChange| lane.what == Change::Unchanged;
        rest.iter().all(|words| words.is_empty()) && self.lanes.iter().all(unchanged)
    }

    /// How many lanes go on as they are.
    #[must_use]
    pub fn unchanged(&self) -> usize {
        let lanes = self.lanes.iter();
        lanes.filter(|lane| lane.what.is_silent()).count()
    }

    /// What is different, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.everything.is_empty() {
            let why = self.everything.join("; ");
            lines.push(format!("everything: starts anew ({why})"));
        }
        lines.extend(self.process.iter().cloned());
        let later = |what: &String| format!("{what}; holds after the next start of the process");
        lines.extend(self.next_start.iter().map(later));
        let changed = self.lanes.iter();
        let changed = changed.filter(|lane| !lane.what.is_silent());
        lines.extend(changed.map(ToString::to_string));
        lines
    }
}

impl fmt::Display for LaneChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.what {
            Change::Added => write!(f, "{name}: added, reads {}", self.new_topics.join(", ")),
            Change::Removed => write!(
                f,
                "{name}: removed; it drains, and its consumer group and what it has on the ladder stay"
            ),
            Change::Restarted(why, also) => {
                write!(f, "{name}: restarted ({})", why.join("; "))?;
                if !also.is_empty() {
                    write!(f, "; {}", also.join("; "))?;
                }
                Ok(())
            }
            Change::Swapped(changes) => write!(f, "{name}: {}", changes.join("; ")),
            Change::Unchanged => write!(f, "{name}: unchanged"),
        }
    }
}

impl Change {
    fn is_silent(&self) -> bool {
        match self {
            Self::Unchanged => true,
            Self::Swapped(changes) => changes.is_empty(),
            Self::Added | Self::Removed | Self::Restarted(..) => false,
        }
    }
}

impl Lane<'_> {
    fn becomes(&self, was: Option<&Arc<str>>, what: Change) -> LaneChange {
        LaneChange {
            name: Arc::clone(&self.name),
            id: Arc::clone(&self.id),
            was: was.cloned(),
            what,
            new_topics: Vec::new(),
        }
    }
}

fn lanes(config: &Config) -> Vec<Lane<'_>> {
    let file = config.rule_file();
    let lane = |destination| lane(config, &file, destination);
    let mut lanes: Vec<Lane<'_>> = config.destinations.iter().map(lane).collect();
    if file.needs_audit() && !lanes.is_empty() {
        lanes.push(Lane {
            name: AUDIT.into(),
            id: AUDIT.into(),
            destination: None,
            matcher: Matcher::for_audit(&file),
            config,
        });
    }
    lanes
}

fn lane<'a>(
    config: &'a Config,
    file: &RuleFile<'_>,
    destination: &'a DestinationConfig,
) -> Lane<'a> {
    Lane {
        name: Arc::clone(&destination.name),
        id: Arc::clone(&destination.id),
        destination: Some(destination),
        matcher: config.matcher(file, &destination.name),
        config,
    }
}

fn topics(lane: &Lane<'_>) -> BTreeSet<String> {
    lane.matcher.topics().texts()
}

fn change(old: &Lane<'_>, new: &Lane<'_>) -> LaneChange {
    let (topics_before, topics_now) = (topics(old), topics(new));
    let mut why = Vec::new();
    if old.name != new.name {
        why.push(format!("renamed from {}", old.name));
    }
    if old.id != new.id {
        why.push(format!(
            "id {} -> {}: another consumer group",
            old.id, new.id
        ));
    }
    if topics_before != topics_now {
        let new = topics_now.difference(&topics_before);
        let gone = topics_before.difference(&topics_now);
        let new = new.map(|topic| format!("+{topic}"));
        let signed: Vec<_> = new.chain(gone.map(|topic| format!("-{topic}"))).collect();
        why.push(format!("topics {}", signed.join(" ")));
    }
    let mut also = Vec::new();
    if let (Some(before), Some(now)) = (old.destination, new.destination) {
        if before.sequence != now.sequence || before.lane.order != now.lane.order {
            why.push("its order has changed".to_owned());
        }
        words::destination(before, now, &mut also);
    } else if old.config.kafka.commit_interval != new.config.kafka.commit_interval {
        also.push("commit_interval has changed".to_owned());
    }
    rules(old, new, &mut why, &mut also);
    let what = match (why.is_empty(), also.is_empty()) {
        (false, _) => Change::Restarted(why, also),
        (true, true) if old.matcher == new.matcher => Change::Unchanged,
        (true, _) => Change::Swapped(also),
    };
    let all = old.id != new.id;
    LaneChange {
        new_topics: topics_now
            .into_iter()
            .filter(|topic| all || !topics_before.contains(topic))
            .collect(),
        ..new.becomes(Some(&old.name), what)
    }
}

/// What of the rules concerns this lane.
fn rules(old: &Lane<'_>, new: &Lane<'_>, why: &mut Vec<String>, also: &mut Vec<String>) {
    let of = |lane: &Lane<'_>| {
        lane.matcher
            .rule_names()
            .into_iter()
            .collect::<BTreeSet<_>>()
    };
    let (before, now) = (of(old), of(new));
    for gone in before.difference(&now) {
        why.push(format!("rule {gone} takes nothing for it any more"));
    }
    let same_topics = topics(old) == topics(new);
    let (rules_before, rules_now) = (by_name(old.config), by_name(new.config));
    for name in &now {
        if !before.contains(name) {
            also.push(format!("rule {name} is new here"));
            continue;
        }
        let (Some(a), Some(b)) = (rules_before.get(&**name), rules_now.get(&**name)) else {
            continue;
        };
        if a.content != b.content {
            also.push(format!("rule {name}: what is sent has changed"));
        }
        let mut same = RuleOptions::clone(a);
        same.content.clone_from(&b.content);
        same.deliver_to.clone_from(&b.deliver_to);
        if !same_topics {
            same.topics.clone_from(&b.topics);
        }
        if same != **b {
            also.push(format!("rule {name}: what it takes has changed"));
        }
    }
    let reads = |lane: &Lane<'_>| (lane.config.read.clone(), lane.config.overrides.clone());
    if reads(old) != reads(new) {
        also.push("how records are read has changed".to_owned());
    }
}

fn by_name(config: &Config) -> BTreeMap<&str, &RuleOptions> {
    let rules = config.rules.iter();
    rules.map(|rule| (&*rule.name, rule)).collect()
}
