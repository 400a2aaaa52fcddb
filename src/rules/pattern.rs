//! A pattern over types, where `*` is any run of characters, the empty one included.

/// A pattern, cut at its stars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    pieces: Vec<String>,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        Self {
            pieces: text.split('*').map(str::to_owned).collect(),
        }
    }

    /// As it stands in the file.
    pub(super) fn text(&self) -> String {
        self.pieces.join("*")
    }

    /// Whether the whole of `text` fits. Linear in the text for each star: every piece is taken where it comes first.
    pub(super) fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.pieces.split_first() else {
            return text.is_empty();
        };
        let Some((last, middle)) = rest.split_last() else {
            return text == first;
        };
        let Some(mut left) = text.strip_prefix(first.as_str()) else {
            return false;
        };
        for piece in middle {
            let Some(found) = left.find(piece.as_str()) else {
                return false;
            };
            left = &left[found + piece.len()..];
        }
        left.ends_with(last.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_run_of_characters() {
        let cases = [
            ("owner.upload.graph", "owner.upload.graph", true),
            ("owner.upload.graph", "owner.upload.graphs", false),
            ("owner.*.graph", "owner.upload.graph", true),
            ("owner.*.graph", "owner..graph", true),
            ("owner.*.graph", "owner.upload.layout", false),
            ("owner.*.graph", "owner.graph", false),
            ("*", "", true),
            ("*", "anything.at.all", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*share*", "group.unshare.graph", true),
            ("a*b*c", "a-c-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("", "", true),
            ("", "x", false),
        ];
        for (pattern, text, fits) in cases {
            assert_eq!(
                Pattern::new(pattern).matches(text),
                fits,
                "{pattern} on {text}"
            );
        }
    }
}
