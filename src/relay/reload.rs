//! A reload: the file is read again, compared with the one that is in force, and taken over whole or not at all.
//!
//! Everything that can fail is made before anything is touched. Then lanes that go on are handed their settings, those that end drain, those that
//! begin wait for nobody but a lane that has their name or their group, and the other instances are told, as at a start: to reload is to deploy. What
//! concerns Kafka's connection or the operators' side has the whole relay end in good order and begin anew, in the same process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::admin::api::{OrderResult, ReloadReport};
use crate::clock::Clock;
use crate::config::{Change, Config, LaneChange, Plan, Problems};
use crate::lane::EndpointChange;
use crate::logging;

use super::allotments::Limits;
use super::descriptors;
use super::doors::Door;
use super::lanes::{LanePlan, Prepared, Together};
use super::operators::{FrontDesk, LaneAsk, Roster};
use super::preview::refused;
use super::sources;
use super::swap::LaneSwap;
use super::{Relay, RelayError};

/// Reads a file again.
pub type Loader = Arc<dyn Fn(&Reading) -> Result<Config, Problems> + Send + Sync>;

impl ReloadAsk {
    /// Has it done in its turn, or refused at once: whoever waited for a place would keep one of those who answer.
    pub(super) fn hand_in(self, reloads: &mpsc::Sender<Self>) {
        match reloads.try_send(self) {
            Ok(()) => {}
            Err(TrySendError::Full(ask)) => ask.refuse("too many reloads wait already"),
            Err(TrySendError::Closed(ask)) => ask.come_too_late(),
        }
    }

    /// Everything ends.
    pub(super) fn come_too_late(self) {
        self.refuse(ENDING);
    }

    fn refuse(self, why: &str) {
        turn_down(self.reply, why);
    }
}

/// What is read again.
#[derive(Clone)]
pub enum Reading {
    /// The file, and what it names.
    File,
    /// Only what this one names: its own text stays.
    Sources(Arc<Config>),
}

/// Somebody wants the file to be read again.
pub struct ReloadAsk {
    /// Who, for the log.
    pub who: String,
    /// What is to be read.
    pub what: Reading,
    /// Where it is said what became of it.
    pub reply: oneshot::Sender<ReloadReport>,
}

/// What a reload is told that comes too late.
const ENDING: &str = "the process is ending; its next start reads the file as it is then";
/// How long a lane may take to go on with other settings before it is said that it is stuck.
const SWAP_WAIT: Duration = Duration::from_secs(5);
/// How long the others have to leave what this instance has newer rules for; a little more than they are given.
const OTHERS_WAIT: Duration = Duration::from_secs(12);
const LOOK: Duration = Duration::from_millis(50);

/// What is made before anything is touched.
struct Ready {
    /// Lanes that begin.
    begin: Vec<Prepared>,
    /// Lanes that go on with other settings, by their names.
    swap: Vec<(Arc<str>, LaneSwap, Door)>,
    /// Lanes that end, by their numbers; the names of those that do not come back.
    end: Vec<u64>,
    gone: Vec<Arc<str>>,
}

impl Relay {
    /// Has reloads read the file by this. Without, they are refused.
    pub fn reload_by(&mut self, loader: Loader) {
        self.loader = Some(loader);
        let watching = sources::watch(
            Arc::clone(&self.in_force),
            self.reloads(),
            self.stop_serving.clone(),
        );
        self.background
            .spawn("the look at secrets and texts", watching);
    }

    /// Where a reload is asked for.
    #[must_use]
    pub fn reloads(&self) -> mpsc::Sender<ReloadAsk> {
        self.reloads.0.clone()
    }

    /// The file that this one is there instead of could not be taken over.
    pub fn stands_in(&self, why: &str) {
        self.in_force.refuse(why, true, &self.metrics);
    }

