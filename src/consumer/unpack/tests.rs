//! What is made of fetched bytes: rows of the catalogue of faults by their numbers, and bytes that are hostile.

use super::*;
use crate::conn::Dice;
use crate::records::{BatchBuilder, Compression, Compressor, NewRecord, Stamp};

/// What a reader gets, and how it ends.
struct Read {
    offsets: Vec<i64>,
    values: Vec<Vec<u8>>,
    error: Option<Error>,
    /// Where it goes on.
    from: Position,
}

fn codecs() -> impl Iterator<Item = Compression> {
    Compression::ALL.into_iter().filter(|codec| codec.is_available())
}

fn seal(stamp: &Stamp, codec: Compression, values: &[&str]) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder.append(&NewRecord::new(1).value(*value)).unwrap();
    }
    let mut compressor = Compressor::new(codec).unwrap();
    let compressor = (codec != Compression::None).then_some(&mut compressor);
    builder.seal(stamp, compressor).unwrap().to_vec()
}

fn plain(base: i64, values: &[&str]) -> Vec<u8> {
    seal(&Stamp::default().base_offset(base, 4), Compression::None, values)
}

/// Of a producer's transaction.
fn part_of(producer: i64, base: i64, codec: Compression, values: &[&str]) -> Vec<u8> {
    let stamp = Stamp::default().producer(producer, 0, 0).transactional(true).base_offset(base, 4);
    seal(&stamp, codec, values)
}

fn marker(producer: i64, base: i64, kind: ControlType) -> Vec<u8> {
    let stamp = Stamp::default().producer(producer, 0, -1).transactional(true).control(true);
    let mut builder = BatchBuilder::new();
    builder.append(&NewRecord::new(1).key(&kind.to_key()).value(&[0; 6])).unwrap();
    builder.seal(&stamp.base_offset(base, 4), None).unwrap().to_vec()
}

fn chunk(bytes: Vec<u8>, from: i64, aborted: Option<Vec<(i64, i64)>>) -> Chunk {
    let from = Position { offset: from, epoch: 3 };
    Chunk::new(bytes.into(), from, Marks::UNKNOWN, 1, aborted, true)
}

/// Unpacks it in steps.
fn read_in(mut chunk: Chunk, most: usize) -> Read {
    let spares = Arc::default();
    let at = TopicPartition::new("t", 0);
    let mut read =
        Read { offsets: vec![], values: vec![], error: None, from: Position { offset: -1, epoch: -1 } };
    let mut steps = 0;
    while read.error.is_none() && !chunk.is_done() {
        steps += 1;
        assert!(steps < 100_000, "it comes to its end");
        let before = chunk.from.offset;
        match chunk.unpack(&at, 1, most, &spares) {
            Ok(None) => assert!(chunk.is_done()),
            Ok(Some(batch)) => {
                assert!(!batch.is_empty() && batch.iter().count() == batch.len());
                assert!(chunk.from.offset > before, "the position moves");
                for record in &batch {
                    assert!((before..chunk.from.offset).contains(&record.offset()));
                    read.offsets.push(record.offset());
                    read.values.push(record.value().unwrap_or_default().to_vec());
                }
                assert_eq!(batch.next_offset(), chunk.from.offset);
            }
            Err(error) => {
                assert!(chunk.from.offset >= before, "what is passed over is passed over");
                read.error = Some(error);
            }
        }
    }
    read.from = chunk.from;
    assert_eq!(spares.live.load(Ordering::Acquire), 0, "what was given back counts no more");
    read
}

fn read(chunk: Chunk) -> Read {
    read_in(chunk, 1 << 20)
}

fn texts(read: &Read) -> Vec<String> {
    read.values.iter().map(|value| String::from_utf8(value.clone()).unwrap()).collect()
}

