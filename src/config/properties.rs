//! `[kafka.properties]`: librdkafka's own settings, each looked at by librdkafka itself.

use std::collections::BTreeMap;

use super::reader::{Reader, Value};
use super::refusal::nearest;
use super::secret::{Secret, string_or_secret};
use crate::kafka::{
    GroupProtocol, KafkaOptions, Properties, SettingError, check_setting, check_settings, reserved,
};

/// The settings that files have; a misspelt one is probably one of these.
const COMMON: &[&str] = &[
    "api.version.request",
    "broker.address.family",
    "client.id",
    "client.rack",
    "compression.type",
    "debug",
    "enable.ssl.certificate.verification",
    "fetch.max.bytes",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "heartbeat.interval.ms",
    "https.ca.location",
    "linger.ms",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "metadata.max.age.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "session.timeout.ms",
    "socket.keepalive.enable",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "statistics.interval.ms",
];

/// The settings with few values, and these.
const VALUES: &[(&str, &str)] = &[
    (
        "security.protocol",
        "write \"plaintext\", \"ssl\", \"sasl_plaintext\" or \"sasl_ssl\"",
    ),
    (
        "compression.type",
        "write \"none\", \"gzip\", \"snappy\", \"lz4\" or \"zstd\"",
    ),
    (
        "ssl.endpoint.identification.algorithm",
        "write \"https\" or \"none\"",
    ),
    ("broker.address.family", "write \"any\", \"v4\" or \"v6\""),
];

/// Every setting that librdkafka takes and that is the file's to choose.
pub(super) fn read(section: &Reader<'_>, protocol: GroupProtocol) -> Properties {
    let mut found = Properties::default();
    properties(section, "", protocol, &mut found.0);
    found
}

/// Clients are made of the settings when nothing else is wrong: what fits not together shows only then.
pub(super) fn check_together(section: &Reader<'_>, options: &KafkaOptions) {
    if options.properties.0.is_empty() || section.context.failed() {
        return;
    }
    if let Err(description) = check_settings(options) {
        let message = format!("no Kafka client can be made of these settings: {description}");
        section.error_at_header("kafka.properties", message, advice(&description));
    }
}

/// What to do about the words of librdkafka.
fn advice(description: &str) -> &'static str {
    if description.contains("GSSAPI") {
        return "write sasl.mechanism = \"SCRAM-SHA-512\", \"SCRAM-SHA-256\" or \"PLAIN\";\n\
                without it, it is GSSAPI (Kerberos), which is not built in";
    }
    if description.contains("location failed") {
        return "the file must be there, be readable for this user and hold what the setting is for;\n\
                a relative path begins at the folder that Postrider is started in";
    }
    "these are librdkafka's words; look at the settings they name"
}

/// librdkafka's names have dots, and so has a TOML key that is not in quotes: each level of tables is a part of the name.
fn properties(
    reader: &Reader<'_>,
    base: &str,
    protocol: GroupProtocol,
    found: &mut BTreeMap<String, String>,
) {
    for value in reader.entries() {
        let name = if base.is_empty() {
            value.key.to_owned()
        } else {
            format!("{base}.{}", value.key)
        };
        if let Some(reserved) = reserved(&name, protocol) {
            let message = format!("`{name}` cannot be set: {}", reserved.reason);
            value.error_at_key(message, reserved.instead);
        } else if value.is_table() && !value.is_inline_table() {
            if let Some(reader) = value.table() {
                properties(&reader, &name, protocol, found);
            }
        } else if let Some(text) = property(&value.clone().called(&name)) {
            if let Err(error) = check_setting(&name, &text) {
                refuse(&value, &name, &error);
            } else if found.insert(name.clone(), text).is_some() {
                let message = format!("`{name}` is set twice, with quotes and without");
                value.error_at_key(message, "keep one of them");
            }
        }
    }
}

fn property(value: &Value<'_>) -> Option<String> {
    if value.is_table() {
        string_or_secret(value).map(Secret::expose)
    } else {
        value.scalar_text()
    }
}

fn refuse(value: &Value<'_>, name: &str, error: &SettingError) {
    if *error == SettingError::Unknown {
        let hint = match nearest(name, COMMON.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "its names are listed in librdkafka's CONFIGURATION.md".to_owned(),
        };
        return value.error_at_key(format!("librdkafka has no setting `{name}`"), hint);
    }
    if *error == SettingError::NotBuiltIn {
        let message = format!("`{name}` needs a part of librdkafka that is not built in");
        let hint = "take it out; OAUTHBEARER by OIDC is left out";
        return value.error_at_key(message, hint);
    }
    let values = VALUES.iter().find(|(known, _)| *known == name);
    let hint = match (error, values) {
        (SettingError::OutOfRange(least, most), _) => {
            format!("write a number from {least} to {most}")
        }
        (SettingError::NotANumber, _) => "write a number".to_owned(),
        (SettingError::NotABoolean, _) => "write true or false".to_owned(),
        (_, Some((_, hint))) => (*hint).to_owned(),
        (SettingError::Unknown | SettingError::NotBuiltIn | SettingError::Invalid, None) => {
            "what it can be is listed in librdkafka's CONFIGURATION.md".to_owned()
        }
    };
    let value = value.clone().called(name);
    value.error("is set to what librdkafka does not take", hint);
}
