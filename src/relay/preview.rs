//! What a file would change, before it does; and how many records would be sent for it that nobody has waited for.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::admin::api::{DiffRequest, OrderResult, ReloadReport};
use crate::config::{Config, LaneChange, Plan};
use crate::kafka::{Forecast, KafkaError, StartAtOption, consumer_config};
use crate::rules::{TopicSelector, TopicSet};

use super::lanes::start_at;
use super::operators::FrontDesk;

impl FrontDesk {
    /// Compares a file with the one that is in force.
    pub(super) async fn diff(&self, request: DiffRequest) -> ReloadReport {
        let config = self.in_force.config();
        let look = move || {
            let DiffRequest { path, text } = request;
            let environment = |name: &str| std::env::var(name).ok();
            match Config::parse(&text, Path::new(&path), &environment) {
                Ok(new) => preview(&config, &new),
                Err(problems) => refused(problems.render(false)),
            }
        };
        let looked = tokio::task::spawn_blocking(look).await;
        looked.unwrap_or_else(|error| refused(format!("the comparison ended badly: {error}")))
    }
}

/// A file that is not taken.
pub(super) fn refused(why: String) -> ReloadReport {
    ReloadReport {
        result: OrderResult::Refused,
        plan: Vec::new(),
        notes: vec![why],
        unchanged: 0,
        kafka_away: false,
    }
}

/// What a reload from one file to another would do. Waits for Kafka, for some seconds at most; not for a runtime's worker.
pub(crate) fn preview(old: &Config, new: &Config) -> ReloadReport {
    let plan = Plan::new(old, new);
    let mut report = ReloadReport {
        result: OrderResult::Done,
        plan: plan.lines(),
        notes: Vec::new(),
        unchanged: plan.unchanged(),
        kafka_away: false,
    };
    for lane in &plan.lanes {
        if lane.new_topics.is_empty() {
            continue;
        }
        match waiting(new, lane) {
            Ok(lines) => report.notes.extend(lines),
            Err(error) => {
                let text = format!(
                    "what waits for {} in Kafka is not known: {error}",
                    lane.name
                );
                report.notes.push(text);
                report.kafka_away = true;
                return report;
            }
        }
    }
    report
}

/// How much waits for a lane in the topics that are new to it, a line each.
fn waiting(config: &Config, lane: &LaneChange) -> Result<Vec<String>, KafkaError> {
    let group = format!("{}.{}", config.kafka.prefix, lane.id);
    let forecast = Forecast::new(&consumer_config(&config.kafka), &group)?;
    let selectors = lane.new_topics.iter();
    // Each was read before: it is a name or a pattern.
    let selectors: Vec<_> = selectors
        .filter_map(|text| TopicSelector::new(text).ok())
        .collect();
    let set = TopicSet::new(&selectors);
    let existing = match set.has_patterns() {
        true => forecast.topics()?,
        false => BTreeSet::new(),
    };
    let mut lines = Vec::new();
    for topic in set.resolve(&existing, &config.kafka.prefix) {
        let name: &Arc<str> = &lane.name;
        lines.push(
            match forecast.records(&topic, start_at(config.kafka.start_at))? {
                Some(1) => format!(
                    "{name}: 1 record of {topic} is there for it{}",
                    from(config)
                ),
                Some(count) => format!(
                    "{name}: {count} records of {topic} are there for it{}",
                    from(config)
                ),
                None => format!("{name}: topic {topic} does not exist yet"),
            },
        );
    }
    Ok(lines)
}

/// Why so many.
fn from(config: &Config) -> &'static str {
    match config.kafka.start_at {
        StartAtOption::Earliest => ", from the oldest on (start_at)",
        StartAtOption::Latest => ", from the newest on (start_at)",
        StartAtOption::Time(_) | StartAtOption::Ago(_) => ", from the time of start_at on",
    }
}
