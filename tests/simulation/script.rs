//! What the script of a run does to the world: records are written, instances come and go, topics change.

use postrider::clock::Timestamp;
use postrider::lane::{Notice, Order};

use crate::broker::{Log, Topic, Tp};
use crate::coverage::Seen;
use crate::instance::Note;
use crate::plan::{Class, Step};
use crate::world::{MILLISECOND, SECOND, Time, WALL_AT_START, What, World, trace};

impl World {
    pub(crate) fn step(&mut self, step: Step) {
        trace!(self, "{step:?}");
        match step {
            Step::Produce { topic, burst } => self.produce(topic, burst),
            Step::Start(instance) => self.each(instance, Self::start),
            Step::Leave(instance) => {
                let wait = self.wait(0, 100);
                self.each(instance, |world, shell| world.note(shell, wait, Note::Stop));
            }
            Step::FaultsEnd => self.faults_end(),
            Step::BringBack { destination } => self.bring_back(destination),
            Step::Trickle(times) => self.trickle(times),
            _ if self.faults_over && !matches!(step, Step::Recreate { .. }) => {}
            Step::Crash(instance) => self.crash_instance(instance),
            Step::Freeze { instance, time } => self.freeze_instance(instance, time),
            Step::Kick {
                instance,
                destination,
            } => {
                let shell = instance * self.plan.destinations.len() + destination;
                if let Some(member) = self.shells[shell].member {
                    self.coverage.see(Seen::Kicks);
                    self.expel(destination, member);
                }
            }
            Step::AddPartition { topic } => self.add_partition(topic),
            Step::Delete { topic, back_after } => self.delete_topic(topic, back_after),
            Step::Recreate { topic } => self.recreate_topic(topic),
            Step::Expire { topic } => self.expire(topic),
            Step::ChangeSchedule { destination, which } => self.change_schedule(destination, which),
            Step::Remove {
                destination,
                back_after,
            } => self.remove(destination, back_after),
            Step::RemoveRule { destination } => self.remove_rule(destination),
            Step::WallJump { instance, by } => self.jump(instance, by),
        }
    }

    /// The thread looks at the clock often: what comes up sooner or later than it thought is looked at again.
    fn jump(&mut self, instance: Option<usize>, by: i64) {
        self.coverage.see(Seen::WallClockJumps);
        let Some(instance) = instance else {
            self.broker_skew += by;
            return;
        };
        self.wall_skews[instance] += by;
        let ahead = by.max(0) as Time * MILLISECOND;
        self.oracle.jumps(ahead);
        self.each(instance, |world, shell| {
            if let Some(running) = &mut world.shells[shell].running {
                running.watch.jumps(ahead);
                for owned in running.owned.values_mut() {
                    owned.kept_until = None;
                }
            }
            world.want_poll(shell);
        });
    }

    /// Somebody looks after endpoints that say they have gone, and after lanes that reject nearly everything.
    pub(crate) fn told_of(&mut self, shell: usize, notice: &Notice) {
        self.coverage.see(match notice {
            Notice::Opened { .. } => Seen::Opened,
            Notice::Closed { .. } => Seen::Closed,
            Notice::Gone { .. } => Seen::StoppedAsGone,
            Notice::Suspect { .. } => Seen::Suspects,
            Notice::HeldUp { .. } | Notice::ReadsNoFurther { .. } => Seen::HeldUp,
            Notice::KeyHeld { .. } => Seen::KeysHeld,
            Notice::Braked => Seen::Braked,
            Notice::Released => Seen::BrakesReleased,
            // Nobody here asks for a record to be skipped.
            Notice::SkipEnded { .. } | Notice::SteppedOver { .. } => return,
            Notice::Cautious { .. } => Seen::Cautious,
            Notice::CauseRemoved => Seen::CausesRemoved,
            Notice::CautionOver => Seen::CautionOver,
            Notice::EndsTheProcess { .. } => Seen::Convicted,
        });
        if let Some(running) = &mut self.shells[shell].running {
            let endpoint = match notice {
                Notice::Opened { endpoint, .. }
                | Notice::Closed { endpoint, .. }
                | Notice::Gone { endpoint } => endpoint.clone(),
                _ => None,
            };
            let suspicion = running.suspicions.entry(endpoint).or_default();
            suspicion.told_of(notice);
        }
        if matches!(notice, Notice::CauseRemoved) {
            let instance = self.shells[shell].instance;
            let wait = self.wait(0, 20);
            self.each(instance, |world, shell| {
                world.note(shell, wait, Note::Explained);
            });
        }
        if let Notice::KeyHeld { key } = notice {
            let (key, wait) = (key.clone(), self.wait(100, 600_000));
            self.note(shell, wait, Note::Order(Order::ReleaseKey { key }));
        }
        if matches!(notice, Notice::Gone { .. } | Notice::Braked) {
            let wait = self.wait(100, 50_000);
            self.note(shell, wait, Note::Order(Order::Resume));
        }
    }

