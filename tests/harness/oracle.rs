//! The oracle: judges a run from outside, by what was produced, what receivers saw, what became a dead letter and what was committed.
//!
//! It knows nothing of how Postrider works. It names every record that was lost and every other breach it finds; whether repeats
//! or another order are a breach is for the test to say, for after a crash they are not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use super::ledger::Attempt;
use super::place::{Offsets, Place, Stored};

/// How many places of one finding are printed.
const PLACES_SHOWN: usize = 8;

/// Whether a destination is to get a record.
type Expectation<'a> = Box<dyn Fn(&str, &Stored) -> bool + 'a>;

/// What is known of a run.
pub struct Oracle<'a> {
    produced: BTreeMap<&'a Place, &'a Stored>,
    expects: Expectation<'a>,
    dead_letters: &'a [Stored],
    destinations: Vec<Seen<'a>>,
}

/// What is known of one destination.
struct Seen<'a> {
    name: &'a str,
    attempts: &'a [Attempt],
    committed: Option<&'a Offsets>,
}

/// What the oracle says, by destination.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Each destination's findings.
    pub destinations: BTreeMap<String, Findings>,
    /// Ids under which two different deliveries came, of one destination or of two.
    pub shared_ids: BTreeMap<String, BTreeSet<(String, Place)>>,
}

/// What was found at one destination.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Records it should get.
    pub expected: usize,
    /// Attempts it saw.
    pub attempts: usize,
    /// Different records it accepted.
    pub accepted: usize,
    /// Different records of its dead letters.
    pub dead_lettered: usize,
    /// Neither accepted nor a dead letter.
    pub lost: Vec<Place>,
    /// Accepted more than once, and how often in all.
    pub duplicated: BTreeMap<Place, usize>,
    /// Accepted for the first time after a later record of the same partition and key: the later one, then this one.
    pub reordered: Vec<(Place, Place)>,
    /// The same for whole partitions, whatever the keys.
    pub reordered_in_partition: usize,
    /// Records that came, or became dead letters, under several ids.
    pub two_ids: BTreeMap<Place, BTreeSet<String>>,
    /// Below a committed offset, and neither accepted nor a dead letter.
    pub committed_beyond: Vec<Place>,
    /// Bodies, or values of dead letters, that are not what was produced.
    pub altered: Vec<Place>,
    /// Both accepted and a dead letter: possible after a crash, worth a look otherwise.
    pub both: Vec<Place>,
    /// More than one dead letter, and how many.
    pub dead_lettered_twice: BTreeMap<Place, usize>,
    /// Attempts and dead letters for records that were never produced, or not for this destination.
    pub unknown: Vec<Place>,
    /// Attempts, by number, that do not say which record they are about or have no id.
    pub nameless: Vec<usize>,
}

impl<'a> Oracle<'a> {
    /// Begins with the list of what was produced. Every destination is expected to get every record that has a value.
    pub fn new(produced: &'a [Stored]) -> Self {
        Self {
            produced: produced
                .iter()
                .map(|record| (&record.place, record))
                .collect(),
            expects: Box::new(|_, record| record.value.is_some()),
            dead_letters: &[],
            destinations: vec![],
        }
    }

    /// Which records a destination is to get, when it is not all that have a value.
    pub fn expects(mut self, expects: impl Fn(&str, &Stored) -> bool + 'a) -> Self {
        self.expects = Box::new(expects);
        self
    }

    /// Adds the dead-letter topic, read to its end.
    pub fn dead_letters(mut self, dead_letters: &'a [Stored]) -> Self {
        self.dead_letters = dead_letters;
        self
    }

    /// Adds a destination with what its receiver saw.
    pub fn destination(mut self, name: &'a str, attempts: &'a [Attempt]) -> Self {
        self.destinations.push(Seen {
            name,
            attempts,
            committed: None,
        });
        self
    }

