//! What a destination sends for a record: its bytes as they are, or what templates make of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use minijinja::value::Value;

use crate::delivery::DeliveryId;
use crate::record::Record;

use super::mailbox::Mailbox;
use super::options::{ReadFormat, ReadOptions, RuleOptions};
use super::reading::Reading;
use super::template::{self, RenderError, Template};

/// What a template may name.
pub const TEMPLATE_NAMES: &[&str] = &[
    "value",
    "key",
    "topic",
    "partition",
    "offset",
    "timestamp",
    "headers",
    "type",
    "id",
    "rule",
    "attempt",
];
/// What the template of a bridge's request may name.
pub const BRIDGE_NAMES: &[&str] = &["from", "to", "subject", "text", "html", "id"];

/// What a destination sends, or what a rule has in its stead; what is not set is the record's bytes, or the destination's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContentOptions {
    /// The body of a webhook.
    pub body: Option<Template>,
    /// Headers of a webhook, by their names in small letters.
    pub headers: BTreeMap<String, Template>,
    /// The subject of a mail.
    pub subject: Option<Template>,
    /// The text of a mail.
    pub text: Option<Template>,
    /// The text of a mail in HTML.
    pub html: Option<Template>,
    /// Where a mail goes; only a destination has it, and then it sends mails and no bodies.
    pub envelope: Option<Envelope>,
}

/// Who a mail is from and to, and what carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The sender.
    pub from: Template,
    /// The recipients. One that is rendered as nothing is left out.
    pub to: Vec<Template>,
    /// Makes the body of the bridge's request.
    pub request: Template,
}

/// What goes out for one delivery.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The body.
    pub body: Bytes,
    /// Headers made from the record. Whether HTTP can carry them is not looked at here.
    pub headers: Vec<(String, String)>,
}

/// Makes what one destination sends.
#[derive(Debug, Clone)]
pub struct Renderer {
    content: ContentOptions,
    /// For the rules that have something in its stead, both laid over each other.
    by_rule: BTreeMap<Arc<str>, ContentOptions>,
    read: ReadOptions,
}

impl ContentOptions {
    fn under(&self, rule: &Self) -> Self {
        let own = |own: &Option<Template>, of_rule: &Option<Template>| {
            of_rule.clone().or_else(|| own.clone())
        };
        let mut headers = self.headers.clone();
        headers.extend(rule.headers.clone());
        Self {
            body: own(&self.body, &rule.body),
            headers,
            subject: own(&self.subject, &rule.subject),
            text: own(&self.text, &rule.text),
            html: own(&self.html, &rule.html),
            envelope: self.envelope.clone(),
        }
    }

    /// The templates that look at the record.
    fn templates(&self) -> impl Iterator<Item = &Template> {
        let envelope = self.envelope.iter();
        let single = [&self.body, &self.subject, &self.text, &self.html];
        single
            .into_iter()
            .flatten()
            .chain(self.headers.values())
            .chain(envelope.flat_map(|envelope| envelope.to.iter().chain([&envelope.from])))
    }
}

impl Renderer {
    /// For a destination that sends `content`, and the rules that deliver to it.
    #[must_use]
    pub fn new<'a>(
        content: ContentOptions,
        rules: impl IntoIterator<Item = &'a RuleOptions>,
        read: ReadOptions,
    ) -> Self {
        let overrides = rules
            .into_iter()
            .filter(|rule| rule.content != ContentOptions::default());
        let by_rule = overrides
            .map(|rule| (Arc::clone(&rule.name), content.under(&rule.content)))
            .collect();
        Self {
            content,
            by_rule,
            read,
        }
    }

    /// What goes out for `record`, which `rule` took, on attempt number `attempt`; `payload` where no template says otherwise.
    ///
    /// # Errors
    /// When it cannot be made from this record.
    pub fn render(
        &self,
        record: &Record,
        payload: Bytes,
        rule: &str,
        id: DeliveryId,
        attempt: u32,
    ) -> Result<Rendered, RenderError> {
        let content = self.by_rule.get(rule).unwrap_or(&self.content);
        if content.body.is_none() && content.headers.is_empty() && content.envelope.is_none() {
            let (body, headers) = (payload, Vec::new());
            return Ok(Rendered { body, headers });
        }
        let view = self.view(content, record, rule, id, attempt)?;
        if let Some(envelope) = &content.envelope {
            let body = Bytes::from(mail(content, envelope, &view, id)?);
            let headers = Vec::new();
            return Ok(Rendered { body, headers });
        }
        let body = match &content.body {
            Some(body) => Bytes::from(render("body", body, &view)?),
            None => payload,
        };
        let headers = content.headers.iter().map(|(name, template)| {
            let text = render(&format!("header {name}"), template, &view)?;
            Ok((name.clone(), text))
        });
        let headers = headers.collect::<Result<_, RenderError>>()?;
        Ok(Rendered { body, headers })
    }

    /// What the body's template makes of a record before it is anybody's delivery.
    pub(super) fn text(&self, record: &Record, rule: &str) -> Result<Bytes, RenderError> {
        let Some(body) = &self.content.body else {
            return Ok(Bytes::new());
        };
        let view = self.view(&self.content, record, rule, DeliveryId([0; 16]), 1)?;
        render("order", body, &view).map(Bytes::from)
    }

    /// What the templates of `content` see: only what one of them names.
    fn view(
        &self,
        content: &ContentOptions,
        record: &Record,
        rule: &str,
        id: DeliveryId,
        attempt: u32,
    ) -> Result<Value, RenderError> {
        let named = |name: &&&str| content.templates().any(|template| template.uses(name));
        let mut view = Vec::new();
        for name in TEMPLATE_NAMES.iter().filter(named) {
            let value = match *name {
                "value" => {
                    view.extend(self.value(record)?);
                    continue;
                }
                "key" => key(record),
                "topic" => Value::from(&*record.topic),
                "partition" => Value::from(record.partition),
                "offset" => Value::from(record.offset),
                "timestamp" => timestamp(record),
                "headers" => headers(record),
                "type" => Value::from(self.kind(record)?),
                "id" => Value::from(id.to_string()),
                "rule" => Value::from(rule),
                "attempt" => Value::from(attempt),
                _ => continue,
            };
            view.push((*name, value));
        }
        Ok(Value::from_pairs(view))
    }

    /// The value as a template sees it: JSON, or text where the file says that values are bytes. Null when it is null or empty.
    fn value(&self, record: &Record) -> Result<Vec<(&'static str, Value)>, RenderError> {
        let bytes = record.value.as_deref().filter(|bytes| !bytes.is_empty());
        match self.read.format {
            ReadFormat::Json | ReadFormat::CloudEvents | ReadFormat::ConfluentJson => {
                let reading = Reading::new(record, &self.read);
                let value = reading.value().map_err(|why| RenderError(why.to_owned()))?;
                Ok(template::context("value", value))
            }
            ReadFormat::Bytes => Ok(vec![("value", optional_text(bytes)?)]),
        }
    }

    fn kind(&self, record: &Record) -> Result<String, RenderError> {
        let reading = Reading::new(record, &self.read);
        let kind = reading.kind().map_err(|why| RenderError(why.to_owned()))?;
        Ok(kind.to_owned())
    }
}

