//! `postrider init`: a file to begin with.

use std::fs::OpenOptions;
use std::io::{BufRead as _, ErrorKind, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use crate::config::{Config, Problem};

use super::common::{Common, shell_word};
use super::{complain, exit, say};

const STARTER: &str = include_str!("init/starter.toml");

/// What is written where nothing else was said.
const HERE: &str = "postrider.toml";

/// Write a file to begin with
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider init                       asks three questions, and writes ./postrider.toml
  postrider init /etc/postrider/postrider.toml
  postrider -c mine.toml init          the same file as for every other command

Where no terminal is, nothing is asked: the file has defaults, and is written all the same. One that is
there is never written over.")]
pub(super) struct InitArguments {
    /// The file; else the one that -c or POSTRIDER_CONFIG names, else postrider.toml
    file: Option<PathBuf>,
}

/// What is asked, with what stands there when nothing is answered.
const QUESTIONS: [(&str, &str, &str); 3] = [
    (
        "BROKERS",
        "Kafka's brokers, as host:port, with commas between them",
        "localhost:9092",
    ),
    (
        "TOPICS",
        "The topics to deliver, with commas between them",
        "notifications",
    ),
    (
        "URL",
        "The address of the webhook",
        "http://localhost:8000/hooks",
    ),
];

pub(super) fn main(common: &Common, arguments: InitArguments) -> u8 {
    let named = common.named.then(|| common.config.clone());
    let path = arguments.file.or(named);
    let path = path.unwrap_or_else(|| PathBuf::from(HERE));
    if path.exists() {
        return there(&path);
    }
    // Nobody should answer three questions for a file that cannot be written.
    if let Err(error) = try_to_write(&path) {
        return unwritable(&path, &error);
    }
    let ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let text = match filled(&path, ask) {
        Ok(text) => text,
        Err(code) => return code,
    };
    match write(&path, &text) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return there(&path),
        Err(error) => return unwritable(&path, &error),
    }
    let file = shell_word(&path.to_string_lossy());
    say(&format!(
        "{file} is written. Next:\n  \
         postrider check {file}             whether it is right\n  \
         postrider check --live {file}      whether Kafka and the webhook let us in\n  \
         postrider -c {file} run            deliver; Ctrl-C ends it\n  \
         postrider -c {file} status         from another terminal: what it does, and why\n"
    ));
    exit::OK
}

/// The starter with its answers, each asked for until it can be taken.
fn filled(path: &Path, ask: bool) -> Result<String, u8> {
    let mut text = STARTER.to_owned();
    for (at, (name, question, default)) in QUESTIONS.iter().enumerate() {
        loop {
            let answer = match ask {
                true => answer(question, default).ok_or_else(given_up)?,
                false => (*default).to_owned(),
            };
            let next = text.replace(&format!("\"@{name}@\""), &quoted(&answer, name));
            match problem(&defaults(next.clone(), at + 1), path) {
                None => {
                    text = next;
                    break;
                }
                Some(said) if ask => complain(&said),
                // The defaults fit: a test says so.
                Some(_) => return Err(exit::SOFTWARE),
            }
        }
    }
    Ok(text)
}

/// Ctrl-D: there will be no more answers.
fn given_up() -> u8 {
    complain("\nnothing was written: the questions were not answered");
    exit::NO
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())
}

/// Makes the file and takes it away again: nothing else tells for sure whether it can be made.
fn try_to_write(path: &Path) -> std::io::Result<()> {
    write(path, "")?;
    std::fs::remove_file(path)
}

/// One answer; nothing when there will be none.
fn answer(question: &str, default: &str) -> Option<String> {
    let mut err = std::io::stderr().lock();
    drop(write!(err, "{question} [{default}]: ").and_then(|()| err.flush()));
    drop(err);
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => {
            let line = line.trim();
            Some(if line.is_empty() { default } else { line }.to_owned())
        }
    }
}

/// An answer as TOML; a list where the file wants one. A dollar sign means itself.
fn quoted(answer: &str, name: &str) -> String {
    let quote = |text: &str| toml::Value::from(text.trim().replace('$', "$$")).to_string();
    if name == "URL" {
        return quote(answer);
    }
    let parts: Vec<String> = answer.split(',').map(quote).collect();
    parts.join(", ")
}

/// What is not asked yet, with its default.
fn defaults(mut text: String, asked: usize) -> String {
    for (name, _, default) in &QUESTIONS[asked..] {
        text = text.replace(&format!("\"@{name}@\""), &quoted(default, name));
    }
    text
}

/// What `check` would say of it, without the place in a file that nobody has seen.
fn problem(text: &str, path: &Path) -> Option<String> {
    let environment = |name: &str| std::env::var(name).ok();
    let problems = Config::parse(text, path, &environment).err()?;
    let lines = problems.list().iter().map(|problem| {
        let Problem { message, hint, .. } = problem;
        format!("  {message}; {}", hint.replace('\n', " "))
    });
    Some(lines.collect::<Vec<_>>().join("\n"))
}

fn there(path: &Path) -> u8 {
    let path = path.display();
    complain(&format!(
        "error: {path} is there already, and is left as it is"
    ));
    complain("  name another file: postrider init FILE");
    exit::NO
}

fn unwritable(path: &Path, error: &std::io::Error) -> u8 {
    complain(&format!("error: cannot write {}: {error}", path.display()));
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.exists()) {
        Some(folder) => {
            let folder = shell_word(&folder.to_string_lossy());
            complain(&format!(
                "  there is no such folder; make it: mkdir -p {folder}"
            ));
        }
        None => complain("  name a file in a folder that is there and that you may write to"),
    }
    exit::NO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_toml() {
        assert_eq!(quoted("a:1, b:2", "BROKERS"), "\"a:1\", \"b:2\"");
        assert_eq!(quoted("^a\\..+", "TOPICS"), "'^a\\..+'");
        assert_eq!(quoted("http://h/$x", "URL"), "\"http://h/$$x\"");
    }

    #[test]
    fn the_defaults_are_a_file_that_check_takes() {
        let text = defaults(STARTER.to_owned(), 0);
        let read = Config::parse(&text, Path::new("t.toml"), &|_| None);
        let config = read.unwrap_or_else(|problems| panic!("{problems}"));
        assert!(config.warnings.is_empty(), "{}", config.warnings);
        assert!(!text.contains('@'), "{text}");
    }
}
