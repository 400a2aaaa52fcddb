//! The `match` of a rule: what the fields of a value must be.

use super::json::{Json, Number};

/// What one field must be. A field that is null counts as missing, as it does in a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Where the field is: a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What it must be.
    pub test: Test,
}

/// What a field must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// There, or not there.
    Present(bool),
    /// One of these.
    Is {
        /// The values; at least one.
        values: Vec<Scalar>,
        /// Whether a number and the same number as text are one.
        lenient: bool,
    },
}

/// A value that a field can be compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A truth value.
    Boolean(bool),
}

impl Condition {
    /// The pointer of a key in `match`: one that begins with a slash is a pointer, any other is the name of a field at the top.
    #[must_use]
    pub fn pointer_of(key: &str) -> String {
        if key.starts_with('/') {
            return key.to_owned();
        }
        format!("/{}", key.replace('~', "~0").replace('/', "~1"))
    }

    pub(super) fn holds(&self, value: &Json) -> bool {
        let field = value.pointer(&self.pointer);
        let field = field.filter(|field| **field != Json::Null);
        match &self.test {
            Test::Present(present) => field.is_some() == *present,
            Test::Is { values, lenient } => {
                field.is_some_and(|field| values.iter().any(|value| value.is(field, *lenient)))
            }
        }
    }
}

impl Scalar {
    /// Lists and objects are never equal to anything.
    fn is(&self, field: &Json, lenient: bool) -> bool {
        match (self, field) {
            (Self::Text(text), Json::Text(field)) => text == field,
            (Self::Boolean(flag), Json::Boolean(field)) => flag == field,
            // JSON has one kind of number: 7.0 is 7.
            (Self::Integer(number), Json::Number(field)) => Number::from(*number) == *field,
            (Self::Integer(number), Json::Text(field)) => lenient && *field == number.to_string(),
            (Self::Text(text), Json::Number(field)) => {
                let number = text.parse().ok().filter(|n: &i64| n.to_string() == *text);
                lenient && number.is_some_and(|number| Number::from(number) == *field)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::DuplicateKeys;
    use super::*;

    fn holds(key: &str, test: Test, value: &str) -> bool {
        let condition = Condition {
            pointer: Condition::pointer_of(key),
            test,
        };
        condition.holds(&Json::parse(value.as_bytes(), DuplicateKeys::Last).unwrap())
    }

    #[test]
    fn present_is_there_and_not_null() {
        for (value, present) in [
            (r#"{"owner": "a@b"}"#, true),
            (r#"{"owner": ""}"#, true),
            (r#"{"owner": []}"#, true),
            (r#"{"owner": false}"#, true),
            (r#"{"owner": null}"#, false),
            ("{}", false),
            ("[]", false),
            ("7", false),
        ] {
            assert_eq!(
                holds("owner", Test::Present(true), value),
                present,
                "{value}"
            );
            assert_eq!(
                holds("owner", Test::Present(false), value),
                !present,
                "{value}"
            );
        }
    }

    #[test]
    fn keys_are_fields_at_the_top_or_pointers() {
        let there = |key, value| holds(key, Test::Present(true), value);
        assert!(there("/a/b/0", r#"{"a": {"b": [1]}}"#));
        assert!(there("a/b", r#"{"a/b": 1}"#));
        assert!(there("a~1b", r#"{"a~1b": 1}"#));
        assert!(there("a.b", r#"{"a.b": 1}"#) && !there("a.b", r#"{"a": {"b": 1}}"#));
    }

    #[test]
    fn seven_and_the_text_seven_are_one_only_on_request() {
        let text = |text: &str| Scalar::Text(text.to_owned());
        // field, scalar, strict, lenient
        let rows = [
            ("7", Scalar::Integer(7), true, true),
            ("7.0", Scalar::Integer(7), true, true),
            ("7.5", Scalar::Integer(7), false, false),
            (r#""7""#, Scalar::Integer(7), false, true),
            (r#""07""#, Scalar::Integer(7), false, false),
            (r#"" 7""#, Scalar::Integer(7), false, false),
            ("7", text("7"), false, true),
            ("7", text("07"), false, false),
            ("7", text("+7"), false, false),
            (r#""7""#, text("7"), true, true),
            (r#""graph""#, text("graph"), true, true),
            (r#""Graph""#, text("graph"), false, false),
            ("true", Scalar::Boolean(true), true, true),
            (r#""true""#, Scalar::Boolean(true), false, false),
            ("1", Scalar::Boolean(true), false, false),
            ("null", text("null"), false, false),
            ("[7]", Scalar::Integer(7), false, false),
            (r#"{"a": 7}"#, Scalar::Integer(7), false, false),
            ("-7", Scalar::Integer(-7), true, true),
            (
                "9007199254740993",
                Scalar::Integer(9_007_199_254_740_993),
                true,
                true,
            ),
            (
                "9007199254740992",
                Scalar::Integer(9_007_199_254_740_993),
                false,
                false,
            ),
            ("18446744073709551615", Scalar::Integer(-1), false, false),
            ("1e300", Scalar::Integer(i64::MAX), false, false),
        ];
        for (field, scalar, strict, lenient) in rows {
            let test = |lenient| Test::Is {
                values: vec![Scalar::Text("other".to_owned()), scalar.clone()],
                lenient,
            };
            let value = format!(r#"{{"id": {field}}}"#);
            assert_eq!(
                holds("id", test(false), &value),
                strict,
                "{field} {scalar:?}"
            );
            assert_eq!(
                holds("id", test(true), &value),
                lenient,
                "{field} {scalar:?} lenient"
            );
        }
        let any = Test::Is {
            values: vec![Scalar::Integer(7)],
            lenient: true,
        };
        assert!(!holds("id", any, "{}"), "what is missing is nothing");
    }
}
