//! What people write who know other programs, and what it is called here.

/// Section, the keys that are written there, and what to do. Sections are written as in the contract.
const GUESSES: &[(&str, &[&str], &str)] = &[
    (
        "kafka",
        &[
            "bootstrap",
            "bootstrap_servers",
            "bootstrap.servers",
            "hosts",
            "servers",
        ],
        "the brokers are named in `brokers`",
    ),
    (
        "kafka",
        &["group", "group_id", "group.id", "consumer_group"],
        "groups are named by `prefix`, here, and `id` of a destination: <prefix>.<id>",
    ),
    (
        "kafka",
        &["auto_offset_reset", "offset", "offset_reset"],
        "where to begin is `start_at`",
    ),
    (
        "kafka",
        &[
            "username",
            "password",
            "mechanism",
            "sasl",
            "sasl_mechanism",
            "sasl_username",
            "sasl_password",
        ],
        "write sasl.mechanism, sasl.username and sasl.password into [kafka.properties], and security.protocol = \"sasl_ssl\"",
    ),
    (
        "kafka",
        &["ssl", "tls", "security", "security_protocol", "ca", "cert"],
        "write security.protocol = \"ssl\" into [kafka.properties], and ssl.ca.location where it is needed",
    ),
    (
        "destinations.*",
        &[
            "retries",
            "max_retries",
            "attempts",
            "max_attempts",
            "backoff",
            "retry_delay",
        ],
        "the waits between attempts are a list: retry.schedule = [\"5s\", \"30s\", \"5m\"]",
    ),
    (
        "destinations.*",
        &["rate_limit", "limit", "throttle", "rps"],
        "write rate = { limit = \"50/s\", burst = 100 }",
    ),
    (
        "destinations.*.webhook",
        &["endpoint", "address", "uri", "host"],
        "where it goes is `url`",
    ),
    (
        "destinations.*.webhook",
        &["secret", "signature", "hmac"],
        "sign with signing = { scheme = \"standard-webhooks\", secrets = [{ env = \"NAME\" }] }",
    ),
    (
        "destinations.*.webhook",
        &["template", "payload", "data"],
        "what is sent is `body`",
    ),
    (
        "rules[]",
        &["destination", "destinations", "to", "send_to", "target"],
        "where records go is deliver_to = [\"NAME\"]",
    ),
    (
        "rules[]",
        &["filter", "where", "if", "condition"],
        "fields are asked for by match = { field = \"value\" }",
    ),
    (
        "admin",
        &["port", "host", "address", "bind"],
        "write listen = \"127.0.0.1:8474\"",
    ),
];

/// What to write in place of `key` in `section`.
pub(super) fn guess(key: &str, section: &str) -> Option<&'static str> {
    let section = section.replacen("defaults", "destinations.*", 1);
    let key = key.to_ascii_lowercase().replace('-', "_");
    let found = GUESSES
        .iter()
        .find(|(place, keys, _)| *place == section && keys.contains(&key.as_str()));
    found.map(|(_, _, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::super::contract;
    use super::*;

    #[test]
    fn no_guess_is_a_key() {
        for (section, guesses, _) in GUESSES {
            assert!(contract::keys(section).count() > 0, "{section}");
            for key in *guesses {
                assert!(contract::keys(section).all(|known| known != *key), "{key}");
            }
        }
    }
}
