//! Decoding takes memory by what arrived, not by what is claimed, and time in proportion to it.
//!
//! For every message and version, inputs that are made to cost much are decoded while allocations are
//! counted. A binary of its own, since it takes times, which other tests beside it would spoil.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::cast_precision_loss, reason = "ratios for people")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use weir::protocol::{AnyMessage, MessageType, decode, draw, messages};

#[path = "support/seed.rs"]
mod seed;
#[path = "support/specs.rs"]
mod specs;

/// A message may hold this many times the bytes that it came in, while it is decoded and after. The worst
/// is `ListGroupsResponse` 3, where a group of three empty fields takes 3 bytes and a struct of 104: 35.
const RATIO_MAX: usize = 40;

/// And this much beside: the message's own struct, boxed, and the text of an error.
const FREE: usize = 8 << 10;

const SIZE: usize = 64 << 10;

type Read = weir::Result<Box<dyn AnyMessage>>;
type Decoder = dyn Fn(&MessageType, i16, &Bytes) -> Read;

fn weir_decoder(of: &MessageType, version: i16, bytes: &Bytes) -> Read {
    decode(of.kind().as_str(), of.name(), version, bytes)
}

/// The most that `work` holds at a time, beyond what was held before.
fn peak_of<T>(work: impl FnOnce() -> T) -> usize {
    allocation_counter::measure(|| drop(work())).bytes_max as usize
}

/// Random numbers from a seed.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end.max(1)
    }
}

/// Inputs that cost much, or might, for one message.
fn hostile(of: &MessageType, version: i16, spec: &specs::Spec, seeded: &mut Seeded) -> Vec<Bytes> {
    // Lengths of zero, one and null, as many elements as the bytes allow.
    let mut found: Vec<Vec<u8>> = vec![vec![0; SIZE], vec![1; SIZE], vec![2; SIZE], [0, 1].repeat(SIZE / 2)];
    found.extend(spec.claims(version, SIZE / 4));
    found.extend(spec.claims(version, 1000));
    found.push((0..4096).map(|_| seeded.next() as u8).collect());
    for _ in 0..4 {
        let drawn = draw(of.kind().as_str(), of.name(), version, seeded.next()).unwrap();
        let mut flipped = drawn.to_vec();
        for _ in 0..=seeded.below(4) {
            if !flipped.is_empty() {
                let at = seeded.below(flipped.len());
                flipped[at] = [0, 1, 0x7f, 0x80, 0xff, flipped[at] ^ 1][seeded.below(6)];
            }
        }
        found.extend([drawn.to_vec(), flipped]);
    }
    found.into_iter().map(Bytes::from).collect()
}

/// How many times its input a decoder held at most, or a complaint.
fn check(of: &MessageType, version: i16, bytes: &Bytes, decode: &Decoder) -> Result<f64, String> {
    let peak = peak_of(|| decode(of, version, bytes));
    if peak > RATIO_MAX * bytes.len() + FREE {
        let head = &bytes[..bytes.len().min(40)];
        return Err(format!("{of:?} in version {version}: {} bytes took {peak}: {head:02x?}", bytes.len()));
    }
    Ok(peak.saturating_sub(FREE) as f64 / bytes.len().max(1) as f64)
}

fn b08_memory_is_a_small_multiple_of_the_bytes(specs: &specs::Specs) {
    let mut seeded = Seeded(seed());
    let mut worst = Vec::new();
    let mut complaints = Vec::new();
    for of in messages() {
        let spec = specs.get(of.kind().as_str(), of.name());
        for version in of.versions() {
            let mut most: f64 = 0.0;
            for bytes in hostile(of, version, spec, &mut seeded) {
                match check(of, version, &bytes, &weir_decoder) {
                    Ok(ratio) => most = most.max(ratio),
                    Err(complaint) => complaints.push(complaint),
                }
            }
            worst.push((most, of.name(), version));
        }
    }
    worst.sort_by(|a, b| b.0.total_cmp(&a.0));
    worst.dedup_by_key(|(_, name, _)| *name);
    for (ratio, name, version) in worst.iter().take(8) {
        println!("{ratio:5.1} bytes of memory for a byte of {name} {version}");
    }
    complaints.truncate(10);
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    // A bound that nothing comes near would say nothing.
    assert!(worst[0].0 > RATIO_MAX as f64 / 2.0, "{:?}", worst[0]);
}

