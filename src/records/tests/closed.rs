//! Batches closed first and stamped later are the ones that sealing gives, in memory that is reused and
//! never changed while somebody else sees it.

use super::*;

type Kept = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn kept(records: Vec<Plain>) -> Vec<Kept> {
    records.into_iter().map(|(_, timestamp, key, value, headers)| (timestamp, key, value, headers)).collect()
}

fn append(builder: &mut BatchBuilder, records: &[Plain]) {
    for (_, timestamp, key, value, headers) in records {
        let record = NewRecord::new(*timestamp).key_value(key.as_deref(), value.as_deref()).headers(headers);
        builder.append(&record).unwrap();
    }
}

fn draw(seeded: &mut Seeded, count_max: u64) -> Vec<Plain> {
    let count = seeded.below(count_max) as i64;
    (0..count).map(|offset| seeded.record(offset)).collect()
}

fn draw_stamp(seeded: &mut Seeded) -> Stamp {
    let mut stamp = Stamp::default();
    if seeded.below(3) != 0 {
        let sequence = (seeded.next() as i32).wrapping_abs();
        stamp = stamp.producer(seeded.next() as i64, seeded.next() as i16, sequence);
    }
    stamp = stamp.transactional(seeded.below(2) == 0).control(seeded.below(9) == 0);
    if seeded.below(4) == 0 {
        stamp = stamp.base_offset(seeded.next() as i64, seeded.next() as i32).last_offset_delta(5_000);
    }
    if seeded.below(4) == 0 { stamp.log_append_time(seeded.next() as i64) } else { stamp }
}

/// A batch of `count` records that compress well.
fn close(count: usize, compressor: Option<&mut Compressor>) -> Closed {
    let mut builder = BatchBuilder::with_capacity(1 << 16);
    for n in 0..count {
        builder.append(&NewRecord::new(n as i64).key(&[n as u8]).value(&[b'v'; 100])).unwrap();
    }
    builder.close(compressor, &mut Vec::new()).unwrap()
}

#[test]
fn closing_and_stamping_give_what_sealing_gives() {
    let mut seeded = Seeded(0x00c1_05ed);
    let mut scratch = Vec::new();
    let (mut packed, mut left_plain) = (0, 0);
    for compression in (0..400 / 5).flat_map(|_| available()) {
        let records = draw(&mut seeded, 60);
        let horizon = (seeded.below(9) == 0).then_some(4_000);
        let build = || {
            let mut builder = BatchBuilder::new();
            horizon.map_or(Ok(()), |horizon| builder.set_delete_horizon(horizon)).unwrap();
            append(&mut builder, &records);
            builder
        };
        let mut builder = build();
        let (size, capacity) = (builder.size(), builder.capacity());
        let mut compressor = Compressor::new(compression).unwrap();
        let mut closed = builder.close(Some(&mut compressor), &mut scratch).unwrap();
        assert!(builder.is_empty() && builder.capacity() == 0);
        assert!(closed.capacity() <= capacity.max(61) && closed.size() <= size);
        assert_eq!((closed.plain_size(), closed.count()), (size, records.len()));
        let codec = closed.compression();
        packed += usize::from(codec != Compression::None);
        left_plain += usize::from(codec != compression);
        assert!(codec == compression || closed.size() == size);
        for _ in 0..3 {
            let stamp = draw_stamp(&mut seeded);
            let sealed =
                build().seal(&stamp, Some(&mut compressor).filter(|_| codec == compression)).unwrap();
            assert_eq!(closed.stamp(&stamp), sealed, "{compression}");
        }
    }
    assert!(packed > 100 && left_plain > 10, "{packed} packed, {left_plain} left as they were");
}

#[test]
fn a_new_stamp_goes_in_place_once_nobody_looks() {
    let mut compressor = Compressor::new(available().last().unwrap()).unwrap();
    for codec in [None, Some(&mut compressor)] {
        let mut closed = close(50, codec);
        let capacity = closed.capacity();
        let first = closed.stamp(&Stamp::default().producer(1, 0, 0));
        let place = first.as_ptr();
        drop(first);
        for epoch in 1..4 {
            let again = closed.stamp(&Stamp::default().producer(1, epoch, 0));
            assert_eq!(RecordBatch::parse(again.clone()).unwrap().producer_epoch(), epoch);
            assert_eq!((again.as_ptr(), closed.capacity()), (place, capacity));
        }
        let buffer = closed.into_buffer().unwrap();
        assert_eq!((buffer.as_ptr(), buffer.len(), buffer.capacity()), (place, 0, capacity));
    }
}

/// Row P03: what is on its way must stay as it is, whatever becomes of the batch.
#[test]
fn bytes_in_flight_never_change() {
    let mut closed = close(50, None);
    let in_flight = closed.stamp(&Stamp::default().producer(1, 0, 0)).slice(30..);
    let (place, seen) = (in_flight.as_ptr(), in_flight.to_vec());
    let again = closed.stamp(&Stamp::default().producer(2, 7, 100));
    assert_ne!(again[30..].as_ptr(), place);
    assert_eq!(RecordBatch::parse(again.clone()).unwrap().producer_id(), 2);
    assert_eq!(in_flight, seen);
    assert_eq!(closed.capacity(), again.len());
    drop(in_flight);
    assert!(closed.into_buffer().is_none(), "the second ones are still held");
    assert_eq!(RecordBatch::parse(again).unwrap().base_sequence(), 100);
}