    pub(crate) fn each(&mut self, instance: usize, does: impl Fn(&mut Self, usize)) {
        let lanes = self.plan.destinations.len();
        for shell in instance * lanes..(instance + 1) * lanes {
            does(self, shell);
        }
    }

    /// Nothing goes wrong from here on, and one instance at least is there.
    fn faults_end(&mut self) {
        self.faults_over = true;
        self.plan.broker = crate::plan::BrokerMood::default();
        self.after(10 * SECOND, What::Step(Step::Start(0)));
        self.after(100 * MILLISECOND, What::Look);
        if self.plan.class != Class::Calm {
            self.after(5 * SECOND, What::Step(Step::Trickle(0)));
        }
    }

    fn produce(&mut self, topic: usize, burst: u64) {
        if self.broker.topics[topic].exists {
            let partition = self.rng.index(self.broker.topics[topic].partitions.len());
            self.produce_to(topic, partition, burst, false);
        }
    }

    /// Writes records; those that are `taken` are special to nobody.
    pub(crate) fn produce_to(&mut self, topic: usize, partition: usize, burst: u64, taken: bool) {
        let hole_percent = self.plan.hole_percent;
        for _ in 0..burst {
            let Topic {
                name,
                incarnation,
                partitions,
                ..
            } = &mut self.broker.topics[topic];
            let tp = Tp {
                topic,
                incarnation: *incarnation,
                partition,
            };
            let log = &mut partitions[partition];
            if self.rng.chance(hole_percent) {
                self.coverage.see(Seen::Holes);
                log.end += self.rng.between(1, 9) as i64;
            }
            let timestamp = Timestamp(WALL_AT_START + (self.now / MILLISECOND) as i64);
            let number = self.oracle.produce(
                &mut self.rng,
                &self.plan,
                (tp, name),
                log.end,
                (self.now, timestamp),
                taken,
            );
            log.records.push(crate::broker::Stored {
                offset: log.end,
                number,
                rung: None,
            });
            log.end += 1;
            self.coverage.see(Seen::RecordsProduced);
        }
        let log = &mut self.broker.topics[topic].partitions[partition];
        if self.rng.chance(hole_percent) {
            self.coverage.see(Seen::MarkersAtTheEnd);
            log.end += self.rng.between(1, 3) as i64;
        }
        for shell in 0..self.shells.len() {
            self.want_poll(shell);
        }
    }

    fn add_partition(&mut self, topic: usize) {
        if self.broker.topics[topic].exists && self.broker.topics[topic].partitions.len() < 8 {
            self.coverage.see(Seen::PartitionsAdded);
            self.broker.topics[topic]
                .partitions
                .push(Log::starting_at(0));
            self.topics_changed();
        }
    }

    /// The groups hear of a change when their members look at the metadata again.
    fn topics_changed(&mut self) {
        for group in 0..self.broker.groups.len() {
            let slowest = self.rng.pick(&[50, 5000]);
            let wait = self.wait(10, slowest);
            self.want_rebalance(group, wait);
        }
    }

    fn delete_topic(&mut self, topic: usize, back_after: Time) {
        if !self.broker.topics[topic].exists {
            return;
        }
        self.broker.delete(topic);
        for shell in 0..self.shells.len() {
            let wait = self.wait(1, 3000);
            self.note(shell, wait, Note::TopicGone);
        }
        self.after(back_after, What::Step(Step::Recreate { topic }));
    }

    fn recreate_topic(&mut self, topic: usize) {
        self.coverage.see(Seen::TopicsRecreated);
        let partitions = self.rng.between(1, 4) as usize;
        let made = &mut self.broker.topics[topic];
        made.exists = true;
        made.incarnation += 1;
        made.partitions = vec![Log::starting_at(0); partitions];
        for _ in 0..3 {
            let burst = self.rng.between(1, 15);
            self.produce(topic, burst);
        }
        self.topics_changed();
    }

    /// Retention takes the older part of a topic, read or not.
    fn expire(&mut self, topic: usize) {
        self.coverage.see(Seen::RetentionRuns);
        for log in &mut self.broker.topics[topic].partitions {
            let low = log.low + self.rng.below((log.end - log.low) as u64 + 1) as i64;
            log.expire(low);
        }
    }
}
