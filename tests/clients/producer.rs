//! A Python client as a child process.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::harness::leash::{Leash, log_path, tail};
use crate::harness::wait::wait_for;

/// Every compression that Kafka has.
pub(crate) const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// For all codecs of one client together, its own time-outs included.
const TIMEOUT: Duration = Duration::from_secs(240);

/// A record to be produced.
pub(crate) struct Sample {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Vec<u8>,
}

/// What a client said about one codec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// Every record is acknowledged.
    Done,
    /// It does not know the codec, or not on this machine.
    Cannot(String),
    /// It tried.
    Failed(String),
    /// It ended before it said anything.
    Nothing,
}

/// A client that is ready to run.
pub(crate) struct Producer {
    name: String,
    python: PathBuf,
}

impl Producer {
    /// The client of that name, or why it is not there.
    pub(crate) fn find(name: &str) -> Result<Self, String> {
        let root = std::env::var_os("POSTRIDER_CLIENTS").expect(
            "POSTRIDER_CLIENTS is not set: tests with other clients are started by `make test`",
        );
        let root = Path::new(&root);
        if let Ok(why) = fs::read_to_string(root.join(format!("{name}.why"))) {
            return Err(why.trim().to_owned());
        }
        let python = root.join(name).join("bin/python");
        if !python.exists() {
            return Err(format!(
                "{} is missing: `make clients` prepares it",
                python.display()
            ));
        }
        let name = name.to_owned();
        Ok(Self { name, python })
    }

    /// Produces the samples to `CLIENT.CODEC` with every codec, and returns what it said about each.
    pub(crate) fn produce(&self, brokers: &str, samples: &[Sample]) -> BTreeMap<String, Said> {
        let folder = TempDir::with_prefix("postrider-client-").expect("a temporary folder");
        let records = folder.path().join("records");
        fs::write(&records, lines(samples)).expect("the folder is writable");
        let output = folder.path().join("said");
        let log = log_path(&format!("{}.log", self.name));
        let mut child = Command::new(&self.python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/produce.py"))
            .args([&self.name, brokers, &self.name])
            .arg(&records)
            .args(CODECS)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(File::create(&output).expect("the folder is writable"))
            .stderr(File::create(&log).expect("the log is writable"))
            .spawn()
            .expect("Python starts");
        let _leash = Leash::on(child.id(), folder.path());
        let what = format!("{} has produced; its log: {}", self.name, log.display());
        let status = wait_for(TIMEOUT, &what, || {
            child.try_wait().expect("the child is ours")
        });
        if !status.success() {
            println!(
                "{} ended with {status}; its log ends with:\n{}",
                self.name,
                tail(&log, 10)
            );
        }
        let said = fs::read_to_string(&output).expect("what it said");
        said.lines().filter_map(Said::parse).collect()
    }
}

fn lines(samples: &[Sample]) -> String {
    let line = |sample: &Sample| {
        let key = sample.key.as_ref().map(|key| STANDARD.encode(key));
        serde_json::json!({ "key": key, "value": STANDARD.encode(&sample.value) }).to_string()
            + "\n"
    };
    samples.iter().map(line).collect()
}

impl Said {
    fn parse(line: &str) -> Option<(String, Self)> {
        let (codec, said) = line.split_once(' ')?;
        let (word, why) = said.split_once(' ').unwrap_or((said, ""));
        let said = match word {
            "ok" => Self::Done,
            "cannot" => Self::Cannot(why.to_owned()),
            _ => Self::Failed(why.to_owned()),
        };
        Some((codec.to_owned(), said))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("all"),
            Self::Cannot(why) => write!(f, "cannot ({why})"),
            Self::Failed(why) => write!(f, "FAILED ({why})"),
            Self::Nothing => f.write_str("NOTHING"),
        }
    }
}
