//! `postrider test`: expectations of a file's rules, held against the code of delivery.
//!
//! [`expectation`] is how they are written, [`differ`] how a difference is shown.

mod differ;
mod expectation;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::delivery::Verdict;
use crate::kafka::AUDIT;

use super::common::Common;
use super::explain::{ending, plain};
use super::look;
use super::trial::{Fate, Trial};
use super::{complain, exit, load, say};

use expectation::{Case, Expectation, Wanted};

/// Hold the rules against files of expectations: which destinations get a record, and what they get
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider -c postrider.toml test tests/                 every *.toml below the folder
  postrider test orders.toml --format json | jq .failed

An expectation file:

  [[test]]
  name = \"new orders go to the shop\"
  record = { topic = \"orders\", key = \"k1\", json = { type = \"created\", total = 7 } }
  deliver_to = [\"shop\"]                        # these destinations and no others; [] means none

  [test.expect.shop]                           # more about one of them, as far as it matters
  rule = \"orders\"
  body = '{\"text\": \"an order of 7\"}'           # JSON is compared as JSON
  headers = { content-type = \"application/json\" }

A record has `json`, `value` (a text) or `file` (beside the expectation file), and may have `partition`,
`offset`, `timestamp` and `headers`. `dead_letter = \"unrenderable\"` and `dropped = true` are other ends.

Exit codes: 0 all as expected, 1 something is not, 2 usage, 78 a file is wrong")]
pub(super) struct TestArguments {
    /// Expectation files, or folders of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// What came of one case.
#[derive(Debug, Serialize)]
struct Outcome {
    file: String,
    name: String,
    passed: bool,
    /// Each difference, in lines for people.
    differences: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    passed: usize,
    failed: usize,
    tests: Vec<Outcome>,
}

pub(super) fn main(common: &Common, arguments: &TestArguments) -> u8 {
    run(common, arguments).unwrap_or_else(|code| code)
}

fn run(common: &Common, arguments: &TestArguments) -> Result<u8, u8> {
    let config = load(common.config())?;
    let mut cases = Vec::new();
    for path in files(&arguments.paths)? {
        match expectation::read(&path) {
            Ok(found) => cases.extend(found),
            Err(why) => {
                complain(&format!("error: {}: {why}", path.display()));
                return Err(exit::CONFIG);
            }
        }
    }
    if cases.is_empty() {
        complain(
            "error: no expectation is there: a file of them has [[test]] tables (postrider test --help)",
        );
        return Err(exit::USAGE);
    }
    let known: Vec<Arc<str>> = config
        .destinations
        .iter()
        .map(|d| Arc::clone(&d.name))
        .collect();
    let mut trial = Trial::new(&config, "test");
    let colours = look::colours(&std::io::stdout());
    let mut outcomes = Vec::new();
    for case in cases {
        let outcome = judge(&mut trial, &known, &case);
        if !common.is_json() {
            say(&shown(&outcome, colours));
        }
        outcomes.push(outcome);
    }
    let passed = outcomes.iter().filter(|outcome| outcome.passed).count();
    let report = Report {
        passed,
        failed: outcomes.len() - passed,
        tests: outcomes,
    };
    if common.is_json() {
        say(&(serde_json::to_string(&report).unwrap_or_default() + "\n"));
    } else {
        say(&format!(
            "{} passed, {} failed\n",
            report.passed, report.failed
        ));
    }
    Ok(if report.failed == 0 {
        exit::OK
    } else {
        exit::NO
    })
}

/// The files that are meant: what was named, and every `*.toml` below the folders that were, in the order of their names.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, u8> {
    let mut files = Vec::new();
    for path in paths {
        let found = if path.is_dir() {
            below(path, &mut files)
        } else {
            std::fs::metadata(path).map(|_| files.push(path.clone()))
        };
        if let Err(error) = found {
            complain(&format!("error: cannot read {}: {error}", path.display()));
            return Err(exit::USAGE);
        }
    }
    Ok(files)
}

fn below(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let entries = std::fs::read_dir(folder)?;
    let entries = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut entries = entries.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort();
    for entry in entries {
        // A link may lead back to where it stands.
        if entry.is_dir() && !entry.is_symlink() {
            below(&entry, files)?;
        } else if entry.extension().is_some_and(|end| end == "toml") {
            files.push(entry);
        }
    }
    Ok(())
}

fn judge(trial: &mut Trial, known: &[Arc<str>], case: &Case) -> Outcome {
    let mut differences = Vec::new();
    let Expectation {
        deliver_to, expect, ..
    } = &case.expectation;
    let named = deliver_to.iter().flatten().chain(expect.keys());
    for name in named {
        if **name != *AUDIT && !known.iter().any(|known| **known == **name) {
            let known: Vec<&str> = known.iter().map(|name| &**name).collect();
            differences.push(crate::config::unknown_destination(name, &known));
        }
    }
    let fates = match trial.is_reserved(&case.record.topic) {
        true => Vec::new(),
        false => trial.fates(&case.record, None),
    };
    if let Some(wanted) = deliver_to {
        for fate in &fates {
            let gets = matches!(fate.request, Some(Ok(_)));
            let should = wanted.iter().any(|name| **name == *fate.destination);
            if gets != should {
                differences.push(misdirected(fate, should));
            }
        }
    }
    for fate in &fates {
        if let Some(wanted) = expect.get(&*fate.destination) {
            compare(fate, wanted, &mut differences);
        }
    }
    Outcome {
        file: case.file.clone(),
        name: case.expectation.name.clone(),
        passed: differences.is_empty(),
        differences,
    }
}

/// That somebody gets it, or not, who should not, or should; and why.
fn misdirected(fate: &Fate, should: bool) -> String {
    let name = &fate.destination;
    let word = if should { "does not get it" } else { "gets it" };
    let wanted = if should { "should" } else { "should not" };
    let mut text = format!("{name} {word}, and {wanted}: {}", ending(fate));
    for answer in &fate.answers {
        text.push_str(&format!(
            "\n  rule {}  {}",
            answer.rule,
            plain(&answer.text)
        ));
    }
    text
}

/// What differs from what one destination was expected to get.
fn compare(fate: &Fate, wanted: &Wanted, differences: &mut Vec<String>) {
    let name = &fate.destination;
    let mut differs = |what: &str, wanted: &str, got: &str| {
        let lines = differ::lines(wanted, got);
        differences.push(format!("{name}: {what} (- expected, + got)\n{lines}"));
    };
    let (rule, letter) = match &fate.verdict {
        Verdict::Deliver { rule } => (Some(&**rule), None),
        Verdict::DeadLetter { reason, .. } => (None, Some(reason.name())),
        Verdict::NotMatched | Verdict::Dropped | Verdict::Foreign => (None, None),
    };
    let unmade = match &fate.request {
        Some(Err(unmade)) => Some(unmade),
        Some(Ok(_)) | None => None,
    };
    let letter = letter.or(unmade
        .filter(|unmade| !unmade.drops)
        .map(|_| "unrenderable"));
    let dropped = fate.verdict == Verdict::Dropped || unmade.is_some_and(|unmade| unmade.drops);
    if let Some(wanted) = wanted
        .rule
        .as_deref()
        .filter(|wanted| Some(*wanted) != rule)
    {
        differs("rule", wanted, rule.unwrap_or("(none)"));
    }
    if let Some(wanted) = wanted.dead_letter.as_deref().filter(|w| Some(*w) != letter) {
        differs("dead letter", wanted, &ending(fate));
    }
    if let Some(wanted) = wanted.dropped.filter(|wanted| *wanted != dropped) {
        let wanted = if wanted { "dropped" } else { "not dropped" };
        differs("end", wanted, &ending(fate));
    }
    if wanted.body.is_none() && wanted.headers.is_empty() {
        return;
    }
    let Some(Ok(request)) = &fate.request else {
        return differs("request", "a request", &ending(fate));
    };
    let got = String::from_utf8_lossy(&request.body);
    if let Some((wanted, got)) = wanted.body.as_ref().and_then(|w| differ::bodies(w, &got)) {
        differs("body", &wanted, &got);
    }
    for (header, wanted) in &wanted.headers {
        let mut all = request.headers.iter();
        let got = all.find(|(name, _)| name.eq_ignore_ascii_case(header));
        let got = got.map_or("(none)", |(_, value)| value.as_str());
        if got != wanted {
            differs(&format!("header {header}"), wanted, got);
        }
    }
}

fn shown(outcome: &Outcome, colours: bool) -> String {
    let Outcome { file, name, .. } = outcome;
    let (word, colour) = match outcome.passed {
        true => ("ok    ", 32),
        false => ("FAILED", 31),
    };
    let word = match colours {
        true => format!("\x1b[{colour}m{word}\x1b[0m"),
        false => word.to_owned(),
    };
    let mut text = format!("{word}  {file}: {}\n", plain(name));
    for difference in &outcome.differences {
        for line in difference.lines() {
            text.push_str(&format!("        {}\n", plain(line)));
        }
    }
    text
}
