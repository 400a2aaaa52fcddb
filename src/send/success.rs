//! What an answer must be beyond its status: the `success` condition, for receivers that say 200 to everything.

use http::header::{HeaderMap, HeaderName};
use serde_json::Value;
use thiserror::Error;

/// What must hold of a 2xx answer; everything that is set must.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SuccessCondition {
    /// One of these statuses.
    pub statuses: Vec<u16>,
    /// This header has exactly this value.
    pub header: Option<(HeaderName, String)>,
    /// The body is exactly this text, white space around both left aside.
    pub text: Option<String>,
    /// The body is JSON and has this value at this pointer (RFC 6901).
    pub field: Option<(String, Value)>,
}

/// What does not hold. Says nothing of the answer, whose first bytes are kept elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Unmet {
    #[error("its status is not the one")]
    Status,
    #[error("the header is not as it should be")]
    Header,
    #[error("its body is not the text")]
    Text,
    #[error("its body is not JSON")]
    NotJson,
    #[error("the field in its body is not as it should be")]
    Field,
}

impl SuccessCondition {
    /// What first does not hold of this answer.
    pub(super) fn check(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Result<(), Unmet> {
        if !self.statuses.is_empty() && !self.statuses.contains(&status) {
            return Err(Unmet::Status);
        }
        if let Some((name, wanted)) = &self.header
            && !headers
                .get_all(name)
                .iter()
                .any(|value| value == wanted.as_str())
        {
            return Err(Unmet::Header);
        }
        if let Some(wanted) = &self.text
            && body.trim_ascii() != wanted.trim().as_bytes()
        {
            return Err(Unmet::Text);
        }
        if let Some((pointer, wanted)) = &self.field {
            let value: Value = serde_json::from_slice(body).map_err(|_| Unmet::NotJson)?;
            if !value
                .pointer(pointer)
                .is_some_and(|found| same(found, wanted))
            {
                return Err(Unmet::Field);
            }
        }
        Ok(())
    }

    /// Whether the body must be read before anything can be said.
    pub(super) fn needs_body(&self) -> bool {
        self.text.is_some() || self.field.is_some()
    }
}

/// Numbers are the same when their values are: `1` and `1.0`.
fn same(found: &Value, wanted: &Value) -> bool {
    match (found.as_f64(), wanted.as_f64()) {
        (Some(found), Some(wanted)) => found == wanted,
        _ => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(condition: &SuccessCondition, status: u16, body: &str) -> Result<(), Unmet> {
        let mut headers = HeaderMap::new();
        headers.insert("x-result", http::header::HeaderValue::from_static("done"));
        condition.check(status, &headers, body.as_bytes())
    }

    #[test]
    fn everything_that_is_set_must_hold() {
        let field = |pointer: &str, value| Some((pointer.to_owned(), value));
        let header = |value: &str| Some((HeaderName::from_static("x-result"), value.to_owned()));
        let none = SuccessCondition::default;
        let cases = [
            (none(), "anything", Ok(())),
            (
                SuccessCondition {
                    statuses: vec![200, 202],
                    ..none()
                },
                "",
                Ok(()),
            ),
            (
                SuccessCondition {
                    statuses: vec![202],
                    ..none()
                },
                "",
                Err(Unmet::Status),
            ),
            (
                SuccessCondition {
                    header: header("done"),
                    ..none()
                },
                "",
                Ok(()),
            ),
            (
                SuccessCondition {
                    header: header("Done"),
                    ..none()
                },
                "",
                Err(Unmet::Header),
            ),
            (
                SuccessCondition {
                    text: Some("ok".to_owned()),
                    ..none()
                },
                "ok\n",
                Ok(()),
            ),
            (
                SuccessCondition {
                    text: Some("ok".to_owned()),
                    ..none()
                },
                "ok?",
                Err(Unmet::Text),
            ),
            (
                SuccessCondition {
                    field: field("/ok", json!(true)),
                    ..none()
                },
                r#"{"ok":true}"#,
                Ok(()),
            ),
            (
                SuccessCondition {
                    field: field("/a/0", json!(1)),
                    ..none()
                },
                r#"{"a":[1.0]}"#,
                Ok(()),
            ),
            (
                SuccessCondition {
                    field: field("/ok", json!(true)),
                    ..none()
                },
                r#"{"ok":"true"}"#,
                Err(Unmet::Field),
            ),
            (
                SuccessCondition {
                    field: field("/ok", json!(true)),
                    ..none()
                },
                "{}",
                Err(Unmet::Field),
            ),
            (
                SuccessCondition {
                    field: field("/ok", json!(true)),
                    ..none()
                },
                "ok",
                Err(Unmet::NotJson),
            ),
            (
                SuccessCondition {
                    text: Some("ok".to_owned()),
                    header: header("no"),
                    ..none()
                },
                "ok",
                Err(Unmet::Header),
            ),
        ];
        for (condition, body, expected) in cases {
            assert_eq!(
                check(&condition, 200, body),
                expected,
                "{condition:?} on {body}"
            );
        }
    }
}
