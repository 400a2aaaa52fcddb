//! Sending: one attempt at a webhook, and how its end is judged.
//!
//! [`webhook`] makes the request; [`outcomes`] is the table of what an answer means; [`retry_after`] reads what the receiver asks for.

mod headers;
mod options;
mod outcomes;
mod retry_after;
mod url;
mod webhook;

pub use headers::{HeaderError, header};
pub use options::WebhookOptions;
pub use outcomes::{Failure, OutcomeTable, Overlap, Selector, SelectorError};
pub use reqwest::Method;
pub use url::{EndpointUrl, UrlError};
pub use webhook::{Webhook, WebhookError};
