//! Partitions are chosen as Java chooses them, and as librdkafka where that is asked for.

use super::*;
use crate::conn::Dice;

/// What Java said; see Partitions.java among the tests' oracles, which writes this file.
const VECTORS: &str = include_str!("vectors.txt");

/// The words behind the first one, of all lines that begin with it.
fn vectors(kind: &str) -> impl Iterator<Item = Vec<&'static str>> {
    VECTORS.lines().filter_map(move |line| {
        let mut words = line.split(' ');
        (words.next() == Some(kind)).then(|| words.collect())
    })
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.trim_start_matches('-').as_bytes();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

fn open(queue_len: u32) -> PartitionLoad {
    PartitionLoad { queue_len, leader_available: true, in_rack: false }
}

fn measured(partitioning: impl Into<Partitioning>, partitions: &[PartitionLoad]) -> Load {
    let mut load = Load::default();
    load.measure(&partitioning.into(), partitions);
    load
}

/// How often each of `count` partitions is drawn in so many switches.
fn drawn(load: &Load, count: usize, times: usize) -> Vec<usize> {
    let mut dice = Dice::new(11);
    let mut seen = vec![0; count];
    for _ in 0..times {
        seen[load.draw(&mut dice) as usize] += 1;
    }
    seen
}

#[test]
fn keys_hash_as_in_java() {
    let uniform = Partitioning::default();
    let mut lengths = std::collections::BTreeSet::new();
    for words in vectors("key") {
        let key = hex(words[0]);
        assert_eq!(murmur2::murmur2(&key), u32::from_str_radix(words[1], 16).unwrap(), "{}", words[0]);
        for place in &words[2..] {
            let (partition, count) = place.split_once('/').unwrap();
            let chosen = uniform.choose("t", Some(&key), count.parse().unwrap()).unwrap();
            assert_eq!(chosen, Choice::At(partition.parse().unwrap()), "{}", words[0]);
        }
        lengths.insert(key.len());
    }
    assert_eq!(lengths.len(), 35, "all lengths below 35");
}

/// Each line is a moment of a topic, and Java's table for it is ours. Where Java has none it draws from all
/// that are open, and near if wanted: then ours has to weigh them alike.
#[test]
fn loads_weigh_as_in_java() {
    let (mut even, mut weighed) = (0, 0);
    for words in vectors("load") {
        let near: Vec<_> = words[2].chars().map(|letter| letter == 'y').collect();
        let of = words[0].split(',').zip(words[1].chars()).enumerate();
        let partitions: Vec<_> = of
            .map(|(place, (queue, open))| PartitionLoad {
                queue_len: queue.parse().unwrap(),
                leader_available: open == 'y',
                in_rack: near.get(place) == Some(&true),
            })
            .collect();
        let load = measured(Uniform::default().rack_aware(words[2] != "-"), &partitions);
        let table = load.table();
        if words[3] == "even" {
            even += 1;
            let closed = partitions.iter().all(|one| !one.leader_available);
            let near = partitions.iter().any(|one| one.leader_available && one.in_rack);
            let expected = partitions.iter().zip(0..).filter(|(one, _)| {
                closed || one.leader_available && (one.in_rack || words[2] == "-" || !near)
            });
            let expected: Vec<_> = expected.zip(1..).map(|((_, place), sum)| (place, sum)).collect();
            assert_eq!(table, expected, "{words:?}");
            continue;
        }
        weighed += 1;
        let told: Vec<_> = table.iter().map(|(partition, sum)| format!("{partition}:{sum}")).collect();
        assert_eq!(told.join(","), words[3], "{words:?}");
    }
    assert!(even > 20 && weighed > 100, "{even} even, {weighed} weighed");
}

