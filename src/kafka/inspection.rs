//! Whether the topics of our own that are there keep what is written to them, as long as it is needed.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::admin::ResourceSpecifier;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::topics::{Broker, OwnedTopic, TopicError, admin_options};

/// A topic of our own to which nothing may be written, because of one of its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The topic.
    pub topic: String,
    setting: &'static str,
    value: String,
    why: &'static str,
    /// What the setting must be.
    instead: String,
    brokers: String,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topic,
            setting,
            value,
            why,
            instead,
            brokers,
        } = self;
        write!(
            f,
            "topic {topic} has {setting}={value}: {why}; nothing is written to it before it is mended with:\n  \
             kafka-configs.sh --bootstrap-server {brokers} --alter --entity-type topics --entity-name {topic} \
             --add-config {setting}={instead}"
        )
    }
}

/// What an inspection found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inspection {
    /// Topics that must not be written to.
    pub unfit: Vec<Unfit>,
    /// Topics whose settings the broker does not tell, and why.
    pub hidden: Option<(String, String)>,
}

impl Broker {
    /// Looks at the settings of topics that are there.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn inspect(&self, topics: &[OwnedTopic]) -> Result<Inspection, TopicError> {
        let names: Vec<ResourceSpecifier<'_>> = topics
            .iter()
            .map(|topic| ResourceSpecifier::Topic(&topic.name))
            .collect();
        let answer = match self.client.describe_configs(&names, &admin_options()).await {
            Ok(answer) => answer,
            // A broker that cannot answer such a question at all has nothing to hide.
            Err(KafkaError::AdminOp(RDKafkaErrorCode::UnsupportedFeature)) => {
                return Ok(Inspection::default());
            }
            Err(error) => return Err(TopicError::Unreachable(error)),
        };
        let mut found = Inspection::default();
        for (topic, result) in topics.iter().zip(answer) {
            match result {
                Ok(resource) => {
                    let entries = resource.entries.iter();
                    let settings = entries.filter_map(|e| Some((&*e.name, e.value.as_deref()?)));
                    found
                        .unfit
                        .extend(judge(topic, &settings.collect(), &self.brokers));
                }
                // Whether it is there is somebody else's question.
                Err(RDKafkaErrorCode::UnknownTopicOrPartition) => {}
                Err(error) => found.hidden = Some((topic.name.clone(), error.to_string())),
            }
        }
        Ok(found)
    }
}

/// What is wrong with a topic's settings, the worst first (pure).
///
/// The dead letters may be kept as somebody likes, as long as one does not replace another: they are for people, who may want less of them.
fn judge(topic: &OwnedTopic, settings: &BTreeMap<&str, &str>, brokers: &str) -> Option<Unfit> {
    let of = |setting: &str| settings.get(setting).copied().unwrap_or_default();
    let unfit = |setting: &'static str, why, instead: &str| Unfit {
        topic: topic.name.clone(),
        setting,
        value: of(setting).to_owned(),
        why,
        instead: instead.to_owned(),
        brokers: brokers.to_owned(),
    };
    let compacts = |policy: &str| policy.split(',').any(|p| p.trim() == "compact");
    if topic.compacted {
        let deletes = of("cleanup.policy")
            .split(',')
            .any(|p| p.trim() == "delete");
        let why = "what somebody asked of a destination would be forgotten one day";
        return deletes.then(|| unfit("cleanup.policy", why, "compact"));
    }
    if compacts(of("cleanup.policy")) {
        let why = "a record would replace an older one";
        return Some(unfit("cleanup.policy", why, "delete"));
    }
    let needed = topic.retention_needed()?;
    if of("message.timestamp.type") == "CreateTime" {
        let why = "how long a record waits would go by the clock of whoever wrote it";
        return Some(unfit("message.timestamp.type", why, "LogAppendTime"));
    }
    let number = |setting| of(setting).parse::<i128>().unwrap_or(-1);
    let needed_ms = i128::try_from(needed.as_millis()).unwrap_or(i128::MAX);
    if (0..needed_ms).contains(&number("retention.ms")) {
        let why = "records would be deleted before they are tried again";
        return Some(unfit("retention.ms", why, &needed_ms.to_string()));
    }
    if number("retention.bytes") >= 0 {
        let why = "many records would push out those that wait";
        return Some(unfit("retention.bytes", why, "-1"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(topic: &OwnedTopic, setting: &'static str, value: &'static str) -> Option<String> {
        let mut settings = BTreeMap::from([
            ("cleanup.policy", "delete"),
            ("message.timestamp.type", "LogAppendTime"),
            ("retention.ms", "604800000"),
            ("retention.bytes", "-1"),
        ]);
        settings.insert(setting, value);
        judge(topic, &settings, "b:9092").map(|unfit| unfit.to_string())
    }

    #[test]
    fn a_ladder_keeps_every_record_for_its_step_and_a_day() {
        let [minute, .., eight_hours] = &OwnedTopic::ladder("p")[..] else {
            panic!("the ladder has steps")
        };
        for (setting, value) in [
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("retention.ms", "86460000"),
            // A broker that does not say.
            ("message.timestamp.type", ""),
        ] {
            assert_eq!(wrong(minute, setting, value), None, "{setting}={value}");
        }
        for (setting, value) in [
            ("cleanup.policy", "compact"),
            ("cleanup.policy", "delete, compact"),
            ("message.timestamp.type", "CreateTime"),
            ("retention.ms", "86459999"),
            ("retention.bytes", "1000000"),
        ] {
            let said = wrong(minute, setting, value).expect("refused");
            assert!(said.contains(&format!("topic p.retry.1m has {setting}={value}: ")));
        }
        assert!(wrong(eight_hours, "retention.ms", "86460000").is_some());
    }

    #[test]
    fn a_refusal_says_how_to_mend_it() {
        let minute = &OwnedTopic::ladder("p")[0];
        let said = wrong(minute, "message.timestamp.type", "CreateTime").expect("refused");
        let command = "kafka-configs.sh --bootstrap-server b:9092 --alter --entity-type topics --entity-name p.retry.1m \
                       --add-config message.timestamp.type=LogAppendTime";
        assert!(said.ends_with(command), "{said}");
    }

    #[test]
    fn the_state_is_kept_for_good() {
        let state = OwnedTopic::state("p");
        assert_eq!(wrong(&state, "cleanup.policy", "compact"), None);
        assert!(wrong(&state, "cleanup.policy", "delete").is_some());
        assert!(wrong(&state, "cleanup.policy", "compact,delete").is_some());
    }

    #[test]
    fn dead_letters_must_not_replace_each_other_and_else_are_as_somebody_likes() {
        let letters = OwnedTopic::dead_letters("p");
        assert_eq!(
            wrong(&letters, "message.timestamp.type", "CreateTime"),
            None
        );
        assert_eq!(wrong(&letters, "retention.ms", "1000"), None);
        assert!(wrong(&letters, "cleanup.policy", "compact").is_some());
    }
}
