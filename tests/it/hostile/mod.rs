//! Hostile bytes: every message in every version is broken in every way that a peer can think of, and each
//! must be refused with a typed error, or read as what it says.
//!
//! `cases` draws the messages and finds where in their bytes lengths, counts and tags lie. Each check is a
//! function from a case and a decoder to complaints; `planted` gives the checks decoders with known defects
//! and sees them caught. The tests are numbered like the list of faults that they come from.

use bytes::Bytes;
use weir::protocol::{ErrorCode, Message, Reader, Writer, fetch};

use self::cases::{Case, Decoder, complain_unless_refused, every_case, hold, weir_decoder};
use self::specs::{Mark, What};

/// Drawn messages, and how a check is run over all of them.
mod cases;
/// Decoders with a defect each, and the checks that must see it.
mod planted;
#[path = "../../support/specs.rs"]
mod specs;

/// Every prefix, or a sample of the prefixes of a long message.
fn cuts(case: &Case, decode: &Decoder) -> Vec<String> {
    let len = case.bytes.len();
    let all = (0..len).filter(|cut| len <= 300 || *cut < 60 || len - cut < 60 || cut % (len / 100) == 0);
    all.filter_map(|cut| {
        complain_unless_refused(case, decode, &format!("cut at {cut} of {len}"), &case.bytes.slice(..cut))
    })
    .collect()
}

/// Bytes behind the message: a zero, which many a field is made of, and the message once more.
fn trailing(case: &Case, decode: &Decoder) -> Vec<String> {
    let behind = [&[0][..], &[0xff], &case.bytes];
    let behind = behind.into_iter().filter(|behind| !behind.is_empty());
    behind
        .filter_map(|behind| {
            let bytes = [&case.bytes, behind].concat().into();
            complain_unless_refused(case, decode, &format!("{} bytes behind it", behind.len()), &bytes)
        })
        .collect()
}

/// What a length or count may be replaced with so that nothing can be right with it.
fn impossible_lengths(mark: &Mark) -> Vec<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    if mark.flex {
        // i32::MAX, and the largest that the varint can say.
        found.extend([vec![0x80, 0x80, 0x80, 0x80, 0x08], vec![0xff, 0xff, 0xff, 0xff, 0x0f]]);
    } else if matches!(mark.what, What::Str(_)) {
        found.extend([i16::MIN, -2].map(|len| len.to_be_bytes().to_vec()));
    } else {
        found.extend([i32::MIN, -2, i32::MAX].map(|len| len.to_be_bytes().to_vec()));
    }
    if !mark.nullable {
        found.push(if mark.flex { vec![0] } else { vec![0xff; mark.len] });
    }
    found
}

fn lengths(case: &Case, decode: &Decoder) -> Vec<String> {
    let has_length = |mark: &&Mark| matches!(mark.what, What::Array | What::Str(_) | What::Bytes(_));
    let mut complaints = Vec::new();
    for mark in case.marks.iter().filter(has_length) {
        for length in impossible_lengths(mark) {
            let what = format!("{length:02x?} for the length of {}", mark.field);
            let bytes = case.with(mark.at..mark.at + mark.len, &length);
            complaints.extend(complain_unless_refused(case, decode, &what, &bytes));
        }
    }
    complaints
}

/// Varints that are none, wherever the compact form has one.
fn varints(case: &Case, decode: &Decoder) -> Vec<String> {
    let bad = [
        &[0xff, 0xff, 0xff, 0xff, 0x10][..],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0],
        &[0xff; 10],
        &[0x81, 0x80, 0x80, 0x80, 0x70],
    ];
    let mut complaints = Vec::new();
    for mark in case.marks.iter().filter(|mark| mark.flex && mark.what != What::ErrorCode) {
        for varint in bad {
            let what = format!("varint {varint:02x?} in {}", mark.field);
            let bytes = case.with(mark.at..mark.at + mark.len, varint);
            complaints.extend(complain_unless_refused(case, decode, &what, &bytes));
        }
    }
    complaints
}

