//! `[destinations.NAME.webhook]`: the sender.

use std::time::Duration;

use super::reader::{Reader, Value};
use super::refusal::{Refusal, nearest};
use super::secret::{Secret, string_or_secret};
use super::{email, signing, success, template, tls};
use crate::delivery::Outcome;
use crate::rules::{ContentOptions, Escape, Template};
use crate::send::{
    EndpointUrl, Method, ProxyOptions, Selector, WebhookOptions, header, header_name,
};

const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// How a destination sends, and what.
pub(super) struct Sender {
    pub(super) webhook: WebhookOptions,
    pub(super) content: ContentOptions,
}

/// The words for what an answer means.
pub(super) const OUTCOMES: [(&str, Outcome); 7] = [
    ("delivered", Outcome::Delivered),
    ("retry", Outcome::Retry),
    ("push_back", Outcome::PushBack),
    ("reject", Outcome::Reject),
    ("endpoint_fault", Outcome::EndpointFault),
    ("gone", Outcome::Gone),
    ("drop", Outcome::Dropped),
];

/// The sender of the destination in `reader`; `None` when it has none, or none with an address.
pub(super) fn read(reader: &Reader<'_>, name: &str) -> Option<Sender> {
    let (section, mails) = (reader.take("webhook"), reader.take("email"));
    if let (Some(_), Some(mails)) = (&section, &mails) {
        let hint = "make two destinations of it, and name both in deliver_to";
        mails.error_at_key(format!("`{name}` has a webhook and mails"), hint);
    }
    let Some(section) = section else {
        if let Some(mails) = mails {
            return email::read(&mails);
        }
        let meant = reader.has("url") || reader.mistyped("webhook") || reader.mistyped("email");
        if !meant {
            let message = format!("the destination `{name}` has neither a webhook nor an email");
            let hint =
                format!("[destinations.{name}.webhook]\nurl = \"http://localhost:8000/hooks\"");
            reader.error_at_header(&format!("destinations.{name}.webhook"), message, &hint);
        }
        return None;
    };
    let outside = reader.has("url");
    let reader = section.table()?;
    let url = address(&reader, outside);
    // What else is wrong is said even when there is no address, and then goes nowhere.
    let mut options = WebhookOptions::new(url.clone().unwrap_or_else(placeholder));
    let methods = [
        ("POST", Method::POST),
        ("PUT", Method::PUT),
        ("PATCH", Method::PATCH),
    ];
    options.method = reader.read("method", Method::POST, |value| value.one_of(&methods, &[]));
    let mut content = ContentOptions::default();
    if let Some(value) = reader.take("body") {
        content.body = template::template(&value, Escape::Nothing);
    }
    if let Some(headers) = reader.take("headers").and_then(|value| value.table()) {
        headers
            .entries()
            .for_each(|value| set_header(&value, &mut options, &mut content));
    }
    if let Some(outcomes) = reader.take("outcomes").and_then(|value| value.table()) {
        outcomes
            .entries()
            .for_each(|value| set_outcome(&value, &mut options));
    }
    if let Some(value) = reader.take("pass_headers") {
        pass_headers(&value, &mut options);
    }
    options.signing = signing::read(&reader);
    options.success = success::read(&reader);
    options.tls = tls::read(&reader, url.as_ref());
    options.proxy = proxy(&reader);
    reader.section("timeouts", |reader| timeouts(reader, &mut options));
    let range = 1..=64 << 20;
    options.response_max_bytes = reader.read("response_max", options.response_max_bytes, |value| {
        value.size(range)
    });
    reader.finish();
    url.map(|_| Sender {
        webhook: options,
        content,
    })
}

/// Stands in for an address that is none, so that the rest is read.
pub(super) fn placeholder() -> EndpointUrl {
    "http://nowhere.invalid".parse().expect("a literal address")
}

/// The address. When it stands `elsewhere`, that is what is said about it.
fn address(reader: &Reader<'_>, elsewhere: bool) -> Option<EndpointUrl> {
    if elsewhere || reader.has("url_from") {
        return reader.take("url").and_then(|value| url(&value));
    }
    reader
        .require("url", "write url = \"http://localhost:8000/hooks\"")
        .and_then(|value| url(&value))
}

