//! Moves what the core has to the connections, without waiting for anything: closes batches that are due, sends
//! requests, tells what has become of batches. Called by whoever has changed something: the task that
//! closed a batch, an answer, the keeper. One pumps at a time, so requests leave in the order in which the
//! core gave them; whoever comes meanwhile makes that one look again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::ack::{Completion, Outcome};
use super::answers::{Sent, failure};
use super::interceptor::BatchReport;
use super::machine_core::{Core, Item, LineId, Outgoing};
use super::machine_identity;
use super::machine_line::{End, Event, Ticket};
use super::seal::{Job, Sealed};
use super::shared::{Batch, Link, Shared, State};
use super::stats::Facts;
use super::topic::TopicFacts;
use super::transaction::Transactions;
use crate::conn::{Connection, Patience};
use crate::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use crate::net::clock;
use crate::records::Decompressor;
use crate::wire::{ApiKey, Str, Uuid};
use crate::{Error, Result};

/// The first version that has topics by their ids (KIP-516).
const BY_ID: i16 = 13;

impl Shared {
    /// See the module.
    pub(crate) fn pump(self: &Arc<Self>) {
        {
            let mut state = self.lock();
            if state.pumping {
                state.again = true;
                return;
            }
            state.pumping = true;
        }
        let end = Pumping(self);
        loop {
            let now = clock::now();
            let mut busy = self.close_due(now);
            busy |= self.send_all(now);
            busy |= self.tell();
            busy |= self.transact();
            let mut state = self.lock();
            if !busy && !state.again {
                state.pumping = false;
                break;
            }
            state.again = false;
        }
        std::mem::forget(end);
        self.arm();
    }

    fn close_due(self: &Arc<Self>, now: Instant) -> bool {
        let mut any = false;
        loop {
            let lane = {
                let mut state = self.lock();
                state.core.handle_timeout(now);
                match state.core.poll_close(now) {
                    Some(line) => state.lanes.get(&line).cloned(),
                    None => return any,
                }
            };
            any = true;
            if let Some(job) = lane.and_then(|lane| lane.close(self)) {
                self.seal(job);
            }
        }
    }

    fn send_all(self: &Arc<Self>, now: Instant) -> bool {
        let mut any = false;
        loop {
            let mut state = self.lock();
            self.see_to_identity(&mut state, now);
            let Some(outgoing) = state.core.poll_request(now) else { return any };
            let prepared = self.prepare(&mut state, &outgoing);
            drop(state);
            any = true;
            match prepared {
                Ok((connection, version, request, sent)) => {
                    self.counters.requested();
                    let shared = Arc::clone(self);
                    let answered = request.acks != 0;
                    connection.begin(&request, version, answered, Patience::default(), move |result| {
                        shared.answered(sent, result);
                    });
                }
                Err(error) => self.failed(&outgoing, &error),
            }
        }
    }

    /// Lines that cannot go on under their identity get another one.
    fn see_to_identity(&self, state: &mut State, now: Instant) {
        if self.settings.transactional.is_some() {
            return;
        }
        // Where it was refused, what comes after that asks again.
        if self.settings.idempotent && state.identity.is_unknown() && !state.pending.is_empty() {
            state.identity.handle_wanted();
            self.kick.notify_one();
        }
        if state.core.wants_identity()
            && let Some(broken) = state.core.identity()
        {
            state.identity.bump(broken);
            // Where no epoch is left the keeper has to ask for another id.
            if state.identity.identity().is_none() {
                self.kick.notify_one();
            }
        }
        while let Some(event) = state.identity.poll_event() {
            match event {
                machine_identity::Event::Known(identity) => state.core.handle_identity(Some(identity), now),
                machine_identity::Event::Refused(error) => state.core.fail(&error, false, now),
                machine_identity::Event::Failed(error) => {
                    state.core.fail(&error, false, now);
                    state.fatal.get_or_insert(error);
                    self.kick.notify_one();
                }
            }
        }
    }

