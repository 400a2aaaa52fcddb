//! The unit files, as far as they can be judged without a booted systemd; `make test-system` has one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Ten times what `systemd-analyze security` calls the exposure of a service.
const EXPOSURE_MAX: u32 = 15;

/// What may differ between the unit and its template.
const OWN_LINES: [&str; 4] = ["Description", "#", "ExecStart", "RuntimeDirectory"];

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("systemd")
        .join(name)
}

fn lines(name: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(unit(name)).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_units_give_away_next_to_nothing() {
    for name in ["postrider.service", "postrider@.service"] {
        let judged = Command::new("systemd-analyze")
            .args(["security", "--no-pager", "--offline=true"])
            .arg(format!("--threshold={EXPOSURE_MAX}"))
            .arg(unit(name))
            .output();
        let Ok(judged) = judged else {
            println!("left out: there is no systemd-analyze; make test-system brings its own");
            return;
        };
        let text = String::from_utf8_lossy(&judged.stdout);
        assert!(text.contains("Overall exposure level"), "{judged:?}");
        assert!(judged.status.success(), "{name}: {text}");
    }
}

#[test]
fn the_template_is_the_unit_but_for_its_places() {
    let (unit, template) = (lines("postrider.service"), lines("postrider@.service"));
    for line in unit.symmetric_difference(&template) {
        let own = OWN_LINES.iter().any(|own| line.starts_with(own));
        assert!(own, "in one of the units only: {line}");
    }
}

/// The contract's words: systemd and operators rely on them.
#[test]
fn the_unit_keeps_its_promises() {
    let unit = lines("postrider.service");
    for line in [
        "Type=notify",
        "NotifyAccess=main",
        "ExecStart=/usr/bin/postrider run",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Restart=always",
        "RestartSec=2",
        "RestartPreventExitStatus=2 78",
        "SuccessExitStatus=143",
        "WatchdogSec=30",
        "TimeoutStopSec=45",
        "KillMode=mixed",
        "DynamicUser=yes",
    ] {
        assert!(unit.contains(line), "the unit does not say {line}");
    }
    assert!(!unit.iter().any(|line| line.starts_with("ExecStartPre")));
}
