//! When the lanes join their groups, and when they leave them to instances with a newer file; who is newer is told by `peers.rs`.
//!
//! A lane joins when the others have been told of its rules, and when those with older ones have left, or have had the time for it. So what is
//! read from then on is judged by the newest file alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::admin::api::DestinationReport;
use crate::clock::{Now, Tick, Timestamp};
use crate::kafka::StateRecord;

use super::doors::Door;
use super::membership::{Membership, Seat};
use super::operators::{FrontDesk, LaneAsk};
use super::overview::rfc3339;
use super::peers::{Peers, Stand};

/// How long the state topic may take to give our own word back before the lanes begin without it.
const WORD_WAIT: Duration = Duration::from_secs(5);
/// How often it is looked while lanes come or go, and else.
const LOOK: Duration = Duration::from_millis(100);
const LONG_LOOK: Duration = Duration::from_secs(1);
/// How long a lane may take to listen.
const LANE_WAIT: Duration = Duration::from_secs(1);
/// How long the last word of an instance may take.
const LEAVE_WAIT: Duration = Duration::from_secs(1);

/// What is known of the others, and who hears of it.
#[derive(Debug)]
pub(super) struct Rollout {
    peers: Mutex<Peers>,
    heard: Notify,
}

impl Rollout {
    pub(super) fn new(peers: Peers) -> Self {
        Self {
            peers: Mutex::new(peers),
            heard: Notify::new(),
        }
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a record of the state topic in; whether it is the word of an instance.
    pub(super) fn hear(&self, record: &StateRecord, now: Tick) -> bool {
        let is_word = self.peers().hear(record, now);
        if is_word {
            self.heard.notify_one();
        }
        is_word
    }

    /// Takes another file's rules over, as [`Peers::redeploy`] does.
    pub(super) fn redeploy(&self, placed: Timestamp, rules: BTreeMap<String, String>, now: Tick) {
        self.peers().redeploy(placed, rules, now);
        self.heard.notify_one();
    }

    /// An instance that still reads by older rules, or may.
    pub(super) fn older(&self, now: Tick) -> Option<String> {
        self.peers().older(now)
    }

    /// Something is to be looked at that nobody wrote.
    pub(super) fn look_again(&self) {
        self.heard.notify_one();
    }

    /// A record of ours was read back.
    pub(super) fn learn_time(&self, record: &StateRecord, now: Now) {
        self.peers().learn_time(record.appended, now);
        self.heard.notify_one();
    }
}

/// Looks at the other instances, and has the lanes do what follows.
pub(super) struct Watch {
    desk: Arc<FrontDesk>,
    /// By the numbers of the lanes.
    seats: BTreeMap<u64, Seat>,
    /// When everything that was there had been read.
    begun: Option<Tick>,
    writes: JoinSet<()>,
}

impl Watch {
    pub(super) fn new(desk: Arc<FrontDesk>) -> Self {
        desk.health
            .rollout(Some("the lanes wait to hear of other instances".to_owned()));
        Self {
            seats: BTreeMap::new(),
            desk,
            begun: None,
            writes: JoinSet::new(),
        }
    }

