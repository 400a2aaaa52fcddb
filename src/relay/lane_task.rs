//! One lane while it runs: hands the machine what happened, and does what it asks for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::clock::{Clock, Now, Tick, Timestamp};
use crate::delivery::Outcome;
use crate::kafka::{Allowance, ConsumerHandle, FromConsumer, Producer};
use crate::lane::{Action, Doing, Event, Lane, Notice, Order, Send, Shed, WriteError};
use crate::metrics::{LaneLevels, LaneMetrics, OwnedWrite};
use crate::rules::Matcher;

use super::CLOSE_DEADLINE;
use super::desk::Desk;
use super::judging::Unknown;
use super::operators::{LaneAsk, LaneWord, Said};
use super::outlet::Outlet;
use super::report::{OneReport, Promise, Report, Written};
use super::requests::Requests;
use super::say;

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
    /// In the one lane that counts what is on the ladder for destinations that the file does not know.
    pub(super) unknown: Option<Unknown>,
    /// `None` in the audit, whose records are never sent.
    pub(super) outlet: Option<Arc<Outlet>>,
    pub(super) producer: Arc<Producer>,
    pub(super) consumer: ConsumerHandle,
    pub(super) metrics: LaneMetrics,
    /// What operators ask.
    pub(super) asks: mpsc::Receiver<LaneAsk>,
    /// Where it is said that the endpoint is gone.
    pub(super) gone: mpsc::Sender<LaneWord>,
    pub(super) clock: Clock,
    pub(super) drain: Duration,
    pub(super) stop: CancellationToken,
}

