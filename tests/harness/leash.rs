//! Child processes that never outlive the test, however the test ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Watches one process: when this test process ends, by whatever means, that one is killed and its directory removed.
///
/// A shell holds the reading end of a pipe. The kernel closes the writing end with the test process, also after SIGKILL, and the shell
/// then does its work. Dropping the leash lets the process go.
#[derive(Debug)]
pub struct Leash {
    shell: Child,
}

impl Leash {
    /// Puts `pid` on a leash; `directory` is removed with it.
    pub fn on(pid: u32, directory: &Path) -> Self {
        // Ctrl-C reaches the whole foreground group, a frozen broker included; the shell must live to kill it.
        let script = r#"trap "" INT TERM HUP
            while read -r _; do :; done
            kill -9 "$1" 2>/dev/null
            sleep 0.3
            rm -rf "$2""#;
        let shell = Command::new("sh")
            .args(["-c", script, "leash", &pid.to_string()])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        Self { shell }
    }

    /// What the end of the test process would do; returns when it is done.
    pub fn pull(mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().expect("the shell is ours");
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        // The shell first: closing its input first would make it kill whoever has the process id by now.
        self.shell.kill().ok();
        self.shell.wait().ok();
    }
}

/// A path for a log that stays after the test, `target/tmp/ground/<process>-<number>-<name>`; `make test` begins with an empty folder.
pub fn log_path(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ground");
    fs::create_dir_all(&folder).expect("target/tmp is writable");
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    folder.join(format!("{}-{number:03}-{name}", std::process::id()))
}

/// The last `count` lines of a file.
pub fn tail(path: &Path, count: usize) -> String {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
