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
    let mut all = Balance::default();
    let mut checks = Vec::new();
    for lane in lanes {
        page.line(Tone::Plain, &balance_line(lane.name, &lane.balance));
        checks.extend(checks_of(lane, letters));
        all.read += lane.balance.read;
        all.delivered += lane.balance.delivered;
        all.dead_lettered += lane.balance.dead_lettered;
        all.dropped += lane.balance.dropped;
        all.not_matched += lane.balance.not_matched;
    }
    page.line(Tone::Title, &balance_line("both", &all));
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

fn balance_line(name: &str, balance: &Balance) -> String {
    let Balance {
        read,
        delivered,
        dead_lettered,
        dropped,
        not_matched,
        ..
    } = balance;
    format!(
        "  {name:<12}{read:>6} = {delivered:>9} + {dead_lettered:>13} + {dropped:>7} + {not_matched:>11}"
    )
}

/// Whether what the lane counted is what everybody else counted.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> LaneResult {
        let balance = Balance {
            read: 10,
            delivered: 8,
            dropped: 2,
            ..Balance::default()
        };
        LaneResult {
            name: "browser",
            balance,
            taken: Taken {
                deliveries: 8,
                ..Taken::default()
            },
            produced: 10,
            positions: vec![(5, 5), (5, 5)],
        }
    }

    #[track_caller]
    fn wrong(change: impl Fn(&mut LaneResult), count: usize) {
        let mut lane = lane();
        change(&mut lane);
        let checks = checks_of(&lane, &[]);
        assert_eq!(
            checks.iter().filter(|(holds, _)| !holds).count(),
            count,
            "{checks:?}"
        );
    }

    #[test]
    fn every_number_that_differs_is_noticed() {
        wrong(|_| {}, 0);
        wrong(|lane| lane.produced = 11, 1);
        wrong(|lane| lane.balance.dropped = 1, 1);
        wrong(|lane| lane.balance.waiting = 1, 1);
        wrong(|lane| lane.taken.deliveries = 7, 1);
        wrong(|lane| lane.taken.repeats = 1, 1);
        wrong(|lane| lane.taken.refused = 1, 1);
        wrong(|lane| lane.balance.dead_lettered = 2, 2);
        wrong(|lane| lane.positions[1] = (4, 5), 1);
        wrong(|lane| lane.positions.clear(), 1);
    }
}
