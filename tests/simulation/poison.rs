//! Records whose sending ends the process, and what the shells of an instance do together so that they are found.

use std::collections::VecDeque;

use postrider::lane::Event;

use crate::check::{Check, Violation};
use crate::coverage::Seen;
use crate::instance::Note;
use crate::oracle::{Behaviour, Fate};
use crate::rng::Rng;
use crate::world::{What, World, trace};

/// So many records of a run end their sender.
const DEADLY_MAX: usize = 2;
/// More often than this none may end it: the end of the other one begins the count anew.
pub(crate) const KILLS_MAX: u32 = 40;
/// Less often is not enough to tell.
pub(crate) const KILLS_MIN: u32 = 3;

/// Who of an instance asks to be alone; the first has its turn.
#[derive(Debug, Default)]
pub(crate) struct Asking(VecDeque<usize>);

/// Makes one of a new record's fates a deadly one, now and then.
pub(crate) fn poison(rng: &mut Rng, deadly: &mut usize, fates: &mut [Fate]) {
    if *deadly == DEADLY_MAX || !rng.chance(4) {
        return;
    }
    let place = rng.index(fates.len());
    let fate = &mut fates[place];
    if matches!(fate.verdict, postrider::delivery::Verdict::Deliver { .. }) {
        fate.behaviour = Behaviour::Kills;
        *deadly += 1;
    }
}

impl World {
    /// The record ends its sender, soon after it set out.
    pub(crate) fn sends_poison(&mut self, shell: usize, number: usize) {
        let destination = self.shells[shell].destination;
        self.coverage.see(Seen::Killed);
        let fate = self.oracle.fate(destination, number);
        fate.kills += 1;
        if fate.kills > KILLS_MAX {
            let words = format!("record {number} ended the process {} times", fate.kills);
            self.fail(Violation::new(Check::DeadLetter, words));
        }
        let life = self.shells[shell].life;
        let wait = self.wait(0, 5);
        self.after(wait, What::Dies { shell, life });
    }

    pub(crate) fn dies(&mut self, shell: usize, life: u32) {
        if self.shells[shell].life == life && self.shells[shell].running.is_some() {
            trace!(self, "shell {shell} dies of what it sent");
            self.crash_instance(self.shells[shell].instance);
        }
    }

    // === One record alone in an instance ===

    pub(crate) fn ask_for_stillness(&mut self, shell: usize) {
        self.coverage.see(Seen::AsksForStillness);
        let instance = self.shells[shell].instance;
        let asking = &mut self.asking[instance].0;
        if !asking.contains(&shell) {
            asking.push_back(shell);
        }
        self.look_around(instance);
    }

    pub(crate) fn end_stillness(&mut self, shell: usize) {
        let instance = self.shells[shell].instance;
        self.asking[instance].0.retain(|asking| *asking != shell);
        self.look_around(instance);
    }

    /// Tells everybody in an instance what the first that asks needs, in time.
    pub(crate) fn look_around(&mut self, instance: usize) {
        let first = self.asking[instance].0.front().copied();
        let lanes = self.plan.destinations.len();
        let mut all_still = true;
        for shell in instance * lanes..(instance + 1) * lanes {
            let Some(running) = &mut self.shells[shell].running else {
                continue;
            };
            let hush = first.is_some_and(|first| first != shell);
            all_still &= !hush || running.hushed && running.subject.is_still();
            if running.hush_told != hush {
                running.hush_told = hush;
                let wait = self.wait(0, 20);
                self.note(shell, wait, Note::Hush);
            }
        }
        if let Some(first) = first.filter(|_| all_still) {
            let wait = self.wait(0, 20);
            self.note(first, wait, Note::Still);
        }
    }

    /// It hears what is asked for by then.
    pub(crate) fn hush(&mut self, shell: usize) {
        let first = self.asking[self.shells[shell].instance].0.front();
        let hush = first.is_some_and(|first| *first != shell);
        if let Some(running) = &mut self.shells[shell].running {
            running.hushed = hush;
        }
        self.tell(shell, Event::Hush(hush));
    }

    /// Nobody is left who asks.
    pub(crate) fn forget_asking(&mut self, shell: usize) {
        let instance = self.shells[shell].instance;
        self.asking[instance].0.retain(|asking| *asking != shell);
    }

    pub(crate) fn is_asked_for_stillness(&self, instance: usize) -> bool {
        !self.asking[instance].0.is_empty()
    }
}
