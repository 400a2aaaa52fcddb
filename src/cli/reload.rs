//! `postrider reload` and `postrider diff`: another file for the running daemon, and what it would change.

use std::path::{Path, PathBuf};

use crate::admin::api::{DiffRequest, OrderRequest, OrderResult, ReloadReport};
use crate::relay::preview;

use super::client::{Answer, Client, RELOAD_TIMEOUT, SocketArguments};
use super::common::{Common, Format};
use super::output::complain;
use super::{exit, load};

/// Have the running daemon read its file again, and take it over whole or not at all.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider diff /etc/postrider/postrider.toml    first: what would change
  postrider reload                                take it over, and wait until it is
  systemctl reload postrider                      the same, without the answer

Secrets and texts in files are read again too. Exit codes: 0 in force, 78 refused and nothing
has changed, 69 no daemon answers")]
pub(super) struct ReloadArguments {
    #[command(flatten)]
    socket: SocketArguments,
}

/// Say what a reload with this file would change, and how much would be sent for it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider diff new.toml                    against what the running daemon has in force
  postrider -c old.toml diff new.toml        against a file, when no daemon runs

Nothing is changed. Exit codes: 0 it can be taken over, 78 the file is wrong, 69 Kafka did not
say how much waits")]
pub(super) struct DiffArguments {
    /// The file that would be taken over.
    file: PathBuf,
    #[command(flatten)]
    socket: SocketArguments,
}

pub(super) fn reload(common: &Common, arguments: &ReloadArguments) -> u8 {
    let request = OrderRequest {
        who: std::env::var("USER").unwrap_or_default(),
        ..OrderRequest::default()
    };
    let asked = Client::new(common, &arguments.socket)
        .and_then(|client| client.post_and_wait("/api/v1/reload", &request, RELOAD_TIMEOUT));
    match asked.and_then(|answer| report(&answer)) {
        Ok(report) => show(&report, common.format, "taken over"),
        // Where the socket is cannot be read of a file that is no TOML at all, which is what is to be said then.
        Err(code) => load(common.config()).err().unwrap_or(code),
    }
}

pub(super) fn diff(common: &Common, arguments: &DiffArguments) -> u8 {
    let running = Client::new(common, &arguments.socket).ok();
    let answer = match running.filter(Client::is_there) {
        Some(client) => ask(&client, &arguments.file),
        None => compare(common.config(), &arguments.file),
    };
    match answer {
        Ok(report) => show(&report, common.format, "can be taken over"),
        Err(code) => code,
    }
}

/// By the daemon, which alone may be allowed to read its secrets.
fn ask(client: &Client, file: &Path) -> Result<ReloadReport, u8> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        complain(&format!("error: cannot read {}: {error}", file.display()));
        exit::CONFIG
    })?;
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let request = DiffRequest {
        path: path.display().to_string(),
        text,
    };
    let answer = client.post_and_wait("/api/v1/diff", &request, RELOAD_TIMEOUT)?;
    report(&answer)
}

/// By ourselves.
fn compare(config: &Path, file: &Path) -> Result<ReloadReport, u8> {
    complain("no daemon runs here: compared with the file of --config");
    let old = load(config)?;
    let new = load(file)?;
    Ok(preview(&old, &new))
}

fn report(answer: &Answer) -> Result<ReloadReport, u8> {
    answer.read()
}

/// Shows it; `done` is what is said of a file that is right.
fn show(report: &ReloadReport, format: Format, done: &str) -> u8 {
    let code = match report.result {
        OrderResult::Done if report.kafka_away => exit::UNAVAILABLE,
        OrderResult::Done => exit::OK,
        OrderResult::Refused => exit::CONFIG,
        OrderResult::Unknown => exit::USAGE,
        OrderResult::Unavailable => exit::UNAVAILABLE,
    };
    if matches!(format, Format::Json) {
        super::say(&(serde_json::to_string(report).unwrap_or_default() + "\n"));
        return code;
    }
    let notes = report.notes.join("\n");
    if report.result != OrderResult::Done {
        complain(&format!(
            "{}\nthe file is refused; nothing has changed",
            notes.trim_end()
        ));
        return code;
    }
    super::say(&words(report, done));
    code
}

fn words(report: &ReloadReport, done: &str) -> String {
    let mut text = String::new();
    for line in report.plan.iter().chain(&report.notes) {
        text.push_str(line);
        text.push('\n');
    }
    let unchanged = match (report.plan.is_empty(), report.unchanged) {
        (true, _) => "nothing is different".to_owned(),
        (false, 1) => "1 destination goes on as it is".to_owned(),
        (false, count) => format!("{count} destinations go on as they are"),
    };
    text + &format!("{done}; {unchanged}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_shown_line_by_line() {
        let mut report = ReloadReport {
            result: OrderResult::Done,
            plan: vec!["slack: rate 50/s -> 80/s".to_owned()],
            notes: Vec::new(),
            unchanged: 3,
            kafka_away: false,
        };
        assert_eq!(
            words(&report, "taken over"),
            "slack: rate 50/s -> 80/s\ntaken over; 3 destinations go on as they are\n"
        );
        report.plan.clear();
        let same = "can be taken over; nothing is different\n";
        assert_eq!(words(&report, "can be taken over"), same);
    }
}
