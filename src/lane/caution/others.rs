//! No lane keeps all others still for long.

use std::time::Duration;

use crate::clock::Tick;

use super::super::machine::Lane;
use super::{Current, OneAtATime, Stage, Stillness};

/// How long all other lanes stand still for one that waits for its brokers, and how long they go on before it asks them again.
const OTHERS_WAIT: Duration = Duration::from_secs(5);
const OTHERS_GO_ON: Duration = Duration::from_secs(15);

impl OneAtATime {
    /// When the other lanes have waited long enough.
    pub(in crate::lane) fn deadline(&self) -> Option<Tick> {
        self.idle_since.map(|since| since + OTHERS_WAIT)
    }
}

impl Lane {
    /// The broker acknowledges a mark within moments. If not, the other lanes go on: what ends the process then may be held against the wrong record, but
    /// no destination holds up another.
    pub(in crate::lane) fn let_others_go_on(&mut self) {
        let now = self.now.tick;
        let one = &mut self.one_at_a_time;
        let under_way = |current: &Current| current.stage == Stage::UnderWay;
        let is_busy = one.current.as_ref().is_some_and(under_way);
        if one.stillness != Stillness::Granted || is_busy {
            one.idle_since = None;
            return;
        }
        let since = *one.idle_since.get_or_insert(now);
        if now.since(since) >= OTHERS_WAIT {
            one.idle_since = None;
            one.not_before = now + OTHERS_GO_ON;
            self.take_mark_away();
            self.end_stillness();
        }
    }
}
