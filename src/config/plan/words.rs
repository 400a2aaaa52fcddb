//! What has changed, in words: `rate 50/s -> 80/s`. Of what may be a secret, only that it has.

use std::collections::BTreeSet;
use std::fmt::{Debug, Display};
use std::time::Duration;

use crate::config::units::{duration_text, size_text};
use crate::config::{Config, DestinationConfig};
use crate::kafka::StartAtOption;
use crate::lane::{BrakeOptions, BreakerOptions, LaneOptions, RateOptions, RateUnit, RetryOptions};
use crate::rules::ContentOptions;
use crate::send::WebhookOptions;

/// Collects changes.
struct Words<'a>(&'a mut Vec<String>);

impl Words<'_> {
    /// Both values, where they differ.
    fn shown<T: PartialEq, S: Display>(
        &mut self,
        key: &str,
        (old, new): (&T, &T),
        text: impl Fn(&T) -> S,
    ) {
        if old != new {
            let (old, new) = (text(old), text(new));
            self.0.push(format!("{key} {old} -> {new}"));
        }
    }

    fn number<T: PartialEq + Display>(&mut self, key: &str, old: T, new: T) {
        self.shown(key, (&old, &new), |value| value.to_string());
    }

    fn time(&mut self, key: &str, old: Duration, new: Duration) {
        self.shown(key, (&old, &new), |time| duration_text(*time));
    }

    fn size(&mut self, key: &str, old: usize, new: usize) {
        self.shown(key, (&old, &new), |size| size_text(*size as u64));
    }

    fn named<T: PartialEq + Debug>(&mut self, key: &str, old: &T, new: &T) {
        self.shown(key, (old, new), |value| format!("{value:?}").to_lowercase());
    }

    /// That it has changed, and nothing of what it is.
    fn hidden<T: PartialEq>(&mut self, what: &str, old: &T, new: &T) {
        if old != new {
            self.0.push(format!("{what} has changed"));
        }
    }
}

/// What everything begins anew for.
pub(super) fn everything(old: &Config, new: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let mut words = Words(&mut found);
    let (a, b) = (&old.kafka, &new.kafka);
    words.shown("brokers", (&a.brokers, &b.brokers), |all| all.join(","));
    words.number("prefix", &a.prefix, &b.prefix);
    words.shown("start_at", (&a.start_at, &b.start_at), start_at);
    words.named("on_records_lost", &a.on_records_lost, &b.on_records_lost);
    words.named("group_protocol", &a.group_protocol, &b.group_protocol);
    words.time("topic_refresh", a.topic_refresh, b.topic_refresh);
    words.hidden("owned_topics", &a.owned_topics, &b.owned_topics);
    let (before, now) = (&a.properties.0, &b.properties.0);
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    for name in names {
        words.hidden(name, &before.get(name), &now.get(name));
    }
    words.number("listen", old.admin.listen, new.admin.listen);
    words.hidden("socket", &old.admin.socket, &new.admin.socket);
    found
}

/// What holds for the process at once.
pub(super) fn process(old: &Config, new: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let mut words = Words(&mut found);
    words.size(
        "limits: window_bytes",
        old.window_bytes(),
        new.window_bytes(),
    );
    words.number("limits: in_flight", old.in_flight(), new.in_flight());
    words.time("limits: drain", old.limits.drain, new.limits.drain);
    words.shown("log: level", (&old.log.level, &new.log.level), |level| {
        level.to_string().to_lowercase()
    });
    let (before, now) = (&old.admin, &new.admin);
    words.hidden("admin: token", &before.token, &now.token);
    words.shown(
        "admin: allowed_hosts",
        (&before.allowed_hosts, &now.allowed_hosts),
        |hosts| format!("[{}]", hosts.join(", ")),
    );
    let names = |config: &Config| config.disabled.iter().cloned().collect::<BTreeSet<_>>();
    let (before, now) = (names(old), names(new));
    let disabled = now.difference(&before);
    found.extend(disabled.map(|name| format!("{name}: disabled in the file")));
    found
}

