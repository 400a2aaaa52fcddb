//! How a difference is shown: line by line, what stays between what goes and what comes.

use crate::rules::{DuplicateKeys, Json};

/// Longer texts are shown whole, one behind the other: to compare every line with every other takes the square of it.
const LINES_MAX: usize = 1000;

/// Two bodies as they are to be compared, if they differ: JSON as JSON, whatever its spaces and the order of its keys; else text.
pub(super) fn bodies(wanted: &str, got: &str) -> Option<(String, String)> {
    let json = |text: &str| Json::parse(text.as_bytes(), DuplicateKeys::Last).ok();
    match (json(wanted), json(got)) {
        (Some(wanted), Some(got)) if wanted == got => None,
        (Some(wanted), Some(got)) => Some((pretty(&wanted), pretty(&got))),
        _ if wanted == got => None,
        _ => Some((wanted.to_owned(), got.to_owned())),
    }
}

fn pretty(value: &Json) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// `- ` before a line of `wanted` alone, `+ ` before one of `got` alone.
pub(super) fn lines(wanted: &str, got: &str) -> String {
    let wanted: Vec<&str> = wanted.lines().collect();
    let got: Vec<&str> = got.lines().collect();
    if wanted.len().max(got.len()) > LINES_MAX {
        let gone = wanted.iter().map(|line| format!("  - {line}"));
        let come = got.iter().map(|line| format!("  + {line}"));
        return gone.chain(come).collect::<Vec<_>>().join("\n");
    }
    let common = common(&wanted, &got);
    let (mut a, mut b) = (0, 0);
    let mut shown = Vec::new();
    while a < wanted.len() || b < got.len() {
        let both = a < wanted.len() && b < got.len();
        if both && wanted[a] == got[b] {
            shown.push(format!("    {}", wanted[a]));
            (a, b) = (a + 1, b + 1);
        } else if b == got.len() || (a < wanted.len() && common[a + 1][b] >= common[a][b + 1]) {
            shown.push(format!("  - {}", wanted[a]));
            a += 1;
        } else {
            shown.push(format!("  + {}", got[b]));
            b += 1;
        }
    }
    shown.join("\n")
}

/// How many lines the rests have in common, from each place on.
fn common(wanted: &[&str], got: &[&str]) -> Vec<Vec<usize>> {
    let mut common = vec![vec![0; got.len() + 1]; wanted.len() + 1];
    for a in (0..wanted.len()).rev() {
        for b in (0..got.len()).rev() {
            common[a][b] = match wanted[a] == got[b] {
                true => common[a + 1][b + 1] + 1,
                false => common[a + 1][b].max(common[a][b + 1]),
            };
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_between_what_goes_and_what_comes() {
        let shown = lines("a\nb\nc", "a\nx\nc\nd");
        assert_eq!(shown, "    a\n  - b\n  + x\n    c\n  + d");
    }

    #[test]
    fn json_is_compared_as_json_and_text_as_text() {
        assert_eq!(bodies(r#"{"a":1,"b":2}"#, r#"{ "b": 2, "a": 1 }"#), None);
        assert!(bodies(r#"{"a":1}"#, r#"{"a":2}"#).is_some());
        let (wanted, got) = (
            r#"{"a":327267367867168100001}"#,
            r#"{"a":327267367867168100002}"#,
        );
        assert!(bodies(wanted, got).is_some(), "a float takes them for one");
        assert_eq!(bodies("a b", "a b"), None);
        assert!(bodies("a b", "a  b").is_some());
    }
}
