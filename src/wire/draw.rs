//! Random messages from a seed: for tests, fuzz corpora and whoever checks another client.
//!
//! What is drawn is valid in its version and likes the edges: extreme numbers, nulls, empty and long
//! strings, characters of every width, unknown tagged fields.

use bytes::Bytes;

use crate::wire::{Ints, Legacy, Str, UnknownTags, Uuid};

/// From here on unknown tags are drawn: Kafka's own are far below.
const UNKNOWN_FROM: u32 = 10_000;

/// A small, fast, seeded generator (`SplitMix64`).
#[derive(Debug)]
pub(crate) struct Entropy {
    state: u64,
    /// How deep in arrays this is: inner ones are drawn shorter.
    depth: u32,
}

impl Entropy {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed, depth: 0 }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end.max(1)
    }

    /// True once in `n` times.
    pub(crate) fn chance(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Lengths: mostly short, at times past the edge where a varint grows.
    fn len(&mut self) -> usize {
        let edge = match self.below(40) {
            0 => 0,
            1 => 127,
            2 => 128,
            3 if self.depth < 2 => 16_384,
            _ => self.below(12),
        };
        edge as usize
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.len()).map(|_| self.next_u64() as u8).collect()
    }

    fn count(&mut self) -> usize {
        let end = match self.depth {
            0 => 5,
            1 => 4,
            _ => 3,
        };
        self.below(end) as usize
    }

    /// A bit pattern: the edges are as likely as all else.
    fn bits(&mut self) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => 0x8080_8080_8080_8080 & (u64::MAX << (8 * self.below(8))),
            3 => 0x7f7f_7f7f_7f7f_7f7f,
            4 => 1,
            _ => self.next_u64(),
        }
    }

    pub(crate) fn unknown_tags(&mut self, tags: &mut UnknownTags) {
        let mut tag = UNKNOWN_FROM;
        while self.chance(6) {
            tag += self.below(1 << 20) as u32;
            let data = self.bytes();
            tags.push(tag, &data);
            tag += 1;
        }
    }
}

/// A type of which random values can be drawn.
pub(crate) trait Draw: Sized {
    fn draw(e: &mut Entropy, version: i16, flex: bool, may_be_null: bool) -> Self;
}

macro_rules! numbers {
    ($($ty:ty)*) => {$(
        impl Draw for $ty {
            fn draw(e: &mut Entropy, _: i16, _: bool, _: bool) -> Self {
                // The upper bits carry the sign of every width.
                (e.bits() >> (64 - <$ty>::BITS)) as Self
            }
        }
    )*};
}

numbers! { i8 i16 i32 i64 u16 u32 }

impl Draw for f64 {
    fn draw(e: &mut Entropy, _: i16, _: bool, _: bool) -> Self {
        // No NaN: it is not equal to itself, and tests compare.
        let drawn = Self::from_bits(e.bits());
        if drawn.is_nan() { Self::INFINITY } else { drawn }
    }
}

impl Draw for bool {
    fn draw(e: &mut Entropy, _: i16, _: bool, _: bool) -> Self {
        e.chance(2)
    }
}

impl Draw for Uuid {
    fn draw(e: &mut Entropy, _: i16, _: bool, _: bool) -> Self {
        let (high, low) = (u128::from(e.bits()), u128::from(e.bits()));
        Self::from_bytes((high << 64 | low).to_be_bytes())
    }
}

impl Draw for Str {
    fn draw(e: &mut Entropy, _: i16, _: bool, _: bool) -> Self {
        let len = e.len();
        let mut text = String::new();
        while text.len() < len {
            text.push(match e.below(12) {
                0 => 'ß',
                1 => '水',
                2 => '🦀',
                3 => '\0',
                _ => char::from(b'a' + e.below(26) as u8),
            });
        }
        text.into()
    }
}

impl Draw for Bytes {
    fn draw(e: &mut Entropy, _: i16, _: bool, _: bool) -> Self {
        e.bytes().into()
    }
}

impl<T: Draw> Draw for Vec<T> {
    fn draw(e: &mut Entropy, version: i16, flex: bool, _: bool) -> Self {
        let count = e.count();
        e.depth += 1;
        let items = (0..count).map(|_| T::draw(e, version, flex, false)).collect();
        e.depth -= 1;
        items
    }
}

impl Draw for Ints {
    fn draw(e: &mut Entropy, version: i16, flex: bool, _: bool) -> Self {
        (0..e.below(7)).map(|_| i32::draw(e, version, flex, false)).collect()
    }
}

impl<T: Draw> Draw for Option<T> {
    fn draw(e: &mut Entropy, version: i16, flex: bool, may_be_null: bool) -> Self {
        if may_be_null && e.chance(4) { None } else { Some(T::draw(e, version, flex, false)) }
    }
}

impl<T: Draw> Draw for Legacy<T> {
    fn draw(e: &mut Entropy, version: i16, _: bool, may_be_null: bool) -> Self {
        Self(T::draw(e, version, false, may_be_null))
    }
}
