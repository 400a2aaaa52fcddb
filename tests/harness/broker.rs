//! A real Apache Kafka: one Java process in KRaft mode, on loopback, with its data in a folder that goes with it.
//!
//! The jars come from `make kafka`. A test that cannot find them fails and says so; it is never skipped.

use std::fs::{self, File};
use std::ops::{Deref, Range};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::kafka::Kafka;
use super::leash::{Leash, log_path, tail};
use super::place::sha256;
use super::port::free_port;

/// The version that tests start unless they or `POSTRIDER_KAFKA_VERSION` name another.
const KAFKA_VERSION: &str = "4.1.0";
/// From the start of the process to the first answered request; a cold, busy machine with two cores needs up to half a minute.
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// A broker that was asked to stop and has not ended by then is a failure.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A broker. Dropping it kills it and removes its data; its log stays.
#[derive(Debug)]
pub struct Broker {
    kafka: Kafka,
    libs: PathBuf,
    folder: TempDir,
    log: PathBuf,
    process: Mutex<Option<Process>>,
}

/// Its process while it runs.
#[derive(Debug)]
struct Process {
    java: Child,
    _leash: Leash,
}

/// How a broker of one's own shall be.
#[derive(Debug, Clone)]
pub struct Builder {
    version: String,
    properties: Vec<(String, String)>,
    listeners: Vec<(&'static str, u16)>,
    format: Vec<String>,
}

/// Where in a log the batch lies that begins at this offset or behind it.
fn batch_at(log: &[u8], offset: i64) -> Range<usize> {
    let number = |range: Range<usize>| {
        log[range]
            .iter()
            .fold(0i64, |number, byte| number << 8 | i64::from(*byte))
    };
    let mut at = 0;
    loop {
        // A batch begins with its first offset, and the length of what follows.
        let end = at + 12 + number(at + 8..at + 12) as usize;
        if number(at..at + 8) >= offset {
            return at..end;
        }
        at = end;
    }
}

impl Broker {
    /// The one broker that all tests of this process share. Tests on it use topics and groups of names of their own, and leave it running.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// The same, or another where that one is older than Kafka 4: members of a group can leave it to such a broker who reads what.
    pub fn shared_that_decides() -> &'static Self {
        static DECIDES: OnceLock<Broker> = OnceLock::new();
        let usual = Self::builder();
        if !usual.version.starts_with("3.") {
            return Self::shared();
        }
        eprintln!(
            "Kafka {} cannot: this is tried on {KAFKA_VERSION}",
            usual.version
        );
        DECIDES.get_or_init(|| usual.version(KAFKA_VERSION).start())
    }