#[test]
fn c01_c02_aborted_transactions_are_left_out_in_whatever_order_they_are_listed() {
    for codec in codecs() {
        // Producer 1 aborts, commits and aborts; producer 2 the other way about, among it.
        let log = [
            part_of(1, 0, codec, &["a1", "a2"]),
            part_of(2, 2, codec, &["B1", "B2"]),
            plain(4, &["C"]),
            part_of(1, 5, codec, &["a3"]),
            marker(1, 6, ControlType::ABORT),
            part_of(1, 7, codec, &["A4", "A5"]),
            marker(2, 9, ControlType::COMMIT),
            part_of(2, 10, codec, &["b3"]),
            marker(1, 11, ControlType::COMMIT),
            part_of(1, 12, codec, &["a6"]),
            marker(2, 13, ControlType::ABORT),
            part_of(2, 14, codec, &["B4"]),
            marker(1, 15, ControlType::ABORT),
            marker(2, 16, ControlType::COMMIT),
        ];
        let listed = [(1, 0), (2, 10), (1, 12)];
        let wanted = ["B1", "B2", "C", "A4", "A5", "B4"];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            for most in [1, 1 << 20] {
                let aborted = order.map(|at| listed[at]).to_vec();
                let read = read_in(chunk(log.concat(), 0, Some(aborted)), most);
                assert_eq!((texts(&read), read.from.offset), (wanted.map(str::to_owned).to_vec(), 17));
                assert!(read.error.is_none() && read.from.epoch == 4);
            }
        }
        // Who does not care sees them all, and no markers.
        assert_eq!(read(chunk(log.concat(), 0, None)).offsets, [0, 1, 2, 3, 4, 5, 7, 8, 10, 12, 14]);
        // From the middle of an aborted transaction on.
        let middle = read(chunk(log[3..].concat(), 5, Some(listed.to_vec())));
        assert_eq!(texts(&middle), ["A4", "A5", "B4"]);
    }
}

#[test]
fn b19_a_million_aborted_transactions_and_senseless_ones_are_taken() {
    let mut listed: Vec<(i64, i64)> = (0..1_000_000).map(|n| (n + 10, i64::MAX - n)).collect();
    listed.extend([(-1, -1), (7, 0), (7, 0), (1, i64::MIN)]);
    let log = [part_of(7, 0, Compression::None, &["no"]), part_of(8, 1, Compression::None, &["yes"])];
    assert_eq!(texts(&read(chunk(log.concat(), 0, Some(listed)))), ["yes"]);
}

#[test]
fn c04_c05_emptied_and_trimmed_batches_move_the_position() {
    let empty = |base: i64, delta: i32| {
        seal(&Stamp::default().base_offset(base, 4).last_offset_delta(delta), Compression::None, &[])
    };
    for codec in codecs() {
        let trimmed = seal(&Stamp::default().base_offset(10, 4).last_offset_delta(9), codec, &["x", "y"]);
        let log = [empty(0, 9), trimmed, empty(20, 4)].concat();
        let all = read(chunk(log.clone(), 0, Some(vec![])));
        assert_eq!((all.offsets, all.from.offset), (vec![10, 11], 25));
        let behind = read(chunk(log, 15, Some(vec![])));
        assert_eq!((behind.offsets, behind.from.offset), (vec![], 25), "what is left of it is nothing");
        let only = read(chunk(empty(0, 9), 4, None));
        assert_eq!((only.offsets, only.from.offset), (vec![], 10));
    }
}

#[test]
fn c06_records_before_the_position_are_left_out() {
    for codec in codecs() {
        let stamp = Stamp::default().base_offset(0, 4);
        let log = [seal(&stamp, codec, &["0", "1", "2", "3"]), plain(4, &["4", "5"])].concat();
        for from in 0..6 {
            for most in [1, 1 << 20] {
                let read = read_in(chunk(log.clone(), from, None), most);
                assert_eq!((read.offsets, read.from.offset), ((from..6).collect(), 6), "{codec:?}");
            }
        }
    }
}

#[test]
fn c07_a_last_batch_that_is_cut_anywhere_is_left_for_the_next_fetch() {
    let (first, second) = (plain(0, &["a", "b"]), plain(2, &["c"]));
    let both = [first.clone(), second].concat();
    for cut in 0..both.len() {
        let read = read(chunk(both[..cut].to_vec(), 0, None));
        let whole = if cut < first.len() { vec![] } else { vec![0, 1] };
        assert!(read.error.is_none(), "{cut}");
        assert_eq!((read.from.offset, read.offsets), (whole.len() as i64, whole), "{cut}");
    }
}

