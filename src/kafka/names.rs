//! The alphabet of topic names, as Kafka fixes it.

use thiserror::Error;

/// The longest topic name Kafka takes, in characters.
pub const TOPIC_MAX: usize = 249;

/// The name and id of the lane that counts what no destination gets; its group is the prefix, a dot and this.
pub const AUDIT: &str = "audit";

/// Why a text cannot be the name of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// There is nothing in it.
    #[error("is empty")]
    Empty,
    /// Longer than [`TOPIC_MAX`].
    #[error("is longer than {TOPIC_MAX} characters")]
    TooLong,
    /// `.` and `..` would be folders on the broker's disk.
    #[error("is only dots")]
    Dots,
    /// A character outside the alphabet.
    #[error("has the character `{0}`, which no topic name can have")]
    Character(char),
}

/// Whether Kafka takes `name` as the name of a topic.
///
/// # Errors
///
/// The first reason why it does not.
pub fn check_topic(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(character) = name.chars().find(|c| !allowed(c)) {
        return Err(NameError::Character(character));
    }
    if name.len() > TOPIC_MAX {
        return Err(NameError::TooLong);
    }
    if name == "." || name == ".." {
        Err(NameError::Dots)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_kafka_takes_them() {
        for name in ["owner", "a.b_c-9", "...", &"x".repeat(TOPIC_MAX)] {
            assert_eq!(check_topic(name), Ok(()), "{name}");
        }
        assert_eq!(check_topic(""), Err(NameError::Empty));
        assert_eq!(check_topic(".."), Err(NameError::Dots));
        assert_eq!(check_topic("a b"), Err(NameError::Character(' ')));
        assert_eq!(check_topic("größe"), Err(NameError::Character('ö')));
        assert_eq!(
            check_topic(&"x".repeat(TOPIC_MAX + 1)),
            Err(NameError::TooLong)
        );
    }
}
