//! `[defaults]` and `[destinations.NAME]`: the keys of a lane. Tables merge key by key, lists replace.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::DestinationConfig;
use super::breaker::{breaker, dead_letters};
use super::order::order;
use super::rate::rate;
use super::reader::{Reader, Value};
use super::rules::FoundRule;
use super::webhook;
use crate::kafka::AUDIT;
use crate::lane::{LaneOptions, RenderErrorPolicy, RetryOptions, WindowOptions};
use crate::rules::SequenceOptions;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// What a destination is told, apart from its sender.
#[derive(Debug, Clone)]
struct Settings {
    enabled: bool,
    lane: LaneOptions,
    sequence: Option<SequenceOptions>,
    excerpt_bytes: usize,
    retention_warning: Duration,
}

/// A destination as it was found; `config` is missing when something in it is wrong.
pub(super) struct Found {
    pub(super) name: Arc<str>,
    pub(super) key_span: Range<usize>,
    pub(super) enabled: bool,
    pub(super) config: Option<DestinationConfig>,
    pub(super) id: Option<(Arc<str>, Range<usize>)>,
}

/// Every destination, by name.
pub(super) fn read(root: &Reader<'_>, commit_interval: Duration) -> Vec<Found> {
    let lane = LaneOptions {
        commit_interval,
        ..LaneOptions::default()
    };
    let mut base = Settings {
        enabled: true,
        lane,
        sequence: None,
        excerpt_bytes: 1024,
        retention_warning: DAY,
    };
    root.section("defaults", |reader| settings(reader, &mut base));
    let table = root.take("destinations").and_then(|value| {
        if value.is_list() {
            let hint = "write a section for each, with its name: [destinations.NAME]";
            value.error_at_key("the destinations are not a list", hint);
            return None;
        }
        value.table()
    });
    let mut found: Vec<Found> = Vec::new();
    for value in table.iter().flat_map(Reader::entries) {
        if let Some(next) = destination(&value, base.clone()) {
            check_id(&value, &next, &found);
            found.push(next);
        }
    }
    found
}

fn destination(value: &Value<'_>, mut settings_here: Settings) -> Option<Found> {
    let name: Arc<str> = Arc::from(value.key);
    if let Err(hint) = check_name(&name) {
        value.error_at_key(
            format!("`{name}` cannot be the name of a destination"),
            hint,
        );
    }
    if !value.is_table() {
        let hint = format!("write it as a section: [destinations.{name}.webhook]");
        value.wrong_kind("a destination", hint);
        return None;
    }
    let reader = value.table()?;
    if matches!(&*name, "webhook" | "email") && !reader.has("webhook") && !reader.has("email") {
        let message = format!("`{name}` stands where the name of a destination should be");
        value.error_at_key(message, format!("write [destinations.NAME.{name}]"));
        return None;
    }
    let own_id = reader
        .take("id")
        .and_then(|id| Some((own_id(&id)?, id.span())));
    settings(&reader, &mut settings_here);
    let sender = webhook::read(&reader, &name);
    reader.finish();
    let (id, id_span) = own_id.unwrap_or_else(|| (Arc::clone(&name), value.key_span.clone()));
    let Settings {
        enabled,
        lane,
        sequence,
        excerpt_bytes,
        retention_warning,
    } = settings_here;
    let config = sender.map(|sender| DestinationConfig {
        name: Arc::clone(&name),
        id: Arc::clone(&id),
        lane,
        sequence,
        excerpt_bytes,
        retention_warning,
        content: sender.content,
        webhook: sender.webhook,
    });
    Some(Found {
        name,
        key_span: value.key_span.clone(),
        enabled,
        config,
        id: Some((id, id_span)),
    })
}

fn own_id(value: &Value<'_>) -> Option<Arc<str>> {
    let text = value.text()?;
    match check_name(&text) {
        Ok(()) => Some(Arc::from(text)),
        Err(hint) => {
            value.error(format!("cannot be \"{text}\""), hint);
            None
        }
    }
}

/// Whether `name` can be part of a group's name and of a metric's label; else what can.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name == AUDIT {
        return Err(
            "take another name: this one is of the lane that counts what no destination gets",
        );
    }
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=63).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err("write 1 to 63 small letters, digits and dashes")
}

/// Two destinations with one id would share a consumer group, and each would miss what the other reads.
fn check_id(value: &Value<'_>, next: &Found, before: &[Found]) {
    let Some((id, span)) = &next.id else { return };
    let same = before
        .iter()
        .find_map(|found| found.id.as_ref().filter(|(other, _)| other == id));
    if let Some((_, other)) = same {
        let message = format!("two destinations have the id `{id}`");
        let hint =
            "give each an id of its own; it names the consumer group, where the position is kept";
        value.error_at(span.clone(), "id", message, hint);
        value.also(other.clone(), "the other one");
    }
}

