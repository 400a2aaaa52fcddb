//! Whether librdkafka takes the file's settings. Asked while the file is read, so that a misspelt one is answered with its line, and so
//! that its value, which may be a password, is in no error of the client.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;
use rdkafka::types::RDKafkaConfRes;

use super::client::{consumer_config, producer_config};
use super::options::KafkaOptions;

/// What librdkafka has against one setting; never the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingError {
    /// There is no setting of that name.
    Unknown,
    /// It is not a number between these two.
    OutOfRange(String, String),
    /// It is not a number.
    NotANumber,
    /// It is neither true nor false.
    NotABoolean,
    /// It needs a part of librdkafka that is left out of this program.
    NotBuiltIn,
    /// Something else; librdkafka's own list of settings says what.
    Invalid,
}

/// Whether librdkafka has the setting `name` and takes `value` for it, looked at alone.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_setting(name: &str, value: &str) -> Result<(), SettingError> {
    let asked = ClientConfig::new().set(name, value).create_native_config();
    match asked.map(drop) {
        Ok(()) => Ok(()),
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
            Err(SettingError::Unknown)
        }
        Err(KafkaError::ClientConfig(_, description, ..)) => Err(invalid(&description)),
        Err(_) => Err(SettingError::Invalid),
    }
}

/// librdkafka's description repeats the value, so only what it means is taken from it.
fn invalid(description: &str) -> SettingError {
    let range = description
        .rsplit_once("allowed range ")
        .and_then(|(_, range)| range.trim().split_once(".."));
    if let Some((least, most)) = range {
        return SettingError::OutOfRange(least.to_owned(), most.to_owned());
    }
    if description.starts_with("Invalid value for") {
        return SettingError::NotANumber;
    }
    if description.starts_with("Expected bool value") {
        return SettingError::NotABoolean;
    }
    if description.contains("not supported in this build") {
        return SettingError::NotBuiltIn;
    }
    SettingError::Invalid
}

/// Whether clients can be made of all settings together: certificates are read, and what fits not together is found. Nothing is
/// connected to.
///
/// # Errors
///
/// librdkafka's words for what is wrong.
pub fn check_settings(options: &KafkaOptions) -> Result<(), String> {
    let alone = |mut config: ClientConfig| {
        config.remove("bootstrap.servers");
        // It would log that it has no broker.
        config.set_log_level(RDKafkaLogLevel::Emerg);
        config
    };
    let mut reading = alone(consumer_config(options));
    reading.set("group.id", "postrider");
    let reads = reading.create::<BaseConsumer>().map(drop);
    let writes = || alone(producer_config(options)).create::<BaseProducer>();
    let made = reads.and_then(|()| writes().map(drop));
    let Err(error) = made else { return Ok(()) };
    if let KafkaError::ClientCreation(description) = error {
        return Err(description);
    }
    // Other words could repeat a value.
    Err("librdkafka refuses one of them".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_asked_of_librdkafka() {
        let cases = [
            ("security.protocol", "sasl_ssl", Ok(())),
            ("socket.keepalive.enable", "true", Ok(())),
            ("compression.type", "zstd", Ok(())),
            ("sasl.pasword", "hunter2", Err(SettingError::Unknown)),
            ("security.protocol", "tls", Err(SettingError::Invalid)),
            (
                "sasl.oauthbearer.method",
                "oidc",
                Err(SettingError::NotBuiltIn),
            ),
            ("socket.timeout.ms", "soon", Err(SettingError::NotANumber)),
            (
                "socket.keepalive.enable",
                "yes!",
                Err(SettingError::NotABoolean),
            ),
            (
                "fetch.wait.max.ms",
                "300001",
                Err(SettingError::OutOfRange(
                    "0".to_owned(),
                    "300000".to_owned(),
                )),
            ),
        ];
        for (name, value, answer) in cases {
            assert_eq!(check_setting(name, value), answer, "{name} = {value}");
        }
    }
}
