//! A lane's two members of its group: one reads the rules' topics, the other the ladder.
//!
//! Brokers and librdkafka balance the number of partitions over the members that take a topic, not each topic by itself. One member for both
//! would be given all partitions of a topic while another instance has the ladder alone, and no first delivery to make.
//!
//! The second is a client with threads and connections of its own, and most lanes have nothing to retry. So it begins when there is something
//! for it, and stays: when the lane itself has written to the ladder, or when there are records on it, see
//! [`super::extent`].

use std::sync::{Arc, OnceLock};

use rdkafka::ClientConfig;
use tokio::sync::mpsc;

use crate::clock::{Clock, Tick, Timestamp};
use crate::delivery::Epoch;
use crate::heartbeat::Heartbeat;
use crate::lane::{Place, Position, Room};

use super::client::ladder_config;
use super::consumer::{ConsumerPlan, ConsumerThread, FromConsumer, StartError};
use super::extent::LadderExtent;
use super::mailbox::{Allowance, Mailbox};
use super::options::KafkaOptions;
use super::queued::queued_bytes;
use super::topics::OwnedTopic;

/// What a member reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The topics of the lane's rules.
    Topics,
    /// The ladder.
    Ladder,
}

/// What a lane's members need to know.
pub struct MembersPlan {
    /// What they have in common, and what the first one reads.
    pub(super) topics: ConsumerPlan,
    /// librdkafka's settings for the second, and what it reads; nobody in the audit.
    pub(super) ladder: Option<(ClientConfig, Vec<String>)>,
}

impl MembersPlan {
    /// A member that reads `topics`, and one for the ladder if there can be something of the lane on it; `share` is what the lane has of the
    /// process's memory, in bytes.
    #[must_use]
    pub fn new(
        options: &KafkaOptions,
        topics: ConsumerPlan,
        with_ladder: bool,
        share: usize,
    ) -> Self {
        let ladder = || {
            let topics = OwnedTopic::read_by_lanes(&options.prefix).into_iter();
            let names = topics.map(|topic| topic.name).collect();
            (ladder_config(options, share), names)
        };
        Self {
            topics,
            ladder: with_ladder.then(ladder),
        }
    }

    /// How many bytes may wait inside librdkafka.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        let ladder = self.ladder.as_ref();
        let ladder = ladder.map_or(0, |(client, _)| queued_bytes(client));
        queued_bytes(&self.topics.client).saturating_add(ladder)
    }
}

/// The members of a lane's group, as the lane sees them.
#[derive(Debug)]
pub struct Members {
    /// What they say, each in the order in which it happened.
    pub inbox: mpsc::Receiver<FromConsumer>,
    topics: Member,
    ladder: Option<Member>,
    /// What the second begins with, when it is needed.
    to_begin: Option<ToBegin>,
    bell: Arc<LadderBell>,
    /// How many have left their group.
    closed: usize,
}

/// A member that has not begun.
struct ToBegin {
    plan: ConsumerPlan,
    /// Where it will speak. The inbox ends with the member that is there.
    outbox: mpsc::WeakSender<FromConsumer>,
    clock: Clock,
    /// What it would have been told.
    away: Option<bool>,
    release: Option<Timestamp>,
}

impl std::fmt::Debug for ToBegin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToBegin").finish_non_exhaustive()
    }
}

/// Where a lane's members are told of the ladder.
#[derive(Debug)]
pub struct LadderBell {
    topics: Arc<Mailbox>,
    ladder: OnceLock<Arc<Mailbox>>,
}

impl LadderBell {
    /// Topics of the ladder were made.
    pub fn look_again(&self) {
        if let Some(ladder) = self.ladder.get() {
            ladder.look_again();
        }
    }

    /// It goes so far. Whoever reads it knows; else the group is asked whether it has something to read. Says which.
    pub fn goes(&self, extent: &Arc<LadderExtent>) -> bool {
        let is_asked = self.ladder.get().is_none();
        if is_asked {
            self.topics.look_at_ladder(extent);
        }
        is_asked
    }
}

