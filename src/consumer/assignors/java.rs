//! What Java's strings and collections do, where Kafka's assignors let it show in their results.
//!
//! Kafka's leader keeps members and topics in hash maps and walks through them: which of two members keeps the
//! partition that is one too many, and in which order a member's topics stand, follows from Java's hash codes. They
//! are the same in every Java, so the walk can be repeated: here, in one place. Not repeated is that Java turns a
//! bucket of eight and more strings into a tree, which honest names do not come to.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Java's `String.hashCode`: over UTF-16.
pub(super) fn hash(text: &str) -> u32 {
    text.encode_utf16().fold(0, |hash: u32, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)))
}

/// Java's `TopicPartition.hashCode`, from that of the topic.
pub(super) fn partition_hash(topic: u32, partition: u32) -> u32 {
    partition.wrapping_add(31).wrapping_mul(31).wrapping_add(topic)
}

/// Java's `String.compareTo`: by UTF-16, where what takes four bytes of UTF-8 stands before U+E000.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let differ = a.bytes().zip(b.bytes()).find(|(x, y)| x != y);
    let Some((x, y)) = differ else { return a.len().cmp(&b.len()) };
    if x.min(y) >= 0xee && (x >= 0xf0) != (y >= 0xf0) { y.cmp(&x) } else { x.cmp(&y) }
}

/// The first table of a `HashMap`.
const TABLE: usize = 16;

/// Three quarters of the table may be in use.
fn is_full(len: usize, table: usize) -> bool {
    len > table / 4 * 3
}

/// The order in which a `HashMap` walks through keys that were put into it in the given order, each once.
pub(super) fn map_order<'a>(keys: impl ExactSizeIterator<Item = &'a str>) -> Vec<u32> {
    let mut table = TABLE;
    while is_full(keys.len(), table) {
        table *= 2;
    }
    table_order(keys, table)
}

/// The order of a map that was made by `computeIfAbsent`, which grows one call later than `put`. `calls` says of
/// each call whether its key was new.
pub(super) fn computed_map_order<'a>(
    keys: impl ExactSizeIterator<Item = &'a str>,
    calls: impl IntoIterator<Item = bool>,
) -> Vec<u32> {
    let (mut table, mut len) = (TABLE, 0);
    for new in calls {
        if is_full(len, table) {
            table *= 2;
        }
        len += usize::from(new);
    }
    table_order(keys, table)
}

/// By bucket, and within one as they came: growing keeps that order.
fn table_order<'a>(keys: impl Iterator<Item = &'a str>, table: usize) -> Vec<u32> {
    let mut order: Vec<(u32, u32)> =
        keys.zip(0..).map(|(key, place)| (bucket(hash(key), table), place)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, place)| place).collect()
}

fn bucket(hash: u32, table: usize) -> u32 {
    (hash ^ (hash >> 16)) & (table - 1) as u32
}

/// A `HashSet`, of which only the first element is ever asked for.
#[derive(Debug)]
pub(super) struct HashSet {
    table: usize,
    added: u32,
    /// By bucket and age, with the hash code.
    elements: BTreeMap<(u32, u32), (u32, u32)>,
}

impl HashSet {
    pub(super) fn new() -> Self {
        Self { table: TABLE, added: 0, elements: BTreeMap::new() }
    }

    /// Adds an element that is not there. Gives its age, by which it is removed.
    pub(super) fn add(&mut self, element: u32, hash: u32) -> u32 {
        self.added += 1;
        self.elements.insert((bucket(hash, self.table), self.added), (element, hash));
        if is_full(self.elements.len(), self.table) {
            self.table *= 2;
            let old = std::mem::take(&mut self.elements);
            let moved = old
                .into_iter()
                .map(|((_, age), (element, hash))| ((bucket(hash, self.table), age), (element, hash)));
            self.elements = moved.collect();
        }
        self.added
    }

    pub(super) fn remove(&mut self, age: u32, hash: u32) {
        self.elements.remove(&(bucket(hash, self.table), age));
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.elements.first_key_value().map(|(_, (element, _))| *element)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a JVM says.
    #[test]
    fn hash_codes_are_javas() {
        assert_eq!(hash(""), 0);
        assert_eq!(hash("orders"), 0xc3df_62e5);
        assert_eq!(hash("\u{1f511}"), 31 * 0xd83d + 0xdd11);
        assert_eq!(partition_hash(hash(""), 0), 961);
    }

    #[test]
    fn strings_are_compared_by_utf_16() {
        let sorted = ["", "a", "ab", "b", "\u{e4}", "\u{d7ff}", "\u{1f511}", "\u{e000}", "\u{ffff}"];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a:?} {b:?}");
                let units = a.encode_utf16().cmp(b.encode_utf16());
                assert_eq!(compare(a, b), units, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_map_walks_by_bucket_and_grows_past_three_quarters() {
        // One letter is its own hash code: 'a' is 97, bucket 1 of 16; 'q' is 113, the same.
        assert_eq!(map_order(["q", "p", "a"].into_iter()), [1, 0, 2]);
        let letters: Vec<String> = ('a'..='m').map(String::from).collect();
        let keys = || letters.iter().map(String::as_str);
        // 13 are in a table of 32: from 97 % 32 on, as they stand.
        assert_eq!(map_order(keys()), (0..13).collect::<Vec<_>>());
        let late = computed_map_order(["q", "p", "a"].into_iter(), [true; 3]);
        assert_eq!(late, [1, 0, 2]);
    }

    #[test]
    fn computing_grows_a_call_later() {
        // 'p' is 112: bucket 0 of 16, and 16 of 32.
        let keys: Vec<String> = ('d'..='p').map(String::from).collect();
        let order = |calls: usize| {
            let calls = (0..calls).map(|call| call < 13);
            computed_map_order(keys.iter().map(String::as_str), calls)
        };
        assert_eq!(order(13)[0], 12);
        assert_eq!(order(14), (0..13).collect::<Vec<_>>());
        assert_eq!(map_order(keys.iter().map(String::as_str)), (0..13).collect::<Vec<_>>());
    }

    #[test]
    fn a_set_forgets_and_keeps_its_order() {
        let mut set = HashSet::new();
        let ages: Vec<u32> = (0..40).map(|n| set.add(n, 1000 - n)).collect();
        for n in 0..40 {
            // The lowest bucket of 64.
            let least = (n..40).min_by_key(|n| bucket(1000 - n, 64));
            assert_eq!(set.first().is_some(), least.is_some());
            set.remove(ages[n as usize], 1000 - n);
        }
        assert!(set.is_empty());
    }
}
