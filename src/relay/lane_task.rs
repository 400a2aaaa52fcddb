//! One lane while it runs: hands the machine what happened, and does what it asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::admin::Health;
use crate::clock::{Clock, Now, Tick, Timestamp};
use crate::delivery::Outcome;
use crate::heartbeat::Heartbeat;
use crate::kafka::{FromConsumer, Members, Part, Producer};
use crate::lane::{Action, Doing, Event, Lane, Notice, Order, Place, Send};
use crate::metrics::{LaneLevels, LaneMetrics, OwnedWrite};
use crate::rules::Matcher;

use super::CLOSE_DEADLINE;
use super::allotments::Allotted;
use super::desk::Desk;
use super::doors::Address;
use super::in_force::InForce;
use super::judging::Unknown;
use super::keep_positions::PositionKeeper;
use super::membership::Membership;
use super::news::{LaneNews, LaneWord};
use super::operators::LaneAsk;
use super::outlet::Outlet;
use super::report::{OneReport, Promise, Report, Written};
use super::requests::Requests;
use super::say;
use super::stillness::Seat;

/// Reports that may wait for the lane's task.
const REPORTS: usize = 1024;

/// How old a lane's numbers may become when nothing happens in it: the time of its consumer's loop is one of them.
const SHOW_AT_LEAST: Duration = Duration::from_secs(5);

/// How long the consumer may be left without word of room that is not worth waking it. Far less than it takes to believe that the lane
/// has none.
const TELL_OF_ROOM: Duration = Duration::from_millis(100);

/// Everything a lane is made of.
pub(super) struct LaneParts {
    pub(super) name: Arc<str>,
    pub(super) id: Arc<str>,
    pub(super) lane: Lane,
    pub(super) matcher: Matcher,
    /// What is on the ladder for destinations that the file does not know.
    pub(super) unknown: Arc<Unknown>,
    /// Where it sends.
    pub(super) address: Arc<Address>,
    /// `None` in the audit, whose records are never sent.
    pub(super) outlet: Option<Arc<Outlet>>,
    pub(super) producer: Arc<Producer>,
    pub(super) health: Arc<Health>,
    pub(super) members: Members,
    /// Whether its loop turns.
    pub(super) beat: Arc<Heartbeat>,
    pub(super) metrics: LaneMetrics,
    /// What operators ask.
    pub(super) asks: mpsc::Receiver<LaneAsk>,
    /// Where it is said what every instance must know.
    pub(super) gone: mpsc::Sender<LaneWord>,
    /// Where a record is alone in the process.
    pub(super) seat: Seat,
    /// What it has of the process's limits.
    pub(super) allotted: Allotted,
    pub(super) clock: Clock,
    /// How long a drain may take stands there.
    pub(super) in_force: Arc<InForce>,
    pub(super) stop: CancellationToken,
}

/// How a lane ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneEnd {
    /// As it was asked to.
    Drained { released: u64, in_time: bool },
    /// A consumer thread of it is gone.
    ConsumerGone,
}

/// How old the numbers of a lane that works may become. What is shown of one that has nothing left to do is always the last.
const SHOW_EVERY: Duration = Duration::from_millis(50);

pub(super) struct LaneTask {
    pub(super) parts: LaneParts,
    /// The rules that deliver here.
    pub(super) rules: BTreeSet<Arc<str>>,
    reports: mpsc::Receiver<Report>,
    requests: Requests,
    pub(super) desk: Arc<Desk>,
    /// When the members were last told how much they may read.
    told: Tick,
    /// When the lane's numbers were last shown, and whether anything has happened since.
    shown: Tick,
    stale: bool,
    partitions: usize,
    /// The kinds of writes of which the last one failed.
    pub(super) blocked: BTreeSet<OwnedWrite>,
    /// The partitions that stand still until a person decides: topic, partition and how many records expired unread.
    pub(super) stopped: Vec<(Arc<str>, i32, u64)>,
    /// Where partitions stand still before a batch that does not read, by the member that reads
    /// them.
    pub(super) damaged: BTreeMap<Part, Vec<Place>>,
    /// Whether it was told to begin: before, it may be paused for all that is known.
    begun: bool,
    /// Whether it may be a member of its group; and whether a person has asked it to stay out.
    membership: Membership,
    sent_out: bool,
    pub(super) positions: PositionKeeper,
    pub(super) end: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    NotYet,
    /// Until the tick, what is in flight may end.
    Draining(Tick),
    /// The members are leaving their group, until the tick.
    Closing {
        until: Tick,
        in_time: bool,
    },
}