pub(super) fn url(value: &Value<'_>) -> Option<EndpointUrl> {
    let text = string_or_secret(value).map(Secret::expose)?;
    let parsed = text.parse::<EndpointUrl>();
    value.accept(parsed.map_err(|error| Refusal::new(error.to_string(), error.hint())))
}

/// What requests go through.
fn proxy(reader: &Reader<'_>) -> Option<ProxyOptions> {
    let reader = reader.take("proxy")?.table()?;
    let address = reader.require("url", "write url = \"http://proxy.example:3128\"");
    let found = address.as_ref().and_then(url);
    if let (Some(value), Some(found)) = (&address, &found)
        && (found.as_url().path() != "/" || found.as_url().query().is_some())
    {
        value.error(
            "is a proxy with a path",
            "write scheme, host and port alone, like \"http://proxy.example:3128\"",
        );
    }
    let (name, password) = (reader.take("username"), reader.take("password"));
    reader.finish();
    let login = match (name, password) {
        (None, None) => None,
        (Some(name), Some(password)) => {
            let text = |value: &Value<'_>| string_or_secret(value).map(Secret::expose);
            let (name, password) = (text(&name), text(&password));
            Some((name?, password?))
        }
        (Some(value), None) => {
            value.error_at_key(
                "`username` has no `password` beside it",
                "write both, or neither",
            );
            None
        }
        (None, Some(value)) => {
            value.error_at_key(
                "`password` has no `username` beside it",
                "write both, or neither",
            );
            None
        }
    };
    Some(ProxyOptions::new(found?, login))
}

fn set_header(value: &Value<'_>, options: &mut WebhookOptions, content: &mut ContentOptions) {
    let Some(text) = value.text() else { return };
    if Template::is_in(&text) {
        return template::header(value, content);
    }
    match header(value.key, &text) {
        Ok((name, header)) => {
            if options.headers.insert(name, header).is_some() {
                let message = format!("the header `{}` is set twice", value.key);
                value.error_at_key(message, "capitals make no difference; keep one of them");
            }
        }
        Err(error) => value.error_at_key(format!("`{}` {error}", value.key), error.hint()),
    }
}

fn pass_headers(value: &Value<'_>, options: &mut WebhookOptions) {
    for (entry, text) in value.texts("[\"traceparent\"]").unwrap_or_default() {
        match header_name(&text) {
            Ok(name) if options.pass_headers.contains(&name) => {
                entry.error(
                    "stands there twice",
                    "capitals make no difference; keep one of them",
                );
            }
            Ok(name) => options.pass_headers.push(name),
            Err(error) => entry.error(format!("names `{text}`, which {error}"), error.hint()),
        }
    }
}

fn set_outcome(value: &Value<'_>, options: &mut WebhookOptions) {
    let outcome = value.one_of(&OUTCOMES, &[]);
    let selector = match value.key.parse::<Selector>() {
        Ok(selector) => selector,
        Err(error) => {
            let all =
                "write a status (404), a range (420-429), a class (4xx), tls, timeout or connect";
            let words = ["2xx", "3xx", "4xx", "5xx", "tls", "timeout", "connect"];
            let wordy = value.key.contains(|c: char| c.is_ascii_alphabetic());
            let near = nearest(value.key, words).filter(|_| wordy);
            let hint = near.map_or(all.to_owned(), |near| format!("did you mean `{near}`?"));
            value.error_at_key(format!("`{}` {error}", value.key), hint);
            return;
        }
    };
    let Some(outcome) = outcome else { return };
    if let Err(overlap) = options.outcomes.set(selector, outcome) {
        let hint = "let the ranges end where the next begins; a single status wins over a range";
        value.error_at_key(format!("`{}` {overlap}", value.key), hint);
    }
}

fn timeouts(reader: &Reader<'_>, options: &mut WebhookOptions) {
    let range = Duration::from_millis(1)..=TIMEOUT_MAX;
    let connect = reader.take("connect");
    if let Some(value) = &connect {
        options.connect_timeout = value
            .duration(range.clone())
            .unwrap_or(options.connect_timeout);
    }
    options.total_timeout = reader.read("total", options.total_timeout, |value| {
        value.duration(range)
    });
    if let Some(value) = connect.filter(|_| options.connect_timeout > options.total_timeout) {
        let hint =
            "the total time counts from the start of the connection: lower connect, or raise total";
        value.warning("is longer than `total` and never reached", hint);
    }
}
