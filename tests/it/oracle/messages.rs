//! Every message of every version, both ways: what Java writes comes back from weir to the byte, and
//! what weir draws comes back from Java.
//!
//! One Java process works through a whole direction, so a message costs microseconds. `from_java` and
//! `to_java` are handed the codec as a function: `planted` hands them broken ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::sync::mpsc::channel;
use std::thread;

use bytes::Bytes;
use weir::protocol::{self, ApiKey, Kind};

use super::java::{Java, java};
use super::stream::{Frame, read_answer, read_blob};
use super::{VERSIONS, count, say, seed};

/// Differences that are told in full; the rest is counted.
const TOLD: usize = 8;

/// A message in one version.
pub(super) type Pair = (String, i16);

#[test]
fn java_to_weir_4_4_0() {
    test_from_java(VERSIONS[0]);
}

#[test]
fn java_to_weir_3_9_2() {
    test_from_java(VERSIONS[1]);
}

#[test]
fn weir_to_java_4_4_0() {
    test_to_java(VERSIONS[0]);
}

#[test]
fn weir_to_java_3_9_2() {
    test_to_java(VERSIONS[1]);
}

/// No message of weir's may be one that no Kafka was asked about.
#[test]
fn every_pair_of_weir_is_known_to_a_kafka() {
    let mut known = BTreeSet::new();
    for version in VERSIONS {
        let Some(java) = java(version, "all pairs known") else { return };
        known.extend(list(java).into_iter().flat_map(|listed| listed.pairs(java.version)));
    }
    let ours: BTreeSet<_> = ours().into_keys().collect();
    let strangers: Vec<_> = ours.difference(&known).collect();
    assert!(strangers.is_empty(), "weir has what no Kafka has: {strangers:?}");
    say(&format!("oracle: {} pairs of message and version, all known to Kafka", ours.len()));
}

/// Which header stands in front of each request and response.
#[test]
fn headers_have_the_versions_that_java_gives_them() {
    let known =
        |kind, key| protocol::messages().iter().find(|m| m.kind() == kind && m.api_key() == Some(key));
    let mut compared = BTreeSet::new();
    for version in VERSIONS {
        let Some(java) = java(version, "header versions") else { return };
        for line in ask(java, "headers").lines() {
            let numbers: Vec<i16> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
            let [key, version, request, response] = numbers[..] else { panic!("not four words: {line}") };
            for (kind, expected) in [(Kind::Request, request), (Kind::Response, response)] {
                let Some(message) = known(kind, ApiKey(key)) else { panic!("no API {key}") };
                if message.versions().contains(&version) {
                    assert_eq!(message.header_version(version), Some(expected), "{message:?} {version}");
                    compared.insert((kind, key, version));
                }
            }
        }
    }
    let of_apis = protocol::messages().iter().filter(|message| message.api_key().is_some());
    assert_eq!(compared.len(), of_apis.map(|message| message.versions().count()).sum::<usize>());
    say(&format!("oracle: the header versions of {} pairs are those of Java", compared.len()));
}

fn test_from_java(version: &'static str) {
    let Some(java) = java(version, "Java to weir") else { return };
    let report = from_java(java, count(), protocol::recode);
    report.finish(java, "Java to weir", count());
}

fn test_to_java(version: &'static str) {
    let Some(java) = java(version, "weir to Java") else { return };
    let report = to_java(java, count(), protocol::draw);
    report.finish(java, "weir to Java", count());
}

/// The first message that Java draws of each pair has every field at its default.
fn test_defaults(version: &'static str) {
    let Some(java) = java(version, "defaults") else { return };
    let report = from_java(java, 1, |kind, name, version, _| {
        let found =
            protocol::messages().iter().find(|found| found.kind().as_str() == kind && found.name() == name);
        let mut writer = protocol::Writer::default();
        found.unwrap().default_message().encode_any(&mut writer, version)?;
        Ok(writer.finish().into_bytes())
    });
    report.finish(java, "defaults", 1);
}

#[test]
fn defaults_are_those_of_java_4_4_0() {
    test_defaults(VERSIONS[0]);
}

#[test]
fn defaults_are_those_of_java_3_9_2() {
    test_defaults(VERSIONS[1]);
}

/// What weir has: the kind of each message and version.
pub(super) fn ours() -> BTreeMap<Pair, String> {
    let mut ours = BTreeMap::new();
    for message in protocol::messages() {
        for version in message.versions() {
            ours.insert((message.name().to_owned(), version), message.kind().as_str().to_owned());
        }
    }
    ours
}