    /// Adds what the group of the destination added last has committed. Read it before the ledger, or what was settled in between hides
    /// a commit that came too early.
    pub fn committed(mut self, offsets: &'a Offsets) -> Self {
        self.destinations
            .last_mut()
            .expect("a destination comes first")
            .committed = Some(offsets);
        self
    }

    /// Judges.
    pub fn judge(&self) -> Report {
        let mut ids: HashMap<String, BTreeSet<(String, Place)>> = HashMap::new();
        let mut report = Report::default();
        for seen in &self.destinations {
            let letters: Vec<(Option<Place>, &Stored)> = self
                .dead_letters
                .iter()
                .filter(|letter| letter.header("postrider-destination") == Some(seen.name))
                .map(|letter| (origin(letter), letter))
                .collect();
            let findings = self.findings(seen, &letters, &mut ids);
            report.destinations.insert(seen.name.to_owned(), findings);
        }
        report.shared_ids = ids
            .into_iter()
            .filter(|(_, deliveries)| deliveries.len() > 1)
            .collect();
        report
    }

    fn findings(
        &self,
        seen: &Seen<'_>,
        letters: &[(Option<Place>, &Stored)],
        ids: &mut HashMap<String, BTreeSet<(String, Place)>>,
    ) -> Findings {
        let mut findings = Findings {
            attempts: seen.attempts.len(),
            ..Findings::default()
        };
        let mut names: BTreeMap<Place, BTreeSet<String>> = BTreeMap::new();
        let mut accepted: BTreeMap<Place, usize> = BTreeMap::new();
        let mut first_accepted: Vec<&Attempt> = vec![];
        for attempt in seen.attempts {
            let (Some(place), Some(id)) = (&attempt.place, &attempt.id) else {
                findings.nameless.push(attempt.number);
                continue;
            };
            names.entry(place.clone()).or_default().insert(id.clone());
            match self.produced.get(place) {
                Some(record) if (self.expects)(seen.name, record) => {
                    if attempt.body_sha256 != record.sha256() {
                        findings.altered.push(place.clone());
                    }
                }
                _ => findings.unknown.push(place.clone()),
            }
            if attempt.accepted() {
                let count = accepted.entry(place.clone()).or_default();
                *count += 1;
                if *count == 1 {
                    first_accepted.push(attempt);
                }
            }
        }
        let buried = self.bury(seen.name, letters, &mut findings, &mut names);
        self.reorder(&first_accepted, &mut findings);
        let settled = |place: &Place| accepted.contains_key(place) || buried.contains_key(place);
        self.lose(seen, settled, &mut findings);
        for places in [&mut findings.altered, &mut findings.unknown] {
            places.sort();
            places.dedup();
        }
        findings.both = buried
            .keys()
            .filter(|p| accepted.contains_key(p))
            .cloned()
            .collect();
        findings.accepted = accepted.len();
        findings.dead_lettered = buried.len();
        findings.duplicated = accepted
            .into_iter()
            .filter(|(_, count)| *count > 1)
            .collect();
        findings.dead_lettered_twice = buried.into_iter().filter(|(_, count)| *count > 1).collect();
        for (place, id) in names
            .iter()
            .flat_map(|(place, ids)| ids.iter().map(move |i| (place, i)))
        {
            let deliveries = ids.entry(id.clone()).or_default();
            deliveries.insert((seen.name.to_owned(), place.clone()));
        }
        findings.two_ids = names.into_iter().filter(|(_, ids)| ids.len() > 1).collect();
        findings
    }

