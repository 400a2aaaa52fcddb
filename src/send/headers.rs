//! The headers of a request that the file may set.

use http::header::{HeaderName, HeaderValue};
use thiserror::Error;

/// Set by the HTTP client or by Postrider itself.
const RESERVED: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Each of these begins the names of headers that Postrider sets itself.
const RESERVED_PREFIXES: &[&str] = &["postrider-", "webhook-"];

/// Why the file cannot set a header. Says nothing of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Not a header name.
    #[error("is not a header name")]
    Name,
    /// One that Postrider sets.
    #[error("is a header that Postrider sets itself")]
    Reserved,
    /// Not a header value.
    #[error("has a character in its value that no header can carry")]
    Value,
}

impl HeaderError {
    /// What to do about it.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Name => "a header name is letters, digits and dashes, like \"x-source\"",
            Self::Reserved => "take it out",
            Self::Value => "a header value is printable ASCII on one line",
        }
    }
}

/// The header `name: value`, its value marked sensitive so that no `Debug` shows it.
///
/// # Errors
///
/// When one of the two cannot be sent, or the header is not the file's to set.
pub fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), HeaderError> {
    let name = header_name(name)?;
    if value.chars().any(|c| !c.is_ascii() || c.is_ascii_control()) {
        return Err(HeaderError::Value);
    }
    let mut value = HeaderValue::try_from(value).map_err(|_| HeaderError::Value)?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// The name of a header that is the file's to set.
///
/// # Errors
///
/// When it is none, or not the file's.
pub fn header_name(name: &str) -> Result<HeaderName, HeaderError> {
    let name = HeaderName::try_from(name).map_err(|_| HeaderError::Name)?;
    let prefixed = RESERVED_PREFIXES
        .iter()
        .any(|prefix| name.as_str().starts_with(prefix));
    if prefixed || RESERVED.contains(&name.as_str()) {
        return Err(HeaderError::Reserved);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_checked() {
        assert_eq!(header("a b", "x").unwrap_err(), HeaderError::Name);
        assert_eq!(header("Host", "x").unwrap_err(), HeaderError::Reserved);
        assert_eq!(
            header("webhook-id", "x").unwrap_err(),
            HeaderError::Reserved
        );
        assert_eq!(header("x", "a\r\nb: c").unwrap_err(), HeaderError::Value);
        let (name, value) = header("Authorization", "Bearer secret").unwrap();
        assert_eq!(name, "authorization");
        assert!(!format!("{value:?}").contains("secret"));
    }
}