/// What has to wait for the next start of the process.
pub(super) fn next_start(old: &Config, new: &Config) -> Vec<String> {
    let mut found = Vec::new();
    Words(&mut found).named("log: format", &old.log.format, &new.log.format);
    found
}

/// What has changed of a destination, the order apart.
pub(super) fn destination(
    old: &DestinationConfig,
    new: &DestinationConfig,
    found: &mut Vec<String>,
) {
    let mut words = Words(found);
    words.time(
        "retention_warning",
        old.retention_warning,
        new.retention_warning,
    );
    words.size("dead_letters.excerpt", old.excerpt_bytes, new.excerpt_bytes);
    lane(&old.lane, &new.lane, &mut words);
    content(&old.content, &new.content, &mut words);
    webhook(&old.webhook, &new.webhook, &mut words);
}

fn lane(old: &LaneOptions, new: &LaneOptions, words: &mut Words<'_>) {
    // Whoever adds an option is asked for its words.
    let LaneOptions {
        concurrency,
        rate,
        window,
        retry,
        breaker,
        brake,
        max_age,
        on_render_error,
        expire_after,
        commit_interval,
        order: _,
    } = old;
    words.number("concurrency", *concurrency, new.concurrency);
    words.shown("rate", (rate, &new.rate), |rates| rates_text(rates));
    words.number("window.records", window.records, new.window.records);
    words.size("window.bytes", window.bytes, new.window.bytes);
    words.number("window.distance", window.distance, new.window.distance);
    retries(retry, &new.retry, words);
    breakers(breaker, &new.breaker, words);
    brakes(brake, &new.brake, words);
    words.time("max_age", *max_age, new.max_age);
    words.named("on_render_error", on_render_error, &new.on_render_error);
    words.shown("expire_after", (expire_after, &new.expire_after), |time| {
        time.map_or_else(|| "never".to_owned(), duration_text)
    });
    words.time("commit_interval", *commit_interval, new.commit_interval);
}

fn retries(old: &RetryOptions, new: &RetryOptions, words: &mut Words<'_>) {
    let schedule = (&old.schedule, &new.schedule);
    words.shown("retry.schedule", schedule, |delays| {
        let delays: Vec<String> = delays.iter().copied().map(duration_text).collect();
        format!("[{}]", delays.join(" "))
    });
    words.number("retry.jitter", old.jitter, new.jitter);
    words.time(
        "retry.retry_after_max",
        old.retry_after_max,
        new.retry_after_max,
    );
}

fn breakers(old: &BreakerOptions, new: &BreakerOptions, words: &mut Words<'_>) {
    words.time("breaker.window", old.window, new.window);
    words.number(
        "breaker.failure_ratio",
        old.failure_ratio,
        new.failure_ratio,
    );
    words.number("breaker.min_attempts", old.min_attempts, new.min_attempts);
    words.time(
        "breaker.probe_interval",
        old.probe_interval,
        new.probe_interval,
    );
    let most = (old.probe_interval_max, new.probe_interval_max);
    words.time("breaker.probe_interval_max", most.0, most.1);
}

fn brakes(old: &BrakeOptions, new: &BrakeOptions, words: &mut Words<'_>) {
    words.number("dead_letters.brake_rejected", old.rejected, new.rejected);
    words.number("dead_letters.brake_ratio", old.ratio, new.ratio);
    words.time("dead_letters.brake_window", old.window, new.window);
    words.named("dead_letters.brake", &old.mode, &new.mode);
}

