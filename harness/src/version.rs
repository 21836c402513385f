//! What is true of which release: its jars, and how it wants to be run.

use std::fmt;
use std::str::FromStr;

use crate::failure::Failure;

/// The releases that the tests of this crate have seen at work, oldest first: the first that weir speaks to,
/// the last of each line that changed much, and every minor line of 4.
pub const SEEN_TO_WORK: [&str; 10] =
    ["0.11.0.3", "1.1.1", "2.8.2", "3.0.2", "3.9.2", "4.0.2", "4.1.2", "4.2.2", "4.3.1", "4.4.0"];

/// A release of Kafka: three or four numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    text: String,
    numbers: Vec<u32>,
}

impl FromStr for Version {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let numbers: Option<Vec<u32>> = text
            .split('.')
            .map(|part| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten())
            .collect();
        match numbers {
            Some(numbers) if (3..=4).contains(&numbers.len()) => Ok(Self { text: text.to_owned(), numbers }),
            _ => Err(Failure::Broken(format!("not a Kafka version: {text}"))),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Version {
    /// Whether this is the given release or a later one.
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        self.numbers.as_slice() >= [major, minor].as_slice()
    }

    /// `KRaft` is ready for use from 3.0 on (in 3.3 it was called so), and alone from 4.0 on.
    pub(crate) fn has_kraft(&self) -> bool {
        self.at_least(3, 0)
    }

    /// SCRAM users can be made while formatting (KIP-900); before, only `ZooKeeper` could hold them.
    pub(crate) fn has_kraft_scram(&self) -> bool {
        self.at_least(3, 5)
    }

    /// The broker with its runtime dependencies, and what Java 17 needs beside it, as `group:artifact:version`.
    pub(crate) fn artifacts(&self) -> Vec<String> {
        let scala = match () {
            () if self.at_least(2, 4) => "2.13",
            () if self.at_least(0, 10) => "2.12",
            () => "2.11",
        };
        let mut all = vec![format!("org.apache.kafka:kafka_{scala}:{self}")];
        let beside: &[&str] = match () {
            // From here on no logger comes along, and a broker that fails says nothing without one.
            () if self.at_least(2, 4) => &["org.slf4j:slf4j-simple:1.7.36"],
            // Their own ZooKeeper, 3.4.13, fails on the addresses that Java 14 and later print.
            () if self.at_least(2, 0) => {
                &["org.apache.zookeeper:zookeeper:3.5.9", "org.slf4j:slf4j-simple:1.7.36"]
            }
            () if self.at_least(1, 0) => &[],
            // These use classes that left the JDK after Java 8, and bring a logger of their own.
            () => &["javax.xml.bind:jaxb-api:2.3.1", "javax.activation:javax.activation-api:1.2.0"],
        };
        all.extend(beside.iter().map(|artifact| (*artifact).to_owned()));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn a_version_is_three_or_four_numbers() {
        for good in SEEN_TO_WORK {
            assert_eq!(version(good).to_string(), good);
        }
        for bad in [
            "",
            "4",
            "4.4",
            "4.4.x",
            "4.4.0-rc1",
            "4..0",
            "1.2.3.4.5",
            "+4.4.0",
            "../4.4.0",
            "9999999999.0.0",
        ] {
            let failure = bad.parse::<Version>().unwrap_err();
            assert_eq!(failure, Failure::Broken(format!("not a Kafka version: {bad}")));
        }
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(version("4.4.0").at_least(4, 4));
        assert!(version("3.10.0").at_least(3, 9));
        assert!(!version("0.11.0.3").at_least(1, 0));
        assert!(version("0.11.0.3").at_least(0, 11));
    }

    #[test]
    fn each_line_has_its_scala_and_its_helpers() {
        let first = |text: &str| version(text).artifacts().swap_remove(0);
        assert_eq!(first("0.9.0.1"), "org.apache.kafka:kafka_2.11:0.9.0.1");
        assert_eq!(first("0.11.0.3"), "org.apache.kafka:kafka_2.12:0.11.0.3");
        assert_eq!(first("2.3.1"), "org.apache.kafka:kafka_2.12:2.3.1");
        assert_eq!(first("2.8.2"), "org.apache.kafka:kafka_2.13:2.8.2");
        assert_eq!(version("0.11.0.3").artifacts().len(), 3);
        assert_eq!(version("1.1.1").artifacts().len(), 1);
        assert_eq!(version("2.1.1").artifacts().len(), 3);
        assert_eq!(version("4.4.0").artifacts().len(), 2);
    }
}