impl LaneTask {
    pub(super) fn new(parts: LaneParts) -> Self {
        let (reporter, reports) = mpsc::channel(REPORTS);
        let desk = Desk {
            name: Arc::clone(&parts.name),
            outlet: parts.outlet.clone(),
            duration: parts.metrics.attempt_duration.clone(),
            age: parts.metrics.delivery_age.clone(),
            clock: parts.clock,
            reporter,
        };
        Self {
            rules: parts.matcher.rule_names().into_iter().collect(),
            parts,
            reports,
            requests: Requests::default(),
            desk: Arc::new(desk),
            told: Tick::default(),
            shown: Tick::default(),
            stale: true,
            partitions: 0,
            blocked: BTreeSet::new(),
            stopped: Vec::new(),
            damaged: BTreeMap::new(),
            begun: false,
            membership: Membership::Starting,
            sent_out: false,
            positions: PositionKeeper::default(),
            end: Ending::NotYet,
        }
    }

    pub(super) async fn run(mut self) -> LaneEnd {
        let mut from_consumer = Vec::new();
        let mut reports = Vec::new();
        let stop = self.parts.stop.clone();
        self.publish();
        self.take_allotment();
        self.tell(Event::Ordered(Order::Pause));
        self.allow();
        loop {
            let due = self.due();
            self.parts
                .beat
                .beat(self.parts.clock.now().tick, SHOW_AT_LEAST);
            tokio::select! {
                count = self.parts.members.inbox.recv_many(&mut from_consumer, 64) => {
                    if count == 0 {
                        return self.ended(LaneEnd::ConsumerGone);
                    }
                }
                _ = self.reports.recv_many(&mut reports, 256) => {}
                Some(ask) = self.parts.asks.recv() => self.asked(ask),
                () = self.parts.seat.changed() => {}
                () = self.parts.allotted.changed() => self.take_allotment(),
                () = stop.cancelled(), if self.end == Ending::NotYet => self.begin_drain(),
                () = tokio::time::sleep_until(due) => self.tell(Event::TimePassed),
            }
            for event in from_consumer.drain(..) {
                if matches!(event, FromConsumer::Closed)
                    && (self.parts.members.one_closed() || !self.is_closing())
                {
                    self.keep_last_positions().await;
                    return self.closed();
                }
                self.consumed(event);
            }
            self.reported(&mut reports);
            self.look_around();
            self.keep_positions();
            self.allow();
            self.parts.allotted.show(self.parts.lane.usage());
            self.show();
            if let Ending::Closing { until, .. } = self.end
                && self.parts.clock.now().tick >= until
            {
                warn!(
                    destination = &*self.parts.name,
                    "a consumer did not leave its group in time"
                );
                return self.closed();
            }
        }
    }

    /// When the machine or the end must be looked at again, whatever happens; an idle lane once in a while, to show that it lives.
    fn due(&self) -> tokio::time::Instant {
        let every = if self.stale {
            SHOW_EVERY
        } else {
            SHOW_AT_LEAST
        };
        let show = self.shown + every;
        let due = match self.end {
            Ending::Closing { until, .. } => Some(until),
            Ending::NotYet | Ending::Draining(_) => self.parts.lane.poll_timeout(),
        };
        let due = due.map_or(show, |due| due.min(show));
        self.parts.clock.instant(due).into()
    }

    fn take_allotment(&mut self) {
        let allotment = self.parts.allotted.take();
        self.tell(Event::Allotted(allotment));
    }

