//! What each error code means to a transaction, by the request that it answers.
//!
//! As the handlers of Java's producer have it since 4.0, with two exceptions, both said where they stand:
//! an end of a transaction that comes too late, and one that nobody knows the outcome of.

use crate::ErrorCode;

/// What to do about a code. The later in the list, the graver: of several in one answer the gravest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Done,
    /// Ask the same broker again shortly: the transaction before is being finished.
    Soon,
    /// Ask the same broker again.
    Again,
    /// Find out who coordinates now and ask there.
    Elsewhere,
    /// This transaction can only be aborted.
    Abort,
    /// The same, and the epoch must be raised before the next one begins.
    AbortAndBump,
    /// The coordinator has no transaction that could be ended so: it has aborted it by itself.
    Gone,
    /// The broker does not say whether it ended the transaction.
    Unclear,
    /// Another producer has taken over.
    Fenced,
    /// This producer cannot go on.
    Fatal,
}

fn of_all(code: ErrorCode) -> Option<Verdict> {
    Some(match code {
        ErrorCode::NONE => Verdict::Done,
        ErrorCode::CONCURRENT_TRANSACTIONS => Verdict::Soon,
        ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => Verdict::Elsewhere,
        ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED => Verdict::Fenced,
        ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => Verdict::Fatal,
        ErrorCode::TRANSACTION_ABORTABLE => Verdict::Abort,
        _ => return None,
    })
}

/// Of one partition in an answer to `AddPartitionsToTxn`.
pub(super) fn of_added_partition(code: ErrorCode) -> Verdict {
    of_all(code).unwrap_or(match code {
        ErrorCode::INVALID_TXN_STATE | ErrorCode::INVALID_PRODUCER_ID_MAPPING => Verdict::Fatal,
        ErrorCode::UNKNOWN_PRODUCER_ID => Verdict::AbortAndBump,
        code if code.is_retriable() => Verdict::Again,
        _ => Verdict::Abort,
    })
}

/// Whether a refusal of `AddPartitionsToTxn` or `EndTxn` says that nothing was done. A coordinator that
/// loses its place while it writes says that it is none, and what it wrote may count all the same.
pub(super) fn did_nothing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CONCURRENT_TRANSACTIONS
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::TOPIC_AUTHORIZATION_FAILED
            | ErrorCode::GROUP_AUTHORIZATION_FAILED
            | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            | ErrorCode::OPERATION_NOT_ATTEMPTED
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::INVALID_TXN_STATE
            | ErrorCode::INVALID_PRODUCER_EPOCH
            | ErrorCode::PRODUCER_FENCED
            | ErrorCode::INVALID_PRODUCER_ID_MAPPING
            | ErrorCode::UNKNOWN_PRODUCER_ID
            | ErrorCode::TRANSACTION_ABORTABLE
            | ErrorCode::UNSUPPORTED_VERSION
            | ErrorCode::INVALID_REQUEST
    )
}

/// Of an answer to `AddOffsetsToTxn`.
pub(super) fn of_added_offsets(code: ErrorCode) -> Verdict {
    of_all(code).unwrap_or(match code {
        ErrorCode::UNKNOWN_PRODUCER_ID => Verdict::AbortAndBump,
        ErrorCode::GROUP_AUTHORIZATION_FAILED => Verdict::Abort,
        code if code.is_retriable() => Verdict::Again,
        _ => Verdict::Fatal,
    })
}

/// Of one partition in an answer to `TxnOffsetCommit`. What the group does not accept (KIP-447) concerns
/// this transaction only: the member has lost its place, and another commits these offsets (T13).
pub(super) fn of_committed_offset(code: ErrorCode) -> Verdict {
    match code {
        ErrorCode::REQUEST_TIMED_OUT => Verdict::Elsewhere,
        ErrorCode::GROUP_AUTHORIZATION_FAILED
        | ErrorCode::FENCED_INSTANCE_ID
        | ErrorCode::UNKNOWN_MEMBER_ID
        | ErrorCode::ILLEGAL_GENERATION
        | ErrorCode::GROUP_ID_NOT_FOUND
        | ErrorCode::STALE_MEMBER_EPOCH => Verdict::Abort,
        // This one is retriable, so there is nothing special about it here.
        ErrorCode::CONCURRENT_TRANSACTIONS => Verdict::Again,
        code => of_all(code).unwrap_or(if code.is_retriable() { Verdict::Again } else { Verdict::Fatal }),
    }
}

/// Of an answer to `EndTxn`.
pub(super) fn of_end(code: ErrorCode) -> Verdict {
    of_all(code).unwrap_or(match code {
        // Java's producer dies of it. But it is how a coordinator that ran out of patience says that it
        // has aborted already, and nothing keeps the producer from going on with a new epoch (T17).
        ErrorCode::INVALID_TXN_STATE => Verdict::Gone,
        ErrorCode::UNKNOWN_PRODUCER_ID => Verdict::AbortAndBump,
        // Java's producer dies of it too, and does not know either whether the transaction ended (T03).
        ErrorCode::UNKNOWN_SERVER_ERROR => Verdict::Unclear,
        code if code.is_retriable() => Verdict::Again,
        _ => Verdict::Fatal,
    })
}

/// Of the error that a batch of the transaction ended with. An old epoch is no more than that to a
/// partition's leader: it cannot know whether anybody else has begun (KIP-588).
pub(super) fn of_batch(code: Option<ErrorCode>) -> Verdict {
    match code {
        Some(
            ErrorCode::CLUSTER_AUTHORIZATION_FAILED
            | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            | ErrorCode::UNSUPPORTED_VERSION
            | ErrorCode::INVALID_PRODUCER_ID_MAPPING,
        ) => Verdict::Fatal,
        Some(ErrorCode::PRODUCER_FENCED) => Verdict::Fenced,
        _ => Verdict::AbortAndBump,
    }
}
