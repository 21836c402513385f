//! The macro, held to the bytes that Kafka's protocol guide asks for, with a table of our own.

use bytes::Bytes;

use super::{Ints, Message, Reader, Str, UnknownTags, Uuid, Writer, message, versions};
use crate::Result;

message! { both
    /// Every kind of row.
    Probe {
        always: i16, 0..;
        early: i32 = -1, 0..=1, or refused;
        late: i64 = 7, 1.., or ignored;
        name: Option<Str> = Some(Str::new()), 0.., null 1..;
        parts: Vec<Part>, 0..;
        ids: Ints, 2.., or refused;
        inner: Option<Part>, 2.., or ignored;
    } tagged {
        0 note: Option<Str>, 2.., or ignored;
        5 level: i32 = 3, 2.., or refused;
        6 part: Part, 3.., or ignored;
    }
}
versions!(Probe, 0..=3, 2..);

message! { both
    /// Part of [`Probe`].
    Part {
        flag: bool, 0..;
        id: Uuid, 3.., or ignored;
    }
}

fn encode(probe: &Probe, version: i16) -> Result<Bytes> {
    let mut writer = Writer::default();
    probe.encode(&mut writer, version)?;
    Ok(writer.finish().into_bytes())
}

fn decode(bytes: &[u8], version: i16) -> Result<Probe> {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut reader = Reader::new(&bytes);
    let probe = Probe::decode(&mut reader, version)?;
    reader.finish()?;
    Ok(probe)
}

fn check(probe: &Probe, version: i16, expected: &[&[u8]]) {
    let expected = expected.concat();
    assert_eq!(encode(probe, version).unwrap(), expected, "version {version}");
    assert_eq!(decode(&expected, version).unwrap(), *probe, "version {version}");
}

fn flag(flag: bool) -> Part {
    Part { flag, ..Part::default() }
}

#[test]
fn plain_versions_have_fixed_lengths_and_no_tags() {
    let probe = Probe {
        always: 258,
        early: 9,
        name: Some("ab".into()),
        parts: vec![flag(true), flag(false)],
        ..Probe::default()
    };
    check(&probe, 0, &[&[1, 2], &[0, 0, 0, 9], &[0, 2, b'a', b'b'], &[0, 0, 0, 2, 1, 0]]);
    let probe = Probe { name: None, late: 1, ..probe };
    check(
        &probe,
        1,
        &[&[1, 2], &[0, 0, 0, 9], &[0, 0, 0, 0, 0, 0, 0, 1], &[0xff, 0xff], &[0, 0, 0, 2, 1, 0]],
    );
}

#[test]
fn flexible_versions_are_compact_and_end_in_tags() {
    let probe = Probe {
        always: -1,
        late: 0,
        name: None,
        parts: vec![flag(true)],
        ids: Ints::from([1, -2]),
        inner: Some(flag(true)),
        note: Some("n".into()),
        level: 4,
        ..Probe::default()
    };
    check(
        &probe,
        2,
        &[
            &[0xff, 0xff],
            &[0; 8],
            &[0],
            // Each struct ends in its own section of tags, here empty.
            &[2, 1, 0],
            &[3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe],
            &[1, 1, 0],
            // Two tags: number, size, value.
            &[2, 0, 2, 2, b'n', 5, 4, 0, 0, 0, 4],
        ],
    );
}

#[test]
fn a_tagged_field_at_its_default_is_not_written() {
    let bytes = encode(&Probe::default(), 3).unwrap();
    assert_eq!(bytes.last(), Some(&0), "no tags");
    let probe = Probe { part: flag(true), ..Probe::default() };
    let bytes = encode(&probe, 3).unwrap();
    let tail = [&[1, 6, 18, 1][..], &[0; 16], &[0]].concat();
    assert!(bytes.ends_with(&tail), "{bytes:x?}");
    assert_eq!(decode(&bytes, 3).unwrap(), probe);
}

#[test]
fn what_a_version_cannot_carry_is_refused_or_left_out() {
    let refused = |probe: Probe, version: i16| {
        let error = encode(&probe, version).unwrap_err();
        assert!(error.is_invalid(), "{error}");
        error.to_string()
    };
    assert!(refused(Probe { early: 0, ..Probe::default() }, 2).contains("early"));
    assert!(refused(Probe { ids: Ints::from([1]), ..Probe::default() }, 1).contains("ids"));
    assert!(refused(Probe { level: 0, ..Probe::default() }, 0).contains("level"));
    let ignorable = Probe { late: 1, inner: Some(flag(true)), note: Some("x".into()), ..Probe::default() };
    assert_eq!(encode(&ignorable, 0).unwrap(), encode(&Probe::default(), 0).unwrap());
    assert_eq!(
        decode(&encode(&ignorable, 0).unwrap(), 0).unwrap().late,
        7,
        "an absent field has its default"
    );
}