fn content(old: &ContentOptions, new: &ContentOptions, words: &mut Words<'_>) {
    words.hidden("body", &old.body, &new.body);
    for name in old.headers.keys().chain(new.headers.keys()) {
        let what = format!("headers.{name}");
        if !words.0.iter().any(|said| said.starts_with(&what)) {
            words.hidden(&what, &old.headers.get(name), &new.headers.get(name));
        }
    }
    words.hidden("subject", &old.subject, &new.subject);
    words.hidden("text", &old.text, &new.text);
    words.hidden("html", &old.html, &new.html);
    words.hidden("who the mail is from and to", &old.envelope, &new.envelope);
}

fn webhook(old: &WebhookOptions, new: &WebhookOptions, words: &mut Words<'_>) {
    let WebhookOptions {
        url,
        method,
        headers,
        pass_headers,
        signing,
        success,
        tls,
        proxy,
        connect_timeout,
        total_timeout,
        response_max_bytes,
        outcomes,
    } = old;
    let origin = |url: &crate::send::EndpointUrl| {
        let scheme = url.as_url().scheme();
        format!("{scheme}://{}", url.host())
    };
    match (origin(url), origin(&new.url)) {
        (before, now) if before != now => words.0.push(format!("url {before} -> {now}")),
        _ => words.hidden("url, behind its host,", url, &new.url),
    }
    words.number("method", method, &new.method);
    let names = headers.keys().chain(new.headers.keys());
    let names: BTreeSet<&str> = names.map(AsRef::as_ref).collect();
    for name in names {
        let (before, now) = (headers.get(name), new.headers.get(name));
        words.hidden(&format!("headers.{name}"), &before, &now);
    }
    words.hidden("pass_headers", pass_headers, &new.pass_headers);
    words.hidden("signing", signing, &new.signing);
    words.hidden("success", success, &new.success);
    words.hidden("tls", tls, &new.tls);
    words.hidden("proxy", proxy, &new.proxy);
    words.time("timeouts.connect", *connect_timeout, new.connect_timeout);
    words.time("timeouts.total", *total_timeout, new.total_timeout);
    words.size("response_max", *response_max_bytes, new.response_max_bytes);
    words.hidden("outcomes", outcomes, &new.outcomes);
}

fn start_at(option: &StartAtOption) -> String {
    match option {
        StartAtOption::Earliest => "earliest".to_owned(),
        StartAtOption::Latest => "latest".to_owned(),
        StartAtOption::Time(time) => jiff::Timestamp::from_millisecond(time.0)
            .map_or_else(|_| time.0.to_string(), |time| time.to_string()),
        StartAtOption::Ago(age) => format!("-{}", duration_text(*age)),
    }
}

fn rates_text(rates: &[RateOptions]) -> String {
    if rates.is_empty() {
        return "unlimited".to_owned();
    }
    let rates: Vec<String> = rates.iter().map(rate_text).collect();
    rates.join(" + ")
}

/// As the file would write it: the smallest time in which a whole amount goes.
fn rate_text(rate: &RateOptions) -> String {
    const TIMES: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];
    let period = rate.period.as_nanos().max(1);
    let whole = TIMES.iter().find_map(|(name, seconds)| {
        let span = u128::from(*seconds) * 1_000_000_000;
        let amount = (span + period / 2) / period;
        // The period was rounded to nanoseconds when it was read.
        let exact = amount > 0 && span.abs_diff(amount * period) < amount.max(2);
        exact.then(|| (u64::try_from(amount).unwrap_or(u64::MAX), *name))
    });
    let limit = match (whole, rate.unit) {
        (Some((amount, time)), RateUnit::Requests) => format!("{amount}/{time}"),
        (Some((amount, time)), RateUnit::Bytes) => format!("{}/{time}", size_text(amount)),
        (None, _) => format!("one per {}", duration_text(rate.period)),
    };
    match (rate.burst.get(), rate.unit) {
        (1, _) => limit,
        (burst, RateUnit::Requests) => format!("{limit} burst {burst}"),
        (burst, RateUnit::Bytes) => format!("{limit} burst {}", size_text(burst.into())),
    }
}
