//! Control records: what brokers write into a log for consumers and followers, not for applications.

use crate::{Error, Result};

/// What a control record says: its type, in the key. The value differs by type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ControlType(pub i16);

impl ControlType {
    /// The transaction of this batch's producer was aborted.
    pub const ABORT: Self = Self(0);
    /// The transaction of this batch's producer was committed.
    pub const COMMIT: Self = Self(1);
    /// A new leader of a `KRaft` quorum.
    pub const LEADER_CHANGE: Self = Self(2);
    /// The beginning of a `KRaft` snapshot.
    pub const SNAPSHOT_HEADER: Self = Self(3);
    /// The end of a `KRaft` snapshot.
    pub const SNAPSHOT_FOOTER: Self = Self(4);
    /// The version of a `KRaft` quorum.
    pub const KRAFT_VERSION: Self = Self(5);
    /// The voters of a `KRaft` quorum.
    pub const KRAFT_VOTERS: Self = Self(6);

    /// Reads the key of a control record: a version, which later ones may raise but not change, and
    /// the type.
    pub fn from_key(key: Option<&[u8]>) -> Result<Self> {
        let Some(&[v0, v1, t0, t1]) = key.and_then(<[u8]>::first_chunk) else {
            return Err(Error::corrupt("a control record's key is cut short"));
        };
        let version = i16::from_be_bytes([v0, v1]);
        if version < 0 {
            return Err(Error::corrupt(format!("a control record of version {version}")));
        }
        Ok(Self(i16::from_be_bytes([t0, t1])))
    }

    /// The key of a control record of this type, in version 0.
    pub fn to_key(self) -> [u8; 4] {
        let [t0, t1] = self.0.to_be_bytes();
        [0, 0, t0, t1]
    }
}
