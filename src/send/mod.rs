//! Sending: one attempt at a webhook, and how its end is judged.
//!
//! [`request`] makes a request and [`sign`] signs it, with [`key_pair`] where the receiver has a public key; [`webhook`] sends it through [`client`], over the connections that [`connector`] makes, with what [`tls_options`] says of TLS; [`outcomes`] is the table of what an answer means,
//! [`success`] what must hold beyond the status; [`retry_after`] reads what the receiver asks for.

mod client;
mod connector;
mod failure;
mod headers;
mod key_pair;
mod options;
mod outcomes;
mod proxy;
mod request;
mod retry_after;
mod scrub;
mod sign;
mod success;
mod tls;
mod tls_options;
mod url;
mod webhook;

pub use headers::{HeaderError, header, header_name};
pub use http::Method;
pub use http::header::HeaderName;
pub use key_pair::{PrivateKey, PublicKey};
pub use options::WebhookOptions;
pub use outcomes::{Failure, OutcomeTable, Overlap, Selector, SelectorError};
pub use proxy::ProxyOptions;
pub use request::{Content, Request};
pub use sign::{SigningOptions, SigningScheme, SigningSecret, SigningSecretError};
pub use success::SuccessCondition;
pub use tls::SystemTrust;
pub use tls_options::{Certificates, ClientKey, PemError, TlsError, TlsOptions};
pub use url::{EndpointUrl, UrlError};
pub use webhook::{Webhook, WebhookError};
