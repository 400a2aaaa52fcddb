//! A proxy between us and a receiver.

use std::fmt;

use reqwest::Proxy;

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

    /// What a client goes through: by CONNECT to a receiver behind TLS, else by handing the proxy the whole request.
    pub(super) fn for_client(&self) -> Result<Proxy, reqwest::Error> {
        let proxy = Proxy::all(self.url.as_url().clone())?;
        Ok(match &self.login {
            Some((name, password)) => proxy.basic_auth(name, password),
            None => proxy,
        })
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
