//! The member by itself, row by row, and against a model of a coordinator.

mod coordinator;
mod model;
mod rows;

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

fn settings(instance: Option<Str>) -> Settings {
    Settings {
        group: Str::from("g"),
        instance,
        rack: None,
        session_timeout: Duration::from_secs(10),
        heartbeat_interval: Duration::from_secs(3),
        max_poll_interval: Duration::from_secs(30),
        remote_assignor: None,
        backoff: crate::cluster::Backoff::default(),
    }
}
