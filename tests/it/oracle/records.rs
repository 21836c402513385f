//! Record batches, both ways: for every format, codec and level weir reads what Java wrote, and Java
//! reads what weir wrote, and both see the same records and the same headers of batches.

use std::collections::BTreeSet;
use std::io::{BufRead as _, Write as _};

use bytes::Bytes;
use weir::records::{Compression, Compressor, Decompressor};

use super::draw::{self, Random, shapes};
use super::java::{Java, java};
use super::log::Log;
use super::stream::{read_answer, read_blob, read_text, write_blob, write_text};
use super::{VERSIONS, count, say, seed};
use crate::skip::skip;

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

/// The check itself, checked: a wrong record, a wrong header of a batch, and a wrong checksum.
#[test]
fn a_planted_defect_is_seen() {
    let Some(java) = java(VERSIONS[0], "planted in records") else { return };
    let mut decompressor = Decompressor::new();
    let mut planted = 0;
    let found = from_java(java, |bytes| {
        let mut log = Log::read(bytes, &mut decompressor)?;
        if let Some(batch) = log.batches.last_mut() {
            planted += 1;
            match (planted % 3, batch.records.last_mut()) {
                (0, Some(record)) => record.timestamp ^= 1,
                (1, Some(record)) => record.headers.push((Vec::new(), None)),
                _ => batch.leader_epoch ^= 1,
            }
        }
        Ok(log)
    });
    assert!(planted > 50 && found.differences.len() == planted, "{} of {planted}", found.differences.len());

    let found = to_java(java, |random, codec, compressor| {
        let (log, bytes) = draw::batch(random, codec, compressor)?;
        let mut bytes = bytes.to_vec();
        // The last byte is part of what the checksum covers, whatever the batch holds.
        *bytes.last_mut().expect("a batch has a header") ^= 1;
        Ok((log, bytes.into()))
    });
    assert_eq!(found.differences.len(), found.logs);
    assert!(found.differences.iter().all(|line| line.contains("crc")), "{:?}", found.differences.first());
}

/// Pieces of a log for each format, codec and level. At the highest levels of zstd each costs Java a
/// tenth of a second, so there are fewer than of messages.
fn pieces() -> usize {
    count().div_ceil(4).min(50)
}

/// Codecs that this build has not are no failure, but not silent either.
fn tell_missing_codecs(version: &str) {
    for codec in Compression::ALL.into_iter().filter(|codec| !codec.is_available()) {
        skip(&format!("oracle {version}, records with {codec}"), "its feature is off");
    }
}

fn test_from_java(version: &'static str) {
    let Some(java) = java(version, "records from Java") else { return };
    tell_missing_codecs(version);
    let mut decompressor = Decompressor::new();
    let found = from_java(java, |bytes| Log::read(bytes, &mut decompressor));
    found.finish(java, "records from Java");
}

fn test_to_java(version: &'static str) {
    let Some(java) = java(version, "records for Java") else { return };
    tell_missing_codecs(version);
    to_java(java, draw::batch).finish(java, "records for Java");
}

/// What came of one direction.
#[derive(Debug, Default)]
struct Found {
    logs: usize,
    records: usize,
    bytes: usize,
    /// Format, codec and level of each piece.
    shapes: BTreeSet<String>,
    differences: Vec<String>,
}

impl Found {
    fn finish(&self, java: &Java, direction: &str) {
        let Self { logs, records, bytes, shapes, differences } = self;
        let version = java.version;
        say(&format!(
            "oracle {version}, {direction}: {records} records of {logs} logs of {} formats, codecs and levels, \
             {bytes} bytes, {} differ",
            shapes.len(),
            differences.len()
        ));
        let told = differences.iter().take(8).cloned().collect::<Vec<_>>().join("\n");
        assert!(told.is_empty(), "{} of {logs} differ (seed {}):\n{told}", differences.len(), seed());
    }
}