/// Reads the keys of a lane over what `settings` holds.
fn settings(reader: &Reader<'_>, settings: &mut Settings) {
    settings.enabled = reader.read("enabled", settings.enabled, Value::boolean);
    let Settings {
        lane,
        sequence,
        excerpt_bytes,
        retention_warning,
        ..
    } = settings;
    if let Some(value) = reader.take("order") {
        (lane.order, *sequence) = order(&value);
    }
    let concurrency = reader.take("concurrency");
    if let Some(value) = &concurrency {
        lane.concurrency = requests(value).unwrap_or(lane.concurrency);
    }
    if let Some(value) = reader.take("rate") {
        lane.rate = rate(&value);
    }
    reader.section("window", |reader| window(reader, &mut lane.window));
    if let Some(value) = concurrency.filter(|_| lane.window.records < lane.concurrency) {
        let hint = "every request in flight holds a record of the window: raise window.records";
        value.warning(
            "is larger than `window.records` and cannot be reached",
            hint,
        );
    }
    let age = reader.take("max_age");
    if let Some(value) = &age {
        let range = Duration::from_secs(1)..=3650 * DAY;
        lane.max_age = value.duration(range).unwrap_or(lane.max_age);
    }
    let policies = [
        ("dead_letter", RenderErrorPolicy::DeadLetter),
        ("drop", RenderErrorPolicy::Drop),
    ];
    lane.on_render_error = reader.read("on_render_error", lane.on_render_error, |value| {
        value.one_of(&policies, &[])
    });
    lane.expire_after = reader.read("expire_after", lane.expire_after, |value| {
        value
            .duration(Duration::from_secs(1)..=3650 * DAY)
            .map(Some)
    });
    reader.section("retry", |reader| retry(reader, &mut lane.retry));
    let schedule: Duration = lane.retry.schedule.iter().sum();
    if let Some(value) = age.filter(|_| lane.max_age < schedule) {
        let hint = "raise max_age, or take the last entries out of retry.schedule";
        value.warning("ends before the last retries of the schedule", hint);
    }
    reader.section("breaker", |reader| breaker(reader, &mut lane.breaker));
    reader.section("dead_letters", |reader| {
        dead_letters(reader, excerpt_bytes, &mut lane.brake);
    });
    *retention_warning = reader.read("retention_warning", *retention_warning, |value| {
        value.duration(Duration::from_secs(60)..=365 * DAY)
    });
}

fn requests(value: &Value<'_>) -> Option<usize> {
    if value.is_table() || value.raw().contains("auto") {
        let hint = "write a number: how many requests may be in flight at once";
        value.error("cannot adapt by itself in this version", hint);
        return None;
    }
    value.count(1..=10_000)
}

fn window(reader: &Reader<'_>, options: &mut WindowOptions) {
    options.records = reader.read("records", options.records, |value| {
        value.count(1..=1_000_000)
    });
    let range = 1024..=64 << 30;
    options.bytes = reader.read("bytes", options.bytes, |value| value.size(range));
    options.distance = reader.read("distance", options.distance, |value| {
        value.integer(1..=1_000_000_000)
    });
}

fn retry(reader: &Reader<'_>, options: &mut RetryOptions) {
    if let Some(value) = reader.take("schedule") {
        options.schedule = schedule(&value).unwrap_or_default();
    }
    options.jitter = reader.read("jitter", options.jitter, Value::ratio);
    let range = Duration::from_secs(1)..=30 * DAY;
    options.retry_after_max = reader.read("retry_after_max", options.retry_after_max, |value| {
        value.duration(range)
    });
}

/// The waits of the schedule. An empty list is legal: one attempt and no second one.
fn schedule(value: &Value<'_>) -> Option<Vec<Duration>> {
    const ENTRIES_MAX: usize = 100;
    let entries = value.any_list("[\"5s\", \"30s\", \"5m\"]")?;
    if entries.len() > ENTRIES_MAX {
        let hint = format!("write at most {ENTRIES_MAX} waits");
        value.error(format!("has {} entries", entries.len()), hint);
        return None;
    }
    let range = Duration::from_millis(1)..=30 * DAY;
    Some(
        entries
            .iter()
            .filter_map(|entry| entry.duration(range.clone()))
            .collect(),
    )
}

/// A file without destinations and rules does nothing, and one with nothing enabled neither.
pub(super) fn check_any(root: &Reader<'_>, destinations: &[Found], rules: &[FoundRule]) {
    let mistyped = root.context.complained_at_top();
    match (destinations.is_empty(), rules.is_empty()) {
        _ if mistyped => {}
        (true, true) => {
            let least = format!("{}\n{}", least_destination("shop"), least_rule("shop"));
            let hint = format!("the least that is needed:\n{least}");
            root.error_at_header("", "the file has no destination and no rule", &hint);
        }
        (true, false) => {
            let target = rules
                .iter()
                .find_map(|rule| rule.options.deliver_to.first());
            let hint = least_destination(target.map_or("shop", String::as_str));
            root.error_at_header("destinations", "the file has no destination", &hint);
        }
        (false, true) => {
            let hint = least_rule(destinations.first().map_or("shop", |found| &found.name));
            root.error_at_header("rules", "the file has no rule", &hint);
        }
        (false, false) => {
            if destinations.iter().all(|found| !found.enabled) {
                root.warn_at_header(
                    "destinations",
                    "no destination is enabled",
                    "nothing will be delivered",
                );
            }
        }
    }
}

fn least_destination(name: &str) -> String {
    format!("[destinations.{name}.webhook]\nurl = \"http://localhost:8000/hooks\"")
}

fn least_rule(destination: &str) -> String {
    format!(
        "[[rules]]\nname = \"everything\"\ntopics = [\"orders\"]\ndeliver_to = [\"{destination}\"]"
    )
}
