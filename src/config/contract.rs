//! Every key of the contract by the section it belongs to, so that a misplaced key is answered with its place, and a key of a later
//! version is not called unknown.

use super::refusal::nearest;

/// Section and keys. `*` stands for a name, `[]` for an entry of a list.
const SECTIONS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "kafka",
            "limits",
            "notification",
            "defaults",
            "destinations",
            "rules",
            "events",
            "admin",
            "log",
        ],
    ),
    (
        "kafka",
        &[
            "brokers",
            "prefix",
            "start_at",
            "on_records_lost",
            "group_protocol",
            "commit_interval",
            "topic_refresh",
            "owned_topics",
            "properties",
        ],
    ),
    (
        "kafka.owned_topics",
        &[
            "create",
            "partitions",
            "replication",
            "min_insync_replicas",
            "retention",
        ],
    ),
    ("limits", &["window_bytes", "in_flight", "drain"]),
    (
        "notification",
        &["format", "type", "values", "unmatched", "override"],
    ),
    (
        "notification.type[]",
        &["topic", "field", "header", "cloudevents"],
    ),
    ("notification.values", &["null", "empty"]),
    (
        "destinations.*",
        &[
            "enabled",
            "id",
            "concurrency",
            "order",
            "window",
            "max_age",
            "expire_after",
            "retry",
            "breaker",
            "dead_letters",
            "on_render_error",
            "retention_warning",
            "rate",
            "quiet_hours",
            "batch",
            "digest",
            "endpoint",
            "webhook",
            "email",
        ],
    ),
    ("destinations.*.rate[]", &["limit", "burst", "share", "per"]),
    ("destinations.*.window", &["records", "bytes", "distance"]),
    (
        "destinations.*.retry",
        &["schedule", "jitter", "retry_after_max"],
    ),
    (
        "destinations.*.breaker",
        &[
            "window",
            "failure_ratio",
            "min_attempts",
            "probe_interval",
            "probe_interval_max",
        ],
    ),
    (
        "destinations.*.dead_letters",
        &[
            "excerpt",
            "brake_rejected",
            "brake_ratio",
            "brake_window",
            "brake",
        ],
    ),
    (
        "destinations.*.webhook",
        &[
            "url",
            "url_from",
            "method",
            "body",
            "headers",
            "pass_headers",
            "success",
            "outcomes",
            "outcome_header",
            "timeouts",
            "response_max",
            "http",
            "tls",
            "proxy",
            "allow_addresses",
            "allow_hosts",
            "signing",
            "auth",
        ],
    ),
    ("destinations.*.webhook.timeouts", &["connect", "total"]),
    (
        "destinations.*.webhook.tls",
        &["client_cert", "client_key", "ca"],
    ),
    (
        "destinations.*.webhook.proxy",
        &["url", "username", "password"],
    ),
    (
        "destinations.*.webhook.success",
        &["status", "header", "text", "pointer", "equals"],
    ),
    ("destinations.*.webhook.success.header", &["name", "equals"]),
    ("destinations.*.webhook.signing", &["scheme", "secrets"]),
    (
        "destinations.*.webhook.signing.secrets[]",
        &["file", "env", "credential", "directory", "not_after"],
    ),
    (
        "destinations.*.email",
        &["from", "to", "subject", "text", "html", "smtp", "bridge"],
    ),
    ("destinations.*.email.bridge", &["recipe", "with"]),
    ("destinations.*.email.text", &["file"]),
    ("destinations.*.email.html", &["file"]),
    (
        "rules[]",
        &[
            "name",
            "topics",
            "types",
            "match",
            "when",
            "on_error",
            "delay",
            "deliver_to",
            "default",
            "action",
            "body",
            "headers",
            "subject",
            "text",
            "html",
        ],
    ),
    ("rules[].match.*", &["present", "is", "lenient"]),
    (
        "notification.override[]",
        &["topics", "format", "type", "values", "unmatched"],
    ),
    ("admin", &["listen", "socket", "token", "allowed_hosts"]),
    ("log", &["format", "level"]),
];

/// Words so common that standing elsewhere in the contract says nothing.
const COMMON: &[&str] = &[
    "name", "equals", "status", "file", "env", "from", "to", "text", "html", "subject", "default",
    "field", "header", "format", "username", "password",
];

/// The defaults take what a destination takes, but these.
const NOT_IN_DEFAULTS: &[&str] = &["webhook", "email", "id"];

/// The pattern of a section as the contract has it: `defaults` is written like a destination.
fn canonical(section: &str) -> String {
    let section = match section.strip_prefix("defaults") {
        Some(rest) if rest.is_empty() || rest.starts_with('.') => format!("destinations.*{rest}"),
        // What may stand in an override is what may stand in the section.
        _ => match section.strip_prefix("notification.override[].") {
            Some(rest) => format!("notification.{rest}"),
            None => section.to_owned(),
        },
    };
    // One part alone may stand without the brackets of a list.
    match section.as_str() {
        "notification.type" | "destinations.*.rate" => format!("{section}[]"),
        _ => section,
    }
}

/// The keys that the contract has in `section`, whether this version knows them or not.
pub(super) fn keys(section: &str) -> impl Iterator<Item = &'static str> {
    let wanted = canonical(section);
    let defaults = section == "defaults";
    let found = SECTIONS.iter().find(|(name, _)| *name == wanted);
    let keys = found
        .map_or(&[] as &[&str], |(_, keys)| keys)
        .iter()
        .copied();
    keys.filter(move |key| !(defaults && NOT_IN_DEFAULTS.contains(key)))
}

/// The other sections that have `key`: those nearest to `section` first.
pub(super) fn homes(key: &str, section: &str) -> Vec<&'static str> {
    if COMMON.contains(&key) {
        return Vec::new();
    }
    let here = canonical(section);
    let holds = |(name, keys): &&(&str, &[&str])| {
        keys.contains(&key) && (*name != here || section == "defaults")
    };
    let mut homes: Vec<&str> = SECTIONS
        .iter()
        .filter(holds)
        .map(|(name, _)| *name)
        .collect();
    let shared = |name: &str| {
        name.split('.')
            .zip(here.split('.'))
            .take_while(|(a, b)| a == b)
            .count()
    };
    homes.sort_by_key(|name| std::cmp::Reverse(shared(name)));
    homes
}

/// The key that `key` probably is in a section below `section`, and that section.
pub(super) fn below(key: &str, section: &str) -> Option<(&'static str, &'static str)> {
    let inside = format!("{}.", canonical(section));
    let sections = SECTIONS
        .iter()
        .filter(|(name, _)| !section.is_empty() && name.starts_with(&inside));
    sections
        .filter(|(name, _)| !name.ends_with("[]"))
        .find_map(|(name, keys)| Some((nearest(key, keys.iter().copied())?, *name)))
}

/// A section as the file writes it: `[kafka]`, `[[rules]]`. The destination's name in `path`, if there is one, is kept.
pub(super) fn header(section: &str, path: &str) -> String {
    if let Some(list) = section.strip_suffix("[]") {
        return if list == "rules" {
            "[[rules]]".to_owned()
        } else {
            format!("`{list}`")
        };
    }
    let name = path
        .strip_prefix("destinations.")
        .and_then(|rest| rest.split('.').next());
    format!("[{}]", section.replace('*', name.unwrap_or("NAME")))
}
