//! stub
use std::time::Duration;
use crate::{admin::AdminOptions, kafka::KafkaOptions, lane::LaneOptions, logging::LogOptions, rules::{ReadOptions, RuleOptions}, send::WebhookOptions};
#[allow(missing_docs)]
#[derive(Debug, Clone)]
pub struct Config { pub kafka: KafkaOptions, pub limits: LimitOptions, pub read: ReadOptions, pub destinations: Vec<DestinationConfig>, pub rules: Vec<RuleOptions>, pub admin: AdminOptions, pub log: LogOptions }
#[allow(missing_docs)]
#[derive(Debug, Clone)]
pub struct LimitOptions { pub drain: Duration }
#[allow(missing_docs)]
#[derive(Debug, Clone)]
pub struct DestinationConfig { pub name: String, pub id: String, pub lane: LaneOptions, pub excerpt_bytes: usize, pub webhook: WebhookOptions }
pub struct Problems;
impl Problems { pub fn render(&self, _c: bool) -> String { String::new() } }
impl Config { pub fn load(_p: &std::path::Path) -> Result<Self, Problems> { Err(Problems) } }
