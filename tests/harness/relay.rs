//! The real binary as a child process: started, asked, signalled, waited for.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

pub use nix::sys::signal::Signal;

use nix::sys::signal::kill;
use nix::unistd::Pid;
use tempfile::TempDir;

use super::config::Config;
use super::http;
use super::leash::{Leash, log_path, tail};
use super::metrics::Metrics;
use super::port::free_port;
use super::wait::wait_for;

/// How many lines of the log a failing test shows.
const LOG_LINES_SHOWN: usize = 40;

/// A running `postrider run`. Dropping it kills it; in a failing test its log is shown and kept.
#[derive(Debug)]
pub struct Relay {
    child: Child,
    _leash: Leash,
    folder: TempDir,
    log: PathBuf,
    admin_port: u16,
    ended: Option<ExitStatus>,
}

/// The binary under test: the one that was built with the tests, unless `POSTRIDER_BINARY` names another.
pub fn binary() -> Command {
    let built = || env!("CARGO_BIN_EXE_postrider").into();
    binary_at(std::env::var_os("POSTRIDER_BINARY").unwrap_or_else(built))
}

/// Another binary of Postrider.
pub fn binary_at(path: OsString) -> Command {
    let mut command = Command::new(path);
    // The machine's own settings are none of the test's business.
    command
        .env_remove("POSTRIDER_CONFIG")
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null());
    command
}

impl Relay {
    /// Starts an instance on this configuration, with an admin port of its own.
    pub fn start(config: &Config) -> Self {
        let admin_port = free_port();
        Self::start_text(&config.text(admin_port), admin_port)
    }

    /// The same, and it says more of what it does.
    pub fn start_loud(config: &Config) -> Self {
        let admin_port = free_port();
        Self::start_with(&config.text(admin_port), admin_port, |command| {
            command.args(["--log-level", "debug"]);
        })
    }

    /// Starts an instance on the text of a file, which says that its admin server listens on `admin_port`.
    pub fn start_text(text: &str, admin_port: u16) -> Self {
        Self::start_with(text, admin_port, |_| {})
    }

    /// The same; `adapt` may add arguments and environment.
    pub fn start_with(text: &str, admin_port: u16, adapt: impl FnOnce(&mut Command)) -> Self {
        Self::start_program(binary(), text, admin_port, adapt)
    }

    /// The same for any binary of Postrider: `program` is the command without its arguments.
    pub fn start_program(
        mut command: Command,
        text: &str,
        admin_port: u16,
        adapt: impl FnOnce(&mut Command),
    ) -> Self {
        let folder = TempDir::with_prefix("postrider-relay-").expect("a temporary folder");
        let file = folder.path().join("postrider.toml");
        fs::write(&file, text).expect("the folder is writable");
        let log = log_path("relay.log");
        let output = File::create(&log).expect("the log is writable");
        command.arg("-c").arg(&file).arg("run");
        command
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output);
        adapt(&mut command);
        let child = command.spawn().expect("the binary starts");
        let leash = Leash::on(child.id(), folder.path());
        Self {
            child,
            _leash: leash,
            folder,
            log,
            admin_port,
            ended: None,
        }
    }

    /// Starts it once more, after it has ended, on the file as it lies there.
    pub fn start_again(&mut self) {
        assert!(self.has_ended().is_some(), "the relay has ended");
        let log = File::options().append(true).open(&self.log);
        let output = log.expect("the log is writable");
        let mut command = binary();
        command.arg("-c").arg(self.file()).arg("run");
        command
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output);
        self.child = command.spawn().expect("the binary starts");
        self._leash = Leash::on(self.child.id(), self.folder.path());
        self.ended = None;
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its configuration file.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("postrider.toml")
    }

    /// Writes another configuration into its file; SIGHUP is the caller's to send.
    pub fn rewrite(&self, config: &Config) {
        fs::write(self.file(), config.text(self.admin_port)).expect("the folder is writable");
    }

    /// Sends it a signal; one that has ended does not get it.
    pub fn signal(&mut self, signal: Signal) {
        if self.has_ended().is_none() {
            let pid = i32::try_from(self.pid()).expect("a process id");
            kill(Pid::from_raw(pid), signal).expect("the relay's process is ours");
        }
    }

    /// Its exit status when it has ended.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("the relay's process is ours");
        }
        self.ended
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn wait_exit(&mut self, timeout: Duration) -> ExitStatus {
        let what = format!("the relay ends; its log: {}", self.log.display());
        wait_for(timeout, &what, || self.has_ended())
    }

    /// Ends it as a power failure would (SIGKILL) and waits for that.
    pub fn kill9(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_exit(Duration::from_secs(10));
    }

    /// Ends it in an orderly way (SIGTERM) and waits for that.
    #[track_caller]
    pub fn stop(&mut self, timeout: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_exit(timeout)
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Where its log is.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// Waits for a line of the log that contains `text`, and returns it. Ends early when the relay has ended without it.
    #[track_caller]
    pub fn wait_log(&mut self, text: &str, timeout: Duration) -> String {
        let what = format!("the relay's log says {text:?}");
        let found = wait_for(timeout, &what, || {
            let ended = self.has_ended();
            let line = self
                .log()
                .lines()
                .find(|line| line.contains(text))
                .map(str::to_owned);
            line.map(Ok).or_else(|| ended.map(Err))
        });
        found.unwrap_or_else(|status| panic!("{what}, but it ended: {status}"))
    }

    /// Where its admin server listens.
    pub fn admin(&self) -> String {
        format!("127.0.0.1:{}", self.admin_port)
    }

    /// GET from its admin server: status and body; `None` when nobody answers there.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        http::get(&self.admin(), path).ok()
    }

    /// Its metrics; `None` when nobody answers there.
    pub fn try_metrics(&self) -> Option<Metrics> {
        let (status, text) = self.get("/metrics")?;
        (status == 200).then(|| Metrics::parse(&text))
    }

    /// Its metrics.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        self.try_metrics()
            .expect("the relay answers /metrics with 200")
    }

    /// Waits until `/readyz` answers 200.
    #[track_caller]
    pub fn wait_ready(&mut self, timeout: Duration) {
        self.wait_for(timeout, "the relay is ready", |relay| {
            relay
                .get("/readyz")
                .filter(|(status, _)| *status == 200)
                .map(drop)
        });
    }

    /// Waits until the sum of the series with these labels is as `good` wants it, and returns it.
    #[track_caller]
    pub fn wait_metric(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        timeout: Duration,
        good: impl Fn(f64) -> bool,
    ) -> f64 {
        let what = format!("{name}{labels:?} is as wanted");
        self.wait_for(timeout, &what, |relay| {
            relay
                .try_metrics()?
                .get(name, labels)
                .filter(|value| good(*value))
        })
    }

    /// Waits as [`wait_for`] does, and stops waiting when the relay has ended.
    #[track_caller]
    pub fn wait_for<T>(
        &mut self,
        timeout: Duration,
        what: &str,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        let found = wait_for(timeout, what, || {
            let ended = self.has_ended();
            look(self).map(Ok).or_else(|| ended.map(Err))
        });
        found.unwrap_or_else(|status| panic!("waited until {what}, but the relay ended: {status}"))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.has_ended().is_none() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
        if std::thread::panicking() {
            let tail = tail(&self.log, LOG_LINES_SHOWN);
            eprintln!(
                "--- the relay's log, {}, ends with:\n{tail}\n---",
                self.log.display()
            );
        } else {
            fs::remove_file(&self.log).ok();
        }
    }
}