/// How a lane ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneEnd {
    /// As it was asked to.
    Drained { released: u64, in_time: bool },
    /// Its consumer thread is gone.
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
    desk: Arc<Desk>,
    /// Records and bytes handed to the machine since the start.
    pub(super) handed: Allowance,
    /// When the consumer was last told how much it may read.
    told: Tick,
    /// When the lane's numbers were last shown, and whether anything has happened since.
    shown: Tick,
    stale: bool,
    partitions: usize,
    /// The kinds of writes of which the last one failed.
    blocked: BTreeSet<OwnedWrite>,
    /// Whether it was told to begin: before, it may be paused for all that is known.
    begun: bool,
    end: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    NotYet,
    /// Until the tick, what is in flight may end.
    Draining(Tick),
    /// The consumer is leaving its group, until the tick.
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
            handed: Allowance::default(),
            told: Tick::default(),
            shown: Tick::default(),
            stale: true,
            partitions: 0,
            blocked: BTreeSet::new(),
            begun: false,
            end: Ending::NotYet,
        }
    }

    pub(super) async fn run(mut self) -> LaneEnd {
        let mut from_consumer = Vec::new();
        let mut reports = Vec::new();
        let stop = self.parts.stop.clone();
        self.publish();
        self.tell(Event::Ordered(Order::Pause));
        self.allow();
        loop {
            let due = self.due();
            tokio::select! {
                count = self.parts.consumer.inbox.recv_many(&mut from_consumer, 64) => {
                    if count == 0 {
                        return self.ended(LaneEnd::ConsumerGone);
                    }
                }
                _ = self.reports.recv_many(&mut reports, 256) => {}
                Some(ask) = self.parts.asks.recv() => self.asked(ask),
                () = stop.cancelled(), if self.end == Ending::NotYet => self.begin_drain(),
                () = tokio::time::sleep_until(due) => self.tell(Event::TimePassed),
            }
            for event in from_consumer.drain(..) {
                if matches!(event, FromConsumer::Closed) {
                    return self.closed();
                }
                self.consumed(event);
            }
            self.reported(&mut reports);
            self.allow();
            self.show();
            if let Ending::Closing { until, .. } = self.end
                && self.parts.clock.now().tick >= until
            {
                warn!(
                    destination = &*self.parts.name,
                    "the consumer did not leave its group in time"
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

    fn asked(&mut self, ask: LaneAsk) {
        match ask {
            LaneAsk::Order(order) => {
                self.begun = true;
                if let Order::ReleaseRetries { until } | Order::CancelRetries { until } = &order {
                    self.parts.consumer.mailbox.release(*until);
                }
                self.tell(Event::Ordered(order));
                self.show_state();
            }
            LaneAsk::Status(reply) => {
                let mut status = self.parts.lane.status();
                if !self.blocked.is_empty() && status.doing.goes_on() {
                    status.doing = Doing::Blocked;
                }
                // Whoever asked may have gone.
                drop(reply.send(status));
            }
        }
    }

    fn notice(&self, notice: &Notice) {
        say::notice(&self.parts.name, notice);
        self.show_state();
        let said = match notice {
            Notice::Gone { endpoint: None } => {
                let failure = self.parts.lane.status().last_failure;
                Said::Gone(failure.and_then(|failure| failure.status))
            }
            Notice::KeyHeld { key } => Said::Held(key.clone()),
            Notice::Gone { .. }
            | Notice::Opened { .. }
            | Notice::Closed { .. }
            | Notice::Suspect { .. }
            | Notice::HeldUp { .. }
            | Notice::ReadsNoFurther { .. }
            | Notice::Braked
            | Notice::Released => return,
        };
        let id = Arc::clone(&self.parts.id);
        // A lane says it once in a long while: where there is no room, there is something else wrong.
        drop(self.parts.gone.try_send(LaneWord { id, said }));
    }

    fn begin_drain(&mut self) {
        let deadline = self.parts.clock.now().tick + self.parts.drain;
        self.end = Ending::Draining(deadline);
        self.parts.metrics.set_state("stopping");
        self.tell(Event::Drain { deadline });
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

    /// Says how much the consumer may have read all told: what was handed to the machine, and what it has room for beyond that.
    ///
    /// To wake the thread for every record that leaves a full window would cost more than reading it: as long as there are records
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
        self.parts.consumer.mailbox.allow(Allowance {
            records: self.handed.records + room.records as u64,
            bytes: self.handed.bytes + room.bytes as u64,
        });
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
                self.tell(Event::Assigned {
                    cluster_id,
                    partitions,
                });
            }
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
    fn show_state(&self) {
        if self.end == Ending::NotYet {
            let doing = self.parts.lane.status().doing;
            let asks_for_a_person = matches!(doing, Doing::Paused { .. } | Doing::Braked { .. });
            let state = match (self.begun, self.blocked.is_empty()) {
                (false, _) => "starting",
                (true, false) => "blocked",
                (true, true) if asks_for_a_person => doing.name(),
                (true, true) => "running",
            };
            self.parts.metrics.set_state(state);
        }
    }

    /// A lane whose records cannot be written to a topic of our own is blocked, and says so once.
    fn written(&mut self, written: &Written, result: &Result<(), WriteError>) {
        let name = Arc::clone(&self.parts.name);
        let kind = written.kind();
        self.parts.metrics.wrote(kind, result.is_ok());
        let was_blocked = !self.blocked.is_empty();
        match (written, result) {
            (_, Ok(())) => {
                self.blocked.remove(&kind);
                say::written(&name, written);
            }
            (Written::DeadLetter(letter), Err(WriteError::TooLarge))
                if letter.shed != Shed::Value =>
            {
                say::too_large(&name, letter);
            }
            // It waits in the window, and others go on.
            (Written::Ladder(record), Err(WriteError::TooLarge)) => {
                say::too_large_for_ladder(&name, record);
            }
            (_, Err(failure)) => {
                if self.blocked.insert(kind) {
                    say::not_written(&name, written, failure);
                }
            }
        }
        if self.blocked.is_empty() == was_blocked {
            self.show_state();
        }
    }

    /// Hands the machine an event and does what it asks for.
    fn tell(&mut self, event: Event) {
        self.tell_at(self.parts.clock.now(), event);
    }

    fn tell_at(&mut self, now: Now, event: Event) {
        self.parts.lane.handle(now, event);
        while let Some(action) = self.parts.lane.poll_action() {
            self.obey(action);
        }
    }

    fn obey(&mut self, action: Action) {
        let mailbox = &self.parts.consumer.mailbox;
        match action {
            Action::Send(send) => self.send(send),
            Action::Abort { keys } => self.requests.abort(keys),
            Action::WriteDeadLetter(letter) => self.write(Written::DeadLetter(letter)),
            Action::WriteLadder(record) => self.write(Written::Ladder(record)),
            Action::Tell(notice) => self.notice(&notice),
            Action::Commit { positions } => mailbox.commit(&positions),
            Action::Revoked { positions, .. } => mailbox.revoked(positions),
            Action::Pause(epoch) => {
                debug!(
                    destination = &*self.parts.name,
                    ?epoch,
                    "partition paused: read too far ahead"
                );
                mailbox.pause(epoch, true);
            }
            Action::Resume(epoch) => mailbox.pause(epoch, false),
            Action::Drained { positions } => {
                let now = self.parts.clock.now().tick;
                let in_time = matches!(self.end, Ending::Draining(deadline) if now < deadline);
                self.end = Ending::Closing {
                    until: now + CLOSE_DEADLINE,
                    in_time,
                };
                let released = self.parts.lane.counts().released;
                info!(
                    destination = &*self.parts.name,
                    released, "drained; what was not settled is read again after the next start"
                );
                mailbox.close(positions);
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

    fn write(&self, written: Written) {
        let producer = Arc::clone(&self.parts.producer);
        let destination_id = Arc::clone(&self.parts.id);
        let report = OneReport::of(&self.desk, Promise::Write(written.clone()));
        tokio::spawn(async move {
            let result = match &written {
                Written::DeadLetter(letter) => {
                    producer.write_dead_letter(letter, &destination_id).await
                }
                Written::Ladder(record) => producer.write_ladder(record, &destination_id).await,
            };
            report.send(Report::Write(written, result)).await;
        });
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
        let LaneParts {
            lane,
            metrics,
            consumer,
            clock,
            ..
        } = &mut self.parts;
        self.stale = false;
        self.shown = clock.now().tick;
        let silence = self.shown.since(Tick(Duration::from_millis(
            consumer.beat.load(Ordering::Relaxed),
        )));
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