#[derive(Debug)]
struct Member {
    /// What it is told.
    mailbox: Arc<Mailbox>,
    /// Whether its loop turns.
    beat: Arc<Heartbeat>,
    /// What of it was handed to the machine since the start.
    handed: Allowance,
}

impl Part {
    /// Epochs count by two from here: none is used twice, and each names its member.
    pub(super) fn first_epoch(self) -> Epoch {
        match self {
            Self::Topics => Epoch(0),
            Self::Ladder => Epoch(1),
        }
    }

    fn of(epoch: Epoch) -> Self {
        if epoch.0.is_multiple_of(2) {
            Self::Topics
        } else {
            Self::Ladder
        }
    }
}

/// Starts the thread of a lane's first member.
///
/// # Errors
/// When librdkafka refuses the settings or a thread cannot be started. That Kafka is away is no error.
pub fn start_members(plan: MembersPlan, clock: Clock) -> Result<Members, StartError> {
    let (outbox, inbox) = mpsc::channel(64);
    let ladder = plan.ladder.map(|(client, topics)| ConsumerPlan {
        client,
        topics: Some(topics),
        ..plan.topics.clone()
    });
    let to_begin = ladder.map(|plan| ToBegin {
        plan,
        outbox: outbox.downgrade(),
        clock,
        away: None,
        release: None,
    });
    let topics = ConsumerThread::new(plan.topics, Part::Topics, outbox, clock)?;
    let topics = Member::of(topics)?;
    let bell = LadderBell {
        topics: Arc::clone(&topics.mailbox),
        ladder: OnceLock::new(),
    };
    Ok(Members {
        topics,
        ladder: None,
        to_begin,
        bell: Arc::new(bell),
        inbox,
        closed: 0,
    })
}

impl ToBegin {
    fn begin(&self) -> Result<Option<Member>, StartError> {
        let Some(outbox) = self.outbox.upgrade() else {
            return Ok(None);
        };
        let thread = ConsumerThread::new(self.plan.clone(), Part::Ladder, outbox, self.clock)?;
        if let Some(away) = self.away {
            thread.mailbox.stay_away(away);
        }
        if let Some(until) = self.release {
            thread.mailbox.release(until);
        }
        Member::of(thread).map(Some)
    }
}

impl Member {
    fn of(thread: ConsumerThread) -> Result<Self, StartError> {
        let member = Self {
            mailbox: Arc::clone(&thread.mailbox),
            beat: Arc::clone(&thread.beat),
            handed: Allowance::default(),
        };
        thread.start().map(|()| member)
    }

    fn allow(&self, records: usize, bytes: usize) {
        self.mailbox.allow(Allowance {
            records: self.handed.records + records as u64,
            bytes: self.handed.bytes + bytes as u64,
        });
    }
}

impl Drop for Member {
    /// A lane that ends without a word has closed its inbox before.
    fn drop(&mut self) {
        self.mailbox.stir();
    }
}

impl Members {
    /// Where the lane's topics can be told.
    #[must_use]
    pub fn of_topics(&self) -> Arc<Mailbox> {
        Arc::clone(&self.topics.mailbox)
    }

    /// Where they can be told of the ladder; nothing of those that never read it.
    #[must_use]
    pub fn bell(&self) -> Option<Arc<LadderBell>> {
        let reads = self.to_begin.is_some() || self.ladder.is_some();
        reads.then(|| Arc::clone(&self.bell))
    }

    /// The beat of the first one's loop.
    #[must_use]
    pub fn beat(&self) -> Arc<Heartbeat> {
        Arc::clone(&self.topics.beat)
    }

    /// Has the ladder read from now on, and gives the beat of the member that does. Nothing when it is read already, or never is.
    ///
    /// # Errors
    /// When librdkafka gives no client, or the system no thread. It may be asked again.
    pub fn begin_ladder(&mut self) -> Result<Option<Arc<Heartbeat>>, StartError> {
        let Some(to_begin) = &self.to_begin else {
            return Ok(None);
        };
        let Some(member) = to_begin.begin()? else {
            return Ok(None);
        };
        self.to_begin = None;
        self.bell.ladder.get_or_init(|| Arc::clone(&member.mailbox));
        let beat = Arc::clone(&member.beat);
        self.ladder = Some(member);
        Ok(Some(beat))
    }