/// What Java draws, as Java tells it and as `read` reads it.
fn from_java(java: &Java, mut read: impl FnMut(Bytes) -> weir::Result<Log>) -> Found {
    let mut program = java.start("Records", &["draw", &seed().to_string(), &pieces().to_string()]);
    let mut found = Found::default();
    let from = &mut program.from;
    while !from.fill_buf().expect("a pipe can be read").is_empty() {
        let label = read_text(from).expect("Java wrote whole logs");
        let told = read_blob(from).expect("Java wrote whole logs");
        let bytes = Bytes::from(read_blob(from).expect("Java wrote whole logs"));
        let meant = Log::parse(&told).expect("the format that Records.java tells");
        found.logs += 1;
        found.records += meant.records();
        found.bytes += bytes.len();
        found.shapes.insert(label.split(" number").next().unwrap_or(&label).to_owned());
        match read(bytes) {
            Ok(log) if log == meant => {}
            // Without its feature a codec is refused, in those very words.
            Err(error) if error.is_unsupported() && needs_missing_codec(&meant) => {}
            Ok(log) => found.differences.push(format!("{label}: {}", difference(&meant, &log))),
            Err(error) => found.differences.push(format!("{label}: weir: {error:?}")),
        }
    }
    program.end();
    // Formats 0 and 1: none, gzip, snappy, lz4, with 26 levels; format 2: zstd as well, with 32 more.
    assert_eq!(found.shapes.len(), 2 * 30 + 63, "{:?}", found.shapes);
    found
}

fn needs_missing_codec(log: &Log) -> bool {
    let missing = |codec: i8| !Compression::from_id(codec as u8).is_some_and(Compression::is_available);
    log.batches.iter().any(|batch| missing(batch.codec))
}

/// What `draw` draws, as it was meant and as Java reads it.
fn to_java(
    java: &Java,
    mut draw: impl FnMut(&mut Random, Compression, Option<&mut Compressor>) -> weir::Result<(Log, Bytes)>,
) -> Found {
    let mut program = java.start("Records", &["check"]);
    let mut to = program.input();
    let mut found = Found::default();
    let mut random = Random::new(seed());
    for shape in shapes().into_iter().filter(|(codec, _)| codec.is_available()) {
        let label = format!("{shape:?}");
        let mut compressor = draw::compressor(shape).expect("it is built in, with all levels");
        for number in 0..pieces() {
            let (meant, bytes) = draw(&mut random, shape.0, compressor.as_mut()).expect("weir can write it");
            // One at a time: the answer is read before the next question, so neither side waits in vain.
            write_text(&mut to, "").and_then(|()| write_blob(&mut to, &[])).expect("Java reads");
            write_blob(&mut to, &bytes).and_then(|()| to.flush()).expect("Java reads");
            found.logs += 1;
            found.records += meant.records();
            found.bytes += bytes.len();
            let told = match read_answer(&mut program.from).expect("Java answers each log") {
                Ok(told) => Log::parse(&told).expect("the format that Records.java tells"),
                Err(error) => {
                    found.differences.push(format!("{label} number {number}: Java: {error}"));
                    continue;
                }
            };
            if told != meant {
                found.differences.push(format!("{label} number {number}: {}", difference(&meant, &told)));
            }
        }
        found.shapes.insert(label);
    }
    drop(to);
    program.end();
    found
}

/// The first thing in which two logs are not the same, without megabytes of values.
fn difference(meant: &Log, became: &Log) -> String {
    let told = |thing: &dyn std::fmt::Debug| format!("{thing:?}").chars().take(600).collect::<String>();
    if (meant.left_over, meant.batches.len()) != (became.left_over, became.batches.len()) {
        return format!(
            "{} batches and {} bytes over became {} and {}",
            meant.batches.len(),
            meant.left_over,
            became.batches.len(),
            became.left_over
        );
    }
    for (meant, became) in meant.batches.iter().zip(&became.batches) {
        if meant == became {
            continue;
        }
        for (meant, became) in meant.records.iter().zip(&became.records) {
            if meant != became {
                return format!("{} became {}", told(meant), told(became));
            }
        }
        let (here, there) = (meant.records.len(), became.records.len());
        return format!("{here} records of {} became {there} of {}", told(meant), told(became));
    }
    "nothing".to_owned()
}