/// A line of what `Oracle list` prints.
#[derive(Debug)]
pub(super) struct Listed {
    /// The name that weir has it under.
    name: String,
    first: i16,
    last: i16,
    unstable: i16,
}

impl Listed {
    /// The pairs that weir must have. What was unstable in the old Kafka never was a version of the
    /// protocol: the new one has another in its place, or none.
    fn pairs(&self, version: &str) -> Vec<Pair> {
        let unstable = if version == VERSIONS[0] { -1 } else { self.unstable };
        (self.first..=self.last).filter(|v| *v != unstable).map(|v| (self.name.clone(), v)).collect()
    }
}

/// Everything that this Kafka has.
pub(super) fn list(java: &Java) -> Vec<Listed> {
    let listed: Vec<_> = ask(java, "list").lines().map(parse_listed).collect();
    assert!(listed.len() > 150, "Kafka has more messages than {}", listed.len());
    listed
}

/// What a command without arguments prints.
fn ask(java: &Java, command: &str) -> String {
    let mut program = java.start("Oracle", &[command]);
    let mut text = String::new();
    program.from.read_to_string(&mut text).expect("the answer is text");
    program.end();
    text
}

fn parse_listed(line: &str) -> Listed {
    let words: Vec<_> = line.split(' ').collect();
    let [_kind, name, first, last, _key, unstable] = words[..] else { panic!("not six words: {line}") };
    let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("no number: {word}"));
    Listed {
        name: new_name(name).to_owned(),
        first: number(first),
        last: number(last),
        unstable: number(unstable),
    }
}

/// The API that Kafka 4 gave another name: weir has it under the new one.
const RENAMED: [(&str, &str); 2] = [
    ("ListClientMetricsResourcesRequest", "ListConfigResourcesRequest"),
    ("ListClientMetricsResourcesResponse", "ListConfigResourcesResponse"),
];

fn new_name(name: &str) -> &str {
    RENAMED.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| new)
}

fn name_in<'a>(java: &Java, name: &'a str) -> &'a str {
    if java.version == VERSIONS[0] {
        return name;
    }
    RENAMED.iter().find(|(_, new)| *new == name).map_or(name, |(old, _)| old)
}

/// What came of one direction.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// The pairs that were tried, and how many of their messages differed.
    pub(super) pairs: BTreeMap<Pair, usize>,
    pub(super) failed: usize,
    told: String,
    /// What to ask Java about, to tell it in words: what was meant, and what became of it.
    puzzles: Vec<(Frame, Bytes)>,
}

impl Report {
    /// Takes note of one message; `number` tells how to get it again.
    fn add(&mut self, frame: &Frame, number: &str, result: Result<&[u8], String>) {
        self.messages += 1;
        self.bytes += frame.bytes.len();
        let failures = self.pairs.entry((new_name(&frame.name).to_owned(), frame.version)).or_default();
        let difference = match result {
            Ok(bytes) if bytes == frame.bytes => return,
            Ok(bytes) => {
                if self.puzzles.len() < TOLD {
                    self.puzzles.push((frame.clone(), Bytes::copy_from_slice(bytes)));
                }
                difference(&frame.bytes, bytes)
            }
            Err(error) => error,
        };
        *failures += 1;
        self.failed += 1;
        if self.failed <= TOLD {
            let Frame { kind, name, version, .. } = frame;
            writeln!(self.told, "{kind} {name} version {version} {number}: {difference}")
                .expect("a string grows");
        }
    }

    /// Prints what was covered, and fails if anything differed or was left out.
    fn finish(self, java: &Java, direction: &str, each: usize) {
        let Self { messages, bytes, ref pairs, failed, .. } = self;
        let wanted: BTreeSet<_> =
            list(java).into_iter().flat_map(|listed| listed.pairs(java.version)).collect();
        let tried: BTreeSet<_> = pairs.keys().cloned().collect();
        let missing: Vec<_> = wanted.difference(&tried).collect();
        let version = java.version;
        say(&format!(
            "oracle {version}, {direction}: {messages} messages of {} of {} pairs, {bytes} bytes, {failed} differ",
            pairs.len(),
            wanted.len(),
        ));
        assert!(failed == 0, "{failed} of {messages} differ ({direction}, {version}):\n{}", self.words(java));
        assert!(missing.is_empty(), "not tried ({direction}, {version}): {missing:?}");
        assert_eq!(messages, pairs.len() * each, "as many as asked for ({direction}, {version})");
    }

