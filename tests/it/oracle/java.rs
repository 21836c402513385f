//! Finds the jars of a Kafka version, compiles the programs against them, runs them.
//!
//! The classes are kept in the target directory under a name that has the hash of their sources, so
//! javac runs once for each change. What this machine lacks is a skip; what fails is a failed test.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::io::{BufReader, BufWriter, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::thread::{self, JoinHandle};
use std::{env, fs};

use weir_kafka_harness::{Failure, Version, fetch};

use super::VERSIONS;
use crate::skip::skip;

const SOURCES: [(&str, &str); 5] = [
    ("Assignors.java", include_str!("../../oracle/Assignors.java")),
    ("Oracle.java", include_str!("../../oracle/Oracle.java")),
    ("Partitions.java", include_str!("../../oracle/Partitions.java")),
    ("Records.java", include_str!("../../oracle/Records.java")),
    ("Sasl.java", include_str!("../../oracle/Sasl.java")),
];

/// The programs, ready to run with the jars of one version.
#[derive(Debug)]
pub(super) struct Java {
    pub(super) version: &'static str,
    class_path: String,
}

/// The programs for this version, compiled once. `None` is a skip, already printed.
pub(super) fn java(version: &'static str, what: &str) -> Option<&'static Java> {
    static ALL: [OnceLock<Result<Java, String>>; VERSIONS.len()] =
        [const { OnceLock::new() }; VERSIONS.len()];
    let index = VERSIONS.iter().position(|known| *known == version).expect("one of our versions");
    match ALL[index].get_or_init(|| Java::prepare(version)) {
        Ok(java) => Some(java),
        Err(why) => {
            skip(&format!("oracle {version}, {what}"), why);
            None
        }
    }
}

impl Java {
    /// The reason of a skip is the error; anything that should have worked panics.
    fn prepare(version: &'static str) -> Result<Self, String> {
        for tool in ["java", "javac"] {
            let found =
                Command::new(tool).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            if !found.is_ok_and(|status| status.success()) {
                return Err(format!("no {tool}"));
            }
        }
        let jars = jars(version)?;
        let classes = compile(version, &jars);
        Ok(Self { version, class_path: format!("{}:{}/*", classes.display(), jars.display()) })
    }

    /// Starts one of the programs.
    pub(super) fn start(&self, program: &'static str, arguments: &[&str]) -> Program {
        let mut child = Command::new("java")
            .args(["-XX:+UseSerialGC", "-Xmx2g", "-cp", &self.class_path, program])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("java was there a moment ago");
        let mut stderr = child.stderr.take().expect("it was asked for");
        let said = thread::spawn(move || {
            let mut said = Vec::new();
            drop(stderr.read_to_end(&mut said));
            String::from_utf8_lossy(&said).into_owned()
        });
        let to = BufWriter::with_capacity(1 << 18, child.stdin.take().expect("it was asked for"));
        let from = BufReader::with_capacity(1 << 18, child.stdout.take().expect("it was asked for"));
        Program { name: program, child, to: Some(to), from, said }
    }
}

/// One of the programs at work.
pub(super) struct Program {
    name: &'static str,
    child: Child,
    to: Option<BufWriter<ChildStdin>>,
    pub(super) from: BufReader<ChildStdout>,
    said: JoinHandle<String>,
}

impl Program {
    /// What the program reads. Dropping it is the end of its input.
    pub(super) fn input(&mut self) -> BufWriter<ChildStdin> {
        self.to.take().expect("only one writes to it")
    }

    /// Waits for the end, which must be a good one with nothing left to read.
    pub(super) fn end(mut self) {
        drop(self.to.take());
        let mut rest = Vec::new();
        self.from.read_to_end(&mut rest).expect("a pipe can be read");
        let status = self.child.wait().expect("it is our child");
        let said = self.said.join().expect("the reader does not panic");
        assert!(status.success(), "{} ended with {status}\n{said}", self.name);
        assert!(rest.is_empty(), "{} said {} bytes more than it was asked for", self.name, rest.len());
    }
}

/// The folder with the jars, fetched if it is not there.
fn jars(version: &str) -> Result<PathBuf, String> {
    if let Some(home) = env::var_os("WEIR_KAFKA_JARS") {
        let dir = Path::new(&home).join(version);
        if dir.is_dir() {
            return Ok(dir);
        }
    }
    let version: Version = version.parse().expect("the oracle's versions are versions");
    match fetch(&version) {
        Ok(dir) => Ok(dir),
        Err(Failure::NotHere(why)) => Err(why),
        Err(Failure::Broken(why)) => panic!("the jars of {version}: {why}"),
    }
}

/// The folder with the classes. Several test processes may get here at once: each compiles in a folder
/// of its own, and the first to rename it wins.
fn compile(version: &str, jars: &Path) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    SOURCES.hash(&mut hasher);
    let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let classes = home.join(format!("oracle-{version}-{:016x}", hasher.finish()));
    if classes.is_dir() {
        return classes;
    }
    let part = home.join(format!("oracle-{version}.part-{}", std::process::id()));
    drop(fs::remove_dir_all(&part));
    fs::create_dir_all(&part).expect("the target directory can be written");
    let mut javac = Command::new("javac");
    javac.args(["-proc:none", "-d"]).arg(&part).arg("-cp").arg(format!("{}/*", jars.display()));
    for (name, text) in SOURCES {
        let source = part.join(name);
        fs::write(&source, for_version(version, text)).expect("the target directory can be written");
        javac.arg(source);
    }
    let output = javac.output().expect("javac was there a moment ago");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "javac for {version}: {}\n{said}", output.status);
    let renamed = fs::rename(&part, &classes);
    assert!(classes.is_dir(), "{}: {renamed:?}", classes.display());
    drop(fs::remove_dir_all(&part));
    classes
}

/// Kafka 4 moved the record classes to packages called `internal`; the imports are marked.
fn for_version(version: &str, source: &str) -> String {
    if version.starts_with('4') {
        return source.to_owned();
    }
    let old = |line: &str| match line.strip_suffix("// marked") {
        Some(import) => import.replace(".internals.", ".").replace(".internal.", "."),
        None => line.to_owned(),
    };
    source.lines().map(|line| old(line) + "\n").collect()
}

#[test]
fn only_marked_imports_change_and_only_for_old_versions() {
    let source = "import a.internal.B; // marked\nimport a.internals.C;\n";
    assert_eq!(for_version("4.4.0", source), source);
    assert_eq!(for_version("3.9.2", source), "import a.B; \nimport a.internals.C;\n");
}