    fn asked(&mut self, ask: LaneAsk) {
        match ask {
            LaneAsk::Order(order, reply) => {
                self.begun = true;
                self.stay_or_leave(&order);
                if let Order::ReleaseRetries { until } | Order::CancelRetries { until } = &order {
                    self.parts.members.release(*until);
                }
                let found = self.order(order);
                self.show_state();
                if reply.send(found).is_err() {
                    debug!(destination = &*self.parts.name, "an order was obeyed late");
                }
            }
            LaneAsk::Membership(membership) => {
                self.membership = membership;
                self.join_or_stay_away();
                self.show_state();
            }
            // Whoever asked may have gone.
            LaneAsk::IsOut(reply) => drop(reply.send(self.partitions == 0)),
            LaneAsk::Swap(swap, reply) => {
                self.swap(*swap);
                if reply.send(()).is_err() {
                    debug!(destination = &*self.parts.name, "the settings hold late");
                }
            }
            LaneAsk::Status(reply) => {
                let status = self.status();
                // Whoever asked may have gone.
                drop(reply.send(status));
            }
        }
    }

    /// Whoever is paused may be asked to leave the consumer group too, and joins it again with the next word.
    fn stay_or_leave(&mut self, order: &Order) {
        self.sent_out = match order {
            Order::Leave => true,
            Order::Pause | Order::Begin | Order::Resume => false,
            Order::Gone
            | Order::RetryNow
            | Order::Skip { .. }
            | Order::SkipEnded { .. }
            | Order::HoldKey { .. }
            | Order::ReleaseKey { .. }
            | Order::ReleaseRetries { .. }
            | Order::CancelRetries { .. } => return,
        };
        self.join_or_stay_away();
    }

    /// There are two reasons not to be a member, and one is enough.
    fn join_or_stay_away(&mut self) {
        let away = self.sent_out || self.membership != Membership::In;
        // Whoever ends leaves by itself, and commits before.
        if self.end == Ending::NotYet {
            self.parts.members.stay_away(away);
        }
    }

    fn notice(&self, notice: &Notice) {
        say::notice(&self.parts.name, notice);
        self.show_state();
        let what = match notice {
            Notice::Gone { endpoint: None } => {
                let failure = self.parts.lane.status().last_failure;
                let status = failure.and_then(|failure| failure.status);
                LaneNews::Gone(Arc::clone(&self.parts.address), status)
            }
            Notice::KeyHeld { key } => LaneNews::Held(key.clone()),
            Notice::SkipEnded { place, .. } | Notice::SteppedOver { place } => {
                LaneNews::SkipEnded(place.clone())
            }
            Notice::CauseRemoved => return self.parts.seat.explain(),
            Notice::Gone { .. }
            | Notice::Opened { .. }
            | Notice::Closed { .. }
            | Notice::Suspect { .. }
            | Notice::HeldUp { .. }
            | Notice::Cautious { .. }
            | Notice::CautionOver
            | Notice::EndsTheProcess { .. }
            | Notice::ReadsNoFurther { .. }
            | Notice::Braked
            | Notice::Released => return,
        };
        let id = Arc::clone(&self.parts.id);
        // A lane says such things once in a long while: where there is no room, there is something else wrong.
        drop(self.parts.gone.try_send(LaneWord { id, what }));
    }

    fn begin_drain(&mut self) {
        let deadline = self.parts.clock.now().tick + self.parts.in_force.drain();
        self.end = Ending::Draining(deadline);
        self.parts.metrics.set_state("stopping");
        self.tell(Event::Drain { deadline });
    }

    fn is_closing(&self) -> bool {
        matches!(self.end, Ending::Closing { .. })
    }

    fn closed(self) -> LaneEnd {
        let in_time = match self.end {
            Ending::Closing { in_time, .. } => in_time,
            Ending::NotYet | Ending::Draining(_) => return self.ended(LaneEnd::ConsumerGone),
        };
        let released = self.parts.lane.counts().released;
        self.ended(LaneEnd::Drained { released, in_time })
    }

