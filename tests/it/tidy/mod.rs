//! Checks of the repository's own text, run as tests: what review would otherwise have to see each time.
//!
//! Each check is a function from a file's path and text to complaints (`checks.rs`, `layers.rs`), over text
//! from which `text.rs` has taken comments and strings where only code counts. The tests here run every
//! check over the tree; the tests beside each check feed it a planted violation and see it caught.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Lengths, module documents, banned calls, machine paths.
mod checks;
/// Imports point only to earlier layers.
mod layers;
/// Rust text without its comments and strings, and where things begin and end in it.
mod text;

/// One file: its path from the root of the repository, with `/`, and its text.
struct File {
    path: String,
    text: String,
}

/// Folders that hold nothing of ours to judge: built, fetched, or drawn anew in each run.
const PASSED_OVER: [&str; 8] =
    [".git", "target", "corpus", "artifacts", "coverage", "node_modules", ".kafka", "protocol-specs"];

/// Every text file of the repository.
fn files() -> Vec<File> {
    let mut found = Vec::new();
    let root = crate::broker::root();
    gather(root, root, &mut found);
    assert!(found.iter().any(|file| file.path == "src/lib.rs"), "the walk must find the crate");
    found
}

fn gather(root: &Path, folder: &Path, found: &mut Vec<File>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let entry = entry.expect("an entry of a folder");
        let (path, name) = (entry.path(), entry.file_name());
        // In a second worktree, .git is a file.
        if PASSED_OVER.iter().any(|passed| name == *passed) {
            continue;
        }
        let kind = entry.file_type().expect("an entry has a type");
        if kind.is_dir() {
            gather(root, &path, found);
        } else if kind.is_file() {
            // What is not UTF-8 is data, not text.
            if let Ok(text) = fs::read_to_string(&path) {
                let path = path.strip_prefix(root).expect("we began there");
                let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
                found.push(File { path: parts.join("/"), text });
            }
        }
    }
}

fn is_rust(file: &File) -> bool {
    Path::new(&file.path).extension().is_some_and(|extension| extension == "rs")
}

/// A message table that codegen wrote. What stands by hand in the same folder is judged like the rest.
fn is_generated(file: &File) -> bool {
    file.path.starts_with("src/messages/")
        && file.text.lines().take(5).any(|line| line.starts_with("//") && line.contains("enerated"))
}

/// Runs one check over the files that it concerns and fails with all its complaints at once.
fn hold(concerns: impl Fn(&File) -> bool, check: impl Fn(&str, &str) -> Vec<String>) {
    let files = files();
    let complaints: Vec<String> =
        files.iter().filter(|file| concerns(file)).flat_map(|file| check(&file.path, &file.text)).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn files_are_short() {
    hold(|file| is_rust(file) && !is_generated(file), checks::file_length);
}

#[test]
fn functions_are_short() {
    hold(|file| is_rust(file) && !is_generated(file), checks::function_length);
}

#[test]
fn modules_open_with_what_they_are_for() {
    hold(is_rust, checks::module_docs);
}

#[test]
fn nothing_is_banned() {
    hold(is_rust, checks::banned);
}

#[test]
fn machines_know_no_clock_no_chance_and_no_runtime() {
    hold(is_rust, checks::machines);
}

#[test]
fn no_path_of_a_machine_is_named() {
    hold(|file| file.path != ".gitignore", checks::machine_paths);
}

#[test]
fn imports_point_down() {
    let lib = fs::read_to_string(crate::broker::root().join("src/lib.rs")).expect("src/lib.rs");
    let root_names: BTreeMap<_, _> = layers::root_names(&lib);
    hold(is_rust, |path, text| layers::imports(path, text, &root_names));
}
