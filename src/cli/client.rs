//! The command line's end of the operators' socket.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin::DEFAULT_SOCKET;
use crate::config::Config;

use super::common::{Common, variable};
use super::exit;
use super::output::complain as say;
use super::progress::spinner;

/// Longer than anything the daemon does for one answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A reload waits for what is in flight of the lanes that end, which the file bounds; and then for other instances.
pub(super) const RELOAD_TIMEOUT: Duration = Duration::from_secs(3700);
/// More than any answer.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Names the socket where no option does.
pub(super) const SOCKET_VARIABLE: &str = "POSTRIDER_SOCKET";

/// Where the daemon is found.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SocketArguments {
    /// The daemon's socket [env: POSTRIDER_SOCKET] [default: the one in the configuration file]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// A daemon that can be asked.
pub(super) struct Client {
    path: PathBuf,
}

/// What came back: the HTTP status and the body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Client {
    /// The daemon of this configuration file, of which nothing is read but where the socket is: its secrets may be for the daemon alone.
    pub(super) fn new(common: &Common, arguments: &SocketArguments) -> Result<Self, u8> {
        let said = arguments.socket.clone();
        let path = match said.or_else(|| variable(SOCKET_VARIABLE)) {
            Some(path) => path,
            None => of_file(common)?,
        };
        Ok(Self { path })
    }

    pub(super) fn get(&self, path: &str) -> Result<Answer, u8> {
        self.ask("GET", path, "", TIMEOUT)
    }

    pub(super) fn post(&self, path: &str, request: &impl Serialize) -> Result<Answer, u8> {
        self.post_and_wait(path, request, TIMEOUT)
    }

    /// The same, with more patience or less.
    pub(super) fn post_and_wait(
        &self,
        path: &str,
        request: &impl Serialize,
        timeout: Duration,
    ) -> Result<Answer, u8> {
        let body = serde_json::to_string(request).unwrap_or_default();
        self.ask("POST", path, &body, timeout)
    }

    /// Whether somebody listens there.
    pub(super) fn is_there(&self) -> bool {
        UnixStream::connect(&self.path).is_ok()
    }

    fn ask(&self, method: &str, path: &str, body: &str, timeout: Duration) -> Result<Answer, u8> {
        // An order waits for Kafka and for other instances; what is only looked at is there at once.
        let slow = method == "POST" || path.starts_with("/api/v1/retries");
        let spinner = slow.then(|| spinner("asking the daemon"));
        let asked = self.exchange(method, path, body, timeout);
        drop(spinner);
        asked.map_err(|error| {
            say(&format!(
                "error: cannot reach postrider at {}: {error}",
                self.path.display()
            ));
            say("  is it running? Where it listens is `socket` in [admin] of its file, which -c FILE names; or say --socket PATH");
            exit::UNAVAILABLE
        })
    }

    /// One request, one connection.
    fn exchange(
        &self,
        method: &str,
        path: &str,
        body: &str,
        timeout: Duration,
    ) -> std::io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut text = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut text)?;
        parse(&String::from_utf8_lossy(&text))
            .ok_or_else(|| std::io::Error::other("what came back is no answer"))
    }
}

impl Answer {
    /// The body as it is meant, else what is wrong with it.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, u8> {
        serde_json::from_str(&self.body).map_err(|_| {
            let Self { status, body } = self;
            say(&format!(
                "error: postrider answered {status}: {}",
                body.trim()
            ));
            exit::UNAVAILABLE
        })
    }
}

/// The head and the body; axum gives short answers their length, and the connection ends with them.
fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let body = body.to_owned();
    Some(Answer { status, body })
}

/// Where the file says that the socket is. Only a file that nobody named may be missing: who names one means that daemon and no other.
fn of_file(common: &Common) -> Result<PathBuf, u8> {
    let config = common.config();
    let text = match std::fs::read_to_string(config) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound && !common.named => {
            return Ok(PathBuf::from(DEFAULT_SOCKET));
        }
        Err(error) => return Err(unreadable(config, &error)),
    };
    let environment = |name: &str| std::env::var(name).ok();
    let Some(admin) = Config::admin_of(&text, config, &environment) else {
        let config = config.display();
        say(&format!(
            "error: {config} is no TOML, so it cannot say where the daemon's socket is"
        ));
        say("  `postrider check` says what is wrong with it; or say --socket PATH");
        return Err(exit::CONFIG);
    };
    admin.socket.ok_or_else(|| {
        say(&format!("error: {} names no socket", config.display()));
        say("  set `socket` in [admin], and start the daemon with it");
        exit::CONFIG
    })
}

fn unreadable(config: &Path, error: &std::io::Error) -> u8 {
    let missing = error.kind() == ErrorKind::NotFound;
    let why = missing.then(|| "there is no such file".to_owned());
    let why = why.unwrap_or_else(|| error.to_string());
    say(&format!("error: cannot read {}: {why}", config.display()));
    say(
        "  it says where the daemon's socket is: name it with -c FILE or POSTRIDER_CONFIG, or say --socket PATH",
    );
    exit::CONFIG
}