/// A message of format 0 or 1.
fn message(magic: u8, offset: i64, value: &str) -> Vec<u8> {
    let mut body = vec![magic, 0];
    if magic == 1 {
        body.extend(77_i64.to_be_bytes());
    }
    body.extend((-1_i32).to_be_bytes());
    body.extend((value.len() as i32).to_be_bytes());
    body.extend(value.as_bytes());
    let mut bytes = offset.to_be_bytes().to_vec();
    bytes.extend((body.len() as i32 + 4).to_be_bytes());
    bytes.extend(crc32fast::hash(&body).to_be_bytes());
    bytes.extend(body);
    bytes
}

#[test]
fn c08_old_formats_are_read_among_new_ones() {
    let log = [message(0, 3, "a"), message(1, 5, "b"), plain(6, &["c"])].concat();
    let all = read(chunk(log.clone(), 3, Some(vec![])));
    assert_eq!((texts(&all), all.offsets), (vec!["a".into(), "b".into(), "c".into()], vec![3, 5, 6]));
    assert_eq!(read(chunk(log, 4, None)).offsets, [5, 6]);
}

#[test]
fn b21_c20_what_is_broken_is_told_at_its_offset_and_what_is_before_it_is_given() {
    let (first, second) = (plain(0, &["a", "b"]), plain(2, &["c"]));
    let mut wrong_sum = second.clone();
    *wrong_sum.last_mut().unwrap() ^= 1;
    let mut magic = second.clone();
    magic[16] = 3;
    let mut garbage = part_of(1, 2, Compression::None, &["c"]);
    // B31: it says that it is compressed, and its checksum is right.
    garbage[22] |= 1;
    let sum = crc32c(&garbage[21..]);
    garbage[17..21].copy_from_slice(&sum.to_be_bytes());
    let mut negative = second.clone();
    negative[8..12].copy_from_slice(&(-5_i32).to_be_bytes());
    for (what, bad) in [wrong_sum, magic, garbage, negative].into_iter().enumerate() {
        let read = read(chunk([first.clone(), bad, plain(3, &["d"])].concat(), 0, Some(vec![])));
        let error = read.error.unwrap_or_else(|| panic!("{what} is broken"));
        assert!(error.is_corrupt() || error.is_unsupported(), "{what}: {error}");
        assert!(error.to_string().contains("t-0 at offset 2"), "{what}: {error}");
        assert_eq!((read.offsets, read.from.offset), (vec![0, 1], 2), "{what}");
    }
}

/// Bit by bit: this is a test.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
    !bytes.iter().fold(!0_u32, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

#[test]
fn hostile_bytes_are_errors_and_nothing_worse() {
    let mut dice = Dice::new(11);
    let all: Vec<Compression> = codecs().collect();
    let (mut errors, mut whole) = (0, 0);
    for _ in 0..20_000 {
        let codec = all[dice.below(all.len())];
        let mut log = [
            part_of(1, 0, codec, &["a", "b"]),
            marker(1, 2, ControlType::ABORT),
            message(1, 3, "old"),
            plain(4, &["c"]),
        ]
        .concat();
        for _ in 0..=dice.below(4) {
            let at = dice.below(log.len());
            log[at] = if dice.below(2) == 0 { dice.roll() as u8 } else { log[at] ^ (1 << dice.below(8)) };
        }
        log.truncate(1 + dice.below(log.len() * 2).min(log.len() - 1));
        let from = dice.below(6) as i64;
        let aborted = (dice.below(2) == 0).then(|| vec![(1, 0)]);
        let position = Position { offset: from, epoch: 3 };
        // Checksums would find nearly all of it.
        let check = dice.below(4) == 0;
        let chunk = Chunk::new(log.into(), position, Marks::UNKNOWN, 1, aborted, check);
        let read = read_in(chunk, 1 + dice.below(100));
        assert!(read.offsets.is_sorted() && read.offsets.iter().all(|offset| *offset >= from));
        match read.error {
            Some(error) => {
                // A changed bit may well ask for more bytes than there may be.
                let known = error.is_corrupt() || error.is_unsupported() || error.is_malformed();
                assert!(known || error.is_limit(), "{error:?}");
                errors += 1;
            }
            None => whole += 1,
        }
    }
    assert!(errors > 1_000 && whole > 1_000, "{errors} {whole}");
}
