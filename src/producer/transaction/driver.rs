//! Between the machine of transactions and the rest of the producer: tells it of batches and of what the user
//! wants, does what it says, and wakes who waits. Decides nothing about brokers.
//!
//! Each input is followed by [`Shared::transact`], which drains the machine: identities and gates go to the
//! core, failed transactions fail their unsent batches, outcomes go to those who wait. The keeper then
//! [asks the coordinator](Shared::ask_coordinator) what the machine wants to be asked.
//!
//! A record can enter only into a batch, and a batch is opened only in a transaction that takes records
//! ([`Shared::opened`], under the lane's lock). An end first shuts that way, then closes all open batches; so
//! once the core is idle, nothing of the transaction is left, and nothing of it can get into the next (T05).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::coordinator::{self, Asked};
use super::machine::{Ask, Event, Machine, Outcome};
use super::machine_work::{Group, Offset};
use crate::cluster::Backoff;
use crate::net::clock;
use crate::net::task::{self, Task};
use crate::producer::lane::Lane;
use crate::producer::machine_core::LineId;
use crate::producer::shared::{Shared, State};
use crate::{Error, Result};

/// Where the transaction is, as far as records are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// There is none, or all its batches are done.
    Over,
    /// It takes records.
    Open,
    /// It takes none any more; some batches may still be open.
    Closing,
    /// No batch is open.
    Closed,
}

/// The transactions of a producer.
pub(crate) struct Transactions {
    pub(super) machine: Machine,
    stage: Stage,
    /// Its number.
    current: u64,
    /// It can only be aborted; said to batches and records already.
    failing: bool,
    /// What is not sent yet is to be failed with this.
    sweep: Option<Error>,
    /// Lines with records of it, and those of them that wait to be added.
    lines: BTreeSet<LineId>,
    parked: BTreeSet<LineId>,
    outcome: Option<Outcome>,
    /// What came of offsets that somebody waits for, by their calls.
    offsets: BTreeMap<u64, Option<Result<()>>>,
    refused: Option<Error>,
    pub(super) asked: Option<Asked>,
    /// When the end of a transaction is waited for no longer by a producer that nobody holds.
    leave_at: Option<Instant>,
}

impl Transactions {
    pub(crate) fn new(backoff: Backoff, seed: u64) -> Self {
        Self {
            machine: Machine::new(backoff, seed),
            stage: Stage::Over,
            current: 0,
            failing: false,
            sweep: None,
            lines: BTreeSet::new(),
            parked: BTreeSet::new(),
            outcome: None,
            offsets: BTreeMap::new(),
            refused: None,
            asked: None,
            leave_at: None,
        }
    }

    /// The versions of Produce for records of the transaction.
    pub(crate) fn produce_versions(&self) -> std::ops::RangeInclusive<i16> {
        coordinator::produce_versions(self.machine.level())
    }

    /// When the keeper is to look again.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout().into_iter().chain(self.leave_at).min()
    }

    /// Whether the transaction has records on that line.
    pub(crate) fn has(&self, line: LineId) -> bool {
        self.lines.contains(&line)
    }

    fn fail(&mut self, error: &Error) {
        self.failing = true;
        self.sweep.get_or_insert_with(|| error.clone());
    }
}

impl State {
    /// A batch came to nothing, or may have.
    pub(crate) fn batch_failed(&mut self, error: &Error) {
        // What the end of the transaction did to batches that were never sent is no news to it.
        let news = |all: &&mut Transactions| !all.failing || error.may_have_happened();
        if let Some(all) = self.transactions.as_mut().filter(news) {
            all.machine.handle_batch_failed(error);
        }
    }

