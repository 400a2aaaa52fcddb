//! What came of it: the dead letters, the balance, and whether everybody counted the same.

use crate::metrics::Balance;
use crate::relay::Drained;

use super::broker::DeadLetter;
use super::page::{Page, Tone};
use super::receiver::Taken;

/// Everything that was counted for one destination, each number by somebody else.
#[derive(Debug, Clone)]
pub(super) struct LaneResult {
    pub(super) name: &'static str,
    /// What the lane counted.
    pub(super) balance: Balance,
    /// What the receiver counted.
    pub(super) taken: Taken,
    /// What the producer counted, in the topics of this lane.
    pub(super) produced: u64,
    /// Committed position and end of every topic of this lane.
    pub(super) positions: Vec<(i64, i64)>,
}

/// One sentence, and whether it is true.
type Check = (bool, String);

/// Shows every dead letter.
pub(super) fn show_dead_letters(page: &Page, letters: &[DeadLetter]) {
    page.title("Dead letters, read back from the broker");
    for letter in letters {
        let header = |name| letter.header(name);
        let head = format!(
            "{}/{}@{}: {} for {}, from {}/{}@{}, attempts {}",
            letter.at.topic,
            letter.at.partition,
            letter.at.offset,
            header("reason"),
            header("destination"),
            header("topic"),
            header("partition"),
            header("offset"),
            header("attempts"),
        );
        page.text(Tone::Plain, 2, &head);
        page.text(Tone::Trouble, 4, header("error"));
        if !header("excerpt").is_empty() {
            page.text(Tone::Quiet, 4, &format!("answer: {}", header("excerpt")));
        }
    }
}

/// Shows the balance, and whether it adds up.
pub(super) fn show_balance(
    page: &Page,
    lanes: &[LaneResult],
    letters: &[DeadLetter],
    drained: Drained,
) -> bool {
    page.title("The balance, from the counters of /metrics");
    page.line(
        Tone::Quiet,
        "  destination   read = delivered + dead-lettered + dropped + not matched",
    );
    let mut checks = Vec::new();
    for lane in lanes {
        let Balance {
            read,
            delivered,
            dead_lettered,
            dropped,
            not_matched,
            ..
        } = lane.balance;
        page.line(
            Tone::Plain,
            &format!(
                "  {:<12}{read:>6} = {delivered:>9} + {dead_lettered:>13} + {dropped:>7} + {not_matched:>11}",
                lane.name
            ),
        );
        checks.extend(checks_of(lane, letters));
    }
    checks.push((
        drained.in_time && drained.released == 0,
        format!(
            "the relay was asked to end and drained; records given back: {}",
            drained.released
        ),
    ));
    page.title("Counted again by everybody else");
    for (holds, text) in &checks {
        let (tone, mark) = if *holds {
            (Tone::Good, "ok")
        } else {
            (Tone::Trouble, "NO")
        };
        page.text(tone, 2, &format!("{mark} {text}"));
    }
    checks.iter().all(|(holds, _)| *holds)
}

fn checks_of(lane: &LaneResult, letters: &[DeadLetter]) -> Vec<Check> {
    let LaneResult {
        name,
        balance,
        taken,
        produced,
        positions,
    } = lane;
    let own = |letter: &&DeadLetter| letter.header("destination") == *name;
    let rejected = |letter: &&DeadLetter| letter.header("reason") == "rejected";
    let in_topic = letters.iter().filter(own).count() as u64;
    let refused = letters.iter().filter(own).filter(rejected).count() as u64;
    let at_end = positions
        .iter()
        .filter(|(committed, end)| committed == end)
        .count();
    vec![
        (
            balance.read == *produced && balance.read == balance.settled() && balance.waiting == 0,
            format!(
                "{name}: the producer wrote {produced}; read and settled {}",
                balance.settled()
            ),
        ),
        (
            taken.deliveries == balance.delivered && taken.repeats == 0,
            format!(
                "{name}: its receiver took {} deliveries, {} of them twice",
                taken.deliveries, taken.repeats
            ),
        ),
        (
            in_topic == balance.dead_lettered && refused == taken.refused,
            format!(
                "{name}: the dead-letter topic holds {in_topic}; its receiver refused {}",
                taken.refused
            ),
        ),
        (
            at_end == positions.len() && !positions.is_empty(),
            format!(
                "{name}: committed to the end of {at_end} of {} topics",
                positions.len()
            ),
        ),
    ]
}
