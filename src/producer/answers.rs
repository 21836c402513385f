//! What brokers say of batches, and what it means: to the batch, and to what is known of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::machine_core::LineId;
use super::machine_line::{Answer, Ticket};
use super::shared::{Link, Shared, State};
use crate::cluster::Routed;
use crate::cluster::metadata::hints::Hints;
use crate::error::quoted;
use crate::messages::produce::{PartitionProduceResponse, ProduceRequest, ProduceResponse};
use crate::net::clock;
use crate::wire::{Str, Uuid};
use crate::{Error, ErrorCode, Result};

/// A request in flight: which batch is which of its partitions.
#[derive(Debug)]
pub(crate) struct Sent {
    broker: i32,
    place: u64,
    items: BTreeMap<(Str, i32), (LineId, Ticket)>,
    names: BTreeMap<Uuid, Str>,
}

impl Sent {
    pub(crate) fn to(broker: i32, place: u64) -> Self {
        Self { broker, place, items: BTreeMap::new(), names: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, topic: &Str, partition: i32, line: LineId, ticket: Ticket) {
        self.items.insert((topic.clone(), partition), (line, ticket));
    }

    /// Answers may name the topic by its id.
    pub(crate) fn name(&mut self, topic: &Str, id: Uuid) {
        if !id.is_zero() {
            self.names.insert(id, topic.clone());
        }
    }

    /// Takes the batch that an answer speaks of, so that each is answered once (P16).
    fn take(&mut self, name: &Str, id: Uuid, partition: i32) -> Option<(LineId, Ticket)> {
        let name = if id.is_zero() { name } else { self.names.get(&id)? };
        self.items.remove(&(name.clone(), partition))
    }
}

impl Shared {
    /// An answer came, or none will.
    pub(crate) fn answered(self: &Arc<Self>, mut sent: Sent, result: Result<ProduceResponse>) {
        let mut refresh = result.is_err();
        let mut hints = Hints::default();
        let mut state = self.lock();
        let now = clock::now();
        match result {
            Ok(response) => {
                hints = ProduceRequest::hints(&response);
                let acks = self.settings.acks.code();
                for topic in &response.responses {
                    for partition in &topic.partition_responses {
                        let Some((line, ticket)) = sent.take(&topic.name, topic.topic_id, partition.index)
                        else {
                            continue;
                        };
                        refresh |= is_elsewhere(ErrorCode(partition.error_code));
                        state.core.handle_answer(line, ticket, judge(partition), now);
                    }
                }
                let silent = match acks {
                    0 => None,
                    _ => Some(Error::malformed("the broker's answer says nothing of the partition")),
                };
                state.end_rest(&mut sent, now, |_| match &silent {
                    None => Answer::Written { offset: None, timestamp: None },
                    Some(error) => Answer::Retry { error: error.clone(), maybe: true },
                });
            }
            Err(error) => {
                state.end_rest(&mut sent, now, |_| failure(&error));
                // A connection that says what cannot be read is about to be closed.
                let ended = matches!(state.links.get(&sent.broker),
                    Some(Link::Ready { connection, place }) if *place == sent.place && (error.is_malformed() || !connection.is_open()));
                if ended {
                    state.lose(sent.broker, sent.place, now);
                }
            }
        }
        state.core.handle_done(sent.broker);
        drop(state);
        let moved = self.cluster.hint(&hints);
        if refresh {
            if moved == 0 {
                self.cluster.stale();
            }
            self.kick.notify_one();
        }
        self.pump();
    }
}

impl State {
    /// Answers what the broker has not.
    fn end_rest(&mut self, sent: &mut Sent, now: Instant, answer: impl Fn(LineId) -> Answer) {
        for (line, ticket) in std::mem::take(&mut sent.items).into_values() {
            self.core.handle_answer(line, ticket, answer(line), now);
        }
    }

    /// A connection is gone.
    pub(crate) fn lose(&mut self, broker: i32, place: u64, now: Instant) {
        if matches!(self.links.get(&broker), Some(Link::Ready { place: current, .. }) if *current == place) {
            self.links.remove(&broker);
            self.core.handle_place(broker, None, now);
        }
    }
}

/// What an attempt without an answer came to.
pub(crate) fn failure(error: &Error) -> Answer {
    let error = error.clone();
    let maybe = error.may_have_happened();
    // A limit is that of what may wait for a connection; nothing of it was sent.
    let elsewhere = error.code() == Some(ErrorCode::REBOOTSTRAP_REQUIRED);
    let passes = error.is_io() || error.is_timeout() || error.is_limit() || elsewhere;
    if maybe || passes {
        return Answer::Retry { error, maybe };
    }
    Answer::Refused { error, records: Vec::new() }
}

/// Whether what is known of leaders is old.
fn is_elsewhere(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::REPLICA_NOT_AVAILABLE
            | ErrorCode::KAFKA_STORAGE_ERROR
            | ErrorCode::UNKNOWN_LEADER_EPOCH
            | ErrorCode::FENCED_LEADER_EPOCH
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::INCONSISTENT_TOPIC_ID
    )
}

/// What a broker's word on one partition means to the batch.
pub(crate) fn judge(said: &PartitionProduceResponse) -> Answer {
    let code = ErrorCode(said.error_code);
    let offset = Some(said.base_offset).filter(|offset| *offset >= 0);
    let timestamp = Some(said.log_append_time_ms).filter(|time| *time >= 0);
    let words = || said.error_message.as_deref().map_or_else(String::new, |words| quoted(words.as_bytes()));
    let error = || Error::broker_said(code, words());
    match code {
        // A broker that has written it knows where (B32).
        ErrorCode::NONE if offset.is_none() => {
            Answer::Retry { error: Error::malformed("written at no offset, the broker says"), maybe: true }
        }
        ErrorCode::NONE => Answer::Written { offset, timestamp },
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Answer::Duplicate { offset, timestamp },
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER => Answer::OutOfOrder { error: error() },
        ErrorCode::UNKNOWN_PRODUCER_ID | ErrorCode::INVALID_PRODUCER_EPOCH => {
            Answer::UnknownProducer { error: error() }
        }
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => {
            Answer::TooLarge { error: error() }
        }
        // The leader wrote it, and then could not have it written by all. What went wrong by surprise may have
        // done so behind the log: numbers that may be there must not be given to other records (P02).
        ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | ErrorCode::UNKNOWN_SERVER_ERROR => Answer::Retry { error: error(), maybe: true },
        code if code.is_retriable() || is_elsewhere(code) => {
            Answer::Retry { error: error(), maybe: offset.is_some() }
        }
        _ => match record_errors(said, code) {
            records if records.is_empty() => Answer::Refused { error: error(), records },
            records => {
                let error = Error::beside(code, format!("others of its batch: {}", words()));
                Answer::Refused { error, records }
            }
        },
    }
}

/// The records that the broker blames (KIP-467).
fn record_errors(said: &PartitionProduceResponse, code: ErrorCode) -> Vec<(i32, Error)> {
    let errors = said.record_errors.iter().filter(|error| error.batch_index >= 0);
    errors
        .map(|error| {
            let words = error
                .batch_index_error_message
                .as_deref()
                .map_or_else(String::new, |words| quoted(words.as_bytes()));
            (error.batch_index, Error::broker_said(code, words))
        })
        .collect()
}