    /// Takes over what the machine says. Gives whether it said anything.
    fn hear(&mut self, now: Instant) -> bool {
        let Self { transactions: Some(all), core, fatal, .. } = self else { return false };
        if core.wants_identity()
            && all.machine.is_under_way()
            && let Some(error) = core.trouble()
        {
            all.machine.handle_batch_failed(&error);
        }
        let mut heard = false;
        while let Some(event) = all.machine.poll_event() {
            heard = true;
            match event {
                Event::Ready(identity) => core.handle_identity(Some(identity), now),
                Event::Added => {
                    for line in std::mem::take(&mut all.parked) {
                        let lane = self.lanes.get(&line);
                        let added = lane.is_none_or(|lane| {
                            // An error is told by an event as well.
                            all.machine.handle_partition(&lane.topic.name, lane.partition).unwrap_or(false)
                        });
                        match added {
                            true => core.handle_gate(line, true, now),
                            false => drop(all.parked.insert(line)),
                        }
                    }
                }
                Event::Offsets { call, result } => {
                    if let Some(slot) = all.offsets.get_mut(&call) {
                        *slot = Some(result);
                    }
                }
                Event::Failing { error, .. } => all.fail(&error),
                Event::Ended { transaction, outcome } => {
                    if transaction == all.current {
                        all.outcome = Some(outcome);
                    }
                }
                Event::Refused(error) => all.refused = Some(error),
                Event::Fatal(error) => {
                    all.fail(&error);
                    fatal.get_or_insert(error);
                }
            }
        }
        heard
    }

    /// Tells the machine when nothing of the transaction is left. Gives whether that is so now.
    fn flushed(&mut self, now: Instant) -> bool {
        let Self { transactions: Some(all), core, pending, .. } = self else { return false };
        if all.stage != Stage::Closed || !pending.is_empty() || !core.is_idle() {
            return false;
        }
        all.stage = Stage::Over;
        all.parked.clear();
        for line in std::mem::take(&mut all.lines) {
            core.handle_gate(line, false, now);
        }
        all.machine.handle_flushed();
        true
    }
}

impl Shared {
    /// A lane is about to open a batch. To be called under the lane's lock.
    ///
    /// # Errors
    /// Why the transaction takes no record.
    pub(crate) fn opened(&self, lane: &Lane) -> Result<()> {
        let now = clock::now();
        let mut state = self.lock();
        let State { transactions, core, .. } = &mut *state;
        let Some(all) = transactions else {
            core.handle_opened(lane.line, now);
            if self.buffers.is_short() {
                core.handle_pressure(now);
            }
            return Ok(());
        };
        if all.stage != Stage::Open {
            return Err(Error::invalid("no transaction takes records now"));
        }
        let added = all.machine.handle_partition(&lane.topic.name, lane.partition);
        let added = added.map_err(|error| error.not_done().within("the transaction can only be aborted"))?;
        if all.lines.insert(lane.line) {
            core.handle_gate(lane.line, added, now);
            if !added {
                all.parked.insert(lane.line);
            }
        }
        core.handle_opened(lane.line, now);
        if self.buffers.is_short() {
            core.handle_pressure(now);
        }
        drop(state);
        if !added {
            self.kick.notify_one();
        }
        Ok(())
    }

    /// Does what the machine says. Gives whether it said anything.
    pub(crate) fn transact(self: &Arc<Self>) -> bool {
        if self.settings.transactional.is_none() {
            return false;
        }
        let mut any = false;
        loop {
            let now = clock::now();
            let mut state = self.lock();
            let heard = state.hear(now);
            let sweep = state.transactions.as_mut().and_then(|all| all.sweep.take());
            let flushed = sweep.is_none() && state.flushed(now);
            drop(state);
            if let Some(error) = &sweep {
                self.sweep(error);
            }
            if !heard && sweep.is_none() && !flushed {
                break;
            }
            any = true;
        }
        if any {
            self.turned.notify_waiters();
            self.kick.notify_one();
        }
        any
    }

    /// Fails what was not sent.
    fn sweep(self: &Arc<Self>, error: &Error) {
        for lane in self.lanes() {
            // On its line it is failed like the others; it is not worth being sealed.
            drop(lane.close(self));
        }
        let error = error.clone().not_done().within("the transaction is not committed");
        self.with_core(|core, now| core.fail(&error, false, now));
        self.tell();
    }

