//! Variable-length integers, against a plain reading of their definition in 128 bits.

use bytes::Bytes;
use weir::protocol::Reader;
use weir::records::{Batches, Decompressor};

/// Reads the input as an unsigned one of 32 bits, and as the signed ones of a record.
pub fn check(input: &[u8]) {
    let frame = Bytes::copy_from_slice(input);
    let mut reader = Reader::new(&frame);
    loop {
        let rest = &input[reader.position()..];
        let at = reader.position();
        match (reader.uvarint(), plainly(rest, 5, 32)) {
            (Ok(read), Some((expected, len))) => {
                assert_eq!((u128::from(read), reader.position() - at), (expected, len));
            }
            (Err(error), None) => {
                assert!(error.is_malformed(), "{error:?}");
                break;
            }
            (read, expected) => panic!("{rest:x?} is {expected:?}, read as {read:?}"),
        }
    }
    in_a_record(input);
}

/// The number and its length, unless it is cut, longer than `len_max` or over so many bits.
fn plainly(bytes: &[u8], len_max: usize, bits: u32) -> Option<(u128, usize)> {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0)?;
    let value = bytes[..=end]
        .iter()
        .rev()
        .try_fold(0_u128, |n, byte| n.checked_mul(128).map(|n| n + u128::from(byte & 0x7f)));
    let value = value.filter(|n| *n < 1 << bits && end < len_max)?;
    Some((value, end + 1))
}

/// The input as the timestamp of a record in a batch, where 64 bits are read.
fn in_a_record(input: &[u8]) {
    // A record's length must be right, and is written in one byte here; without the timestamp there are not the
    // seven bytes that a record takes at least.
    if input.is_empty() || input.len() > 40 {
        return;
    }
    let record = [&[0][..], input, &[0, 1, 1, 0]].concat();
    let mut batch = vec![0; 61];
    batch[8..12].copy_from_slice(&(49 + 1 + record.len() as i32).to_be_bytes());
    batch[16] = 2;
    batch[57..61].copy_from_slice(&1_i32.to_be_bytes());
    batch.push(record.len() as u8 * 2);
    batch.extend_from_slice(&record);
    let parsed =
        Batches::new(batch.into()).check_crcs(false).next().expect("a whole batch").expect("a good header");
    let records = parsed.records(&mut Decompressor::new()).expect("one record");
    let read = records.iter().next().expect("one record");
    let whole = plainly(input, 10, 64).filter(|(_, len)| *len == input.len());
    if let Some((zigzag, _)) = whole {
        let expected = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        assert_eq!(read.expect("a good record").timestamp(), expected);
    } else if let Ok(record) = read {
        // Other bytes can make another record, but never with a varint that is none.
        assert!(plainly(input, 10, 64).is_some(), "{input:x?} read as {record:?}");
    }
}

/// Inputs for [`check`]: the edges of each length, well written and not.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let good = (0..10).map(|len| [&vec![0x80; len][..], &[1]].concat());
    let full = (0..10).map(|len| [&vec![0xff; len][..], &[0x7f]].concat());
    let odd = [
        vec![0xff; 11],
        vec![0x80, 0],
        vec![0xff, 0xff, 0xff, 0xff, 0x0f],
        vec![0xff, 0xff, 0xff, 0xff, 0x1f],
    ];
    good.chain(full).chain(odd).enumerate().map(|(n, input)| (format!("edge-{n}"), input)).collect()
}
