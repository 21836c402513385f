//! The partitioner's vectors, which its own tests read, are what Kafka's partitioner says.

use std::io::Read as _;

use super::VERSIONS;
use super::java::java;

const VECTORS: &str = include_str!("../../../src/producer/partitioner/vectors.txt");

#[test]
fn vectors_4_4_0() {
    test_vectors(VERSIONS[0], |_| true);
}

/// It knows nothing of racks.
#[test]
fn vectors_3_9_2() {
    test_vectors(VERSIONS[1], |line| !line.starts_with("load") || line.split(' ').nth(3) == Some("-"));
}

fn test_vectors(version: &'static str, known: impl Fn(&str) -> bool) {
    let Some(java) = java(version, "partitions") else { return };
    let mut program = java.start("Partitions", &[]);
    let mut said = String::new();
    program.from.read_to_string(&mut said).expect("Java writes text");
    program.end();
    let held: Vec<_> = VECTORS.lines().filter(|line| known(line)).collect();
    assert!(held.len() > 100);
    assert_eq!(said.lines().collect::<Vec<_>>(), held);
}