    /// Reads the file and takes it over, or leaves everything as it is.
    pub(super) async fn reload(&mut self, ask: ReloadAsk) -> Result<(), RelayError> {
        let ReloadAsk { who, what, reply } = ask;
        info!(who, "reading the file again");
        let Some(loader) = self.loader.clone() else {
            turn_down(reply, "this process has no file to read again");
            return Ok(());
        };
        let whole = matches!(what, Reading::File);
        if let Reading::Sources(config) = &what
            && !Arc::ptr_eq(config, &self.in_force.config())
        {
            // The file that was taken meanwhile was read with all that it names; this is of the one before.
            turn_down(reply, "another file has been taken over since");
            return Ok(());
        }
        let read = tokio::task::spawn_blocking(move || loader(&what));
        let config = match self.while_watching(read).await? {
            Ok(Ok(config)) => config,
            Ok(Err(problems)) => return self.refuse(problems.render(false), whole, reply),
            Err(error) => return self.refuse(format!("it cannot be read: {error}"), whole, reply),
        };
        let old = self.in_force.config();
        // With a thousand destinations this takes a while.
        let compare = move || (Plan::new(&old, &config), config);
        let compared = tokio::task::spawn_blocking(compare);
        let (plan, config) = match self.while_watching(compared).await? {
            Ok(compared) => compared,
            Err(error) => {
                let why = format!("the comparison ended badly: {error}");
                return self.refuse(why, whole, reply);
            }
        };
        if self.stop.is_cancelled() {
            turn_down(reply, ENDING);
            return Ok(());
        }
        if let Err(error) = descriptors::of(&config) {
            return self.refuse(error.text(), whole, reply);
        }
        if !plan.everything.is_empty() {
            return self.begin_anew(plan, config, whole, reply);
        }
        let ready = match self.make_ready(&plan, &config) {
            Ok(ready) => ready,
            Err(error) => return self.refuse(error.text(), whole, reply),
        };
        say(&plan);
        self.apply(ready, config, whole).await?;
        if self.stop.is_cancelled() {
            turn_down(reply, ENDING);
            return Ok(());
        }
        let report = report(&plan);
        match self.desk.clone() {
            Some(desk) => drop(tokio::spawn(desk.answer_reload(report, reply))),
            None => drop(reply.send(report)),
        }
        Ok(())
    }

    /// The file is not taken: says so everywhere.
    fn refuse(
        &self,
        why: String,
        whole: bool,
        reply: oneshot::Sender<ReloadReport>,
    ) -> Result<(), RelayError> {
        error!(
            "the file is refused, and the one before stays in force:\n{}",
            why.trim_end()
        );
        self.in_force.refuse(&why, whole, &self.metrics);
        turn_down(reply, &why);
        Ok(())
    }

    /// Ends everything in good order; whoever waits for that begins with the new file.
    fn begin_anew(
        &mut self,
        plan: Plan,
        config: Config,
        whole: bool,
        reply: oneshot::Sender<ReloadReport>,
    ) -> Result<(), RelayError> {
        let listen = config.admin.listen;
        // On the same port we are in our own way, whatever the address is.
        let can_listen = listen.port() == self.in_force.config().admin.listen.port()
            || std::net::TcpListener::bind(listen).is_ok();
        let made = LanePlan::all(&config).map(drop);
        if let Err(error) = made {
            return self.refuse(error.text(), whole, reply);
        }
        if !can_listen {
            return self.refuse(
                format!("cannot listen on {listen} ([admin] listen)"),
                whole,
                reply,
            );
        }
        say(&plan);
        let mut report = report(&plan);
        report.unchanged = 0;
        let note = "all destinations drain and begin again; `postrider status` shows when they do";
        report.notes.push(note.to_owned());
        drop(reply.send(report));
        self.anew = Some(Box::new(config));
        self.stop.cancel();
        Ok(())
    }

    /// Makes everything that can fail.
    fn make_ready(&self, plan: &Plan, config: &Config) -> Result<Ready, RelayError> {
        let doors = self.desk.iter().flat_map(|desk| desk.doors.all());
        let doors: BTreeMap<Arc<str>, Arc<Door>> =
            doors.map(|door| (Arc::clone(&door.name), door)).collect();
        let door = |lane: &LaneChange| lane.was.as_ref().and_then(|was| doors.get(was));
        let mut ready = Ready {
            begin: Vec::new(),
            swap: Vec::new(),
            end: Vec::new(),
            gone: Vec::new(),
        };
        let together = Together::of(config);
        for lane in &plan.lanes {
            match &lane.what {
                Change::Unchanged => {}
                Change::Added => ready
                    .begin
                    .push(self.prepare(config, &lane.name, &together)?),
                Change::Removed | Change::Restarted(..) => {
                    ready.end.extend(door(lane).map(|door| door.number));
                    if matches!(lane.what, Change::Restarted(..)) {
                        ready
                            .begin
                            .push(self.prepare(config, &lane.name, &together)?);
                    }
                    let gone = lane
                        .was
                        .iter()
                        .filter(|was| matches!(lane.what, Change::Removed) || **was != lane.name);
                    ready.gone.extend(gone.cloned());
                }
                Change::Swapped(_) => {
                    if let Some(door) = door(lane) {
                        let (swap, door) = self.swap(config, door, &together)?;
                        ready.swap.push((Arc::clone(&lane.name), swap, door));
                    }
                }
            }
        }
        Ok(ready)
    }