    /// The differences in bytes, and in JSON as Java reads the two.
    pub(super) fn words(&self, java: &Java) -> String {
        let mut words = self.told.clone();
        let mut program = java.start("Oracle", &["check", "json"]);
        let mut to = program.input();
        for (meant, became) in &self.puzzles {
            let name = name_in(java, new_name(&meant.name)).to_owned();
            for (which, bytes) in [("meant ", &meant.bytes), ("became", became)] {
                let frame = Frame { name: name.clone(), bytes: bytes.clone(), hash: 0, ..meant.clone() };
                frame.write(&mut to).and_then(|()| to.flush()).expect("Java reads");
                let answer = read_answer(&mut program.from).expect("Java answers");
                let json = read_blob(&mut program.from).expect("Java answers");
                let text = answer.map_or_else(|error| error, |_| String::from_utf8_lossy(&json).into_owned());
                let text: String = text.chars().take(2000).collect();
                writeln!(words, "{name} {}: {which}: {text}", meant.version).expect("a string grows");
            }
        }
        drop(to);
        program.end();
        words
    }
}

/// Where two encodings part, with some bytes around it.
fn difference(meant: &[u8], became: &[u8]) -> String {
    let at = meant.iter().zip(became).take_while(|(a, b)| a == b).count();
    let around = |bytes: &[u8]| {
        let (before, after) = bytes.split_at(at);
        let (before, after) = (&before[at.saturating_sub(12)..], &after[..after.len().min(12)]);
        format!("{before:02x?} {after:02x?}")
    };
    let (here, there) = (around(meant), around(became));
    format!("at byte {at}, {here} of {} became {there} of {}", meant.len(), became.len())
}

/// What Java draws goes through `recode`, and must come out as it was.
pub(super) fn from_java(
    java: &Java,
    count: usize,
    recode: impl Fn(&str, &str, i16, Bytes) -> weir::Result<Bytes>,
) -> Report {
    let wanted: BTreeSet<_> = list(java).into_iter().flat_map(|listed| listed.pairs(java.version)).collect();
    let mut program = java.start("Oracle", &["draw", &seed().to_string(), &count.to_string()]);
    let mut report = Report::default();
    let mut number = 0;
    let mut last = (String::new(), -1);
    while let Some(frame) = Frame::read(&mut program.from).expect("Java wrote whole messages") {
        let pair = (new_name(&frame.name).to_owned(), frame.version);
        number = if pair == last { number + 1 } else { 0 };
        if wanted.contains(&pair) {
            let result = recode(&frame.kind, &pair.0, frame.version, frame.bytes.clone());
            let label = format!("number {number} of seed {}", seed());
            report.add(&frame, &label, result.as_deref().map_err(|error| format!("weir: {error:?}")));
        }
        last = pair;
    }
    program.end();
    report
}

/// What `draw` draws goes through Java, and must come out as it was.
pub(super) fn to_java(
    java: &Java,
    count: usize,
    draw: impl Fn(&str, &str, i16, u64) -> weir::Result<Bytes> + Sync,
) -> Report {
    let wanted: BTreeSet<_> = list(java).into_iter().flat_map(|listed| listed.pairs(java.version)).collect();
    let mut program = java.start("Oracle", &["check"]);
    let mut to = program.input();
    let mut report = Report::default();
    // Written by one thread and read by another, or both sides would wait for the other to read. The
    // channel has no bound of its own: it holds what is in the pipes and their buffers, and if it were
    // to fill up before them, Java would wait for the rest of a message that we hold back.
    let (sent, expected) = channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let sent = sent;
            for ((name, version), kind) in ours().into_iter().filter(|(pair, _)| wanted.contains(pair)) {
                for number in 0..count {
                    let its_seed = seed().wrapping_add((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    let drawn = draw(&kind, &name, version, its_seed);
                    let bytes = drawn.clone().unwrap_or_default();
                    let (kind, name) = (kind.clone(), name_in(java, &name).to_owned());
                    let frame = Frame { kind, name, version, bytes, hash: 0 };
                    frame.write(&mut to).expect("Java reads");
                    sent.send((frame, its_seed, drawn.err())).expect("we read");
                }
            }
            drop(to);
        });
        for (frame, its_seed, error) in expected {
            let answer = read_answer(&mut program.from).expect("Java answers each message");
            let result = match (&error, &answer) {
                (Some(error), _) => Err(format!("weir: {error:?}")),
                (None, Ok(bytes)) => Ok(bytes.as_slice()),
                (None, Err(error)) => Err(format!("Java: {error}")),
            };
            report.add(&frame, &format!("drawn with seed {its_seed}"), result);
        }
    });
    program.end();
    report
}