    /// A broker of one's own, for tests that hurt it.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A broker of one's own that differs from the usual one.
    pub fn builder() -> Builder {
        Builder {
            version: std::env::var("POSTRIDER_KAFKA_VERSION")
                .unwrap_or_else(|_| KAFKA_VERSION.to_owned()),
            properties: vec![],
            listeners: vec![],
            format: vec![],
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running().as_ref().expect("the broker runs").java.id()
    }

    /// Where its log is.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether its process is there, frozen or not.
    pub fn is_running(&self) -> bool {
        self.running()
            .as_mut()
            .is_some_and(|p| matches!(p.java.try_wait(), Ok(None)))
    }

    /// Ends it in an orderly way (SIGTERM) and waits until it has ended.
    pub fn stop(&self) -> ExitStatus {
        self.thaw();
        self.end(Signal::SIGTERM)
    }

    /// Ends it as a power failure would (SIGKILL).
    pub fn kill9(&self) -> ExitStatus {
        self.end(Signal::SIGKILL)
    }

    /// Stops its time (SIGSTOP): connections stay open, nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Takes the records of the topic's first partition from this offset on out of its log, as a machine does that loses its power before they are
    /// written out. The broker must not run.
    pub fn lose_end(&self, topic: &str, offset: i64) {
        let (log, bytes) = self.log_of(topic);
        let at = batch_at(&bytes, offset).start;
        let file = std::fs::OpenOptions::new().write(true).open(&log);
        file.and_then(|file| file.set_len(at as u64))
            .expect("a shorter log");
        // It looks at its logs at the start only where it did not end in good order.
        std::fs::remove_file(self.folder.path().join("data/.kafka_cleanshutdown")).ok();
    }

    /// Changes the batch of the topic's first partition that begins at this offset where it lies on
    /// the disk, as a disk does that fails. The broker may run.
    pub fn damage(&self, topic: &str, offset: i64, change: impl FnOnce(&mut [u8])) {
        let (log, mut bytes) = self.log_of(topic);
        let place = batch_at(&bytes, offset);
        change(&mut bytes[place.clone()]);
        let file = std::fs::OpenOptions::new().write(true).open(&log);
        let file = file.expect("the log of the partition");
        let written = file.write_all_at(&bytes[place.clone()], place.start as u64);
        written.expect("the batch is written");
    }

    fn log_of(&self, topic: &str) -> (PathBuf, Vec<u8>) {
        let name = format!("data/{topic}-0/00000000000000000000.log");
        let log = self.folder.path().join(name);
        let bytes = std::fs::read(&log).expect("the log of the partition");
        (log, bytes)
    }

    /// Starts it again on the same data and the same port, and waits until it answers. One that still runs is stopped first.
    pub fn restart(&self) {
        if self.is_running() {
            self.stop();
        }
        self.launch();
    }

    /// Runs Kafka's own `kafka-consumer-groups` against it, and gives what it printed; it has done what it was asked.
    #[track_caller]
    pub fn consumer_groups(&self, arguments: &[&str]) -> String {
        let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
        self.tool(class, arguments)
    }

    /// Runs Kafka's own `kafka-acls` against it, which needs an authorizer.
    #[track_caller]
    pub fn acls(&self, arguments: &[&str]) -> String {
        let old = self.libs.ends_with("3.9.1/libs");
        let class = if old {
            "kafka.admin.AclCommand"
        } else {
            "org.apache.kafka.tools.AclCommand"
        };
        self.tool(class, arguments)
    }

    #[track_caller]
    fn tool(&self, class: &str, arguments: &[&str]) -> String {
        let output = Command::new("java")
            .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(self.libs.join("*"))
            .arg(class)
            .args(["--bootstrap-server", self.kafka.brokers()])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("java starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        // What goes wrong with a group it prints, and ends well.
        let well = output.status.success() && !out.contains("Error");
        assert!(well, "{class} {arguments:?}: {out}{error}");
        out
    }

    fn running(&self) -> MutexGuard<'_, Option<Process>> {
        self.process
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("the broker's process is ours");
    }

    fn end(&self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        let Some(mut process) = self.running().take() else {
            panic!("the broker does not run")
        };
        let begin = Instant::now();
        loop {
            if let Some(status) = process
                .java
                .try_wait()
                .expect("the broker's process is ours")
            {
                return status;
            }
            if begin.elapsed() > STOP_TIMEOUT {
                process.java.kill().ok();
                process.java.wait().ok();
                panic!(
                    "the broker did not end on {signal} within {STOP_TIMEOUT:?}; {}",
                    self.story()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts the process and waits until a metadata request is answered: the port is open long before that.
    fn launch(&self) {
        let mut java = java(&self.libs, &self.log)
            .arg("kafka.Kafka")
            .arg(self.folder.path().join("server.properties"))
            .spawn()
            .expect("java starts");
        let leash = Leash::on(java.id(), self.folder.path());
        let begin = Instant::now();
        while !self.kafka.answers(Duration::from_secs(1)) {
            if let Some(status) = java.try_wait().expect("the broker's process is ours") {
                panic!(
                    "the broker ended while it started: {status}; {}",
                    self.story()
                );
            }
            if begin.elapsed() > START_TIMEOUT {
                java.kill().ok();
                java.wait().ok();
                panic!(
                    "the broker did not answer within {START_TIMEOUT:?}; {}",
                    self.story()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        *self.running() = Some(Process {
            java,
            _leash: leash,
        });
    }

    fn story(&self) -> String {
        format!(
            "its log, {}, ends with:\n{}",
            self.log.display(),
            tail(&self.log, 20)
        )
    }
}

/// What a client can do with it.
impl Deref for Broker {
    type Target = Kafka;

    fn deref(&self) -> &Kafka {
        &self.kafka
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(process) = self.running().as_mut() {
            process.java.kill().ok();
            process.java.wait().ok();
        }
        if std::thread::panicking() {
            eprintln!("the broker's log: {}", self.log.display());
        }
    }
}

impl Builder {
    /// Another version; `KAFKA_VERSIONS` of the Makefile lists those that are fetched.
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// Sets a line of `server.properties`.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a listener besides the plain one, of a protocol in Kafka's words (`SSL`, `SASL_PLAINTEXT`, `SASL_SSL`), and returns its address.
    pub fn listener(&mut self, protocol: &'static str) -> String {
        let port = free_port();
        self.listeners.push((protocol, port));
        format!("127.0.0.1:{port}")
    }

    /// Adds arguments to the formatting of the data folder, where the first users of a cluster are made.
    pub fn format(mut self, arguments: &[&str]) -> Self {
        self.format.extend(arguments.iter().map(|&a| a.to_owned()));
        self
    }

    /// Formats a data folder and starts the broker on it.
    pub fn start(self) -> Broker {
        let libs = libs(&self.version);
        let folder = TempDir::with_prefix("postrider-broker-").expect("a temporary folder");
        let log = log_path(&format!("kafka-{}.log", self.version));
        eprintln!("the broker's log: {}", log.display());
        let port = free_port();
        let properties = folder.path().join("server.properties");
        fs::write(&properties, self.text(port, folder.path())).expect("the folder is writable");
        let formatted = java(&libs, &log)
            .args([
                "kafka.tools.StorageTool",
                "format",
                "-t",
                &cluster_id(port),
                "-c",
            ])
            .arg(&properties)
            .args(&self.format)
            .status()
            .expect("java starts: `make test` installs it or says what to install");
        let kafka = Kafka::at(&format!("127.0.0.1:{port}"));
        let broker = Broker {
            kafka,
            libs,
            folder,
            log,
            process: Mutex::new(None),
        };
        assert!(
            formatted.success(),
            "formatting the data folder: {formatted}; {}",
            broker.story()
        );
        broker.launch();
        broker
    }

    /// `server.properties`; of two lines with one name the last counts, so the caller's win.
    fn text(&self, port: u16, folder: &Path) -> String {
        let controller = free_port();
        let listeners: String = self
            .listeners
            .iter()
            .map(|(protocol, port)| format!(",{protocol}://127.0.0.1:{port}"))
            .collect();
        let mut text = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listeners}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}{listeners}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,\
             SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL\n\
             log.dirs={}\n\
             auto.create.topics.enable=false\n\
             offsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=4\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\n\
             group.min.session.timeout.ms=6000\n\
             group.consumer.min.session.timeout.ms=6000\n\
             group.consumer.session.timeout.ms=6000\n\
             group.consumer.min.heartbeat.interval.ms=1000\n\
             group.consumer.heartbeat.interval.ms=1000\n",
            folder.join("data").display(),
        );
        for (name, value) in &self.properties {
            text.push_str(&format!("{name}={value}\n"));
        }
        text
    }
}

/// The jars of one version, or the reason why there are none.
fn libs(version: &str) -> PathBuf {
    let Some(root) = std::env::var_os("POSTRIDER_KAFKA_LIBS") else {
        panic!("POSTRIDER_KAFKA_LIBS is not set: tests on a real Kafka are started by `make test`");
    };
    let libs = Path::new(&root).join(version).join("libs");
    assert!(
        libs.is_dir(),
        "no Apache Kafka {version} in {}: `make test` fetches it (or `make kafka` alone)",
        libs.display()
    );
    libs
}

/// A Java with the jars on its class path, its words going to the log.
fn java(libs: &Path, log: &Path) -> Command {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log)
        .expect("the log is writable");
    let mut java = Command::new("java");
    java.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .args(["-Dorg.slf4j.simpleLogger.showDateTime=true"])
        .args(["-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS"])
        .arg("-cp")
        .arg(libs.join("*"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log);
    java
}

/// A fresh cluster id: 22 characters of base64url, of which the first must not be a dash.
fn cluster_id(port: u16) -> String {
    let seed = format!(
        "{} {port} {:?}",
        std::process::id(),
        std::time::SystemTime::now()
    );
    let mut id: [u8; 16] = sha256(seed.as_bytes())[..16]
        .try_into()
        .expect("sixteen bytes");
    id[0] = 0;
    URL_SAFE_NO_PAD.encode(id)
}
