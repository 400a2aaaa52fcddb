//! One long outage in front of many records: what it costs, and how soon all is over when it is.

use std::time::Duration;

use postrider::lane::{BreakerOptions, LaneOptions, StartAt};

use crate::plan::{
    BrokerMood, Class, DestinationPlan, Mix, Outage, OutageKind, Plan, Step, TopicPlan,
};
use crate::rng::Rng;
use crate::world::{HOUR, MILLISECOND, SECOND, Time, Watching, World};

/// What is known when it is over.
#[derive(Debug)]
pub(crate) struct Bill {
    pub(crate) letters: usize,
    pub(crate) delivered: usize,
    /// Requests that met the outage.
    pub(crate) requests: u32,
    /// The highest number that an attempt had.
    pub(crate) highest_attempt: u32,
    /// From the end of the outage to the last delivery.
    pub(crate) mended_after: Duration,
}

/// An endpoint answers like this for `days` while `records` wait.
pub(crate) fn run(kind: OutageKind, days: u64, records: u64, watching: Watching) -> Bill {
    let mut rng = Rng::new(1);
    let end = days * 24 * HOUR;
    let plan = plan(kind, end, records);
    let mut world = World::with(&mut rng, plan, watching);
    world
        .run()
        .unwrap_or_else(|violation| panic!("{kind:?} for {days} days: {violation}"));
    let fates = || {
        world
            .oracle
            .produced
            .iter()
            .map(|produced| &produced.fates[0])
    };
    let waited = &world.oracle.produced[..records as usize];
    Bill {
        letters: fates().map(|fate| fate.letters as usize).sum(),
        delivered: waited.iter().filter(|p| p.fates[0].accepted == 1).count(),
        requests: fates().map(|fate| fate.retried + fate.faults).sum(),
        highest_attempt: world.oracle.highest_attempt,
        mended_after: Duration::from_nanos(world.oracle.all_taken_at.saturating_sub(end)),
    }
}

fn plan(kind: OutageKind, end: Time, records: u64) -> Plan {
    let burst = 1000;
    let produce = (0..records / burst).map(|_| (0, Step::Produce { topic: 0, burst }));
    let mut script: Vec<(Time, Step)> = produce.collect();
    script.push((0, Step::Start(0)));
    script.push((end, Step::FaultsEnd));
    let options = LaneOptions {
        concurrency: 64,
        breaker: BreakerOptions {
            probe_interval_max: Duration::from_secs(30),
            ..BreakerOptions::default()
        },
        ..LaneOptions::default()
    };
    let destination = DestinationPlan {
        id: "destination-0".into(),
        options,
        schedules: Vec::new(),
        healthy: false,
        outages: vec![Outage {
            from: 0,
            to: end,
            kind,
            endpoint: None,
        }],
        mix: Mix::default(),
        latency: (MILLISECOND, 10 * MILLISECOND),
        endpoints: 1,
        keys: 0,
    };
    Plan {
        class: Class::Long,
        instances: 1,
        destinations: vec![destination],
        topics: vec![TopicPlan {
            partitions: 4,
            low: 0,
        }],
        start_at: StartAt::Earliest,
        patience: HOUR,
        faults_end: end,
        healthy_due: end,
        session: 4 * SECOND,
        revoke_wait: SECOND,
        drain_wait: SECOND,
        request_timeout: 2 * SECOND,
        asks_for: 60 * SECOND,
        shuffle: false,
        below_base: false,
        chunk: 500,
        hole_percent: 0,
        wake_lag: 0,
        wall_skews: vec![0],
        broker_skew: 0,
        ladder_partitions: 1,
        broker: BrokerMood::default(),
        script,
    }
}
