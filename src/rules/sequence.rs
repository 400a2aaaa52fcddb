//! By what the records of a partition are put in order.

use crate::record::Record;

use bytes::Bytes;

use super::content::{ContentOptions, Renderer};
use super::options::ReadOptions;
use super::template::{RenderError, Template};

/// What two records must have in common to go one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SequenceOptions {
    /// Their keys in Kafka.
    RecordKey,
    /// What this makes of them.
    By(Template),
}

/// Says in which order a record stands.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// `None`: by the record's own key.
    renderer: Option<Renderer>,
}

impl Sequence {
    /// For a destination whose values are read like this.
    #[must_use]
    pub fn new(options: SequenceOptions, read: &ReadOptions) -> Self {
        let renderer = match options {
            SequenceOptions::RecordKey => None,
            SequenceOptions::By(template) => {
                let content = ContentOptions {
                    body: Some(template),
                    ..ContentOptions::default()
                };
                Some(Renderer::new(content, &[], read.clone()))
            }
        };
        Self { renderer }
    }

    /// The key of a record that cannot be read.
    #[must_use]
    pub fn key_unread(&self, record: &Record) -> Option<Bytes> {
        record.key.clone().filter(|_| self.renderer.is_none())
    }

    /// The key of `record`; `None`: it is in no order, because it has no key in Kafka, or an empty text is made of it.
    ///
    /// # Errors
    /// When nothing can be made of it.
    pub fn key(&self, record: &Record, rule: &str) -> Result<Option<Bytes>, RenderError> {
        let Some(renderer) = &self.renderer else {
            return Ok(record.key.clone());
        };
        let text = renderer.text(record, rule)?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}
