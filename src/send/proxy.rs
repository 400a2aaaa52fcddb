//! A proxy between us and a receiver.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};

use super::EndpointUrl;

/// One `webhook.proxy`, already checked. `Debug` shows neither name nor password.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyOptions {
    url: EndpointUrl,
    login: Option<(String, String)>,
}

impl ProxyOptions {
    /// The proxy at this address, and the name and password that it wants, if any.
    #[must_use]
    pub fn new(url: EndpointUrl, login: Option<(String, String)>) -> Self {
        Self { url, login }
    }

    /// Where it is.
    pub(super) fn uri(&self) -> &Uri {
        self.url.as_uri()
    }

    /// What it is shown of the name and the password (RFC 7617), if it wants any.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        let (name, password) = self.login.as_ref()?;
        let login = STANDARD.encode(format!("{name}:{password}"));
        // Cannot fail: the alphabet is ASCII.
        let mut value = HeaderValue::try_from(format!("Basic {login}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// What of it is not to be shown to anybody.
    pub(super) fn login(&self) -> Option<&(String, String)> {
        self.login.as_ref()
    }
}

impl fmt::Debug for ProxyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProxyOptions").field(&self.url).finish()
    }
}
