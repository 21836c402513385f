//! `src/messages` is what `codegen` makes of `protocol-specs`, to the byte.

use std::path::{Path, PathBuf};

use weir_codegen::{BY_HAND, Files, generate, read_folder};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The files that differ, that are missing, or that nothing generates.
fn drift(generated: &Files, committed: &Files) -> Vec<String> {
    let by_hand = |name: &String| BY_HAND.contains(&name.as_str());
    let names = generated.keys().chain(committed.keys().filter(|name| !by_hand(name)));
    let mut found: Vec<String> =
        names.filter(|name| generated.get(*name) != committed.get(*name)).cloned().collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn the_committed_messages_are_what_the_specs_give() {
    let specs = read_folder(&folder("protocol-specs"), "json").unwrap();
    let generated = generate(&specs).unwrap();
    let committed = read_folder(&folder("src/messages"), "rs").unwrap();
    assert!(generated.len() > 100, "{} files", generated.len());
    let drifted = drift(&generated, &committed);
    assert!(drifted.is_empty(), "run `cargo run -p weir-codegen -- generate`: {drifted:?}");
}

#[test]
fn specs_are_written_as_they_are_read() {
    let specs = read_folder(&folder("protocol-specs"), "json").unwrap();
    let messages = weir_codegen::facts::read(&specs).unwrap();
    assert_eq!(drift(&weir_codegen::facts::write(&messages), &specs), Vec::<String>::new());
}

#[test]
fn planted_drift_is_seen() {
    let file = |text: &str| Files::from([("fetch.rs".to_owned(), text.to_owned())]);
    assert_eq!(drift(&file("a"), &file("b")), ["fetch.rs"]);
    assert_eq!(drift(&file("a"), &Files::new()), ["fetch.rs"], "missing");
    assert_eq!(drift(&Files::new(), &file("a")), ["fetch.rs"], "left over");
    assert!(drift(&file("a"), &file("a")).is_empty());
}
