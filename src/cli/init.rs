//! `postrider init`: a file to begin with.

use std::fs::OpenOptions;
use std::io::{BufRead as _, ErrorKind, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use crate::config::Config;

use super::client::say as complain;
use super::{exit, say};

const STARTER: &str = include_str!("init/starter.toml");

/// Write a file to begin with.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider init                       asks three questions, and writes ./postrider.toml
  postrider init /etc/postrider/postrider.toml

Where no terminal is, nothing is asked: the file has defaults, and is written all the same. One that is
there is never written over.")]
pub(super) struct InitArguments {
    /// The file.
    #[arg(default_value = "postrider.toml")]
    file: PathBuf,
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

pub(super) fn main(arguments: &InitArguments) -> u8 {
    let path = &arguments.file;
    if path.exists() {
        return there(path);
    }
    let ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let mut text = STARTER.to_owned();
    for (at, (name, question, default)) in QUESTIONS.iter().enumerate() {
        loop {
            let answer = if ask {
                match answer(question, default) {
                    Some(answer) => answer,
                    None => return exit::INTERRUPTED,
                }
            } else {
                (*default).to_owned()
            };
            let filled = text.replace(&format!("\"@{name}@\""), &quoted(&answer, name));
            match problems(&defaults(filled.clone(), at + 1), path) {
                None => {
                    text = filled;
                    break;
                }
                Some(said) if ask => complain(said.trim_end()),
                // The defaults fit: a test says so.
                Some(_) => return exit::SOFTWARE,
            }
        }
    }
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).open(path) {
        Ok(mut file) => match file.write_all(text.as_bytes()) {
            Ok(()) => {}
            Err(error) => return unwritable(path, &error),
        },
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return there(path),
        Err(error) => return unwritable(path, &error),
    }
    let shown = path.display();
    say(&format!(
        "{shown} is written. Next:\n  \
         postrider check {shown}             whether it is right\n  \
         postrider check --live {shown}      whether Kafka and the webhook let us in\n  \
         postrider -c {shown} run            deliver; Ctrl-C ends it\n"
    ));
    exit::OK
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

/// What `check` would say of it.
fn problems(text: &str, path: &Path) -> Option<String> {
    let environment = |name: &str| std::env::var(name).ok();
    let read = Config::parse(text, path, &environment);
    read.err().map(|problems| problems.render(false))
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
    let path = path.display();
    complain(&format!("error: cannot write {path}: {error}"));
    complain("  name a file in a folder that is there and that you may write to");
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
