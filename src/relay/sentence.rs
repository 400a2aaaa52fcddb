//! What a person reads in `systemctl status`: the status of everything in one sentence.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::admin::api::{DestinationReport, StatusReport};
use crate::systemd;

use super::operators::FrontDesk;

/// How often it is looked at. An idle lane wakes that often by itself.
const INTERVAL: Duration = Duration::from_secs(5);
/// How many destinations that do not run are told with what they say of themselves.
const TOLD_MAX: usize = 2;
/// systemd cuts off what is longer than a message of a few thousand bytes; and nobody reads a sentence that long.
const WORDS_MAX: usize = 200;

/// Tells systemd again and again, as far as it changes, until `stop`; nothing more once the end has begun, of which others tell.
pub(super) async fn tell(desk: Arc<FrontDesk>, ending: CancellationToken, stop: CancellationToken) {
    let mut told = String::new();
    loop {
        let doors = desk.doors.all();
        let mut answers = desk.ask_lanes(&doors).await;
        let sentence = sentence(&desk.report(&doors, &mut answers));
        if !ending.is_cancelled() && sentence != told {
            systemd::status(&sentence);
            told = sentence;
        }
        tokio::select! {
            () = ending.cancelled() => return stop.cancelled().await,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// The worst first: Kafka, then those who do not run, then how much waits.
fn sentence(report: &StatusReport) -> String {
    let enabled: Vec<_> = report
        .destinations
        .iter()
        .filter(|destination| destination.state != "disabled")
        .collect();
    if enabled.is_empty() {
        return "no destination is enabled: nothing is read".to_owned();
    }
    let mut parts = Vec::new();
    if let Some(silence) = &report.kafka_silence {
        parts.push(silence.clone());
    } else if !report.state_known {
        parts.push("it is not known yet which destinations are paused".to_owned());
    }
    if report.configuration.refused.is_some() {
        parts.push("the changed file was refused".to_owned());
    }
    let resting: Vec<_> = enabled
        .iter()
        .filter(|destination| destination.state != "running")
        .collect();
    let running = enabled.len() - resting.len();
    parts.push(match (running, enabled.len()) {
        (1, 1) => "the destination delivers".to_owned(),
        (0, 1) => "the destination does not deliver".to_owned(),
        (running, all) if running == all => format!("all {all} destinations deliver"),
        (1, all) => format!("1 of {all} destinations delivers"),
        (running, all) => format!("{running} of {all} destinations deliver"),
    });
    let waiting: u64 = enabled.iter().map(|d| d.waiting_total).sum();
    parts.push(match waiting {
        0 => "nothing waits here".to_owned(),
        1 => "1 record waits here".to_owned(),
        count => format!("{count} records wait here"),
    });
    parts.extend(resting.iter().take(TOLD_MAX).map(|d| words(d)));
    if resting.len() > TOLD_MAX {
        parts.push(format!("and {} more", resting.len() - TOLD_MAX));
    }
    parts.join("; ")
}

fn words(destination: &DestinationReport) -> String {
    let DestinationReport { name, words, .. } = destination;
    let mut words: String = format!("{name}: {words}");
    if let Some((cut, _)) = words.char_indices().nth(WORDS_MAX) {
        words.truncate(cut);
        words.push('…');
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(name: &str, state: &str, words: &str, waiting: u64) -> DestinationReport {
        DestinationReport {
            name: name.to_owned(),
            state: state.to_owned(),
            words: words.to_owned(),
            waiting_total: waiting,
            ..DestinationReport::default()
        }
    }

    fn said(kafka_connected: bool, destinations: Vec<DestinationReport>) -> String {
        sentence(&StatusReport {
            configuration: Default::default(),
            version: String::new(),
            at: String::new(),
            kafka_connected,
            kafka_silence: (!kafka_connected).then(|| "no Kafka".to_owned()),
            state_known: true,
            destinations,
        })
    }

    #[test]
    fn all_is_well() {
        let shop = || destination("shop", "running", "running", 0);
        assert_eq!(
            said(true, vec![shop()]),
            "the destination delivers; nothing waits here"
        );
        assert_eq!(
            said(true, vec![shop(), destination("crm", "running", "", 7)]),
            "all 2 destinations deliver; 7 records wait here"
        );
    }

    #[test]
    fn what_does_not_run_says_why_and_what_is_disabled_is_not_missed() {
        let destinations = vec![
            destination("shop", "running", "running", 0),
            destination("crm", "paused", "paused by ann: deploy", 1),
            destination("old", "disabled", "disabled in the file", 0),
        ];
        assert_eq!(
            said(true, destinations),
            "1 of 2 destinations delivers; 1 record waits here; crm: paused by ann: deploy"
        );
    }

    #[test]
    fn many_are_not_all_told_and_none_at_any_length() {
        let long = "é".repeat(1000);
        let destinations = ["a", "b", "c", "d"].map(|name| destination(name, "open", &long, 0));
        let sentence = said(false, destinations.into());
        assert!(
            sentence.starts_with("no Kafka; 0 of 4 destinations deliver; "),
            "{sentence}"
        );
        assert!(sentence.ends_with("; and 2 more"), "{sentence}");
        assert!(sentence.chars().count() < 600);
    }

    #[test]
    fn nothing_to_do_is_said() {
        let disabled = destination("old", "disabled", "", 0);
        assert_eq!(
            said(true, vec![disabled]),
            "no destination is enabled: nothing is read"
        );
    }
}
