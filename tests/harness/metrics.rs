//! `/metrics` as a scraper sees it.

use std::collections::BTreeMap;
use std::fmt;

/// One reading of every series.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    series: Vec<Series>,
}

#[derive(Debug, Clone)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// The law of the contract for one destination: read = settled + released + waiting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Balance {
    /// Records read.
    pub read: f64,
    /// Records settled, in whatever way.
    pub settled: f64,
    /// Records given back.
    pub released: f64,
    /// Records in the window.
    pub waiting: f64,
}

impl Metrics {
    /// Reads the text format, version 0.0.4; panics on a line that is none of it.
    pub fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let parse = |line| parse_line(line).unwrap_or_else(|| panic!("not a series: {line}"));
        Self {
            series: lines.map(parse).collect(),
        }
    }

    /// The sum of the series of that name that have all these labels; `None` when there is no such series.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |s: &Series| {
            labels
                .iter()
                .all(|(l, v)| s.labels.get(*l).is_some_and(|x| x == v))
        };
        let mut values = self
            .series
            .iter()
            .filter(|s| s.name == name && has(s))
            .map(|s| s.value);
        let first = values.next()?;
        Some(first + values.sum::<f64>())
    }

    /// The same, 0 when there is no such series.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.get(name, labels).unwrap_or(0.0)
    }

    /// The balance of a destination.
    pub fn balance(&self, destination: &str) -> Balance {
        let of = |name| self.sum(name, &[("destination", destination)]);
        Balance {
            read: of("postrider_records_read_total"),
            settled: of("postrider_records_settled_total"),
            released: of("postrider_records_released_total"),
            waiting: of("postrider_records_waiting"),
        }
    }

    /// The names of all series.
    pub fn names(&self) -> std::collections::BTreeSet<&str> {
        self.series.iter().map(|s| s.name.as_str()).collect()
    }
}

impl Balance {
    /// Whether the law holds.
    pub fn holds(&self) -> bool {
        (self.read - self.settled - self.released - self.waiting).abs() < 0.5
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            read,
            settled,
            released,
            waiting,
        } = self;
        write!(
            f,
            "read {read} = settled {settled} + released {released} + waiting {waiting}"
        )
    }
}

/// `name{label="value",...} number`
fn parse_line(line: &str) -> Option<Series> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(label.trim_start_matches(',').to_owned(), value);
            rest = after;
        }
        rest = &rest[1..];
    }
    let number = rest.split_whitespace().next()?;
    let value = number.replace("+Inf", "inf").parse().ok()?;
    Some(Series {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// What stands before the closing quote, without its escapes, and what comes after it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}