    /// Runs until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let desk = Arc::clone(&self.desk);
        loop {
            let pause = self.look().await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = desk.rollout.heard.notified() => {}
                Some(_) = self.writes.join_next() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One look at everything; says when the next is due.
    async fn look(&mut self) -> Duration {
        let now = self.desk.clock.now().tick;
        let (begun, read) = {
            let known = self.desk.known();
            (known.begun, known.read)
        };
        if read {
            self.say(now);
        }
        if !begun {
            return LOOK;
        }
        let begun = *self.begun.get_or_insert(now);
        let (announced, since) = {
            let peers = self.desk.rollout.peers();
            (peers.is_announced(), peers.since().max(begun))
        };
        if read && !announced && now.since(since) < WORD_WAIT {
            return LOOK;
        }
        let doors = self.desk.doors.all();
        let runs = |number: &u64| doors.iter().any(|door| door.number == *number);
        self.seats.retain(|number, _| runs(number));
        let mut settled = true;
        for door in &doors {
            settled &= self.seat(door, now).await;
        }
        let seats = doors.iter().filter_map(|door| self.seats.get(&door.number));
        let mut seats = seats.map(Seat::membership);
        let waits = seats.any(|membership| membership == Membership::Starting);
        let problem = "instances with an older configuration have not left yet".to_owned();
        self.desk.health.rollout(waits.then_some(problem));
        if settled { LONG_LOOK } else { LOOK }
    }

    /// Says our word when that is due, and takes the words of those away who are gone.
    fn say(&mut self, now: Tick) {
        if !self.writes.is_empty() {
            return;
        }
        let (key, word, gone) = {
            let mut peers = self.desk.rollout.peers();
            (peers.key(), peers.word_due(now), peers.bury())
        };
        if let Some(word) = word {
            let desk = Arc::clone(&self.desk);
            self.writes.spawn(async move {
                let name = &desk.me.name;
                if let Err(problem) = desk.write(&key, Some(&word), name, "", None).await {
                    debug!("{problem}");
                    let now = desk.clock.now().tick;
                    desk.rollout.peers().not_said(now);
                }
            });
        }
        for name in gone {
            let desk = Arc::clone(&self.desk);
            self.writes.spawn(async move {
                let key = Peers::key_of(&name);
                let gone = desk.write(&key, None, &desk.me.name, "silent", None);
                drop(gone.await);
            });
        }
    }

    /// Has one lane do what follows; whether there is nothing more to do for it.
    async fn seat(&mut self, door: &Door, now: Tick) -> bool {
        let rollout = &self.desk.rollout;
        let seat = self.seats.entry(door.number).or_default();
        let stand = rollout.peers().stand(&door.id, now);
        let (was, wanted) = (seat.membership(), seat.wanted(&stand, now));
        if wanted != was {
            if !door.tell_membership(wanted).await {
                return false;
            }
            say(door, was, wanted, &stand);
            seat.told(wanted, now);
        }
        let is_out = match wanted {
            Membership::Starting => return false,
            Membership::In => false,
            Membership::Outdated if rollout.peers().is_out(&door.id) => return true,
            Membership::Outdated => seat.may_be_out(now) && door.has_no_partitions().await,
        };
        rollout.peers().set_out(&door.id, is_out);
        is_out || wanted == Membership::In
    }
}

fn say(door: &Door, was: Membership, is: Membership, stand: &Stand) {
    let destination = &*door.name;
    match (is, stand) {
        (Membership::Outdated, Stand::Outdated { by, placed, .. }) => warn!(
            destination,
            instance = by,
            file_of = rfc3339(*placed),
            "another instance runs a newer configuration: this one leaves the consumer group to it and waits; reload it with the new file"
        ),
        (Membership::In, Stand::Newest { older }) => warn!(
            destination,
            instance = older,
            "another instance has an older configuration and has not left: what it reads it judges by its own rules"
        ),
        (Membership::In, _) if was == Membership::Outdated => info!(
            destination,
            "nobody else runs a newer configuration: this instance joins the consumer group again"
        ),
        _ => {}
    }
}

impl Door {
    /// Whether its lane has heard it, or has ended and is a member of nothing.
    async fn tell_membership(&self, membership: Membership) -> bool {
        let told = self.asks.send(LaneAsk::Membership(membership));
        tokio::time::timeout(LANE_WAIT, told).await.is_ok()
    }

    /// Whether its lane has none; one that has ended has none, and of one that does not listen it is not known.
    async fn has_no_partitions(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            if self.asks.send(LaneAsk::IsOut(reply)).await.is_err() {
                return true;
            }
            answer.await.unwrap_or(true)
        };
        tokio::time::timeout(LANE_WAIT, asked)
            .await
            .unwrap_or(false)
    }
}

impl FrontDesk {
    /// Tells the others that this instance has ended, as far as that is quickly done.
    pub(super) async fn end_rollout(&self) {
        let (key, word) = {
            let mut peers = self.rollout.peers();
            (peers.key(), peers.last_word())
        };
        if let Some(word) = word {
            let write = self.write(&key, Some(&word), &self.me.name, "", None);
            drop(tokio::time::timeout(LEAVE_WAIT, write).await);
        }
    }

    /// Says in the report of a lane that it waits for a person to reload it. What a person has paused is paused for all that.
    pub(super) fn show_outdated(&self, door: &Door, report: &mut DestinationReport) {
        let now = self.clock.now().tick;
        let Stand::Outdated { by, placed, ended } = self.rollout.peers().stand(&door.id, now)
        else {
            return;
        };
        if report.state == "paused" {
            return;
        }
        let placed = rfc3339(placed);
        report.state = "outdated".to_owned();
        report.words = if ended {
            format!(
                "another instance ran a newer configuration ({by}, its file is of {placed}) and has ended; this one waits a minute for it, outside the consumer group; nothing lost"
            )
        } else {
            format!(
                "another instance runs a newer configuration ({by}, its file is of {placed}); this one waits outside the consumer group; reload it with the new file; nothing lost"
            )
        };
    }
}
