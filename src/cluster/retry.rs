//! What to do about an error: nothing, wait, look where things are now, or give up; and which requests
//! may be sent again when nobody knows whether the broker got the first.
//!
//! A broker that says "not here" or "not now" has done nothing, so what it refused is sent again, whatever
//! it is. After a lost connection or a time that was over only that is sent again which does the same, and
//! is answered the same, done once or twice.

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::route::Route;
use crate::conn::Dice;
use crate::wire::ApiKey;
use crate::{Error, ErrorCode};

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Give the answer to the caller. This is also the verdict of no error.
    Answer,
    /// Give the answer to the caller, who has to say it otherwise; metadata is old, though.
    AnswerAndRefresh,
    /// Send it to the same broker again.
    Wait,
    /// Find out who leads or controls now, and send it there.
    Metadata,
    /// Find out who coordinates now, and send it there.
    Coordinator,
}

impl Verdict {
    /// Of an error code in an answer to an API that goes that way.
    pub(crate) fn of(code: ErrorCode, route: Route) -> Self {
        match code {
            ErrorCode::NOT_CONTROLLER
            | ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::REPLICA_NOT_AVAILABLE
            | ErrorCode::LISTENER_NOT_FOUND
            | ErrorCode::KAFKA_STORAGE_ERROR
            | ErrorCode::UNKNOWN_LEADER_EPOCH
                if matches!(route, Route::Leader | Route::Controller) =>
            {
                Self::Metadata
            }
            // To a leader this means that metadata is old, or the topic is too new for it. From anyone
            // else it is what the caller wants to know.
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::INCONSISTENT_TOPIC_ID
            | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR
                if route == Route::Leader =>
            {
                Self::Metadata
            }
            // The request carries the old epoch: the same again would be refused for ever.
            ErrorCode::FENCED_LEADER_EPOCH => Self::AnswerAndRefresh,
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => match route {
                Route::Coordinator(_) | Route::CoordinatorIfTransactional => Self::Coordinator,
                _ => Self::Wait,
            },
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::CONCURRENT_TRANSACTIONS
            | ErrorCode::OFFSET_NOT_AVAILABLE
            | ErrorCode::UNSTABLE_OFFSET_COMMIT
            | ErrorCode::THROTTLING_QUOTA_EXCEEDED
            | ErrorCode::NOT_ENOUGH_REPLICAS => Self::Wait,
            _ => Self::Answer,
        }
    }

    /// Of an attempt that got no answer. `repeatable` says whether the request may be done twice.
    pub(crate) fn of_failure(error: &Error, route: Route, repeatable: bool) -> Self {
        let passes =
            error.is_io() || error.is_timeout() || error.code() == Some(ErrorCode::REBOOTSTRAP_REQUIRED);
        if !passes || (error.may_have_happened() && !repeatable) {
            return Self::Answer;
        }
        match route {
            Route::Coordinator(_) | Route::CoordinatorIfTransactional => Self::Coordinator,
            Route::Leader | Route::Controller | Route::Any => Self::Metadata,
            Route::Same | Route::Each | Route::Resource | Route::Named | Route::Connection => Self::Wait,
        }
    }

    /// Whether the request is sent again.
    pub(crate) fn is_again(self) -> bool {
        matches!(self, Self::Wait | Self::Metadata | Self::Coordinator)
    }
}

/// Whether requests of that API do the same, and are answered the same, when they are done twice. Where
/// it depends on what is in the request, this is the cautious answer.
pub(crate) fn is_repeatable(api: ApiKey) -> bool {
    matches!(
        api,
        // They only read. A fetch within a session does not, but the caller keeps the session's epoch, and
        // the broker refuses one that it has seen.
        ApiKey::FETCH
            | ApiKey::LIST_OFFSETS
            | ApiKey::METADATA
            | ApiKey::OFFSET_FETCH
            | ApiKey::FIND_COORDINATOR
            | ApiKey::DESCRIBE_GROUPS
            | ApiKey::LIST_GROUPS
            | ApiKey::API_VERSIONS
            | ApiKey::OFFSET_FOR_LEADER_EPOCH
            | ApiKey::DESCRIBE_ACLS
            | ApiKey::DESCRIBE_CONFIGS
            | ApiKey::DESCRIBE_LOG_DIRS
            | ApiKey::DESCRIBE_DELEGATION_TOKEN
            | ApiKey::LIST_PARTITION_REASSIGNMENTS
            | ApiKey::DESCRIBE_CLIENT_QUOTAS
            | ApiKey::DESCRIBE_USER_SCRAM_CREDENTIALS
            | ApiKey::DESCRIBE_QUORUM
            | ApiKey::DESCRIBE_CLUSTER
            | ApiKey::DESCRIBE_PRODUCERS
            | ApiKey::DESCRIBE_TRANSACTIONS
            | ApiKey::LIST_TRANSACTIONS
            | ApiKey::CONSUMER_GROUP_DESCRIBE
            | ApiKey::SHARE_GROUP_DESCRIBE
            | ApiKey::STREAMS_GROUP_DESCRIBE
            | ApiKey::DESCRIBE_SHARE_GROUP_OFFSETS
            | ApiKey::LIST_CONFIG_RESOURCES
            | ApiKey::DESCRIBE_TOPIC_PARTITIONS
            | ApiKey::GET_TELEMETRY_SUBSCRIPTIONS
            // They set what is already set, and say so again.
            | ApiKey::HEARTBEAT
            | ApiKey::SYNC_GROUP
            | ApiKey::OFFSET_COMMIT
            | ApiKey::OFFSET_DELETE
            | ApiKey::CREATE_ACLS
            | ApiKey::ALTER_CONFIGS
            | ApiKey::ALTER_CLIENT_QUOTAS
            | ApiKey::ALTER_REPLICA_LOG_DIRS
            // The transaction coordinator recognizes them by producer id and epoch (KIP-360, KIP-890); an
            // id that was given out in vain is only wasted.
            | ApiKey::INIT_PRODUCER_ID
            | ApiKey::ADD_PARTITIONS_TO_TXN
            | ApiKey::ADD_OFFSETS_TO_TXN
            | ApiKey::TXN_OFFSET_COMMIT
            | ApiKey::END_TXN
    )
}