fn render(what: &str, template: &Template, view: &Value) -> Result<String, RenderError> {
    let rendered = template.render(view);
    rendered.map_err(|RenderError(why)| RenderError(format!("{what}: {why}")))
}

/// As text; in base64 where it is none, as keys are written elsewhere. Null where there is none.
fn key(record: &Record) -> Value {
    let text = |key: &Bytes| match std::str::from_utf8(key) {
        Ok(text) => Value::from(text),
        Err(_) => Value::from(STANDARD.encode(key)),
    };
    record.key.as_ref().map_or(Value::from(()), text)
}

fn optional_text(bytes: Option<&[u8]>) -> Result<Value, RenderError> {
    let Some(bytes) = bytes else {
        return Ok(Value::from(()));
    };
    let text = std::str::from_utf8(bytes);
    text.map(Value::from)
        .map_err(|_| RenderError("the value is not UTF-8 text".to_owned()))
}

/// As RFC 3339 writes it, in UTC; null in a record without one.
fn timestamp(record: &Record) -> Value {
    let time = record
        .timestamp
        .and_then(|time| jiff::Timestamp::from_millisecond(time.0).ok());
    time.map_or(Value::from(()), |time| Value::from(format!("{time:.3}")))
}

/// By name, the last one of a name; those that are not text are left out.
fn headers(record: &Record) -> Value {
    let text = |bytes: &Bytes| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let pairs = record
        .headers
        .iter()
        .filter_map(|header| Some((text(&header.name)?, text(header.value.as_ref()?)?)));
    Value::from_pairs(pairs.collect::<BTreeMap<_, _>>())
}

/// The body of the request that asks a bridge to send a mail.
fn mail(
    content: &ContentOptions,
    envelope: &Envelope,
    view: &Value,
    id: DeliveryId,
) -> Result<String, RenderError> {
    let mailbox = |what: &str, text: &str| {
        Mailbox::parse(text).ok_or_else(|| RenderError(format!("{what}: is not a mail address")))
    };
    let from = mailbox("from", &render("from", &envelope.from, view)?)?;
    let mut to: Vec<Mailbox> = Vec::new();
    for template in &envelope.to {
        let text = render("to", template, view)?;
        if !text.trim().is_empty() {
            let next = mailbox("to", &text)?;
            if !to.iter().any(|other| other.is_same(&next)) {
                to.push(next);
            }
        }
    }
    if to.is_empty() {
        return Err(RenderError("to: names no recipient".to_owned()));
    }
    let optional = |what: &str, template: &Option<Template>| match template {
        Some(template) => render(what, template, view).map(Some),
        None => Ok(None),
    };
    // A line end in a subject would end its header line in the mail.
    let subject = optional("subject", &content.subject)?.unwrap_or_default();
    let subject = subject.replace(|c: char| c.is_control(), " ");
    let mail = [
        ("from", from.view()),
        ("to", to.iter().map(Mailbox::view).collect()),
        ("subject", Value::from(subject.trim())),
        ("text", Value::from(optional("text", &content.text)?)),
        ("html", Value::from(optional("html", &content.html)?)),
        ("id", Value::from(id.to_string())),
    ];
    render(
        "the bridge's request",
        &envelope.request,
        &Value::from_pairs(mail),
    )
}

#[cfg(test)]
mod tests;