/// The least time that decoding took in some tries: what the machine does beside it only adds.
fn least_time(of: &MessageType, version: i16, bytes: &Bytes, decode: &Decoder) -> Duration {
    let times = (0..3).map(|_| {
        let begun = Instant::now();
        drop(decode(of, version, bytes));
        begun.elapsed()
    });
    times.min().unwrap_or_default()
}

/// Whether eight times the bytes take no more than about eight times as long.
fn is_linear(of: &MessageType, version: i16, (small, large): (&Bytes, &Bytes), decode: &Decoder) -> bool {
    /// Room for a busy machine; a quadratic decoder takes 64 times as long and not 8.
    const FACTOR: u32 = 24;
    const NOISE: Duration = Duration::from_micros(300);
    let is_within =
        || least_time(of, version, large, decode) <= least_time(of, version, small, decode) * FACTOR + NOISE;
    (0..4).any(|_| is_within())
}

fn time_is_linear(specs: &specs::Specs) {
    for of in messages() {
        let spec = specs.get(of.kind().as_str(), of.name());
        let (first, last) = of.versions().into_inner();
        for version in [first, last] {
            let small = spec.claims(version, SIZE / 32).into_iter().map(Bytes::from);
            let large = spec.claims(version, SIZE / 4).into_iter().map(Bytes::from);
            for (small, large) in small.zip(large) {
                assert!(
                    is_linear(of, version, (&small, &large), &weir_decoder),
                    "{of:?} in version {version}"
                );
            }
        }
    }
}

/// Takes memory for as many topics as are claimed.
fn believes_claims(of: &MessageType, version: i16, bytes: &Bytes) -> Read {
    let claimed = bytes.first_chunk().map_or(0, |count| i32::from_be_bytes(*count));
    let room: Vec<[u64; 8]> = Vec::with_capacity(claimed.clamp(0, 1 << 20) as usize);
    let read = weir_decoder(of, version, bytes);
    drop(room);
    read
}

/// Looks at everything that came before, over and over.
fn looks_back(of: &MessageType, version: i16, bytes: &Bytes) -> Read {
    let parts = (0..bytes.len()).step_by(8).map(|end| std::hint::black_box(&bytes[..end]));
    let seen = parts.filter(|part| part.contains(&0xaa)).count();
    weir_decoder(of, version, &bytes.slice(seen..seen))
}

fn defects_are_caught(specs: &specs::Specs) {
    let is_metadata = |of: &&MessageType| of.name() == "MetadataRequest";
    let of = messages().iter().find(is_metadata).unwrap();
    let claim = Bytes::from(vec![0, 0x0f, 0, 0, 0, 0]);
    assert!(check(of, 0, &claim, &believes_claims).is_err());
    assert!(check(of, 0, &claim, &weir_decoder).is_ok());
    let claims = |size| Bytes::from(specs.get("request", "MetadataRequest").claims(0, size).remove(0));
    let (small, large) = (claims(SIZE / 8), claims(SIZE));
    assert!(!is_linear(of, 0, (&small, &large), &looks_back));
    assert!(is_linear(of, 0, (&small, &large), &weir_decoder));
}

fn seed() -> u64 {
    // The generator has no way out of zero.
    seed::seed("bounded") | 1 << 40
}

#[test]
fn decoding_costs_what_arrived_and_not_what_is_claimed() {
    let specs = specs::Specs::read();
    b08_memory_is_a_small_multiple_of_the_bytes(&specs);
    defects_are_caught(&specs);
    time_is_linear(&specs);
}
