//! The checks themselves, checked: codecs with a defect, and messages with one, must be seen.

use bytes::Bytes;
use weir::protocol;

use super::VERSIONS;
use super::java::java;
use super::messages::{from_java, to_java};
use super::stream::{Frame, read_answer};

/// The same bytes with one bit of one byte changed.
fn flip(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes.into()
}

#[test]
fn a_bit_that_weir_writes_wrongly_is_seen_in_every_message() {
    let Some(java) = java(VERSIONS[0], "planted bit") else { return };
    let report = from_java(java, 3, |_, _, _, bytes| {
        let last = bytes.len().checked_sub(1);
        Ok(last.map_or(bytes.clone(), |last| flip(&bytes, last)))
    });
    // Some old messages have no bytes at all.
    let empty = report.messages - report.failed;
    assert!(report.failed > 1500 && empty < 100, "{} of {} seen", report.failed, report.messages);
    // And it is told what was meant and what became of it, in bytes and in JSON.
    let words = report.words(java);
    for word in ["number 0 of seed", "at byte ", "meant : {", "became: "] {
        assert!(words.contains(word), "no `{word}` in {words}");
    }
}

#[test]
fn a_message_in_another_version_is_seen() {
    let Some(java) = java(VERSIONS[0], "planted version") else { return };
    // As if weir took FetchRequest 12 for 11: the one that became flexible for the one before.
    let report = from_java(java, 4, |kind, name, version, bytes| {
        let wrong = name == "FetchRequest" && version == 12;
        protocol::recode(kind, name, if wrong { 11 } else { version }, bytes)
    });
    assert_eq!(report.pairs[&("FetchRequest".to_owned(), 12)], 4);
    assert_eq!(report.failed, 4);
}

#[test]
fn java_sees_what_weir_draws_wrongly() {
    let Some(java) = java(VERSIONS[0], "planted in draw") else { return };
    let wrong = [("MetadataResponse", 9), ("RequestHeader", 2), ("ConsumerProtocolSubscription", 0)];
    let report = to_java(java, 4, |kind, name, version, seed| {
        let bytes = protocol::draw(kind, name, version, seed)?;
        // Cut short, so that Java has to say something of its own.
        let keep = if wrong.contains(&(name, version)) { bytes.len() - 1 } else { bytes.len() };
        Ok(bytes.slice(..keep))
    });
    for (name, version) in wrong {
        assert_eq!(report.pairs[&(name.to_owned(), version)], 4, "{name} {version}");
    }
    assert_eq!(report.failed, 12);
}

/// Java's own check: of every message with all defaults, each byte counts.
#[test]
fn java_sees_a_changed_bit_a_byte_too_many_and_one_too_few() {
    let Some(java) = java(VERSIONS[0], "planted in bytes") else { return };
    let mut drawn = java.start("Oracle", &["draw", "1", "1"]);
    let mut frames = Vec::new();
    while let Some(frame) = Frame::read(&mut drawn.from).expect("Java wrote whole messages") {
        frames.push(frame);
    }
    drawn.end();
    frames.retain(|frame| !frame.bytes.is_empty());
    assert!(frames.len() > 500, "only {} messages", frames.len());
    for (index, frame) in frames.iter_mut().enumerate() {
        let length = frame.bytes.len();
        frame.bytes = match index % 3 {
            0 => flip(&frame.bytes, index % length),
            1 => [&frame.bytes[..], &[0]].concat().into(),
            _ => frame.bytes.slice(..length - 1),
        };
    }
    let mut check = java.start("Oracle", &["check"]);
    let mut to = check.input();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for frame in &frames {
                frame.write(&mut to).expect("Java reads");
            }
            drop(to);
        });
        for frame in &frames {
            let answer = read_answer(&mut check.from).expect("Java answers each message");
            // Java takes any negative length for null, but does not write the same one back.
            let taken = answer.is_ok_and(|bytes| bytes == frame.bytes);
            assert!(!taken, "not seen: {frame:?}");
        }
    });
    check.end();
}

#[test]
fn java_has_no_version_that_its_jar_has_not() {
    let Some(java) = java(VERSIONS[0], "planted names") else { return };
    let mut check = java.start("Oracle", &["check"]);
    let mut to = check.input();
    let asked = [("request", "FetchRequest", 99), ("response", "FetchRequest", 12), ("data", "Fetch", 0)];
    for (kind, name, version) in asked {
        let (kind, name) = (kind.to_owned(), name.to_owned());
        Frame { kind, name, version, bytes: Bytes::new(), hash: 0 }.write(&mut to).expect("Java reads");
    }
    drop(to);
    for question in asked {
        let answer = read_answer(&mut check.from).expect("Java answers each message");
        assert!(
            answer.as_ref().is_err_and(|why| why.contains("no such message")),
            "{question:?}: {answer:?}"
        );
    }
    check.end();
}
