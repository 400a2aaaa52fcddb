//! `dead-letters replay`: the plan, the question, and then chunk by chunk, each whole or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::config;
use crate::kafka::{
    AUDIT, Broker, LettersError, OwnedTopic, Replayer, Round, Sent, TopicError, client_config,
};

use super::super::common::Format;
use super::super::orders::me;
use super::super::output::complain;
use super::super::progress::Bar;
use super::super::{exit, say};
use super::filter::FilterArguments;
use super::plan::{Candidate, Left, Plan, Planner, next_chunk};
use super::reading::read;
use super::{Desk, Failure, asked, letters, usage};

/// What a chunk has in memory at most, values that must be fetched from their origin not counted.
const CHUNK_BYTES: usize = 8 * 1024 * 1024;
/// With a rate, a chunk is what may go in this time.
const RATE_CHUNK: Duration = Duration::from_secs(1);
/// So many of those that are left are named to people; JSON names all.
const NAMED: usize = 20;

/// Deliver dead letters again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider dead-letters replay -d shop --dry-run            how many, and what would be left
  postrider dead-letters replay -d shop --reason exhausted   asks before it does anything
  postrider dead-letters replay --all --rate 50/s --yes      from a script, gently

A record goes only to the destination that it did not reach, under its old webhook-id, with new
attempts. Each is replayed once, however often a replay is interrupted or repeated: Ctrl-C ends it
between two steps, and the same command goes on with what is left. What dies again can be replayed
once more; after two rounds it is left unless --force is given. Records of one key keep their order.

Exit code: 0 all done; 1 some were left, and which; 69 Kafka is away; 130 interrupted.")]
pub(super) struct ReplayArguments {
    #[command(flatten)]
    filter: FilterArguments,
    /// Replay all of them; needed when nothing else says which.
    #[arg(long)]
    all: bool,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Replay no more than so many in a time, such as 50/s or 200/m.
    #[arg(long, value_name = "RATE", value_parser = config::rate)]
    rate: Option<Duration>,
    /// Replay so many at most, the oldest first.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Replay also those that have died in two rounds.
    #[arg(long)]
    force: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Report {
    dry_run: bool,
    replayed: usize,
    /// Those that are meant and were replayed before.
    replayed_before: usize,
    left: Vec<LeftReport>,
    by_destination: BTreeMap<String, usize>,
}

#[derive(Debug, Serialize)]
struct LeftReport {
    id: String,
    why: String,
}

impl Report {
    fn leave(&mut self, left: Left) {
        self.left.push(LeftReport {
            id: left.id.to_string(),
            why: left.why,
        });
    }
}

pub(super) fn replay(desk: &Desk, arguments: &ReplayArguments) -> Result<u8, Failure> {
    if arguments.filter.is_empty() && !arguments.all {
        return Err(usage(
            "which ones? Say so by an option such as --destination, or --all",
        ));
    }
    desk.reach()?;
    let (plan, obsolete) = planned(desk, arguments)?;
    let count = plan.rounds.len();
    if arguments.dry_run {
        let mut report = Report {
            dry_run: true,
            ..report_of(plan, desk)
        };
        report.replayed = count;
        return Ok(tell(&report, desk));
    }
    if count == 0 {
        return Ok(tell(&report_of(plan, desk), desk));
    }
    let mut question = format!("Replay {}: {}?", letters(count), counted(&plan, desk));
    if !plan.left.is_empty() {
        question.push_str(&format!(" {} more cannot be.", plan.left.len()));
    }
    if !asked(desk, &question, arguments.yes)? {
        complain("nothing was replayed");
        return Ok(exit::NO);
    }
    make_topics(desk)?;
    let replayer = desk.letters.begin_replay(&me())?;
    // What was replayed while the question stood is known from here on, and nobody else adds to it.
    let marks = desk.letters.marks()?;
    let mut plan = plan;
    plan.rounds
        .retain(|candidate| !marks.was_replayed(candidate.id, candidate.round - 1));
    let rounds = std::mem::take(&mut plan.rounds);
    let mut run = Run {
        desk,
        replayer,
        cluster_id: desk.letters.cluster_id()?,
        rate: arguments.rate,
        total: rounds.len(),
        report: report_of(plan, desk),
    };
    run.all(&rounds)?;
    // Those whose letters Kafka has deleted by now; what cannot be done here, the next replay does.
    drop(desk.letters.forget_marks(&obsolete));
    Ok(tell(&run.report, desk))
}

/// The plan, and the keys of marks whose letters are all gone: known by marks that are older than what was read after them.
fn planned(desk: &Desk, arguments: &ReplayArguments) -> Result<(Plan, Vec<String>), Failure> {
    let marks = desk.letters.marks()?;
    let barred = |id: &str| barred(desk, id);
    let mut planner = Planner::new(&barred, arguments.force);
    // From the beginning, whatever is meant: a letter that was written twice must be known for one.
    let found = read(desk, &arguments.filter, &marks, None, &mut |found| {
        planner.add(&found);
    })?;
    let obsolete = found.obsolete(&marks, |_| true);
    Ok((planner.finish(arguments.limit), obsolete))
}

/// Why nothing can be replayed to the destination with this id.
fn barred(desk: &Desk, id: &str) -> Option<String> {
    if desk.names.contains_key(id) {
        return None;
    }
    Some(if id == AUDIT {
        "no destination was to get it, so there is none to replay it to".to_owned()
    } else if desk.config.ids.iter().any(|known| **known == *id) {
        format!("its destination {id} is not enabled in this file, so nobody would deliver it")
    } else {
        format!("its destination {id} is not in this file, so nobody would deliver it")
    })
}

fn report_of(plan: Plan, desk: &Desk) -> Report {
    let mut report = Report {
        replayed_before: plan.before,
        ..Report::default()
    };
    for candidate in &plan.rounds {
        let name = desk.name(&candidate.destination).to_owned();
        *report.by_destination.entry(name).or_default() += 1;
    }
    plan.left.into_iter().for_each(|left| report.leave(left));
    report
}

fn counted(plan: &Plan, desk: &Desk) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for candidate in &plan.rounds {
        *counts.entry(desk.name(&candidate.destination)).or_default() += 1;
    }
    let counts = counts
        .iter()
        .map(|(name, count)| format!("{count} to {name}"));
    counts.collect::<Vec<_>>().join(", ")
}

