//! What is sent: a record, borrowed from the application until it is encoded.

use crate::records::{AsHeader, Header, NewRecord};

/// A record to be sent. Key, value and headers are borrowed until the record is accepted, which encodes them.
///
/// ```
/// use weir::Record;
///
/// let order = Record::to("orders").key("customer-7").value(r#"{"item": 3}"#);
/// let deleted = Record::to("orders").key("customer-8"); // a null value: a tombstone
/// let traced = order.headers(&[("trace", Some("7f"))]).partition(2).timestamp(1_700_000_000_000);
/// # let _ = (deleted, traced);
/// ```
///
/// A null key or value is not an empty one; both arrive as they were given.
#[derive(Debug)]
pub struct Record<'a, H = Header<'a>> {
    pub(crate) topic: Option<&'a str>,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [H],
}

impl<H> Clone for Record<'_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H> Copy for Record<'_, H> {}

impl<'a> Record<'a> {
    /// A record for that topic, with a null key, a null value and no headers.
    #[inline]
    pub fn to(topic: &'a str) -> Self {
        Self { topic: Some(topic), ..Self::new() }
    }

    /// A record for the topic of the [`Topic`](super::Topic) that it is given to.
    #[inline]
    pub fn new() -> Self {
        Self { topic: None, partition: None, timestamp: None, key: None, value: None, headers: &[] }
    }
}

impl Default for Record<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a, H> Record<'a, H> {
    /// Sets the key. Records of the same key go to the same partition.
    #[must_use]
    #[inline]
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// Sets the value.
    #[must_use]
    #[inline]
    pub fn value(mut self, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// Sets key and value, either of which may be null.
    #[must_use]
    #[inline]
    pub fn key_value(mut self, key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Self {
        (self.key, self.value) = (key, value);
        self
    }

    /// Sets the headers: [`Header`]s, or pairs of a key and an optional value. Keys may come twice, and their
    /// order is kept.
    #[must_use]
    #[inline]
    pub fn headers<G: AsHeader>(self, headers: &'a [G]) -> Record<'a, G> {
        let Self { topic, partition, timestamp, key, value, headers: _ } = self;
        Record { topic, partition, timestamp, key, value, headers }
    }

    /// Sets the partition, whatever the key. One that the topic does not have is refused.
    #[must_use]
    #[inline]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the timestamp, in milliseconds since 1970. Otherwise it is the time at which the record is
    /// accepted, to within some milliseconds.
    #[must_use]
    #[inline]
    pub fn timestamp(mut self, timestamp: i64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    #[inline]
    pub(crate) fn encodable(&self, timestamp: i64) -> NewRecord<'a, H> {
        NewRecord::new(timestamp).key_value(self.key, self.value).with_headers(self.headers)
    }
}
