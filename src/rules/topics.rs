//! Which topics: by name, or by a pattern over the names that the cluster has.

use std::collections::BTreeSet;

use regex::{Regex, RegexBuilder};

/// What one compiled pattern may weigh.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// One entry of `topics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicSelector {
    /// The topic of this name.
    Name(String),
    /// Every topic whose whole name fits.
    Pattern(TopicPattern),
}

/// A regular expression over the whole name of a topic.
#[derive(Debug, Clone)]
pub struct TopicPattern {
    text: String,
    regex: Regex,
}

impl PartialEq for TopicPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TopicPattern {}

impl TopicSelector {
    /// Reads an entry: a leading `^` makes it a pattern, else it is a name. Names are not checked here.
    ///
    /// # Errors
    /// When the pattern is none, in the words of the regular expression's parser.
    pub fn new(text: &str) -> Result<Self, String> {
        if !text.starts_with('^') {
            return Ok(Self::Name(text.to_owned()));
        }
        let compile = |text: &str| {
            let regex = RegexBuilder::new(text)
                .size_limit(PATTERN_BYTES_MAX)
                .build();
            regex.map_err(|error| error.to_string())
        };
        // By itself first: what is wrong is said of what was written, and no bracket can close the one that is put around it.
        compile(text)?;
        let regex = compile(&format!("\\A(?:{text})\\z"))?;
        Ok(Self::Pattern(TopicPattern {
            text: text.to_owned(),
            regex,
        }))
    }

    /// Whether it selects the topic of this name.
    #[must_use]
    pub fn selects(&self, topic: &str) -> bool {
        match self {
            Self::Name(name) => name == topic,
            Self::Pattern(pattern) => pattern.regex.is_match(topic),
        }
    }

    /// As it stands in the file.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Pattern(pattern) => &pattern.text,
        }
    }
}

/// Whether a topic is out of every pattern's reach: Kafka's own, and those of ours that begin with `prefix` and a dot.
#[must_use]
pub fn is_reserved(topic: &str, prefix: &str) -> bool {
    let ours = |rest: &str| rest.starts_with('.');
    topic.starts_with("__") || topic.strip_prefix(prefix).is_some_and(ours)
}

/// The topics of a lane.
#[derive(Debug, Clone, Default)]
pub struct TopicSet(Vec<TopicSelector>);

impl TopicSet {
    /// What any of `selectors` selects.
    pub fn new<'a>(selectors: impl IntoIterator<Item = &'a TopicSelector>) -> Self {
        Self(selectors.into_iter().cloned().collect())
    }

    /// What is selected, as it stands in the file.
    #[must_use]
    pub fn texts(&self) -> BTreeSet<String> {
        let texts = self.0.iter().map(TopicSelector::text);
        texts.map(str::to_owned).collect()
    }

    /// Whether the cluster must be asked which topics these are.
    #[must_use]
    pub fn has_patterns(&self) -> bool {
        self.0
            .iter()
            .any(|selector| matches!(selector, TopicSelector::Pattern(_)))
    }

    /// The names in it, whether such topics exist or not, and of `existing` those that fit a pattern.
    #[must_use]
    pub fn resolve(&self, existing: &BTreeSet<String>, prefix: &str) -> BTreeSet<String> {
        let mut topics = BTreeSet::new();
        for selector in &self.0 {
            match selector {
                TopicSelector::Name(name) => {
                    topics.insert(name.clone());
                }
                TopicSelector::Pattern(_) => {
                    let fits =
                        |topic: &&String| !is_reserved(topic, prefix) && selector.selects(topic);
                    topics.extend(existing.iter().filter(fits).cloned());
                }
            }
        }
        topics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_over_the_whole_name() {
        let cases = [
            ("orders", "orders", true),
            ("orders", "orders2", false),
            ("orders.x", "ordersxx", false),
            ("^orders", "orders", true),
            ("^orders", "orders2", false),
            ("^orders.*", "orders2", true),
            (r"^billing\..+", "billing.eu", true),
            (r"^billing\..+", "billing.", false),
            (r"^billing\..+", "my-billing.eu", false),
            ("^a|ab", "ab", true),
            ("^a|ab", "xab", false),
            ("^a$", "a", true),
            ("^(?i)A", "a", true),
            (r"^t\d+", "t42", true),
        ];
        for (pattern, topic, selected) in cases {
            let selector = TopicSelector::new(pattern).unwrap();
            assert_eq!(selector.selects(topic), selected, "{pattern} on {topic}");
        }
        for wrong in [
            "^(",
            "^a)|(b",
            "^[",
            r"^(a)\1",
            "^(?=a)",
            "^(a{1000}){1000}",
        ] {
            assert!(TopicSelector::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn patterns_never_reach_topics_of_our_own_or_of_kafka() {
        let existing = [
            "__consumer_offsets",
            "__x",
            "p",
            "p.dead-letters",
            "p.retry.1m",
            "pq.news",
            "orders",
        ];
        let existing = existing.map(str::to_owned).into();
        let set = |texts: &[&str]| {
            let selectors: Vec<_> = texts
                .iter()
                .map(|text| TopicSelector::new(text).unwrap())
                .collect();
            TopicSet::new(&selectors)
        };
        let resolve = |texts: &[&str]| {
            let topics = set(texts).resolve(&existing, "p");
            topics.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(resolve(&["^.*"]), ["orders", "p", "pq.news"]);
        assert_eq!(resolve(&["^__.*", r"^p\..*"]), Vec::<String>::new());
        assert_eq!(resolve(&["^o.*", "not-yet"]), ["not-yet", "orders"]);
        assert!(set(&["a", "^b"]).has_patterns() && !set(&["a"]).has_patterns());
    }
}
