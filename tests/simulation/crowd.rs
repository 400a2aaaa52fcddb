//! One destination with many endpoints, one of which is out for hours: what the others notice of it, and what it costs.

use std::time::Duration;

use postrider::lane::{BreakerOptions, LaneOptions, StartAt, WindowOptions};

use crate::check::{Check, Violation, ensure};
use crate::plan::{
    BrokerMood, Class, DestinationPlan, Mix, Outage, OutageKind, Plan, Step, TopicPlan,
};
use crate::rng::Rng;
use crate::world::{HOUR, MILLISECOND, SECOND, Time, Watching, World};

const OUT_FOR: Time = HOUR;
/// A record of an endpoint that is well may take so long from being written to being taken.
const SOON: Time = 5 * SECOND;
/// So many failures in a row open an endpoint: of one that hardly gets records they may be nearly all of one record.
const IN_A_ROW: u32 = 5;
/// From the end of the outage until the last record is taken: the longest time on the ladder, a probe, and the way.
const MENDED: Time = 7 * 60 * SECOND;

/// One run.
pub(crate) fn run(seed: u64, watching: Watching) -> Result<(), Violation> {
    let mut rng = Rng::new(seed);
    let plan = plan(&mut rng);
    let endpoints = plan.destinations[0].endpoints;
    let words = format!("{:?}", plan.destinations[0]);
    let mut world = World::with(&mut rng, plan, watching);
    world.run()?;
    for (number, produced) in world.oracle.produced.iter().enumerate() {
        let fate = &produced.fates[0];
        ensure!(
            fate.letters == 0,
            DeadLetter,
            "record {number} is a dead letter: {fate:?} {words}"
        );
        let waited = fate.taken_at.saturating_sub(produced.written_at);
        if number % endpoints != 0 {
            ensure!(
                waited <= SOON,
                Healthy,
                "record {number} waited for {} s although its endpoint was well: {words}",
                waited / SECOND
            );
        }
    }
    let spent = world.oracle.highest_attempt;
    ensure!(
        spent <= IN_A_ROW,
        Budget,
        "{spent} attempts were spent: {words}"
    );
    let mended = world.oracle.all_taken_at.saturating_sub(OUT_FOR);
    if mended > MENDED {
        let words = format!("{} s after the outage: {words}", mended / SECOND);
        return Err(Violation::new(Check::Liveness, words));
    }
    Ok(())
}

fn plan(rng: &mut Rng) -> Plan {
    let mut script = vec![(0, Step::Start(0)), (OUT_FOR, Step::FaultsEnd)];
    let mut at = 0;
    while at < OUT_FOR {
        let burst = rng.between(1, 3);
        script.push((at, Step::Produce { topic: 0, burst }));
        at += 2 * SECOND;
    }
    let options = LaneOptions {
        concurrency: rng.pick(&[4, 16]),
        window: WindowOptions {
            records: rng.pick(&[32, 256, 4096]),
            distance: rng.pick(&[100, 1000, 100_000]),
            ..WindowOptions::default()
        },
        breaker: BreakerOptions {
            probe_interval_max: Duration::from_secs(60),
            ..BreakerOptions::default()
        },
        ..LaneOptions::default()
    };
    let kind = rng.pick(&[
        OutageKind::Refused,
        OutageKind::Errors,
        OutageKind::ErrorsWithRetryAfter,
        OutageKind::PushBack,
        OutageKind::PushBackWithRetryAfter,
        OutageKind::Hangs,
        OutageKind::Unauthorized,
    ]);
    let outage = Outage {
        from: 0,
        to: OUT_FOR,
        kind,
        endpoint: Some(0),
    };
    let destination = DestinationPlan {
        id: "destination-0".into(),
        options,
        schedules: Vec::new(),
        healthy: false,
        outages: vec![outage],
        mix: Mix::default(),
        latency: (MILLISECOND, 10 * MILLISECOND),
        endpoints: rng.pick(&[2, 5, 40]),
        keys: 0,
    };
    Plan {
        class: Class::Long,
        instances: 1,
        destinations: vec![destination],
        topics: vec![TopicPlan {
            partitions: rng.between(1, 3) as usize,
            low: 0,
        }],
        start_at: StartAt::Earliest,
        patience: HOUR,
        faults_end: OUT_FOR,
        healthy_due: OUT_FOR,
        session: 4 * SECOND,
        revoke_wait: SECOND,
        drain_wait: SECOND,
        request_timeout: 2 * SECOND,
        asks_for: 60 * SECOND,
        shuffle: false,
        below_base: false,
        chunk: 100,
        hole_percent: 0,
        wake_lag: 0,
        wall_skews: vec![0],
        broker_skew: 0,
        ladder_partitions: 1,
        broker: BrokerMood::default(),
        script,
    }
}
