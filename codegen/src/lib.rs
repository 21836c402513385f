//! From Kafka's client jars to weir's message tables, in two steps that can be looked at between.
//!
//! `import`: [`jar`] takes the JSON specs out of the jars, [`kafka`] parses them, [`merge`] makes
//! one spec of several releases, [`facts`] writes it to `protocol-specs/`.
//! `generate`: [`facts`] reads them back, [`emit`] prints Rust tables for `src/messages/`.
//!
//! Both steps are pure functions from text to text; only `main` touches the tree, and the drift
//! test of the root package calls [`generate`] in memory.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

use std::collections::BTreeMap;
use std::path::Path;

pub mod emit;
pub mod facts;
pub mod jar;
pub mod kafka;
pub mod merge;
pub mod model;
pub mod names;
pub mod versions;

/// The files of `src/messages/` that people write, and `generate` leaves alone.
pub const BY_HAND: &[&str] = &["prelude.rs"];

/// File names and their contents, in name order.
pub type Files = BTreeMap<String, String>;

/// What can go wrong here is for a developer at a terminal, so it is a sentence.
pub type Result<T> = std::result::Result<T, String>;

/// Reads the specs out of the jars, newest release first, and gives the files of `protocol-specs/`.
pub fn import(jars: &[&Path]) -> Result<Files> {
    let mut releases = Vec::new();
    for path in jars {
        let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or("jar").to_owned();
        let specs = jar::read_specs(path)?;
        let messages = specs
            .iter()
            .map(|(file, text)| kafka::parse(text).map_err(|e| format!("{name}: {file}: {e}")))
            .collect::<Result<Vec<_>>>()?;
        releases.push(merge::Release { name, messages });
    }
    let merged = merge::merge(releases)?;
    Ok(facts::write(&merged))
}

/// Turns the files of `protocol-specs/` into the files of `src/messages/`.
pub fn generate(specs: &Files) -> Result<Files> {
    let messages = facts::read(specs)?;
    emit::emit(&messages)
}

/// Reads all files of a folder that end in `.{extension}`.
pub fn read_folder(folder: &Path, extension: &str) -> Result<Files> {
    let context = |e: std::io::Error| format!("{}: {e}", folder.display());
    let mut files = Files::new();
    for entry in std::fs::read_dir(folder).map_err(context)? {
        let path = entry.map_err(context)?.path();
        if path.extension().is_some_and(|found| found == extension) {
            let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let name = path.file_name().and_then(|s| s.to_str()).ok_or("a file name is not UTF-8")?;
            files.insert(name.to_owned(), text);
        }
    }
    Ok(files)
}