    /// When the loop that is behind the other last turned.
    #[must_use]
    pub fn last_beat(&self) -> Tick {
        let beats = self.all().map(|member| member.beat.until());
        beats.min().unwrap_or_default()
    }

    /// A record of this weight was handed to the machine.
    pub fn handed(&mut self, part: Part, weight: u64) {
        let member = match (part, &mut self.ladder) {
            (Part::Ladder, Some(ladder)) => ladder,
            _ => &mut self.topics,
        };
        member.handed.records += 1;
        member.handed.bytes += weight;
    }

    /// Says how much may be read: what was handed to the machine, and what that has room for beyond it. Each member may fill half of the
    /// room, and half of what is left when it is told again; so neither can take it all from the other.
    pub fn allow(&self, room: Room) {
        let share = self.all().count();
        let [records, bytes] = [room.records, room.bytes].map(|room| room.div_ceil(share));
        for member in self.all() {
            member.allow(records, bytes);
        }
    }

    /// Asks for a commit of each position by the member that owns the partition.
    pub fn commit(&self, positions: Vec<Position>) {
        self.each(positions, |mailbox, positions| {
            if !positions.is_empty() {
                mailbox.commit(&positions);
            }
        });
    }

    /// Asks for a partition to be paused or resumed.
    pub fn pause(&self, epoch: Epoch, paused: bool) {
        self.mailbox(epoch).pause(epoch, paused);
    }

    /// Answers a revocation of these with their last positions.
    pub fn revoked(&self, epochs: &[Epoch], positions: Vec<Position>) {
        if let Some(epoch) = epochs.first() {
            self.mailbox(*epoch).revoked(positions);
        }
    }

    /// Asks both to stay out of their group, or to join it again.
    pub fn stay_away(&mut self, away: bool) {
        for member in self.all() {
            member.mailbox.stay_away(away);
        }
        if let Some(to_begin) = &mut self.to_begin {
            to_begin.away = Some(away);
        }
    }

    /// Lets the records of the ladder in that were written until `until`, whatever their step says.
    pub fn release(&mut self, until: Timestamp) {
        if let Some(ladder) = &self.ladder {
            ladder.mailbox.release(until);
        }
        if let Some(to_begin) = &mut self.to_begin {
            to_begin.release = to_begin.release.max(Some(until));
        }
    }

    /// Has a batch stepped over that does not read, by whoever stands before it.
    pub fn step_over(&self, place: &Place) {
        for member in self.all() {
            member.mailbox.step_over(place.clone());
        }
    }

    /// Asks for a last commit of these positions and the end of the members. A commit that the group takes only later is tried until `patience`
    /// ends.
    pub fn close(&self, positions: Vec<Position>, patience: Tick) {
        self.each(positions, |mailbox, positions| {
            mailbox.close(positions, patience);
        });
    }

    /// One of them has ended; says whether it was the last.
    pub fn one_closed(&mut self) -> bool {
        self.closed += 1;
        self.closed == self.all().count()
    }

    fn all(&self) -> impl Iterator<Item = &Member> {
        std::iter::once(&self.topics).chain(&self.ladder)
    }

    /// Hands every member the positions of its own partitions.
    fn each(&self, positions: Vec<Position>, tell: impl Fn(&Mailbox, Vec<Position>)) {
        let of_topics = |position: &Position| Part::of(position.epoch) == Part::Topics;
        let (topics, ladder) = positions.into_iter().partition(of_topics);
        tell(&self.topics.mailbox, topics);
        if let Some(member) = &self.ladder {
            tell(&member.mailbox, ladder);
        }
    }

    fn mailbox(&self, epoch: Epoch) -> &Mailbox {
        match (Part::of(epoch), &self.ladder) {
            (Part::Ladder, Some(ladder)) => &ladder.mailbox,
            _ => &self.topics.mailbox,
        }
    }
}