/// Makes sure that what is written is kept until it is read.
fn make_topics(desk: &Desk) -> Result<(), Failure> {
    let complaints = Arc::clone(&desk.letters.complaints);
    let broker = Broker::new(&client_config(&desk.config.kafka), complaints);
    let broker = Arc::new(broker.map_err(LettersError::from)?);
    let prefix = &desk.letters.prefix;
    let topics = [OwnedTopic::replay(prefix), OwnedTopic::state(prefix)];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| LettersError::Refused(error.to_string()))?;
    let checked = runtime.block_on(async {
        broker
            .ensure(&topics, &desk.config.kafka.owned_topics)
            .await?;
        broker.inspect(&topics).await
    });
    let inspected = checked.map_err(|error| match error {
        TopicError::Unreachable(error) => LettersError::from(error),
        TopicError::Missing { .. } | TopicError::Refused { .. } => {
            LettersError::Refused(error.to_string())
        }
    })?;
    match inspected.unfit.first() {
        Some(unfit) => Err(LettersError::Refused(unfit.to_string()).into()),
        None => Ok(()),
    }
}

/// A replay under way.
struct Run<'a> {
    desk: &'a Desk,
    replayer: Replayer,
    cluster_id: String,
    rate: Option<Duration>,
    total: usize,
    report: Report,
}

