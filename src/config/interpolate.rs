//! `${VAR}`, `${VAR:-default}` and `$$` in the strings of the file. Only values are looked at, so what a variable holds can never
//! become a key or a second line of the file.

use super::refusal::Refusal;

/// `text` with its variables replaced. A `$` before anything but `{` and `$` stays what it is.
pub(super) fn interpolate(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Refusal> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some(inside) = after.strip_prefix('{') {
            let Some(end) = inside.find('}') else {
                return Err(Refusal::new(
                    "has a `${` that no `}` ends",
                    "write ${NAME} or ${NAME:-default}; a dollar sign that means itself is $$",
                ));
            };
            result.push_str(&variable(&inside[..end], environment)?);
            rest = &inside[end + 1..];
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    Ok(result)
}

fn variable(inside: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, Refusal> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    check_name(name)?;
    let value = environment(name);
    match (value, default) {
        // As in a shell: the default also stands in for an empty value.
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Refusal::new(
            format!("needs the environment variable `{name}`, which is not set"),
            format!("set it, or give a default: ${{{name}:-default}}"),
        )),
    }
}

/// Whether `name` can be the name of a variable.
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if begins
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        return Ok(());
    }
    Err(Refusal::new(
        "has something that is not the name of an environment variable",
        "write ${NAME} or ${NAME:-default} with letters, digits and underscores in NAME;\n\
         a dollar sign that means itself is $$",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, Refusal> {
        interpolate(text, &|name| match name {
            "HOST" => Some("kafka-1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn variables_are_replaced_once() {
        assert_eq!(read("${HOST}:9092").unwrap(), "kafka-1:9092");
        assert_eq!(read("${NONE:-a}${EMPTY:-b}${EMPTY}").unwrap(), "ab");
        assert_eq!(read("$$ $${HOST} $x$").unwrap(), "$ ${HOST} $x$");
        assert_eq!(read("${NONE:-$HOST}").unwrap(), "$HOST");
    }

    #[test]
    fn what_cannot_be_replaced_is_refused() {
        for text in [
            "${NONE}",
            "${",
            "${}",
            "${A B}",
            "${HOST:?message}",
            "${1A}",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