/// The attempts of one call: when the next one is, within its deadline.
#[derive(Debug)]
pub(crate) struct Schedule {
    backoff: Backoff,
    dice: Dice,
    attempts: u32,
    deadline: Instant,
}

impl Schedule {
    pub(crate) fn new(backoff: Backoff, seed: u64, deadline: Instant) -> Self {
        Self { backoff, dice: Dice::new(seed), attempts: 0, deadline }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How many attempts have failed.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// An attempt failed: for how long to wait before the next. None if the deadline comes first.
    pub(crate) fn handle_failure(&mut self, now: Instant) -> Option<Duration> {
        self.attempts = self.attempts.saturating_add(1);
        let wait = self.backoff.after(self.attempts, &mut self.dice);
        (now + wait < self.deadline).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Lookup;

    const GROUP: Route = Route::Coordinator(Lookup::Group);

    #[test]
    fn g06_c14_codes_are_judged_by_where_they_come_from() {
        for (code, route, verdict) in [
            (ErrorCode::NONE, Route::Leader, Verdict::Answer),
            (ErrorCode::NOT_LEADER_OR_FOLLOWER, Route::Leader, Verdict::Metadata),
            (ErrorCode::NOT_CONTROLLER, Route::Controller, Verdict::Metadata),
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Route::Leader, Verdict::Metadata),
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Route::Controller, Verdict::Answer),
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, GROUP, Verdict::Answer),
            (ErrorCode::FENCED_LEADER_EPOCH, Route::Leader, Verdict::AnswerAndRefresh),
            (ErrorCode::NOT_COORDINATOR, GROUP, Verdict::Coordinator),
            (ErrorCode::COORDINATOR_NOT_AVAILABLE, GROUP, Verdict::Coordinator),
            (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, GROUP, Verdict::Wait),
            // A broker that lists groups may still load them.
            (ErrorCode::COORDINATOR_NOT_AVAILABLE, Route::Each, Verdict::Wait),
            (ErrorCode::TOPIC_AUTHORIZATION_FAILED, Route::Leader, Verdict::Answer),
            (ErrorCode::REQUEST_TIMED_OUT, Route::Controller, Verdict::Answer),
            (ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND, Route::Leader, Verdict::Answer),
            (ErrorCode::FETCH_SESSION_ID_NOT_FOUND, Route::Leader, Verdict::Answer),
            (ErrorCode(9999), Route::Leader, Verdict::Answer),
        ] {
            assert_eq!(Verdict::of(code, route), verdict, "{code} {route:?}");
            // What is sent again is what Kafka calls retriable, but for two that name a wrong address.
            let misplaced = code == ErrorCode::NOT_CONTROLLER;
            assert!(!verdict.is_again() || code.is_retriable() || misplaced, "{code}");
        }
    }

    #[test]
    fn what_may_have_happened_is_done_again_only_if_that_is_the_same() {
        let sent = || Error::io("cut").maybe_done();
        for (api, again) in [
            (ApiKey::PRODUCE, false),
            (ApiKey::CREATE_TOPICS, false),
            (ApiKey::DELETE_RECORDS, false),
            (ApiKey::JOIN_GROUP, false),
            (ApiKey::CONSUMER_GROUP_HEARTBEAT, false),
            (ApiKey::STREAMS_GROUP_HEARTBEAT, false),
            (ApiKey::SHARE_ACKNOWLEDGE, false),
            (ApiKey::INCREMENTAL_ALTER_CONFIGS, false),
            (ApiKey::METADATA, true),
            (ApiKey::LIST_OFFSETS, true),
            (ApiKey::OFFSET_COMMIT, true),
            (ApiKey::END_TXN, true),
        ] {
            let route = Route::of(api).unwrap();
            assert_eq!(Verdict::of_failure(&sent(), route, is_repeatable(api)).is_again(), again, "{api}");
            let unsent = Error::io("refused");
            assert!(Verdict::of_failure(&unsent, route, is_repeatable(api)).is_again(), "{api} was not sent");
        }
        for hopeless in [Error::auth("no"), Error::unsupported("no"), Error::closed(""), Error::internal("")]
        {
            assert_eq!(Verdict::of_failure(&hopeless, Route::Any, true), Verdict::Answer, "{hopeless}");
        }
    }

    #[test]
    fn m10_attempts_are_bounded_by_backoff_and_deadline() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Backoff::default(), 3, start + Duration::from_secs(30));
        let mut now = start;
        while let Some(wait) = schedule.handle_failure(now) {
            now += wait;
        }
        // 100, 200, 400, 800 ms, then a second each.
        assert!((25..=42).contains(&schedule.attempts()), "{}", schedule.attempts());
        assert!(now <= schedule.deadline());
    }
}
