//! Other settings for a lane that goes on.

use std::sync::Arc;

use crate::lane::{EndpointChange, Event, LaneOptions};
use crate::rules::Matcher;

use super::desk::Desk;
use super::doors::Address;
use super::lane_task::LaneTask;
use super::outlet::Outlet;

/// What a lane goes on with.
pub(super) struct LaneSwap {
    pub(super) options: LaneOptions,
    pub(super) matcher: Matcher,
    pub(super) address: Arc<Address>,
    pub(super) outlet: Option<Arc<Outlet>>,
    /// What becomes of what is known of its endpoint.
    pub(super) endpoint: EndpointChange,
}

impl LaneTask {
    /// Goes on with other settings. Requests under way end as they began.
    pub(super) fn swap(&mut self, swap: LaneSwap) {
        let LaneSwap {
            options,
            matcher,
            address,
            outlet,
            endpoint,
        } = swap;
        self.parts.address = address;
        self.rules = matcher.rule_names().into_iter().collect();
        self.parts.metrics.rules(self.rules.iter());
        self.parts.matcher = matcher;
        self.parts.outlet.clone_from(&outlet);
        self.desk = Arc::new(Desk {
            outlet,
            ..Desk::clone(&self.desk)
        });
        self.parts
            .allotted
            .set(&options, self.parts.outlet.is_some());
        let options = Box::new(options);
        self.tell(Event::Changed { options, endpoint });
        self.show_state();
    }
}
