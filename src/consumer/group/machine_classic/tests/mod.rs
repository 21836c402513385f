//! The member by itself, row by row, and against a model of a coordinator.

use super::*;

/// Defects that the model must catch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planted {
    Nothing,
    /// Partitions that are being handed over are not claimed.
    ForgetsHanding,
    JoinsBeforeHandingOver,
    /// An id that the coordinator gave is not used (K-7610).
    ForgetsId,
    LeavesSilently,
    /// A second `JoinGroup` while one is in flight (G09).
    JoinsTwice,
    LosesSilently,
    /// Goes on with what the coordinator took away (G02).
    KeepsWhatIsLost,
}
