//! The way out of a lane: from what the rules make of a record to what the sender sends.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::config::{Config, DestinationConfig};
use crate::delivery::Attempt;
use crate::descriptors;
use crate::lane::{RenderErrorPolicy, Send};
use crate::rules::{ReadFormat, Renderer, RuleOptions, Sequence};
use crate::send::{Content, Method, SystemTrust, Webhook};

use super::RelayError;

/// What one destination's requests are made with.
pub(crate) struct Outlet {
    pub(crate) webhook: Webhook,
    pub(crate) renderer: Renderer,
    /// In which order a record stands, where the file wants one.
    pub(crate) sequence: Option<Sequence>,
    /// Whether a record for which nothing can be sent is dropped; else it becomes a dead letter.
    pub(crate) drops: bool,
}

impl Outlet {
    /// What is sent for this record, made once for each attempt; else why nothing can be. `payload` is what goes out where no template
    /// says otherwise.
    pub(crate) fn content(&self, send: &Send, payload: Bytes) -> Result<Content, String> {
        let Send {
            id,
            record,
            rule,
            attempt,
            ..
        } = send;
        let rendered = self
            .renderer
            .render(record, payload, rule, *id, *attempt)
            .map_err(|error| error.to_string())?;
        let mut content = Content::new(rendered.body);
        for (name, value) in &rendered.headers {
            content
                .set_header(name, value)
                .map_err(|error| format!("header {name}: {error}"))?;
        }
        Ok(content)
    }

    /// Makes the attempt and says how it ended.
    pub(crate) async fn attempt(&self, send: &Send, content: &Content, now: Timestamp) -> Attempt {
        let Send {
            id,
            record,
            attempt,
            ..
        } = send;
        let make = || self.webhook.request(record, *id, *attempt, content, now);
        self.webhook.attempt(make, now).await
    }

    /// Asks the receiver for nothing (HEAD), over the client of delivery and with its headers: what ends as an answer was resolved, connected
    /// to and trusted. Templates are left out, for there is no record; a signature is one of an empty body.
    pub(crate) async fn knock(&self, send: &Send, now: Timestamp) -> Attempt {
        let make = || {
            let empty = Content::default();
            let mut request =
                self.webhook
                    .request(&send.record, send.id, send.attempt, &empty, now);
            request.method = Method::HEAD;
            request
        };
        self.webhook.attempt(make, now).await
    }
}

/// The way out of the lane of this destination. What the system trusts is read once for all that are made together.
pub(crate) fn outlet(
    config: &Config,
    destination: &DestinationConfig,
    trust: &SystemTrust,
) -> Result<Arc<Outlet>, RelayError> {
    let content_type = match config.read.format {
        ReadFormat::Json | ReadFormat::CloudEvents | ReadFormat::ConfluentJson => {
            "application/json"
        }
        ReadFormat::Bytes => "application/octet-stream",
    };
    let connections = descriptors::share(config.lanes()).map_or(usize::MAX, |share| share.kept);
    let webhook = Webhook::new(
        destination.webhook.clone(),
        trust,
        content_type,
        destination.excerpt_bytes,
        connections,
    );
    let webhook = webhook.map_err(|source| RelayError::Webhook {
        destination: destination.name.to_string(),
        source,
    });
    let content = destination.content.clone();
    let name = &*destination.name;
    let delivers_here = |rule: &&RuleOptions| rule.deliver_to.iter().any(|to| to == name);
    let rules = config.rules.iter().filter(delivers_here);
    Ok(Arc::new(Outlet {
        webhook: webhook?,
        renderer: Renderer::new(content, rules, config.read.clone()),
        sequence: destination
            .sequence
            .clone()
            .map(|options| Sequence::new(options, &config.read)),
        drops: destination.lane.on_render_error == RenderErrorPolicy::Drop,
    }))
}