#[test]
fn the_compressed_batch_takes_the_smaller_buffer() {
    let codec = available().find(|codec| *codec != Compression::None);
    let Some(codec) = codec else { return assert_eq!(available().count(), 1) };
    for (scratch_size, swapped) in [(1 << 19, true), (1 << 21, false)] {
        let mut compressor = Compressor::new(codec).unwrap();
        let mut builder = BatchBuilder::from_buffer(Vec::with_capacity(1 << 20));
        builder.append(&NewRecord::new(0).value(&vec![b'v'; 200_000])).unwrap();
        let mut scratch = Vec::with_capacity(scratch_size);
        scratch.extend_from_slice(b"old");
        let closed = builder.close(Some(&mut compressor), &mut scratch).unwrap();
        assert_eq!(closed.compression(), codec);
        let sizes = (closed.capacity(), scratch.capacity());
        assert_eq!(sizes, if swapped { (1 << 19, 1 << 20) } else { (1 << 20, 1 << 21) });
        assert_eq!(closed.into_buffer().unwrap().capacity(), sizes.0);
    }
}

#[test]
fn what_does_not_get_smaller_stays_plain() {
    for compression in available() {
        let mut compressor = Compressor::new(compression).unwrap();
        let mut builder = BatchBuilder::new();
        builder.append(&NewRecord::new(5).value(b"x")).unwrap();
        let mut closed = builder.close(Some(&mut compressor), &mut Vec::new()).unwrap();
        let batch = RecordBatch::parse(closed.stamp(&Stamp::default())).unwrap();
        assert_eq!((batch.compression(), batch.attributes()), (Compression::None, 0), "{compression}");
        assert_eq!((closed.size(), closed.max_timestamp()), (closed.plain_size(), 5));
    }
}

/// To the last byte, and for the smallest record too, which is shorter than what is stored at once.
#[test]
fn appending_within_the_capacity_allocates_nothing() {
    let mut seeded = Seeded(0x0010_ca7e);
    for _ in 0..200 {
        let records = draw(&mut seeded, 20);
        let mut sizes = BatchBuilder::new();
        append(&mut sizes, &records);
        let smallest = NewRecord::new(records.first().map_or(0, |record| record.1));
        let size = sizes.size() + sizes.size_of(&smallest);
        let mut builder = BatchBuilder::from_buffer(Vec::with_capacity(size));
        let place = builder.buf.as_ptr();
        append(&mut builder, &records);
        assert!(builder.append_within(&smallest, builder.capacity()).unwrap().is_some());
        assert_eq!((builder.size(), builder.capacity(), builder.buf.as_ptr()), (size, size, place));
        assert_eq!(builder.append_within(&smallest, builder.capacity()).unwrap(), None);
    }
    let mut empty = BatchBuilder::new();
    assert_eq!(empty.append_within(&NewRecord::new(0), empty.capacity()).unwrap(), None);
    assert_eq!(empty.capacity(), 0, "a batch that takes nothing has nothing");
}

#[test]
fn a_batch_moves_to_a_larger_buffer() {
    let mut seeded = Seeded(0x960);
    let records = draw(&mut seeded, 300);
    let mut builder = BatchBuilder::new();
    for record in &records {
        let plain = std::slice::from_ref(record);
        let mut larger = Vec::with_capacity(builder.size() + 500);
        larger.push(9);
        let former = builder.capacity();
        assert_eq!(builder.grow_into(larger).capacity(), former);
        append(&mut builder, plain);
    }
    assert_eq!(read(&builder.seal(&Stamp::default(), None).unwrap()).unwrap(), records);
}

#[test]
fn a_split_batch_has_all_records_in_smaller_ones() {
    let mut seeded = Seeded(0x5917);
    let mut decompressor = Decompressor::new();
    for compression in (0..200 / 5).flat_map(|_| available()) {
        let mut records = draw(&mut seeded, 40);
        records.push(seeded.record(records.len() as i64));
        let mut builder = BatchBuilder::new();
        append(&mut builder, &records);
        let mut compressor = Compressor::new(compression).unwrap();
        let mut closed = builder.close(Some(&mut compressor), &mut Vec::new()).unwrap();
        let in_flight = (seeded.below(2) == 0).then(|| closed.stamp(&Stamp::default().producer(1, 1, 1)));
        let size_max = [0, 300, 1_000, usize::MAX][seeded.below(4) as usize];
        let mut next = 0;
        let mut found = Vec::new();
        for (first, mut piece) in closed.split(&mut decompressor, size_max).unwrap() {
            let count = piece.count();
            assert_eq!((first, piece.size()), (next, piece.capacity()));
            assert!(count > 0 && (count == 1 || piece.size() <= size_max));
            assert!(count <= records.len().div_ceil(2));
            next += count;
            found.extend(kept(read(&piece.seal(&Stamp::default(), None).unwrap()).unwrap()));
        }
        assert_eq!(found, kept(records));
        drop(in_flight);
    }
}

/// What fits behind one first timestamp need not fit behind another.
#[test]
fn a_split_batch_keeps_the_farthest_timestamps() {
    let times = [0, NO_TIMESTAMP, i64::MAX, 4, 5, 6];
    let mut builder = BatchBuilder::new();
    for time in times {
        builder.append(&NewRecord::new(time)).unwrap();
    }
    let closed = builder.close(None, &mut Vec::new()).unwrap();
    let pieces = closed.split(&mut Decompressor::new(), 61 + 10).unwrap();
    let found = pieces.into_iter().flat_map(|(_, mut piece)| {
        read(&piece.seal(&Stamp::default(), None).unwrap()).unwrap().into_iter().map(|record| record.1)
    });
    assert_eq!(found.collect::<Vec<_>>(), times);
}
