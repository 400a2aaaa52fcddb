//! The configuration that the demo shows, and runs.

use std::path::Path;

use anyhow::anyhow;

use crate::config::Config;

/// The addresses that only this run knows, each `host:port`.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    pub(super) broker: String,
    pub(super) browser: String,
    pub(super) mail: String,
}

/// The file, word for word. Fetches wait shortly because the embedded broker, unlike a real one, lets each wait to its end.
pub(super) fn text(addresses: &Addresses) -> String {
    let Addresses {
        broker,
        browser,
        mail,
    } = addresses;
    format!(
        r#"[kafka]
brokers = ["{broker}"]
prefix = "postrider"
start_at = "earliest"
properties = {{ "fetch.wait.max.ms" = "10" }}

[notification]
type = [{{ topic = true }}, {{ field = "/type" }}, {{ field = "/resource" }}]

[destinations.browser]
webhook.url = "http://{browser}/hooks/notifications"

[destinations.mail]
retry.schedule = ["500ms", "1s", "2s", "4s"]
webhook.url = "http://{mail}/messages"

[[rules]]
name = "everything"
topics = ["owner", "group", "watching"]
deliver_to = ["browser"]

[[rules]]
name = "uploads-and-shares"
topics = ["owner", "group"]
types = ["owner.upload.*", "group.share.*"]
deliver_to = ["mail"]

[admin]
listen = "127.0.0.1:0"
socket = ""
"#
    )
}

/// Reads `text` the way `run` and `check` read a file.
pub(super) fn parse(text: &str) -> anyhow::Result<Config> {
    let nothing_set = |_: &str| None;
    Config::parse(text, Path::new("demo.toml"), &nothing_set).map_err(|problems| {
        anyhow!(
            "the demo's configuration is wrong:\n{}",
            problems.render(false)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_valid_without_a_warning_and_fits_80_columns() {
        let address = "127.0.0.1:65535".to_owned();
        let addresses = Addresses {
            broker: address.clone(),
            browser: address.clone(),
            mail: address,
        };
        let text = text(&addresses);
        let config = parse(&text).unwrap();
        assert!(
            config.warnings.is_empty(),
            "{}",
            config.warnings.render(false)
        );
        assert_eq!(config.destinations.len(), 2);
        assert!(text.lines().all(|line| line.len() <= 76), "{text}");
    }
}