    fn prepare(
        &self,
        config: &Config,
        name: &str,
        together: &Together<'_>,
    ) -> Result<Prepared, RelayError> {
        self.lanes
            .prepare(config, lane_plan(config, name, together)?)
    }

    /// What a lane goes on with, and the way to it from then on.
    fn swap(
        &self,
        config: &Config,
        door: &Door,
        together: &Together<'_>,
    ) -> Result<(LaneSwap, Door), RelayError> {
        let plan = lane_plan(config, &door.name, together)?;
        let before = self.in_force.config();
        let webhook = |config: &Config| {
            let mut all = config.destinations.iter();
            let found = all.find(|destination| destination.name == door.name);
            found.map(|destination| destination.webhook.clone())
        };
        let endpoint = if plan.address.fingerprint != door.address.fingerprint {
            EndpointChange::Another
        } else if webhook(&before) != webhook(config) {
            EndpointChange::AskedOtherwise
        } else {
            EndpointChange::Same
        };
        let door = Door {
            rules: plan.matcher.fingerprint(),
            address: Arc::clone(&plan.address),
            retention_warning: plan.retention_warning,
            ..door.clone()
        };
        let swap = LaneSwap {
            options: plan.options,
            matcher: plan.matcher,
            address: plan.address,
            outlet: plan.outlet,
            endpoint,
        };
        Ok((swap, door))
    }

    /// Nothing is refused from here on.
    async fn apply(&mut self, ready: Ready, config: Config, whole: bool) -> Result<(), RelayError> {
        let Some(desk) = self.desk.clone() else {
            return Err(RelayError::Unasked("the operators' desk".to_owned()));
        };
        let mut doors = desk.doors.all();
        let mut swaps = Vec::new();
        for (name, swap, door) in ready.swap {
            let handing = tokio::spawn(hand_over(swap, door.clone()));
            swaps.push((name, tokio::time::timeout(SWAP_WAIT, handing)));
            if let Some(known) = doors.iter_mut().find(|known| known.number == door.number) {
                *known = Arc::new(door);
            }
        }
        for (name, handing) in swaps {
            // Whoever gives up waiting does not take them back.
            if self.while_watching(handing).await?.is_err() {
                warn!(
                    destination = &*name,
                    "the lane is stuck: its settings hold as soon as it turns again"
                );
            }
        }
        for number in &ready.end {
            self.lanes.end(*number);
        }
        let disabled = config.disabled.clone();
        self.call_the_roll(&desk, doors.clone(), &disabled).await?;
        desk.redeploy(&config);
        // What still drains keeps nothing of it waiting.
        if !self.stop.is_cancelled() {
            self.take_over(config, whole);
        }
        let leaving: Vec<Arc<Door>> = doors
            .iter()
            .filter(|door| ready.end.contains(&door.number))
            .cloned()
            .collect();
        let mut to_begin = ready.begin;
        loop {
            let left = |door: &Arc<Door>| self.lanes.has_left(door.number);
            let waits = |prepared: &mut Prepared| {
                let mut leaving = leaving.iter().filter(|door| !left(door));
                leaving.any(|door| prepared.follows(door))
            };
            let begin = to_begin.extract_if(.., |prepared| !waits(prepared));
            let begin: Vec<Prepared> = begin.collect();
            let (gone, stay): (Vec<_>, Vec<_>) = doors
                .into_iter()
                .partition(|door| ready.end.contains(&door.number) && left(door));
            doors = stay;
            // Another may have left while the roll was called: more is waited for only when nothing has changed since all were looked at.
            if gone.is_empty() && begin.is_empty() {
                if leaving.iter().all(left) {
                    return Ok(());
                }
                self.watch().await?;
                continue;
            }
            if !gone.is_empty() {
                self.call_the_roll(&desk, doors.clone(), &disabled).await?;
                // Nobody counts for them any more, and nobody has their names yet.
                let gone = gone.iter().map(|door| &door.name);
                for name in gone.filter(|name| ready.gone.contains(name)) {
                    self.metrics.forget(name);
                }
            }
            if !begin.is_empty() {
                doors.extend(begin.into_iter().filter_map(|lane| self.begin(lane)));
                doors.sort_by_key(|door| (door.is_audit(), Arc::clone(&door.name)));
                self.call_the_roll(&desk, doors.clone(), &disabled).await?;
            }
        }
    }

