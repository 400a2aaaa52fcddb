//! The consumer thread on librdkafka's mock cluster: what no broker does on request.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::complaints::Complaints;
use super::consumer::{ConsumerPlan, FromConsumer};
use super::members::{Members, MembersPlan, start_members};
use crate::clock::{Clock, Tick};
use crate::lane::{RecordsLostPolicy, Room, StartAt};

fn start(cluster: &str) -> Members {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", cluster)
        .set("session.timeout.ms", "6000")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("partition.assignment.strategy", "cooperative-sticky");
    let clock = Clock::start();
    let topics = ConsumerPlan {
        client,
        destination: "d".into(),
        group: "g".to_owned(),
        destination_id: "d".into(),
        topics: Some(vec!["t".to_owned()]),
        owned_prefix: "p.".to_owned(),
        topic_refresh: Duration::from_secs(60),
        start_at: StartAt::Earliest,
        on_records_lost: RecordsLostPolicy::Earliest,
        complaints: Arc::new(Complaints::new(clock)),
        kept: Arc::default(),
    };
    let plan = MembersPlan {
        topics,
        ladder: None,
    };
    start_members(plan, clock).unwrap()
}

#[tokio::test]
async fn a_start_question_that_failed_once_is_asked_again_in_the_next_membership() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 2, 1).unwrap();
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::ListOffsets, &[refused]);
    let mut consumer = start(&cluster.bootstrap_servers());
    consumer.stay_away(false);
    consumer.allow(Room {
        records: 10,
        bytes: 10_000,
    });
    let assigned = async {
        while let Some(event) = consumer.inbox.recv().await {
            if let FromConsumer::Assigned { partitions, .. } = event {
                return partitions.len();
            }
        }
        0
    };
    let assigned = tokio::time::timeout(Duration::from_secs(40), assigned).await;
    assert_eq!(assigned, Ok(2));
    consumer.close(Vec::new(), Tick::default());
}