    #[allow(clippy::type_complexity, reason = "what a request consists of, taken apart at once")]
    fn prepare(
        &self,
        state: &mut State,
        outgoing: &Outgoing,
    ) -> Result<(Connection, i16, ProduceRequest, Sent)> {
        let wanted = state.transactions.as_ref().map_or(0..=i16::MAX, Transactions::produce_versions);
        let State { links, lanes, core, .. } = state;
        let connection = match links.get(&outgoing.broker) {
            Some(Link::Ready { connection, place }) if *place == outgoing.place => connection.clone(),
            _ => return Err(Error::io("the connection is gone")),
        };
        let versions = connection.versions()?.usable(ApiKey::PRODUCE)?;
        let transactional = self.settings.transactional.is_some();
        let mut topics: BTreeMap<Str, (Arc<TopicFacts>, Vec<PartitionProduceData>)> = BTreeMap::new();
        let mut sent = Sent::to(outgoing.broker, outgoing.place);
        for item in &outgoing.items {
            let Some(lane) = lanes.get(&item.line) else { continue };
            let Some(bytes) =
                sealed_bytes(core, item.line, item.ticket, |sealed| sealed.bytes(item.stamp, transactional))
            else {
                continue;
            };
            self.count_sent(core, item, bytes.len());
            let data = PartitionProduceData {
                index: lane.partition,
                records: Some(bytes),
                ..PartitionProduceData::default()
            };
            let topic = topics.entry(lane.topic.name.clone());
            topic.or_insert_with(|| (Arc::clone(&lane.topic), Vec::new())).1.push(data);
            sent.add(&lane.topic.name, lane.partition, item.line, item.ticket);
        }
        let by_id = *versions.end() >= BY_ID && topics.values().all(|(topic, _)| !topic.id().is_zero());
        let most = if by_id { *versions.end() } else { (*versions.end()).min(BY_ID - 1) };
        let version = most.min(*wanted.end());
        if !wanted.contains(&version) {
            let words = format!("Produce version {version}, where the transaction needs {}", wanted.start());
            return Err(Error::unsupported(words));
        }
        let topic_data = topics.into_iter().map(|(name, (topic, partition_data))| {
            let topic_id = if version >= BY_ID { topic.id() } else { Uuid::ZERO };
            sent.name(&name, topic_id);
            TopicProduceData { name, topic_id, partition_data, ..TopicProduceData::default() }
        });
        let request = ProduceRequest {
            transactional_id: self.settings.transactional.as_ref().map(|settings| settings.id.clone()),
            acks: self.settings.acks.code(),
            timeout_ms: i32::try_from(self.settings.request_timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data: topic_data.collect(),
            ..ProduceRequest::default()
        };
        Ok((connection, version, request, sent))
    }

    /// A request that could not even be tried.
    fn failed(self: &Arc<Self>, outgoing: &Outgoing, error: &Error) {
        let mut state = self.lock();
        let now = clock::now();
        for item in &outgoing.items {
            state.core.handle_answer(item.line, item.ticket, failure(error), now);
        }
        state.core.handle_done(outgoing.broker);
        if error.is_io() {
            state.lose(outgoing.broker, outgoing.place, now);
        }
        drop(state);
        self.kick.notify_one();
    }

    /// Tells what has become of batches.
    pub(crate) fn tell(self: &Arc<Self>) -> bool {
        let mut any = false;
        loop {
            let Some((line, event)) = self.lock().core.poll_event() else { return any };
            any = true;
            self.hear(line, event);
        }
    }

    /// Takes over what the core has given.
    pub(super) fn hear(self: &Arc<Self>, line: LineId, event: Event<Batch>) {
        match event {
            Event::Ended { batch, end } => self.ended(batch, end),
            Event::Split { ticket, batch, error } => {
                if let Err(error) = self.split(line, ticket, &batch, &error) {
                    self.with_core(|core, now| core.handle_unsealed(line, ticket, error.clone(), now));
                    self.ended(batch, End::Failed { error, records: Vec::new() });
                }
            }
        }
    }

    fn ended(self: &Arc<Self>, batch: Batch, end: End) {
        let Batch { done, serial, sealed, facts } = batch;
        let mut state = self.lock();
        // What the end of all has told already is not told again.
        let told = state.pending.remove(&serial).is_none();
        if let End::Failed { error, .. } = &end {
            state.batch_failed(error);
        }
        let last = state.pending.is_empty();
        drop(state);
        if last && self.check_open().is_err() {
            self.kick.notify_one();
        }
        // Its memory first, so that whoever hears of it finds room.
        drop(sealed);
        self.pace.done(facts.size);
        if told {
            return;
        }
        let outcome = match end {
            End::Written { offset, timestamp } => Outcome::Written { offset, timestamp },
            End::Failed { error, records } => {
                let error = error.within(format_args!("topic {} partition {}", done.topic, done.partition));
                Outcome::Failed { error, records }
            }
        };
        self.finish(&done, facts.count, outcome);
    }

    /// Tells whoever wants to know what became of a batch of so many records. Not to be called under a lock.
    pub(crate) fn finish(&self, done: &Completion, count: usize, outcome: Outcome) {
        match &outcome {
            Outcome::Written { .. } => self.counters.acked(count),
            Outcome::Failed { .. } => self.counters.failed(count),
            Outcome::Split(_) => {}
        }
        if !self.settings.interceptors.is_empty() {
            self.settings.interceptors.on_batch(&BatchReport::new(
                &done.topic,
                done.partition,
                count,
                &outcome,
            ));
        }
        done.complete(outcome);
    }

    fn count_sent(&self, core: &mut Core<Batch>, item: &Item, size: usize) {
        if let Some(batch) = core.batch_mut(item.line, item.ticket) {
            let Facts { count, opened, sent, size: _ } = &mut batch.facts;
            let queued =
                (!std::mem::replace(sent, true)).then(|| clock::now().saturating_duration_since(*opened));
            self.counters.sent(*count, size, queued);
        }
    }

    /// Takes a batch apart that was too large for its broker.
    fn split(self: &Arc<Self>, line: LineId, ticket: Ticket, batch: &Batch, error: &Error) -> Result<()> {
        let lane = self.lock().lanes.get(&line).cloned().ok_or_else(|| error.clone())?;
        let closed = batch.sealed.as_ref().map(Sealed::closed).ok_or_else(|| error.clone())?;
        lane.topic.forget_ratio();
        // They are in the budget by the batch that they were, until the last of them is done.
        let share = batch.sealed.as_ref().and_then(Sealed::share);
        let pieces = closed.split(&mut Decompressor::new(), self.settings.batch_size)?;
        let mut state = self.lock();
        // At the end of all nobody waits for it any more.
        if !state.pending.contains_key(&batch.serial) {
            return Err(error.clone());
        }
        let mut parts = Vec::with_capacity(pieces.len());
        let mut builders = Vec::with_capacity(pieces.len());
        let mut children = Vec::with_capacity(pieces.len());
        for (first, builder) in pieces {
            let done = Completion::new(lane.topic.name.clone(), lane.partition);
            let serial = state.expect(&done, builder.count());
            let facts = Facts { count: builder.count(), size: builder.size(), ..batch.facts };
            self.pace.closed(facts.size);
            let count = i32::try_from(builder.count()).unwrap_or(i32::MAX);
            children.push((i32::try_from(first).unwrap_or(i32::MAX), Arc::clone(&done)));
            parts.push((Batch { done, serial, sealed: None, facts }, count));
            builders.push(builder);
        }
        let tickets = state.core.handle_split(line, ticket, parts, clock::now());
        state.pending.remove(&batch.serial);
        drop(state);
        self.pace.done(batch.facts.size);
        self.counters.split();
        batch.done.complete(Outcome::Split(children));
        for (ticket, builder) in tickets.into_iter().zip(builders) {
            self.seal(Job { line, ticket, builder, share: share.clone(), topic: Arc::clone(&lane.topic) });
        }
        Ok(())
    }
}

fn sealed_bytes(
    core: &mut Core<Batch>,
    line: LineId,
    ticket: Ticket,
    make: impl FnOnce(&mut Sealed) -> Bytes,
) -> Option<Bytes> {
    core.batch_mut(line, ticket)?.sealed.as_mut().map(make)
}

/// Lets others pump if this one dies.
struct Pumping<'a>(&'a Arc<Shared>);

impl Drop for Pumping<'_> {
    fn drop(&mut self) {
        self.0.lock().pumping = false;
    }
}
