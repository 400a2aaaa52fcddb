//! Why a value cannot be taken, before it is known where it stands.

/// What is wrong and what to do about it. The message goes on after the key: "`max_age` *has no unit*".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) hint: String,
}

impl Refusal {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// The one of `known` that `written` was probably meant to be.
pub(super) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let written = plain(written);
    let distances = known.into_iter().map(|name| {
        let name_plain = plain(name);
        let distance = strsim::damerau_levenshtein(&written, &name_plain);
        // "topic" for "topics", "logging" for "log": what is left out or added at the end counts for little.
        let begins = (written.len() >= 3 && name_plain.starts_with(&written))
            || (name_plain.len() >= 3 && written.starts_with(&name_plain));
        (if begins { distance.min(1) } else { distance }, name)
    });
    let allowed = (written.chars().count() / 3).clamp(1, 3);
    let (distance, name) = distances.min()?;
    (distance <= allowed).then_some(name)
}

/// What to tell somebody who named a destination that is not there.
#[must_use]
pub fn unknown_destination(wanted: &str, names: &[&str]) -> String {
    let near = nearest(wanted, names.iter().copied());
    let near = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
    match names.len() {
        0 => format!("no destination {wanted}; there is none"),
        _ => format!(
            "no destination {wanted}; there are: {}{near}",
            names.join(", ")
        ),
    }
}

/// Names as a list for people: `a`, `b`, `c`.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names
        .into_iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_find_their_word() {
        let known = ["topics", "types", "deliver_to", "name"];
        assert_eq!(nearest("topic", known), Some("topics"));
        assert_eq!(nearest("tpyes", known), Some("types"));
        assert_eq!(nearest("Deliver-To", known), Some("deliver_to"));
        assert_eq!(nearest("logging", ["limits", "log"]), Some("log"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("x", known), None);
    }
}