    /// Looks at the dead letters of one destination; returns how many there are of each record.
    fn bury(
        &self,
        destination: &str,
        letters: &[(Option<Place>, &Stored)],
        findings: &mut Findings,
        names: &mut BTreeMap<Place, BTreeSet<String>>,
    ) -> BTreeMap<Place, usize> {
        let mut buried = BTreeMap::new();
        for (origin, letter) in letters {
            let known = origin
                .as_ref()
                .and_then(|place| self.produced.get_key_value(place));
            let Some((place, record)) = known else {
                findings.unknown.push(letter.place.clone());
                continue;
            };
            if !(self.expects)(destination, record) {
                findings.unknown.push(letter.place.clone());
            }
            if let Some(id) = letter.header("postrider-id") {
                names
                    .entry((*place).clone())
                    .or_default()
                    .insert(id.to_owned());
            }
            // A letter too big for its topic sheds its value and points to the origin instead.
            let shed = letter.value.is_none();
            if letter.key != record.key || (letter.value != record.value && !shed) {
                findings.altered.push((*place).clone());
            }
            *buried.entry((*place).clone()).or_default() += 1;
        }
        buried
    }

    /// Compares the order of first acceptance with the order in Kafka.
    fn reorder(&self, first_accepted: &[&Attempt], findings: &mut Findings) {
        let mut last_of_key: HashMap<(&str, i32, Option<&[u8]>), &Place> = HashMap::new();
        let mut last_of_partition: HashMap<(&str, i32), i64> = HashMap::new();
        let mut by_arrival = first_accepted.to_vec();
        by_arrival.sort_by_key(|attempt| attempt.arrived);
        for attempt in by_arrival {
            let Some(place) = &attempt.place else {
                continue;
            };
            let partition = (place.topic.as_str(), place.partition);
            let highest = last_of_partition.entry(partition).or_insert(place.offset);
            findings.reordered_in_partition += usize::from(place.offset < *highest);
            *highest = place.offset.max(*highest);
            // A null key orders nothing.
            let key = self
                .produced
                .get(place)
                .and_then(|record| record.key.as_deref());
            let Some(key) = key else { continue };
            let last = last_of_key
                .entry((partition.0, partition.1, Some(key)))
                .or_insert(place);
            if place.offset < last.offset {
                findings.reordered.push(((*last).clone(), place.clone()));
            } else {
                *last = place;
            }
        }
    }

    /// Finds what ended in nothing, and what was committed all the same.
    fn lose(&self, seen: &Seen<'_>, settled: impl Fn(&Place) -> bool, findings: &mut Findings) {
        for (place, record) in &self.produced {
            if !(self.expects)(seen.name, record) {
                continue;
            }
            findings.expected += 1;
            if settled(place) {
                continue;
            }
            findings.lost.push((*place).clone());
            let partition = (place.topic.clone(), place.partition);
            let committed = seen.committed.and_then(|offsets| offsets.get(&partition));
            if committed.is_some_and(|offset| place.offset < *offset) {
                findings.committed_beyond.push((*place).clone());
            }
        }
    }
}

impl Findings {
    /// How many acceptances were repeats.
    pub fn repeats(&self) -> usize {
        self.duplicated.values().map(|count| count - 1).sum()
    }

    /// What no crash excuses.
    fn is_sound(&self) -> bool {
        self.lost.is_empty()
            && self.two_ids.is_empty()
            && self.committed_beyond.is_empty()
            && self.altered.is_empty()
            && self.unknown.is_empty()
            && self.nameless.is_empty()
    }

    /// Each kind of finding that there is, with the places.
    fn list(&self) -> Vec<(&'static str, Vec<String>)> {
        fn texts<T: fmt::Display>(places: &[T]) -> Vec<String> {
            places.iter().map(T::to_string).collect()
        }
        fn times(places: &BTreeMap<Place, usize>) -> Vec<String> {
            places
                .iter()
                .map(|(place, count)| format!("{place} x{count}"))
                .collect()
        }
        let joined = |ids: &BTreeSet<String>| ids.iter().cloned().collect::<Vec<_>>().join(", ");
        let two_ids = self
            .two_ids
            .iter()
            .map(|(place, ids)| format!("{place}: {}", joined(ids)));
        let reordered = self
            .reordered
            .iter()
            .map(|(later, this)| format!("{this} after {later}"));
        let all = [
            ("LOST", texts(&self.lost)),
            ("COMMITTED BEYOND", texts(&self.committed_beyond)),
            ("ALTERED", texts(&self.altered)),
            ("TWO IDS", two_ids.collect()),
            ("UNKNOWN", texts(&self.unknown)),
            ("NAMELESS", texts(&self.nameless)),
            ("duplicated", times(&self.duplicated)),
            ("reordered", reordered.collect()),
            ("accepted and dead", texts(&self.both)),
            ("dead twice", times(&self.dead_lettered_twice)),
        ];
        all.into_iter()
            .filter(|(_, places)| !places.is_empty())
            .collect()
    }
}