/// Sections of tagged fields that cannot be. 20000 is a tag that no message has, `a0 9c 01` on the wire.
fn tags(case: &Case, decode: &Decoder) -> Vec<String> {
    let bad = [
        ("a tag twice", &[2, 0xa0, 0x9c, 1, 0, 0xa0, 0x9c, 1, 0][..]),
        ("tags out of order", &[2, 0xa1, 0x9c, 1, 0, 0xa0, 0x9c, 1, 0]),
        ("a tag larger than what is left", &[1, 0xa0, 0x9c, 1, 0xff, 0xff, 0xff, 0xff, 0x07]),
        ("four billion tags", &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("a tag of more than 32 bits", &[1, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]),
    ];
    let mut complaints = Vec::new();
    for mark in case.marks.iter().filter(|mark| mark.what == What::Tags) {
        for (what, section) in bad {
            let bytes = case.with(mark.at..mark.at + mark.len, section);
            complaints.extend(complain_unless_refused(case, decode, what, &bytes));
        }
    }
    complaints
}

/// Tags that nobody knows are kept and written back, in every struct that may have them.
fn unknown_tags(case: &Case, decode: &Decoder) -> Vec<String> {
    let section = [2, 0xa0, 0x9c, 1, 3, b'a', b'b', b'c', 0xa1, 0x9c, 1, 0];
    let sections = case.marks.iter().filter(|mark| mark.what == What::Tags && !mark.in_tag);
    sections.filter_map(|mark| same_again(case, decode, mark, &section)).collect()
}

/// No text that is not UTF-8, whichever field it is for.
fn text(case: &Case, decode: &Decoder) -> Vec<String> {
    let mut complaints = Vec::new();
    for mark in &case.marks {
        let What::Str(len) = mark.what else { continue };
        let start = mark.at + mark.len;
        // A lone continuation byte, a byte that never occurs, an overlong slash, a surrogate.
        for bad in [&[0x80][..], &[0xff], &[0xc0, 0xaf], &[0xed, 0xa0, 0x80]] {
            if bad.len() <= len {
                let what = format!("{bad:02x?} in {}", mark.field);
                let bytes = case.with(start..start + bad.len(), bad);
                complaints.extend(complain_unless_refused(case, decode, &what, &bytes));
            }
        }
    }
    complaints
}

/// An error code that no Kafka has is a value in every message that carries one.
fn error_codes(case: &Case, decode: &Decoder) -> Vec<String> {
    let mut complaints = Vec::new();
    for mark in case.marks.iter().filter(|mark| mark.what == What::ErrorCode) {
        for code in [i16::MIN, -2, 4242, i16::MAX] {
            complaints.extend(same_again(case, decode, mark, &code.to_be_bytes()));
        }
    }
    complaints
}

/// Complains unless the message with `bytes` at the mark is read, and written again as it was.
fn same_again(case: &Case, decode: &Decoder, mark: &Mark, bytes: &[u8]) -> Option<String> {
    let bytes = case.with(mark.at..mark.at + mark.len, bytes);
    let written = decode(case, &bytes).and_then(|message| {
        let mut writer = Writer::default();
        message.encode_any(&mut writer, case.version).map(|()| writer.finish().into_bytes())
    });
    match written {
        Ok(written) if written == bytes => None,
        Ok(_) => Some(format!("{case:?}: {} is written back otherwise", mark.field)),
        Err(error) => Some(format!("{case:?}: {} is refused: {error}", mark.field)),
    }
}

#[test]
fn b06_every_cut_of_every_message_is_a_typed_error() {
    hold(cuts);
}

#[test]
fn b06_bytes_behind_any_message_are_a_typed_error() {
    hold(trailing);
}

#[test]
fn b07_impossible_lengths_are_refused_in_every_field() {
    hold(lengths);
}

#[test]
fn b09_varints_that_are_none_are_refused_in_every_field() {
    hold(varints);
}

#[test]
fn b10_sections_of_tags_that_cannot_be_are_refused_in_every_struct() {
    hold(tags);
}

#[test]
fn b10_unknown_tags_survive_in_every_struct() {
    hold(unknown_tags);
}

#[test]
fn b11_text_that_is_not_utf8_is_refused_in_every_field() {
    hold(text);
}

#[test]
fn b12_unknown_error_codes_are_values_in_every_message() {
    hold(error_codes);
    let code = ErrorCode(4242);
    assert!(code.name().is_none() && !code.is_retriable());
}

#[test]
fn b11_long_names_and_control_characters_are_values_and_are_shown_escaped() {
    let nasty = format!("\0\u{1b}[2J\r\n{}", "n".repeat(32_000));
    let mut response = fetch::FetchResponse::default();
    let topic = fetch::FetchableTopicResponse { topic: nasty.as_str().into(), ..Default::default() };
    response.responses.push(topic);
    let read = there_and_back(&response, 12);
    assert_eq!(read.responses[0].topic, nasty.as_str());
    let shown = format!("{read:?}");
    assert!(!shown.contains(|c: char| c.is_control()), "control characters reach a terminal");
    // One byte more than a string can be long, in the compact form.
    let over = [&[0; 11][..], &[2, 0x81, 0x80, 0x02], &vec![b'n'; 32_768], &[1, 0, 0]].concat();
    let error = decode_fetch(&over.into(), 12).unwrap_err();
    assert!(error.is_malformed(), "{error}");
}

fn decode_fetch(bytes: &Bytes, version: i16) -> weir::Result<fetch::FetchResponse> {
    let mut reader = Reader::new(bytes);
    let response = fetch::FetchResponse::decode(&mut reader, version)?;
    reader.finish()?;
    Ok(response)
}

fn there_and_back(response: &fetch::FetchResponse, version: i16) -> fetch::FetchResponse {
    let mut writer = Writer::default();
    Message::encode(response, &mut writer, version).unwrap();
    decode_fetch(&writer.finish().into_bytes(), version).unwrap()
}

#[test]
fn b18_fetched_partitions_that_repeat_or_count_below_zero_are_read_as_they_are() {
    let partition = |index, mark| fetch::PartitionData {
        partition_index: index,
        high_watermark: mark,
        last_stable_offset: mark,
        log_start_offset: mark,
        preferred_read_replica: i32::MIN,
        ..Default::default()
    };
    let partitions =
        vec![partition(7, i64::MIN), partition(7, -2), partition(-1, 3), partition(i32::MAX, i64::MAX)];
    let topic = fetch::FetchableTopicResponse { topic: "twice".into(), partitions, ..Default::default() };
    let response = fetch::FetchResponse { responses: vec![topic.clone(), topic], ..Default::default() };
    for version in [11, 12] {
        assert_eq!(there_and_back(&response, version), response, "version {version}");
    }
}

#[test]
fn b19_a_million_aborted_transactions_are_read_in_bounds_whatever_their_order() {
    let aborted = |n: i64| {
        // Negative, twice, unsorted.
        let (producer_id, first_offset) = (n % 1000 - 500, (n * 7919) % 100_003 - 5);
        fetch::AbortedTransaction { producer_id, first_offset, ..Default::default() }
    };
    let transactions: Vec<_> = (0..1_000_000).map(aborted).collect();
    let partition = fetch::PartitionData { aborted_transactions: Some(transactions), ..Default::default() };
    let topic = fetch::FetchableTopicResponse { partitions: vec![partition], ..Default::default() };
    let response = fetch::FetchResponse { responses: vec![topic], ..Default::default() };
    let read = there_and_back(&response, 11);
    assert!(read == response);
    let partition = &read.responses[0].partitions[0];
    let transactions = partition.aborted_transactions.as_ref().unwrap();
    let held = transactions.capacity() * size_of::<fetch::AbortedTransaction>();
    assert!(held <= 2 * 16_000_000, "sixteen bytes each on the wire became {held}");
}

#[test]
fn every_kind_of_place_is_among_the_cases() {
    let mut seen = [0_u32; 6];
    for case in every_case(1) {
        for mark in &case.marks {
            let kind = match mark.what {
                What::Array => 0,
                What::Str(_) => 1,
                What::Bytes(_) => 2,
                What::Tags => 3,
                What::ErrorCode => 4,
            };
            seen[kind] += 1;
            seen[5] += u32::from(mark.in_tag);
        }
        assert!(weir_decoder(&case, &case.bytes).is_ok(), "{case:?}");
    }
    assert!(seen.iter().all(|count| *count > 5), "{seen:?}");
}
