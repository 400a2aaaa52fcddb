//! Sending: one attempt at a webhook, and how its end is judged.

mod headers;
mod options;
mod outcomes;
mod url;

pub use headers::{HeaderError, header};
pub use options::WebhookOptions;
pub use outcomes::{Failure, OutcomeTable, Overlap, Selector, SelectorError};
pub use reqwest::Method;
pub use url::{EndpointUrl, UrlError};