    /// Lets the machine hear something, and does what it says to that.
    fn with_machine<T>(self: &Arc<Self>, hear: impl FnOnce(&mut Transactions) -> Result<T>) -> Result<T> {
        let heard = match &mut self.lock().transactions {
            Some(all) => hear(all),
            None => return Err(Error::internal("not a transactional producer")),
        };
        self.transact();
        self.pump();
        self.kick.notify_one();
        heard
    }

    /// Waits until there is something to be seen. Safe to drop.
    async fn until<T>(
        &self,
        deadline: Instant,
        mut look: impl FnMut(&mut Transactions) -> Option<T>,
    ) -> Option<T> {
        loop {
            let mut turned = std::pin::pin!(self.turned.notified());
            turned.as_mut().enable();
            if let Some(seen) = self.lock().transactions.as_mut().and_then(&mut look) {
                return Some(seen);
            }
            tokio::time::timeout_at(deadline.into(), turned).await.ok()?;
        }
    }

    /// Begins a transaction, as soon as the last one has ended. Safe to drop.
    pub(super) async fn begin(self: &Arc<Self>) -> Result<()> {
        let Some(settings) = &self.settings.transactional else {
            return Err(Error::internal("not a transactional producer"));
        };
        let deadline = clock::now() + self.settings.max_block;
        // One that was leaked is as good as dropped.
        self.abort_in_background();
        if let Some(all) = &mut self.lock().transactions {
            all.refused = None;
        }
        loop {
            self.check_open()?;
            let abilities = self.abilities(&settings.id, deadline).await?;
            let begun = self.with_machine(|all| {
                let number = all.machine.handle_begin(abilities)?;
                if let Some(number) = number {
                    (all.current, all.stage) = (number, Stage::Open);
                    (all.failing, all.outcome) = (false, None);
                    all.offsets.clear();
                }
                Ok(number)
            })?;
            if begun.is_some() {
                return Ok(());
            }
            let seen = self.until(deadline, |all| {
                let refused = all.refused.take().map(Err);
                refused
                    .or_else(|| all.machine.error().cloned().map(Err))
                    .or_else(|| all.machine.is_ready().then_some(Ok(())))
            });
            match seen.await {
                Some(seen) => seen?,
                None => {
                    return Err(self.late("the last transaction is not ended yet, or the producer not known"));
                }
            }
        }
    }

    /// Makes offsets a part of the transaction, and waits until they are. Safe to drop: they become a part then
    /// too.
    pub(super) async fn add_offsets(self: &Arc<Self>, group: Group, offsets: Vec<Offset>) -> Result<()> {
        let deadline = clock::now() + self.settings.max_block;
        let call = self.with_machine(|all| {
            let call = all.machine.handle_offsets(group, offsets)?;
            all.offsets.insert(call, None);
            Ok(call)
        })?;
        let seen = self.until(deadline, |all| match all.offsets.get(&call) {
            Some(None) => None,
            _ => all.offsets.remove(&call).flatten(),
        });
        let late = || self.late("offsets could not be added to the transaction").maybe_done();
        seen.await.unwrap_or_else(|| Err(late()))
    }

    /// The time is over, and why it took so long.
    fn late(&self, what: &'static str) -> Error {
        let state = self.lock();
        let why = state.transactions.as_ref().and_then(|all| all.machine.delay());
        match why {
            Some(why) => Error::timeout(format!("{what}, since: {why}")).because(why.clone()),
            None => Error::timeout(what),
        }
    }

    /// Why the transaction can only be aborted, if that is so.
    pub(super) fn trouble(&self) -> Option<Error> {
        self.lock().transactions.as_ref()?.machine.trouble().cloned()
    }