    fn ended(mut self, end: LaneEnd) -> LaneEnd {
        self.publish();
        self.parts.metrics.set_state("stopped");
        end
    }

    /// Says how much may be read.
    ///
    /// To wake a thread for every record that leaves a full window would cost more than reading it: as long as there are records
    /// to send, it is told only of room that is worth it, or after a while.
    fn allow(&mut self) {
        let room = self.parts.lane.room();
        let [records, bytes, _] = self.parts.lane.window_usage();
        let now = self.parts.clock.now().tick;
        let worth = records.max(bytes) <= 0.75;
        let soon = now.since(self.told) < TELL_OF_ROOM;
        if soon && !worth && room.records > 0 && self.parts.lane.has_ready() {
            return;
        }
        self.told = now;
        self.parts.members.allow(room);
    }

    fn consumed(&mut self, event: FromConsumer) {
        match event {
            FromConsumer::Assigned {
                cluster_id,
                partitions,
                lost,
            } => {
                self.parts.metrics.rebalanced("assigned");
                self.partitions += partitions.len();
                for (topic, records) in lost {
                    self.parts.metrics.records_lost(&topic, records);
                }
                self.show_state();
                self.positions.assigned(&partitions);
                self.tell(Event::Assigned {
                    cluster_id,
                    partitions,
                });
            }
            FromConsumer::Expired(topic, lost) => {
                self.parts.metrics.records_lost(&topic, lost);
            }
            FromConsumer::Stopped(partitions) => self.wait_for_decision(partitions),
            FromConsumer::Damage(damage) => self.damage(damage),
            FromConsumer::Committed(positions) => {
                self.parts.metrics.committed(Clock::wall());
                self.tell(Event::Committed { positions });
            }
            FromConsumer::CommitFailed(reason) => self.parts.metrics.commit_failed(reason),
            FromConsumer::Revoking { epochs, deadline } => {
                self.parts.metrics.rebalanced("revoked");
                self.partitions = self.partitions.saturating_sub(epochs.len());
                self.tell(Event::Revoking { epochs, deadline });
            }
            FromConsumer::Lost(epochs) => {
                self.parts.metrics.rebalanced("lost");
                self.partitions = self.partitions.saturating_sub(epochs.len());
                self.tell(Event::Lost { epochs });
            }
            FromConsumer::Read { epoch, records } => {
                let records = self.judge(records);
                self.tell(Event::Read { epoch, records });
            }
            FromConsumer::ReadLadder { epoch, records } => {
                let records = self.judge_ladder(records);
                self.tell(Event::Read { epoch, records });
            }
            FromConsumer::EndOfPartition { epoch, offset } => {
                self.tell(Event::EndOfPartition { epoch, offset });
            }
            FromConsumer::LadderWaits => self.begin_ladder(),
            FromConsumer::Closed => {}
        }
    }

    /// Reports that came together are of one moment.
    fn reported(&mut self, reports: &mut Vec<Report>) {
        let now = self.parts.clock.now();
        let mut delivered = false;
        for report in reports.drain(..) {
            match report {
                Report::Attempt(key, attempt) => {
                    delivered |= attempt.outcome == Outcome::Delivered;
                    let ended = self.requests.ended(key, attempt);
                    self.tell_at(now, ended);
                }
                Report::Write(written, result) => {
                    self.written(&written, &result);
                    if result.is_ok() && matches!(written, Written::Ladder(_)) {
                        self.begin_ladder();
                    }
                    let key = written.key();
                    self.tell_at(now, Event::WriteEnded { key, result });
                }
            }
        }
        if delivered {
            self.parts.metrics.delivered(now.wall);
        }
    }

    /// Shows whether the lane does its work.
    pub(super) fn show_state(&self) {
        if self.end == Ending::NotYet {
            let doing = self.parts.lane.status().doing;
            let asks_for_a_person = matches!(doing, Doing::Paused { .. } | Doing::Braked { .. });
            let begun = self.begun && self.membership != Membership::Starting;
            let state = match (begun, self.blocked.is_empty()) {
                (false, _) => "starting",
                (true, true) if self.membership == Membership::Outdated => "paused",
                (true, false) => "blocked",
                (true, true) if asks_for_a_person => doing.name(),
                (true, true) => "running",
            };
            self.parts.metrics.set_state(state);
        }
    }

