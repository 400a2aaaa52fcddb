//! The image is built from what `.dockerignore` lets through, and from nothing else.

use std::fs;
use std::path::Path;

/// Cargo looks for a target that names no path, and refuses the whole manifest when its file is not there.
fn targets_without_a_path(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().unwrap();
    let mut found = Vec::new();
    for kind in ["bin", "bench", "example", "test"] {
        let targets = manifest.get(kind).and_then(toml::Value::as_array);
        for target in targets.into_iter().flatten() {
            if target.get("path").is_none() {
                found.push(format!("[[{kind}]] {}", target["name"]));
            }
        }
    }
    found
}

#[test]
fn a_target_outside_src_does_not_break_the_image() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignore = fs::read_to_string(project.join(".dockerignore")).unwrap();
    let let_through: Vec<&str> = ignore
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    assert_eq!(let_through, ["Cargo.toml", "Cargo.lock", "src"]);
    let manifest = fs::read_to_string(project.join("Cargo.toml")).unwrap();
    assert!(
        manifest.contains("[[bench]]"),
        "the bench is declared, or this test looks at nothing"
    );
    assert_eq!(targets_without_a_path(&manifest), Vec::<String>::new());
}

#[test]
fn a_planted_target_without_a_path_is_found() {
    let planted = "[package]\nname = \"x\"\n[[bench]]\nname = \"delivery\"\nharness = false\n";
    assert_eq!(targets_without_a_path(planted), ["[[bench]] \"delivery\""]);
}