    /// Ends the transaction and waits until that is done. When the future is dropped, it goes on.
    pub(super) async fn end(self: &Arc<Self>, commit: bool) -> Result<()> {
        let deadline = clock::now() + self.settings.max_block;
        self.start_end(commit)?;
        let mut outcome = self.until(deadline, |all| all.outcome.take()).await;
        if outcome.is_none() {
            let error = self.late("the transaction could not be ended in time");
            self.with_machine(|all| {
                all.machine.handle_gave_up(error.clone());
                if !all.machine.may_commit() {
                    all.fail(&error);
                }
                Ok(())
            })?;
            outcome = self.until(clock::now() + self.settings.max_block, |all| all.outcome.take()).await;
        }
        match outcome {
            Some(Outcome::Committed) if commit => Ok(()),
            Some(Outcome::Aborted) if !commit => Ok(()),
            Some(Outcome::Unknown(error)) => Err(error.maybe_done()),
            Some(Outcome::NotCommitted(error)) => Err(error.not_done()),
            Some(Outcome::Aborted) => Err(Error::closed("the transaction was aborted")),
            Some(Outcome::Committed) | None => {
                Err(Error::internal("a transaction without an end").maybe_done())
            }
        }
    }

    /// Takes no more records, and lets the end take its course. Does not wait.
    fn start_end(self: &Arc<Self>, commit: bool) -> Result<()> {
        self.with_machine(|all| {
            if all.stage == Stage::Open {
                all.stage = Stage::Closing;
            }
            if commit {
                return all.machine.handle_commit().map_err(Error::not_done);
            }
            let aborted = all.machine.handle_abort();
            all.fail(&Error::closed("the transaction was aborted"));
            aborted.map_err(Error::not_done)
        })
        .inspect_err(|_| drop(self.close_batches()))?;
        self.close_batches();
        self.with_machine(|all| {
            if all.stage == Stage::Closing {
                all.stage = Stage::Closed;
            }
            Ok(())
        })
    }

    /// Aborts the transaction if nobody has ended it. Does not wait.
    pub(super) fn abort_in_background(self: &Arc<Self>) {
        let open = self.lock().transactions.as_ref().is_some_and(|all| all.stage == Stage::Open);
        if open {
            // At the end of the producer there is nothing left to be aborted.
            self.start_end(false).unwrap_or_default();
        }
    }

    /// Waits until the last transaction has ended. Safe to drop.
    pub(super) async fn settled(self: &Arc<Self>, deadline: Instant) -> Result<()> {
        self.abort_in_background();
        let over = self.until(deadline, |all| (!all.machine.is_under_way()).then_some(()));
        over.await.ok_or_else(|| {
            Error::timeout("the last transaction could not be ended before the producer was closed")
        })
    }

    /// The producer can do nothing any more; tells who waits.
    pub(crate) fn end_transactions(self: &Arc<Self>, error: &Error) {
        if let Some(all) = &mut self.lock().transactions {
            all.machine.handle_closed(error.clone());
        }
        self.transact();
    }

    /// Whether a producer that nobody holds can end. One that nobody ends in time the coordinator aborts.
    pub(crate) fn may_leave(self: &Arc<Self>) -> bool {
        let Some(settings) = &self.settings.transactional else { return true };
        self.abort_in_background();
        let mut state = self.lock();
        let Some(all) = state.transactions.as_mut().filter(|all| all.machine.is_under_way()) else {
            return true;
        };
        let now = clock::now();
        now >= *all.leave_at.get_or_insert(now + settings.timeout)
    }

    /// What the machine wants to be asked, on its way.
    pub(crate) fn ask_coordinator(self: &Arc<Self>, state: &mut State, now: Instant) -> Option<Task> {
        let ask = state.transactions.as_mut()?.machine.poll_request(now)?;
        Some(task::spawn(ask_once(Arc::clone(self), ask)))
    }
}

async fn ask_once(shared: Arc<Shared>, ask: Ask) {
    let Some(settings) = shared.settings.transactional.clone() else { return };
    let ticket = ask.ticket;
    let answer = shared.call_coordinator(&settings, ask).await;
    let now = clock::now();
    if let Some(all) = &mut shared.lock().transactions {
        match answer {
            Ok(answer) => all.machine.handle_answer(ticket, answer, now),
            Err(error) => all.machine.handle_lost(ticket, error, now),
        }
    }
    shared.transact();
    shared.pump();
    shared.kick.notify_one();
}