/// KIP-794: queues of 0, 3 and 1 weigh 4, 1 and 3, so 0 to 3 falls to the first, 4 to the second, and 5 to 7
/// to the third.
#[test]
fn the_example_of_kip_794() {
    let load = measured(Uniform::default(), &[open(0), open(3), open(1)]);
    let places: Vec<_> = (0..8).map(|weight| load.at_weight(weight)).collect();
    assert_eq!(places, [0, 0, 0, 0, 1, 2, 2, 2]);
    for (seen, weight) in drawn(&load, 3, 80_000).into_iter().zip([4, 1, 3]) {
        assert!(seen.abs_diff(weight * 10_000) < 400, "{seen} of {weight} in 8");
    }
}

#[test]
fn what_is_alike_is_drawn_alike() {
    let long = [open(9), open(0), open(4), open(4)];
    let loads = [
        measured(Partitioning::RoundRobin, &[open(0); 4]),
        measured(Uniform::default().adaptive(false), &long),
    ];
    for load in loads {
        for seen in drawn(&load, 4, 40_000) {
            assert!(seen.abs_diff(10_000) < 400, "{seen} of a fourth");
        }
    }
}

#[test]
fn those_without_a_leader_are_never_drawn_unless_there_are_no_others() {
    let closed = PartitionLoad { leader_available: false, ..open(0) };
    for adaptive in [true, false] {
        let uniform = Uniform::default().adaptive(adaptive);
        let seen = drawn(&measured(uniform.clone(), &[closed, open(3), closed, open(0)]), 4, 1_000);
        assert!(seen[0] + seen[2] == 0 && seen[1] > 0 && seen[3] > 0, "{seen:?}");
        let seen = drawn(&measured(uniform, &[closed; 3]), 3, 1_000);
        assert!(seen.iter().all(|seen| *seen > 200), "{seen:?}");
    }
}

#[test]
fn other_racks_are_left_out_while_there_is_one_here() {
    let near = PartitionLoad { in_rack: true, ..open(7) };
    let away = PartitionLoad { leader_available: false, ..near };
    let uniform = Uniform::default().rack_aware(true);
    let seen = drawn(&measured(uniform.clone(), &[open(0), near, open(0), near, away]), 5, 1_000);
    assert!(seen[1] > 400 && seen[3] > 400 && seen[1] + seen[3] == 1_000, "{seen:?}");
    let seen = drawn(&measured(uniform, &[open(0), away, open(0)]), 3, 1_000);
    assert!(seen[0] > 400 && seen[2] > 400 && seen[1] == 0, "{seen:?}");
}

/// Even lengths of queues that add up to more than 32 bits.
#[test]
fn the_longest_queues_overflow_nothing() {
    let load = measured(Uniform::default(), &[open(u32::MAX), open(0), open(0)]);
    let seen = drawn(&load, 3, 1_000);
    assert!(seen[0] == 0 && seen[1] > 400 && seen[2] > 400, "{seen:?}");
}

/// A load is measured again and again, and nothing of the last time is left.
#[test]
fn a_load_is_measured_anew() {
    let uniform = Partitioning::default();
    let mut load = Load::default();
    let closed = PartitionLoad { leader_available: false, ..open(0) };
    load.measure(&uniform, &[open(5), closed, open(1)]);
    assert_eq!(load.table(), [(0, 1), (2, 6)]);
    load.measure(&uniform, &[open(2); 2]);
    assert_eq!(
        (&load, load.table()),
        (&measured(Partitioning::RoundRobin, &[open(0); 2]), vec![(0, 1), (1, 2)])
    );
    assert_eq!(measured(uniform, &[]).draw(&mut Dice::new(1)), 0);
}

#[test]
fn a_turn_lasts_until_the_bytes_of_a_batch_went_there() {
    let mut turn = Turn::default();
    turn.add(60);
    assert!(!turn.ends(100), "a batch that ended early");
    turn.add(40);
    assert!(turn.ends(100), "enough");
    assert!(!turn.ends(100), "and the next begins at nothing");
}