#[test]
fn null_is_refused_both_ways_where_it_may_not_be() {
    let error = encode(&Probe { name: None, ..Probe::default() }, 0).unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("name"), "{error}");
    let null_name = [&[0, 0][..], &[0; 4], &[0xff, 0xff], &[0; 4]].concat();
    assert!(decode(&null_name, 0).unwrap_err().is_malformed());
    let null_parts = [&[0, 0][..], &[0; 4], &[0, 0], &[0xff; 4]].concat();
    assert!(decode(&null_parts, 0).unwrap_err().is_malformed());
}

#[test]
fn a_version_that_does_not_exist_is_refused_both_ways() {
    for version in [-1, 4, i16::MAX] {
        assert!(encode(&Probe::default(), version).unwrap_err().is_unsupported());
        let error = decode(&[0; 64], version).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("unsupported in Probe version {version}: there are versions 0 to 3")
        );
    }
}

#[test]
fn unknown_tags_keep_their_place_among_known_ones() {
    let mut unknown = UnknownTags::default();
    for (tag, data) in [(1, &b"one"[..]), (4, b""), (700, b"late")] {
        unknown.push(tag, data);
    }
    let probe = Probe { note: Some(Str::new()), level: 0, unknown_tags: unknown, ..Probe::default() };
    let bytes = encode(&probe, 2).unwrap();
    let tail: &[&[u8]] = &[
        &[5],
        &[0, 1, 1],
        &[1, 3, b'o', b'n', b'e'],
        &[4, 0],
        &[5, 4, 0, 0, 0, 0],
        &[0xbc, 0x05, 4, b'l', b'a', b't', b'e'],
    ];
    assert!(bytes.ends_with(&tail.concat()), "{bytes:x?}");
    let read = decode(&bytes, 2).unwrap();
    assert_eq!(read, probe);
    assert_eq!(read.unknown_tags.iter().map(|(tag, _)| tag).collect::<Vec<_>>(), [1, 4, 700]);
}

#[test]
fn unknown_tags_are_refused_where_there_are_no_tags() {
    let bytes = [&encode(&Probe::default(), 2).unwrap()[..], &[]].concat();
    let with_tag = [&bytes[..bytes.len() - 1], &[1, 9, 0]].concat();
    let read = decode(&with_tag, 2).unwrap();
    assert_eq!(read.unknown_tags.count(), 1);
    assert!(encode(&read, 1).unwrap_err().is_invalid());
}

#[test]
fn a_string_longer_than_java_can_say_is_refused_both_ways() {
    let named = |len| Probe { name: Some("x".repeat(len).into()), ..Probe::default() };
    for version in 0..=3 {
        assert_eq!(decode(&encode(&named(0x7fff), version).unwrap(), version).unwrap(), named(0x7fff));
        assert!(encode(&named(0x8000), version).unwrap_err().is_invalid());
    }
    let start = [&[0, 0][..], &[0; 8]].concat();
    let long = [&start[..], &[0x81, 0x80, 0x02], &vec![b'x'; 0x8000], &[1, 1, 0, 0]].concat();
    assert!(decode(&long, 2).unwrap_err().is_malformed());
}

#[test]
fn a_tagged_field_fills_its_size() {
    let head = encode(&Probe::default(), 2).unwrap();
    let head = &head[..head.len() - 1];
    assert_eq!(decode(&[head, &[1, 5, 4, 0, 0, 0, 9]].concat(), 2).unwrap().level, 9);
    for tag in [&[1, 5, 5, 0, 0, 0, 9, 0][..], &[1, 5, 3, 0, 0, 9]] {
        assert!(decode(&[head, tag].concat(), 2).unwrap_err().is_malformed(), "{tag:x?}");
    }
}

#[test]
fn a_tag_of_a_later_version_is_kept_and_never_written_twice() {
    // Version 2 does not know tag 6; version 3 has a field there.
    let bytes = encode(&Probe { part: flag(true), ..Probe::default() }, 3).unwrap();
    let tags = &bytes[bytes.len() - 21..];
    let head = encode(&Probe::default(), 2).unwrap();
    let read = decode(&[&head[..head.len() - 1], tags].concat(), 2).unwrap();
    assert_eq!((read.unknown_tags.count(), &read.part), (1, &Part::default()));
    let both = Probe { part: flag(true), ..read };
    assert!(encode(&both, 3).unwrap_err().is_invalid());
}
