//! How expectations are written: TOML, a `[[test]]` for each record.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use crate::clock::Timestamp;
use crate::record::{Header, Record};

/// A file of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    test: Vec<Expectation>,
}

/// One record, and what is to become of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expectation {
    pub(super) name: String,
    record: RecordText,
    /// Who gets it; nobody else does.
    pub(super) deliver_to: Option<Vec<String>>,
    /// More, by destination.
    #[serde(default)]
    pub(super) expect: BTreeMap<String, Wanted>,
}

/// What one destination is to get.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    pub(super) rule: Option<String>,
    pub(super) body: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// The reason of the dead letter that it becomes.
    pub(super) dead_letter: Option<String>,
    pub(super) dropped: Option<bool>,
}

/// A record as it is written there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordText {
    topic: String,
    value: Option<String>,
    json: Option<serde_json::Value>,
    file: Option<String>,
    key: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    partition: i32,
    #[serde(default)]
    offset: i64,
    timestamp: Option<String>,
}

/// A record that can be tried.
pub(super) struct Case {
    pub(super) file: String,
    pub(super) record: Arc<Record>,
    pub(super) expectation: Expectation,
}

/// Every expectation of a file; else what is wrong with it.
pub(super) fn read(path: &Path) -> Result<Vec<Case>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let file: File = toml::from_str(&text).map_err(|error| error.to_string())?;
    let case = |expectation: Expectation| {
        let name = &expectation.name;
        let within = |why: String| format!("test {name:?}: {why}");
        if expectation.deliver_to.is_none() && expectation.expect.is_empty() {
            let why = "it expects nothing: write deliver_to or [test.expect.NAME]";
            return Err(within(why.to_owned()));
        }
        Ok(Case {
            file: path.display().to_string(),
            record: Arc::new(expectation.record.record(path).map_err(within)?),
            expectation,
        })
    };
    file.test.into_iter().map(case).collect()
}

impl RecordText {
    fn record(&self, path: &Path) -> Result<Record, String> {
        let header = |(name, value): (&String, &String)| Header {
            name: Bytes::from(name.clone()),
            value: Some(Bytes::from(value.clone())),
        };
        let time = self.timestamp.as_deref().unwrap_or("2026-01-01T00:00:00Z");
        let time: jiff::Timestamp = time
            .parse()
            .map_err(|_| format!("timestamp {time:?} is no time such as 2026-05-01T08:00:00Z"))?;
        Ok(Record {
            topic: self.topic.as_str().into(),
            partition: self.partition,
            offset: self.offset,
            timestamp: Some(Timestamp(time.as_millisecond())),
            key: self.key.clone().map(Bytes::from),
            value: self.value(path)?,
            headers: self.headers.iter().map(header).collect(),
        })
    }

    /// None of the three is a null value: a tombstone.
    fn value(&self, path: &Path) -> Result<Option<Bytes>, String> {
        match (&self.value, &self.json, &self.file) {
            (None, None, None) => Ok(None),
            (Some(text), None, None) => Ok(Some(Bytes::from(text.clone()))),
            (None, Some(json), None) => Ok(Some(Bytes::from(json.to_string()))),
            (None, None, Some(file)) => {
                let beside = path.parent().unwrap_or(Path::new("")).join(file);
                let read = std::fs::read(&beside);
                let read = read.map_err(|error| format!("{}: {error}", beside.display()))?;
                Ok(Some(Bytes::from(read)))
            }
            _ => Err("its record has more than one of value, json and file".to_owned()),
        }
    }
}
