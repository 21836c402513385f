//! Memory: a stream of frames that are dropped in time is read into the same buffers again and again.
//!
//! A binary of its own, since it counts what is allocated.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes};
use weir::protocol::Frames;

const MIB: usize = 1 << 20;

/// What a socket gives at once.
const READ: usize = 64 << 10;

/// A frame as it comes.
fn stream(size: usize) -> Vec<u8> {
    let mut stream = (size as u32).to_be_bytes().to_vec();
    stream.resize(4 + size, 7);
    stream
}

/// Reads one frame as a socket would give it, and tells in how many reads.
fn read(frames: &mut Frames, mut stream: &[u8]) -> (Bytes, usize) {
    let mut reads = 0;
    loop {
        let space = frames.space();
        let room = (space.capacity() - space.len()).min(READ).min(stream.len());
        assert!(room > 0, "there is always room for some");
        space.put_slice(&stream[..room]);
        stream = &stream[room..];
        reads += 1;
        if let Some(frame) = frames.next_frame().unwrap() {
            assert!(stream.is_empty());
            return (frame, reads);
        }
    }
}

/// The bytes that are allocated while that many frames are read, of which some are held meanwhile.
fn cost(frames: &mut Frames, stream: &[u8], held_max: usize, count: usize) -> u64 {
    let mut held = VecDeque::with_capacity(held_max + 1);
    let counted = allocation_counter::measure(|| {
        for _ in 0..count {
            held.push_back(read(frames, stream).0);
            if held.len() > held_max {
                held.pop_front();
            }
        }
    });
    counted.bytes_total
}

#[test]
fn frames_that_are_dropped_in_time_cost_no_new_memory() {
    let stream = stream(MIB);
    // Dropped before the next is read, or while one to three more are.
    for held in 0..=3 {
        let mut frames = Frames::new(100 * MIB);
        let first = cost(&mut frames, &stream, held, 8);
        let steady = cost(&mut frames, &stream, held, 100);
        println!("{held} held: {first} bytes for the first 8 frames of 1 MiB, {steady} for 100 more");
        assert!(first >= MIB as u64);
        assert!(steady < 64 << 10, "{steady} bytes, {held} held");
    }
}

#[test]
fn frames_that_are_kept_stay_whole_and_what_is_kept_for_them_is_bounded() {
    let mut frames = Frames::new(100 * MIB);
    let mut kept = Vec::new();
    for n in 0..40_u8 {
        let mut stream = stream(MIB);
        stream[4..].fill(n);
        kept.push(read(&mut frames, &stream).0);
    }
    for (n, frame) in (0..).zip(&kept) {
        assert!(frame.iter().all(|byte| *byte == n), "{n}");
    }
    // What the frames alone held is given back; four spares and the buffer at hand stay.
    let freed = allocation_counter::measure(|| drop(kept)).bytes_current;
    assert!(freed < -30 * MIB as i64, "{freed}");
    let released = allocation_counter::measure(|| frames.release()).bytes_current;
    println!("kept until released: {released}");
    assert!(released <= -(MIB as i64) && released > -17 * MIB as i64, "{released}");
    assert_eq!(read(&mut frames, &stream(10)).0.len(), 10, "and it goes on");
}

#[test]
fn a_very_large_frame_is_not_kept() {
    let mut frames = Frames::new(100 * MIB);
    let counted = allocation_counter::measure(|| {
        drop(read(&mut frames, &stream(40 * MIB)));
        drop(read(&mut frames, &stream(100)));
    });
    assert!(counted.bytes_current < 64 << 10, "{}", counted.bytes_current);
}

#[test]
fn small_frames_are_read_many_at_once() {
    let mut frames = Frames::new(MIB);
    let many: Vec<u8> = (0..1000).flat_map(|_| stream(4)).collect();
    let (mut rest, mut reads, mut found) = (&many[..], 0, 0);
    while !rest.is_empty() {
        let space = frames.space();
        let room = (space.capacity() - space.len()).min(rest.len());
        assert!(room >= (8 << 10).min(rest.len()), "{room}");
        space.put_slice(&rest[..room]);
        rest = &rest[room..];
        reads += 1;
        while frames.next_frame().unwrap().is_some() {
            found += 1;
        }
    }
    assert_eq!((found, reads), (1000, 1));
}
