//! From which level on this instance logs, as an operator wants it for a while.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::{Level, warn};

use crate::admin::api::{LogLevelRequest, OrderReport, OrderResult};
use crate::logging;

/// Whose turn it is: a time that ends takes back only its own level.
static TURN: AtomicU64 = AtomicU64::new(0);

/// Does what is asked. With a time, the level of the start is back when that is over.
pub(super) fn set(request: &LogLevelRequest) -> OrderReport {
    let refused = |text: String| OrderReport {
        result: OrderResult::Refused,
        text,
    };
    let Ok(level) = request.level.parse::<Level>() else {
        return refused("the level is none of error, warn, info, debug, trace".to_owned());
    };
    let Some(usual) = logging::set_level(level) else {
        return refused("this process has no log whose level can be changed".to_owned());
    };
    let turn = TURN.fetch_add(1, Ordering::Relaxed) + 1;
    let name = level.as_str().to_ascii_lowercase();
    let end = match request.for_ms.map(Duration::from_millis) {
        Some(time) => {
            tokio::spawn(take_back(turn, usual, time));
            let usual = usual.as_str().to_ascii_lowercase();
            format!("for {} s, then {usual} again", time.as_secs())
        }
        None => "until the next start".to_owned(),
    };
    // A warning, so that it is seen at nearly every level.
    warn!(
        who = request.who,
        level = name,
        "asked by an operator: log level {name} {end}"
    );
    OrderReport {
        result: OrderResult::Done,
        text: format!("this instance logs from {name} on, {end}"),
    }
}

async fn take_back(turn: u64, usual: Level, time: Duration) {
    tokio::time::sleep(time).await;
    if TURN.load(Ordering::Relaxed) == turn && logging::set_level(usual).is_some() {
        let level = usual.as_str().to_ascii_lowercase();
        warn!(level, "the log level is what it was at the start again");
    }
}