impl Report {
    /// The findings of one destination.
    #[track_caller]
    pub fn of(&self, destination: &str) -> &Findings {
        let findings = self.destinations.get(destination);
        findings.unwrap_or_else(|| panic!("the oracle was not told of {destination}"))
    }

    /// Whether nothing was found that no crash excuses: loss, two ids, a shared id, a commit too far, an altered body, a stranger.
    pub fn is_sound(&self) -> bool {
        self.shared_ids.is_empty() && self.destinations.values().all(Findings::is_sound)
    }

    /// Panics with the whole report unless it is sound.
    #[track_caller]
    pub fn assert_sound(&self) {
        assert!(self.is_sound(), "\n{self}");
    }

    /// Panics with the whole report unless it is sound and every record came exactly once.
    #[track_caller]
    pub fn assert_exactly_once(&self) {
        let once = |f: &Findings| {
            f.duplicated.is_empty() && f.both.is_empty() && f.dead_lettered_twice.is_empty()
        };
        assert!(
            self.is_sound() && self.destinations.values().all(once),
            "\n{self}"
        );
    }
}

/// A table of numbers, then every finding with its first places; what no crash excuses is in capitals.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_sound() {
            "sound"
        } else {
            "NOT SOUND"
        };
        writeln!(f, "the oracle says: {verdict}")?;
        writeln!(
            f,
            "  {:<14} {:>8} {:>8} {:>8} {:>6} {:>6} {:>8} {:>10}",
            "destination",
            "expected",
            "attempts",
            "accepted",
            "dead",
            "lost",
            "repeats",
            "reordered"
        )?;
        for (name, found) in &self.destinations {
            writeln!(
                f,
                "  {name:<14} {:>8} {:>8} {:>8} {:>6} {:>6} {:>8} {:>10}",
                found.expected,
                found.attempts,
                found.accepted,
                found.dead_lettered,
                found.lost.len(),
                found.repeats(),
                found.reordered.len(),
            )?;
        }
        for (name, found) in &self.destinations {
            for (what, places) in found.list() {
                write_places(f, &format!("{name}: {what}"), &places)?;
            }
        }
        let shared = self.shared_ids.iter().map(|(id, deliveries)| {
            let texts: Vec<String> = deliveries.iter().map(|(d, p)| format!("{d} {p}")).collect();
            format!("{id}: {}", texts.join(", "))
        });
        let shared: Vec<String> = shared.collect();
        if shared.is_empty() {
            Ok(())
        } else {
            write_places(f, "SHARED IDS", &shared)
        }
    }
}

fn write_places(f: &mut fmt::Formatter<'_>, what: &str, places: &[String]) -> fmt::Result {
    writeln!(f, "  {what} ({})", places.len())?;
    for place in places.iter().take(PLACES_SHOWN) {
        writeln!(f, "    {place}")?;
    }
    match places.len().saturating_sub(PLACES_SHOWN) {
        0 => Ok(()),
        more => writeln!(f, "    and {more} more"),
    }
}

/// The record a dead letter is about.
fn origin(letter: &Stored) -> Option<Place> {
    let partition = letter.header("postrider-partition")?.parse().ok()?;
    let offset = letter.header("postrider-offset")?.parse().ok()?;
    Some(Place::new(
        letter.header("postrider-topic")?,
        partition,
        offset,
    ))
}
