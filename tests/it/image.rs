//! The image is built from what `.dockerignore` lets through, and from nothing else.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

#[test]
fn a_target_outside_src_does_not_break_the_image() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignore = fs::read_to_string(project.join(".dockerignore")).unwrap();
    let let_through: Vec<&str> = ignore
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    assert_eq!(
        let_through,
        ["Cargo.toml", "Cargo.lock", "src"],
        "then this test copies too little"
    );
    let folder = TempDir::with_prefix("postrider-image-").unwrap();
    for file in ["Cargo.toml", "Cargo.lock"] {
        fs::copy(project.join(file), folder.path().join(file)).unwrap();
    }
    // As the Dockerfile's first build has it: an empty program, for the libraries alone.
    fs::create_dir(folder.path().join("src")).unwrap();
    fs::write(folder.path().join("src/main.rs"), "fn main() {}").unwrap();
    fs::write(folder.path().join("src/lib.rs"), "").unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let answer = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&answer.stderr);
    assert!(
        answer.status.success(),
        "cargo does not take the manifest without the rest: {said}"
    );
}
