//! How long topics keep their records: what waits longer is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::ResourceSpecifier;
use rdkafka::error::KafkaError;

use super::topics::{Broker, admin_options};

impl Broker {
    /// The retention of each topic whose settings can be seen; one that keeps its records for good is not in it.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn retentions(
        &self,
        topics: &BTreeSet<Arc<str>>,
    ) -> Result<BTreeMap<Arc<str>, Duration>, KafkaError> {
        let names: Vec<_> = topics.iter().map(|t| ResourceSpecifier::Topic(t)).collect();
        let mut found = BTreeMap::new();
        if names.is_empty() {
            return Ok(found);
        }
        let answer = self
            .client
            .describe_configs(&names, &admin_options())
            .await?;
        for (topic, resource) in topics.iter().zip(answer) {
            let Ok(resource) = resource else { continue };
            let entries = resource.entries.iter();
            let settings: BTreeMap<&str, &str> = entries
                .filter_map(|entry| Some((&*entry.name, entry.value.as_deref()?)))
                .collect();
            if let Some(retention) = retention(&settings) {
                found.insert(Arc::clone(topic), retention);
            }
        }
        Ok(found)
    }
}

/// How long a topic with these settings keeps a record; `None`: for good, or not known (pure).
fn retention(settings: &BTreeMap<&str, &str>) -> Option<Duration> {
    let policy = settings.get("cleanup.policy").copied().unwrap_or("delete");
    if !policy.split(',').any(|policy| policy.trim() == "delete") {
        return None;
    }
    let retention_ms = settings.get("retention.ms")?.parse::<u64>().ok()?;
    Some(Duration::from_millis(retention_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_good_has_no_retention() {
        let of = |policy, retention_ms| {
            let settings =
                BTreeMap::from([("cleanup.policy", policy), ("retention.ms", retention_ms)]);
            retention(&settings).map(|retention| retention.as_secs())
        };
        assert_eq!(of("delete", "5000"), Some(5));
        assert_eq!(of("compact,delete", "5000"), Some(5));
        assert_eq!(of("compact", "5000"), None);
        assert_eq!(of("delete", "-1"), None);
    }
}
