//! The heart: what one destination does with its records, as a state machine without I/O.
//!
//! [`Lane`] is told what happened ([`Event`]) and when ([`Now`](crate::clock::Now)), and says what to do ([`Action`]). It never reads a clock,
//! a random source or a socket, so every promise it makes can be tried under virtual time, thousands of runs a minute. Around it stand
//! the consumer thread, the sender and the producer, which do as they are told and report back.
//!
//! [`window`] holds what was read and not yet settled, and knows which offset may be committed; [`retry`] is the schedule, [`rate`] the limits;
//! [`start`] decides where a partition begins; [`counts`] is the balance that must add up.

mod admit;
mod allotment;
mod brake;
mod breaker;
mod caution;
mod chain;
mod change;
mod choice;
mod climb;
mod commit;
mod counts;
mod delivery;
mod endpoint;
mod endpoints;
mod event;
mod evidence;
mod gate;
mod handover;
mod intake;
mod ladder;
mod machine;
mod options;
mod order;
mod progress;
mod rate;
mod retry;
mod settle;
mod share;
mod skip;
#[cfg(test)]
mod stage;
mod start;
mod status;
#[cfg(test)]
mod tests;
mod window;

pub use allotment::{Allotment, Claim, Usage, allot};
pub use counts::{Counts, Settlement, Waiting};
pub use endpoint::Why;
pub use endpoints::EndpointStates;
pub use event::{
    Action, AssignedPartition, DeadLetter, EndpointChange, Event, Incoming, LadderRecord, Notice,
    Position, Send, Shed, WriteError,
};
pub use gate::{Caller, Gate};
pub use ladder::{IN_WINDOW, Source, Step};
pub use machine::{Lane, Room};
pub use options::{
    AfterDeadLetter, BrakeMode, BrakeOptions, BreakerOptions, LaneOptions, OrderOptions,
    RateOptions, RateUnit, RenderErrorPolicy, RetryOptions, WindowOptions,
};
pub use order::Order;
pub use progress::{Budget, Caution, METADATA_MAX, Owner, Progress};
pub use skip::{Found, Place, SKIPS_MAX};
pub use start::{
    PartitionFacts, RecordsLostPolicy, Start, StartAt, StartReason, TopicFacts, TopicId,
    start_position,
};
pub use status::{Asked, Doing, HeldKey, LaneStatus, LastFailure, PartitionPosition, key_name};