/// However the sizes of records and batches fall, partitions that are alike get the same bytes.
#[test]
fn bytes_are_spread_evenly() {
    let (mut load, mut dice) = (Load::default(), Dice::new(5));
    load.measure(&Partitioning::default(), &[open(0); 5]);
    let mut turns: [Turn; 5] = Default::default();
    let mut bytes = [0_u64; 5];
    let mut current = load.draw(&mut dice) as usize;
    for _ in 0..200_000 {
        let size = 1 + dice.below(300);
        bytes[current] += size as u64;
        turns[current].add(size);
        if dice.below(4) == 0 && turns[current].ends(1_000) {
            current = load.draw(&mut dice) as usize;
        }
    }
    let all: u64 = bytes.iter().sum();
    assert!(bytes.iter().all(|one| one.abs_diff(all / 5) < all / 50), "{bytes:?}");
}

#[test]
fn round_robin_takes_them_in_turn() {
    let mut turns = RoundRobin::default();
    let mut load = measured(Partitioning::RoundRobin, &[open(0); 3]);
    let mut take = |load: &Load, n: usize| (0..n).map(|_| turns.next(load)).collect::<Vec<_>>();
    assert_eq!(take(&load, 6), [0, 1, 2, 0, 1, 2]);
    let closed = PartitionLoad { leader_available: false, ..open(0) };
    load.measure(&Partitioning::RoundRobin, &[open(9), closed, open(0), open(3)]);
    assert_eq!(take(&load, 4), [0, 2, 3, 0], "queues do not matter here");
    load.measure(&Partitioning::RoundRobin, &[closed; 2]);
    assert_eq!(take(&load, 2), [0, 1], "without any leader, all");
    let chosen = Partitioning::RoundRobin.choose("t", Some(b"key"), 4).unwrap();
    assert_eq!(chosen, Choice::Turn, "keys do not matter either");
}

/// The checksum of "123456789" that every description of CRC-32 gives, and those without a key.
#[test]
fn crc32_is_librdkafkas() {
    let chosen = |key, count| Partitioning::Crc32.choose("t", key, count).unwrap();
    assert_eq!(chosen(Some(&b"123456789"[..]), u32::MAX), Choice::At(0xcbf4_3926));
    assert_eq!(chosen(Some(b"123456789"), 12), Choice::At(0xcbf4_3926 % 12));
    assert_eq!((chosen(None, 12), chosen(Some(b""), 12)), (Choice::Sticky, Choice::Sticky));
}

#[test]
fn keys_that_are_empty_null_or_ignored() {
    let uniform = Partitioning::default();
    assert_eq!(uniform.choose("t", Some(b""), 1_000).unwrap(), Choice::At(681), "as in Java");
    assert_eq!(uniform.choose("t", None, 1_000).unwrap(), Choice::Sticky);
    let ignoring = Partitioning::from(Uniform::default().ignore_keys(true));
    assert_eq!(ignoring.choose("t", Some(b"key"), 1_000).unwrap(), Choice::Sticky);
}

#[test]
fn a_custom_partitioner_is_held_to_what_there_is() {
    let by_length = |topic: &str, key: Option<&[u8]>, _: u32| Some((topic.len() + key?.len()) as u32);
    let custom = Partitioning::custom(by_length);
    assert_eq!(custom.choose("ab", Some(b"c"), 4).unwrap(), Choice::At(3));
    assert_eq!(custom.choose("ab", None, 4).unwrap(), Choice::Sticky);
    let error = custom.choose("ab", Some(b"cd"), 4).unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("partition 4 of topic ab"), "{error}");
    assert!(Partitioning::default().choose("t", Some(b"k"), 0).unwrap_err().is_invalid());
    assert!(format!("{custom:?}").contains("custom"));
}

#[test]
fn the_availability_timeout_counts_where_it_is_set_and_adaptive() {
    let second = Duration::from_secs(1);
    let timed = Uniform::default().availability_timeout(second);
    assert_eq!(Partitioning::default().availability_timeout(), None);
    assert_eq!(Partitioning::from(timed.clone()).availability_timeout(), Some(second));
    assert_eq!(Partitioning::from(timed.adaptive(false)).availability_timeout(), None);
    assert_eq!(Partitioning::Crc32.availability_timeout(), None);
}