impl Run<'_> {
    /// Replays all of them; what went wrong says how far it came.
    fn all(&mut self, rounds: &[Candidate]) -> Result<(), Failure> {
        let bar = Bar::new("replaying");
        let done = self.chunks(rounds, &bar);
        drop(bar);
        done.map_err(|error| {
            let (done, total) = (self.report.replayed, self.total);
            let far = match error {
                LettersError::Interrupted => format!(
                    ": {done} of {total} are replayed; the same command goes on with the others, and replays none twice"
                ),
                LettersError::Unreachable(_)
                | LettersError::Fenced
                | LettersError::Unreadable(_)
                | LettersError::Refused(_) => format!(
                    "; at least {done} of {total} were replayed by then; the same command goes on with the others, and replays none twice"
                ),
            };
            Failure::Letters(error, far)
        })
    }

    fn chunks(&mut self, rounds: &[Candidate], bar: &Bar) -> Result<(), LettersError> {
        let begin = self.desk.clock.now().tick;
        let records = self.rate.map_or(Replayer::CHUNK, |period| {
            let fit = RATE_CHUNK.as_nanos() / period.as_nanos().max(1);
            usize::try_from(fit)
                .unwrap_or(Replayer::CHUNK)
                .clamp(1, Replayer::CHUNK)
        });
        let mut done = 0;
        while done < rounds.len() {
            bar.show(done as u64, rounds.len() as u64);
            if self.desk.stop.is_wanted() {
                return Err(LettersError::Interrupted);
            }
            if let Some(period) = self.rate {
                let turn = period.saturating_mul(u32::try_from(done).unwrap_or(u32::MAX));
                let passed = self.desk.clock.now().tick.since(begin);
                self.desk.stop.wait(turn.saturating_sub(passed));
                if self.desk.stop.is_wanted() {
                    return Err(LettersError::Interrupted);
                }
            }
            let rest = &rounds[done..];
            let size = next_chunk(rest, records, CHUNK_BYTES);
            self.chunk(&rest[..size])?;
            done += size;
        }
        Ok(())
    }

    fn chunk(&mut self, chunk: &[Candidate]) -> Result<(), LettersError> {
        let places: Vec<(i32, i64)> = chunk.iter().map(|candidate| candidate.place).collect();
        let mut there = self.desk.letters.fetch(&places)?;
        let mut rounds = Vec::with_capacity(chunk.len());
        for Candidate {
            id, place, round, ..
        } in chunk
        {
            // Another letter is there when the topic was deleted and made again.
            let Some(mut letter) = there.remove(place).filter(|letter| letter.id == *id) else {
                let why = "it was deleted from the dead letters meanwhile".to_owned();
                self.report.leave(Left { id: *id, why });
                continue;
            };
            match self.desk.letters.complete(&mut letter, &self.cluster_id)? {
                Ok(()) => rounds.push(Round {
                    letter,
                    round: *round,
                }),
                Err(missing) => self.report.leave(Left {
                    id: *id,
                    why: missing.to_string(),
                }),
            }
        }
        self.send(rounds)
    }

    fn send(&mut self, rounds: Vec<Round>) -> Result<(), LettersError> {
        if rounds.is_empty() {
            return Ok(());
        }
        let go_on = || !self.desk.stop.is_wanted();
        match self.replayer.send(&rounds, go_on)? {
            Sent::All => {
                self.report.replayed += rounds.len();
                for Round { letter, .. } in &rounds {
                    let name = self.desk.name(&letter.destination).to_owned();
                    *self.report.by_destination.entry(name).or_default() += 1;
                }
                Ok(())
            }
            Sent::TooLarge if rounds.len() == 1 => {
                let topic = OwnedTopic::replay(&self.desk.letters.prefix).name;
                for Round { letter, .. } in rounds {
                    let why =
                        format!("it is too large for topic {topic}: raise its max.message.bytes");
                    self.report.leave(Left { id: letter.id, why });
                }
                Ok(())
            }
            // Which one it is, only the broker knows.
            Sent::TooLarge => rounds.into_iter().try_for_each(|one| self.send(vec![one])),
        }
    }
}

/// Says what was done, and gives the exit code.
fn tell(report: &Report, desk: &Desk) -> u8 {
    match desk.format {
        Format::Json => say(&(serde_json::to_string(report).unwrap_or_default() + "\n")),
        Format::Human => say(&shown(report)),
    }
    if report.left.is_empty() {
        exit::OK
    } else {
        exit::NO
    }
}

fn shown(report: &Report) -> String {
    let would = if report.dry_run { "would be " } else { "" };
    let mut text = format!("{} {would}replayed", letters(report.replayed));
    let counts = report.by_destination.iter();
    let counts: Vec<String> = counts.map(|(name, n)| format!("{n} to {name}")).collect();
    if !counts.is_empty() {
        text.push_str(&format!(": {}", counts.join(", ")));
    }
    if report.replayed_before > 0 {
        text.push_str(&format!("; {} had been before", report.replayed_before));
    }
    text.push('\n');
    if !report.left.is_empty() {
        text.push_str(&format!("{} {would}left:\n", letters(report.left.len())));
        for LeftReport { id, why } in report.left.iter().take(NAMED) {
            text.push_str(&format!("  {id}: {why}\n"));
        }
        let more = report.left.len().saturating_sub(NAMED);
        if more > 0 {
            text.push_str(&format!("  and {more} more; --format json names all\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_said_in_one_line_and_what_was_left_by_name() {
        let mut report = Report {
            replayed: 3,
            replayed_before: 1,
            by_destination: [("mail".to_owned(), 1), ("shop".to_owned(), 2)].into(),
            ..Report::default()
        };
        assert_eq!(
            shown(&report),
            "3 dead letters replayed: 1 to mail, 2 to shop; 1 had been before\n"
        );
        for n in 0..22 {
            report.left.push(LeftReport {
                id: format!("msg_{n}"),
                why: "gone".to_owned(),
            });
        }
        let text = shown(&report);
        assert!(
            text.contains("22 dead letters left:\n  msg_0: gone\n"),
            "{text}"
        );
        assert!(
            text.ends_with("  and 2 more; --format json names all\n"),
            "{text}"
        );
    }
}