    /// Hands the machine an event and does what it asks for.
    pub(super) fn tell(&mut self, event: Event) {
        self.tell_at(self.parts.clock.now(), event);
    }

    fn tell_at(&mut self, now: Now, event: Event) {
        self.parts.lane.handle(now, event);
        while let Some(action) = self.parts.lane.poll_action() {
            self.obey(action);
        }
    }

    fn obey(&mut self, action: Action) {
        let members = &self.parts.members;
        match action {
            Action::Send(send) => self.send(send),
            Action::Abort { keys } => self.requests.abort(keys),
            Action::WriteDeadLetter(letter) => self.write(Written::DeadLetter(letter)),
            Action::WriteLadder(record) => self.write(Written::Ladder(record)),
            Action::Tell(notice) => self.notice(&notice),
            Action::Commit { positions } => {
                self.positions.moved(&positions);
                members.commit(positions);
            }
            Action::Revoked { epochs, positions } => {
                self.positions.moved(&positions);
                members.revoked(&epochs, positions);
                self.keep_positions_of(&epochs);
            }
            Action::Pause(epoch) => {
                debug!(
                    destination = &*self.parts.name,
                    ?epoch,
                    "partition paused: read too far ahead"
                );
                members.pause(epoch, true);
            }
            Action::Resume(epoch) => members.pause(epoch, false),
            Action::AskForStillness => self.parts.seat.ask(),
            Action::EndStillness => self.parts.seat.end(),
            Action::Drained { positions } => {
                self.positions.moved(&positions);
                let now = self.parts.clock.now().tick;
                let deadline = match self.end {
                    Ending::Draining(deadline) => deadline,
                    Ending::NotYet | Ending::Closing { .. } => now,
                };
                let in_time = now < deadline;
                self.end = Ending::Closing {
                    until: now.max(deadline) + CLOSE_DEADLINE,
                    in_time,
                };
                let released = self.parts.lane.counts().released;
                info!(
                    destination = &*self.parts.name,
                    released, "drained; what was not settled is read again after the next start"
                );
                members.close(positions, deadline);
            }
        }
    }

    fn send(&mut self, send: Send) {
        let report = OneReport::of(&self.desk, Promise::Attempt(send.key));
        let payload = self.parts.matcher.payload(&send.record);
        let key = send.key;
        let request = tokio::spawn(async move {
            // No rule of the audit delivers. If one did, the promise of a report makes a dead letter of the record.
            if let Some(attempt) = report.desk().attempt(&send, payload).await {
                report.send(Report::Attempt(key, attempt)).await;
            }
        });
        if self.keeps_order() {
            self.requests.began(key, request.abort_handle());
        }
    }

    /// Shows the lane's numbers when that is due, and at once when nothing is left to do.
    fn show(&mut self) {
        self.stale = true;
        let age = self.parts.clock.now().tick.since(self.shown);
        if age >= SHOW_EVERY || self.parts.lane.waiting().total() == 0 {
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.forget_blocks();
        let LaneParts {
            lane,
            metrics,
            members,
            clock,
            ..
        } = &mut self.parts;
        self.stale = false;
        self.shown = clock.now().tick;
        let silence = self.shown.since(members.last_beat());
        let loop_turned = Clock::wall().0 - i64::try_from(silence.as_millis()).unwrap_or(i64::MAX);
        let levels = LaneLevels {
            waiting: lane.waiting(),
            oldest_waiting: lane.oldest_waiting(),
            window_usage: lane.window_usage(),
            endpoints: lane.endpoint_states(),
            partitions: self.partitions,
            consumer_loop: Timestamp(loop_turned),
        };
        metrics.publish(lane.counts(), levels);
    }
}