    /// From here on the file is in force.
    fn take_over(&mut self, config: Config, whole: bool) {
        self.lanes.common.unknown.take(&config);
        let limits = Limits::of(&config);
        limits.say_what_is_missing(&config);
        self.lanes.common.allotments.limit(limits);
        logging::set_usual_level(config.log.level);
        self.access.change(&config.admin);
        match whole {
            true => self.in_force.take(config, &self.metrics),
            false => self.in_force.take_sources(config, &self.metrics),
        }
    }

    /// Begins a lane, unless everything ends: then it would drain at once.
    fn begin(&mut self, lane: Prepared) -> Option<Arc<Door>> {
        if self.stop.is_cancelled() {
            return None;
        }
        Some(self.lanes.begin(lane, &self.producer))
    }

    /// Lets everybody know who is there.
    async fn call_the_roll(
        &mut self,
        desk: &Arc<FrontDesk>,
        doors: Vec<Arc<Door>>,
        disabled: &[Arc<str>],
    ) -> Result<(), RelayError> {
        let (done, heard) = oneshot::channel();
        let roster = Roster {
            doors,
            disabled: disabled.to_vec(),
            done,
        };
        let rosters = desk.rosters.clone();
        let told = async move {
            // The desk ends only with the relay.
            if rosters.send(roster).await.is_ok() {
                drop(heard.await);
            }
        };
        self.while_watching(told).await
    }
}

impl Door {
    fn is_audit(&self) -> bool {
        *self.name == *crate::kafka::AUDIT
    }
}

impl FrontDesk {
    /// Tells the other instances which rules this one has.
    fn redeploy(&self, config: &Config) {
        let wall = Clock::wall();
        let placed = config.placed.map_or(wall, |placed| placed.min(wall));
        let plans = config.matchers();
        let rules = plans.map(|(id, matcher)| (id.to_string(), matcher.fingerprint()));
        let now = self.clock.now().tick;
        self.rollout.redeploy(placed, rules.collect(), now);
    }

    /// Answers when nobody reads by older rules any more, or nobody waits for that.
    async fn answer_reload(
        self: Arc<Self>,
        mut report: ReloadReport,
        reply: oneshot::Sender<ReloadReport>,
    ) {
        let until = self.clock.now().tick + OTHERS_WAIT;
        let older = loop {
            let now = self.clock.now().tick;
            match self.rollout.older(now) {
                Some(_) if now < until => tokio::time::sleep(LOOK).await,
                older => break older,
            }
        };
        if let Some(name) = older {
            let note = format!("instance {name} reads by an older file and has not left yet");
            report.notes.push(note);
        }
        // Whoever asked may have gone.
        drop(reply.send(report));
    }
}

/// Everything that the file says of one lane.
fn lane_plan(config: &Config, name: &str, together: &Together<'_>) -> Result<LanePlan, RelayError> {
    let mut destinations = config.destinations.iter();
    match destinations.find(|destination| *destination.name == *name) {
        Some(destination) => LanePlan::of(config, destination, together),
        None => LanePlan::of_audit(config)
            .ok_or_else(|| RelayError::Unasked(format!("the plan for {name}"))),
    }
}

/// Hands a lane its settings, and waits until they hold.
async fn hand_over(swap: LaneSwap, door: Door) {
    let (reply, done) = oneshot::channel();
    let swap = LaneAsk::Swap(Box::new(swap), reply);
    // A lane that has ended needs none.
    if door.asks.send(swap).await.is_ok() {
        drop(done.await);
    }
}

fn turn_down(reply: oneshot::Sender<ReloadReport>, why: &str) {
    // Whoever asked may have gone.
    drop(reply.send(refused(why.to_owned())));
}

fn report(plan: &Plan) -> ReloadReport {
    ReloadReport {
        result: OrderResult::Done,
        plan: plan.lines(),
        notes: Vec::new(),
        unchanged: plan.unchanged(),
        kafka_away: false,
    }
}

fn say(plan: &Plan) {
    for line in plan.lines() {
        info!("reload: {line}");
    }
    let unchanged = plan.unchanged();
    info!(unchanged, "the file is taken over");
}

#[cfg(test)]
mod tests;
