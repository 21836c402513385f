//! A partition of a topic, by name.

use std::fmt;

use crate::wire::Str;

/// A partition of a topic. Ordered by topic, then by number.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    topic: Str,
    partition: i32,
}

impl TopicPartition {
    /// The partition of that number, the first of which is 0.
    pub fn new(topic: impl AsRef<str>, partition: i32) -> Self {
        Self { topic: Str::from(topic.as_ref()), partition }
    }

    pub(crate) fn of(topic: &Str, partition: i32) -> Self {
        Self { topic: topic.clone(), partition }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    pub(crate) fn name(&self) -> &Str {
        &self.topic
    }

    /// The number of the partition.
    pub fn partition(&self) -> i32 {
        self.partition
    }
}

impl<T: AsRef<str>> From<(T, i32)> for TopicPartition {
    fn from((topic, partition): (T, i32)) -> Self {
        Self::new(topic, partition)
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
