//! The address of an endpoint, which is a secret behind its host.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use sha2::{Digest, Sha256};
use thiserror::Error;
use url::Url;

/// An `http` or `https` URL. A path or a query often is the secret itself, so `Debug` and `Display` show scheme, host and port alone.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl {
    url: Url,
    /// The same, as requests carry it.
    uri: Uri,
}

/// Why a text cannot be the address of an endpoint. Says nothing of the text itself.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UrlError {
    /// Neither `http://` nor `https://`.
    #[error("does not begin with http:// or https://")]
    Scheme,
    /// Nothing between `://` and the path.
    #[error("has no host")]
    Host,
    /// White space would be taken out silently.
    #[error("has white space or a control character in it")]
    Space,
    /// A template, which this version would send as it is.
    #[error("has a template in it, which is not supported in this version")]
    Template,
    /// `user:password@`.
    #[error("has a user name or a password in it")]
    UserInfo,
    /// A fragment is never sent.
    #[error("has a fragment (`#…`), which is never sent to a server")]
    Fragment,
    /// What the URL standard has against it.
    #[error("is not a URL: {0}")]
    Invalid(String),
}

impl UrlError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Scheme => "write the whole address, like \"https://example.com/hooks\"",
            Self::Host => {
                "write the host after the two slashes, like \"https://example.com/hooks\""
            }
            Self::Space => "take it out, or write a space as %20",
            Self::Template => "write the address out; one destination has one fixed address",
            Self::UserInfo => {
                "take it out of the address; until `auth` is supported, send it as a header:\n\
                 headers = { authorization = \"Basic ${CREDENTIALS}\" }"
            }
            Self::Fragment => "take out the `#` and what follows it, or write the `#` as %23",
            Self::Invalid(_) => "write the whole address, like \"https://example.com:8443/hooks\"",
        }
    }
}

impl EndpointUrl {
    /// The whole URL, for sending. Never for a log.
    #[must_use]
    pub fn as_url(&self) -> &Url {
        &self.url
    }

    /// The same, as requests carry it.
    #[must_use]
    pub fn as_uri(&self) -> &Uri {
        &self.uri
    }

    /// Tells this address from another one, and gives it away to nobody who does not know it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let hash = Sha256::digest(self.url.as_str());
        hash.iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The host, and the port where it is not the usual one: what an endpoint is called.
    #[must_use]
    pub fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }
}

impl FromStr for EndpointUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let lower = text.to_ascii_lowercase();
        let Some(rest) = lower
            .strip_prefix("http://")
            .or_else(|| lower.strip_prefix("https://"))
        else {
            return Err(UrlError::Scheme);
        };
        if text.contains("{{") {
            return Err(UrlError::Template);
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(UrlError::Space);
        }
        // The URL standard would take the first part of the path for the host.
        if rest.is_empty() || rest.starts_with(['/', '\\', '?', '#', ':']) {
            return Err(UrlError::Host);
        }
        let url = Url::parse(text).map_err(|error| UrlError::Invalid(error.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(UrlError::Fragment);
        }
        let uri =
            Uri::try_from(url.as_str()).map_err(|error| UrlError::Invalid(error.to_string()))?;
        Ok(Self { url, uri })
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.url.scheme(), self.host())
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_never_shown() {
        let url: EndpointUrl = "https://Hooks.example:8443/T0/secret?q=secret"
            .parse()
            .unwrap();
        assert_eq!(
            format!("{url} {url:?}"),
            "https://hooks.example:8443 https://hooks.example:8443"
        );
        assert_eq!(url.as_url().path(), "/T0/secret");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let error = |text: &str| text.parse::<EndpointUrl>().unwrap_err();
        assert_eq!(error("localhost:8000/x"), UrlError::Scheme);
        assert_eq!(error("ftp://example.com"), UrlError::Scheme);
        assert_eq!(error("http:///path"), UrlError::Host);
        assert_eq!(error("http://"), UrlError::Host);
        assert_eq!(error("http://exa mple"), UrlError::Space);
        assert_eq!(error("http://e/{{ type }}"), UrlError::Template);
        assert_eq!(error("http://u:p@e/"), UrlError::UserInfo);
        assert_eq!(error("http://e/#x"), UrlError::Fragment);
        assert!(matches!(error("http://e:99999/"), UrlError::Invalid(_)));
        let long = format!("http://e/{}", "x".repeat(70_000));
        assert!(
            matches!(error(&long), UrlError::Invalid(_)),
            "HTTP carries no such URL"
        );
    }
}
