//! Changes of the file while records sit on the ladder: another schedule, a destination that goes and comes back, a rule that goes.

use std::sync::Arc;

use postrider::delivery::Verdict;

use crate::coverage::Seen;
use crate::instance::Note;
use crate::plan::{Class, Step};
use crate::world::{SECOND, Time, What, World};

/// So often everybody gets something before only one instance goes on.
const ALONE_AFTER: u32 = 6;

impl World {
    /// The lanes of a destination end in good order, one instance after the other, and begin again with what the file says then.
    fn restart_lanes(&mut self, destination: usize) {
        for shell in 0..self.shells.len() {
            if self.shells[shell].destination == destination {
                let wait = self.wait(1, 100_000);
                self.shells[shell].reloads = true;
                self.note(shell, wait, Note::Stop);
            }
        }
    }

    pub(crate) fn change_schedule(&mut self, destination: usize, which: usize) {
        self.coverage.see(Seen::SchedulesChanged);
        let schedule = self.plan.destinations[destination].schedules[which].clone();
        self.oracle.schedule_changed(destination, schedule.len());
        self.options[destination].retry.schedule = schedule;
        self.restart_lanes(destination);
    }

    pub(crate) fn remove(&mut self, destination: usize, back_after: Time) {
        if !self.removed.insert(destination) {
            return;
        }
        self.coverage.see(Seen::DestinationsRemoved);
        self.restart_lanes(destination);
        let back = (self.now + back_after).min(self.plan.faults_end + SECOND);
        self.at(back, What::Step(Step::BringBack { destination }));
    }

    pub(crate) fn bring_back(&mut self, destination: usize) {
        self.removed.remove(&destination);
        for instance in 0..self.plan.instances {
            let wait = self.wait(1, 100_000);
            self.after(wait, What::Step(Step::Start(instance)));
        }
    }

    /// Records of topics go to the other rule from now on; those on the ladder have lost theirs.
    pub(crate) fn remove_rule(&mut self, destination: usize) {
        let [kept, gone] = self.oracle.rules.clone();
        for produced in &mut self.oracle.produced {
            let verdict = &mut produced.fates[destination].verdict;
            if matches!(verdict, Verdict::Deliver { rule } if *rule == gone) {
                *verdict = Verdict::Deliver {
                    rule: Arc::clone(&kept),
                };
            }
        }
        self.oracle.rules_removed = true;
        self.removed_rules.insert((destination, gone));
        self.restart_lanes(destination);
    }

    /// Whoever waits for evidence gets it, as long as somebody waits. An instance that holds nothing but partitions of the ladder gets
    /// none, so after a while only one instance goes on.
    pub(crate) fn trickle(&mut self, times: u32) {
        self.coverage.see(Seen::Trickles);
        for topic in 0..self.plan.topics.len() {
            let partitions = self.broker.topics[topic].partitions.len();
            for partition in 0..partitions {
                self.produce_to(topic, partition, 1, true);
            }
        }
        if times == ALONE_AFTER {
            self.alone = true;
            for instance in 1..self.plan.instances {
                self.step(Step::Leave(instance));
            }
        }
        let interval = match self.plan.class {
            Class::Long => 600,
            Class::Calm | Class::Isolation | Class::Rough => 60,
        };
        self.after(interval * SECOND, What::Step(Step::Trickle(times + 1)));
    }
}
