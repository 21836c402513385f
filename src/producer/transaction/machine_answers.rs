//! What the machine of transactions makes of what coordinators answer, and of answers that do not come.

use std::time::Instant;

use super::machine::{Event, Flight, Machine, Outcome, State};
use super::machine_codes::{self as codes, Verdict};
use super::machine_work::{Answer, Level, Request, answers_all, gravest};
use crate::producer::machine_identity::{self, Identity};
use crate::wire::Str;
use crate::{Error, ErrorCode};

impl Machine {
    /// A coordinator answered.
    pub(crate) fn handle_answer(&mut self, ticket: u64, answer: Answer, now: Instant) {
        let Some(Flight { request, broker, .. }) = self.land(ticket) else { return };
        self.trace.answered(now, broker, &request, &answer);
        match (request, answer) {
            (Request::Init { .. }, Answer::Init { code, id, epoch }) => {
                self.initialized(code, id, epoch, now);
            }
            (Request::AddPartitions { partitions, .. }, Answer::AddPartitions(answered)) => {
                self.partitions_added(&partitions, &answered, now);
            }
            (Request::AddOffsets { group, .. }, Answer::AddOffsets(code)) => {
                self.offsets_added(group, code, now);
            }
            (Request::CommitOffsets { .. }, Answer::CommitOffsets(answered)) => {
                self.offsets_committed(&answered, now);
            }
            (Request::End { level, commit, .. }, Answer::End { code, id, epoch }) => {
                self.ended(level, commit, code, (id, epoch), now);
            }
            _ => self.die(Error::internal("an answer to another question")),
        }
        self.settle();
    }

    /// No answer came, and none will. If the request may have arrived, it may also arrive later.
    pub(crate) fn handle_lost(&mut self, ticket: u64, error: Error, now: Instant) {
        let Some(Flight { request, broker, .. }) = self.land(ticket) else { return };
        self.trace.lost(now, broker, &request, &error);
        // Whoever answers in bytes that cannot be read has done something.
        if error.may_have_happened() || error.is_malformed() {
            self.may_arrive(&request);
        }
        self.look_elsewhere();
        if machine_identity::passes(&error) {
            self.delayed(error);
            self.wait(now);
        } else if matches!(request, Request::Init { .. }) && (error.is_auth() || error.is_closed()) {
            self.refused(error);
        } else {
            self.die(error);
        }
        self.settle();
    }

    fn may_arrive(&mut self, request: &Request) {
        if matches!(request, Request::Init { .. }) {
            return;
        }
        if let State::Committing { unsure, .. } = &mut self.state {
            *unsure |= matches!(request, Request::End { .. });
        }
        let Some(work) = self.work() else { return };
        work.open = true;
        // With V2 the end raises the epoch.
        self.bump |= work.level == Level::V1;
    }

    fn initialized(&mut self, code: ErrorCode, id: i64, epoch: i16, now: Instant) {
        use machine_identity::Verdict as Init;
        let said = || Error::broker_said(code, "InitProducerId");
        self.delayed(said());
        match Init::of(code) {
            Init::Done => match Identity::read(id, epoch) {
                Ok(identity) => {
                    self.identity = Some(identity);
                    self.bump = false;
                    self.finish();
                }
                Err(error) => self.die(error),
            },
            Init::Again => self.wait(now),
            Init::Soon => self.wait_shortly(now),
            Init::Elsewhere => {
                self.look_elsewhere();
                self.wait(now);
            }
            Init::Refused => self.refused(said()),
            Init::Fenced => self.fenced("InitProducerId"),
            Init::Fatal => self.die(said()),
        }
    }

    fn refused(&mut self, error: Error) {
        self.state = State::Uninitialized;
        self.events.push_back(Event::Refused(error));
    }

    fn partitions_added(&mut self, asked: &[(Str, i32)], answered: &[(Str, i32, ErrorCode)], now: Instant) {
        let Some(work) = self.work() else { return };
        let first = work.is_first();
        let mut added = false;
        for (topic, partition, code) in answered {
            if code.is_none() {
                work.added(topic, *partition);
                added = true;
            }
            work.open |= !codes::did_nothing(*code);
        }
        if added {
            self.went_well();
            self.events.push_back(Event::Added);
        }
        if let Err(error) = answers_all(asked, answered) {
            return self.fail(&error, false);
        }
        let Some((verdict, code)) = gravest(answered, codes::of_added_partition) else { return };
        // Only the first one of a transaction meets the end of the one before.
        let verdict = if verdict == Verdict::Soon && !first { Verdict::Again } else { verdict };
        self.judged(verdict, code, "AddPartitionsToTxn", now);
    }

    fn offsets_added(&mut self, group: Str, code: ErrorCode, now: Instant) {
        let Some(work) = self.work() else { return };
        work.open |= !codes::did_nothing(code);
        if code.is_none() {
            work.group_added(group);
        }
        self.judged(codes::of_added_offsets(code), code, "AddOffsetsToTxn", now);
    }

    fn offsets_committed(&mut self, answered: &[(Str, i32, ErrorCode)], now: Instant) {
        let Some(work) = self.work() else { return };
        let asked = work.offsets.front().map(|offsets| {
            offsets.pending.iter().map(|offset| (offset.topic.clone(), offset.partition)).collect::<Vec<_>>()
        });
        // The transaction is being aborted, and what became of these does not matter any more.
        let Some(asked) = asked else { return };
        for (topic, partition, _) in answered.iter().filter(|(_, _, code)| code.is_none()) {
            work.offset_done(topic, *partition);
        }
        if let Err(error) = answers_all(&asked, answered) {
            return self.fail(&error, false);
        }
        if let Some(call) = work.offsets_done() {
            self.events.push_back(Event::Offsets { call, result: Ok(()) });
        }
        let Some((verdict, code)) = gravest(answered, codes::of_committed_offset) else { return };
        self.judged(verdict, code, "TxnOffsetCommit", now);
    }

    /// Of a request within a transaction.
    fn judged(&mut self, verdict: Verdict, code: ErrorCode, api: &'static str, now: Instant) {
        let said = || Error::broker_said(code, api);
        self.delayed(said());
        match verdict {
            Verdict::Done => self.went_well(),
            Verdict::Soon => self.wait_shortly(now),
            Verdict::Again => self.wait(now),
            Verdict::Elsewhere => {
                self.look_elsewhere();
                self.wait(now);
            }
            Verdict::Abort => self.fail(&said(), false),
            Verdict::AbortAndBump if self.can_bump() => self.fail(&said(), true),
            Verdict::Fenced => self.fenced(api),
            Verdict::AbortAndBump | Verdict::Gone | Verdict::Unclear | Verdict::Fatal => self.die(said()),
        }
    }

    fn can_bump(&self) -> bool {
        self.abilities.bumps || self.abilities.level == Level::V2
    }

    fn ended(&mut self, level: Level, commit: bool, code: ErrorCode, next: (i64, i16), now: Instant) {
        let verdict = codes::of_end(code);
        if commit && !code.is_none() && !codes::did_nothing(code) {
            self.may_be_done();
        }
        let said = || Error::broker_said(code, "EndTxn");
        self.delayed(said());
        match verdict {
            Verdict::Done => {
                if level == Level::V2 {
                    self.take_next(next);
                }
                self.over(if commit { Outcome::Committed } else { Outcome::Aborted });
            }
            Verdict::Soon => self.wait_shortly(now),
            Verdict::Again | Verdict::Elsewhere => {
                if verdict == Verdict::Elsewhere {
                    self.look_elsewhere();
                }
                self.wait(now);
            }
            Verdict::Unclear => {
                if commit {
                    self.unknown(said());
                }
                self.wait(now);
            }
            Verdict::Gone => {
                self.bump = true;
                let why = said().within("the transaction was not committed, the coordinator has aborted it");
                self.over(if commit { Outcome::NotCommitted(why) } else { Outcome::Aborted });
            }
            Verdict::AbortAndBump if !self.can_bump() => self.die(said()),
            Verdict::Abort if !commit => self.die(said()),
            Verdict::AbortAndBump if !commit => {
                self.bump = true;
                self.over(Outcome::Aborted);
            }
            Verdict::Abort | Verdict::AbortAndBump => self.cannot_commit(said(), verdict),
            Verdict::Fenced => self.fenced("EndTxn"),
            Verdict::Fatal => self.die(said()),
        }
    }

    /// The commit that was just refused may count all the same.
    fn may_be_done(&mut self) {
        if let State::Committing { unsure, .. } = &mut self.state {
            *unsure = true;
        }
    }

    /// The broker does not know how the commit ended; nor does anyone until it says.
    fn unknown(&mut self, error: Error) {
        self.change(|machine, state| match state {
            State::Committing { work, .. } => {
                machine.bump |= work.level == Level::V1;
                machine.tell(work.id, Outcome::Unknown(error));
                (State::Indeterminate(work), ())
            }
            other => (other, ()),
        });
    }

    /// The coordinator would abort it. Whether it is to be told so depends on what it may have done before.
    fn cannot_commit(&mut self, error: Error, verdict: Verdict) {
        if let State::Committing { unsure: false, .. } = &self.state {
            return self.fail(&error, verdict == Verdict::AbortAndBump);
        }
        self.bump = true;
        self.over(Outcome::Unknown(error));
    }

    /// With V2 the end of a transaction brings the identity of the next. If it brings none that can be,
    /// the coordinator is asked once more: it knows what it gave.
    fn take_next(&mut self, (id, epoch): (i64, i16)) {
        let next = Identity::read(id, epoch).ok();
        let rises =
            |next: &Identity| self.identity.is_none_or(|last| next.id != last.id || next.epoch > last.epoch);
        match next.filter(rises) {
            Some(next) => {
                self.identity = Some(next);
                self.bump = false;
            }
            None => self.bump = true,
        }
    }

    /// The transaction that is being ended has ended so.
    fn over(&mut self, outcome: Outcome) {
        match &self.state {
            State::Committing { work, .. } | State::Aborting { work, told: false, .. } => {
                self.tell(work.id, outcome);
            }
            _ => {}
        }
        self.finish();
    }

    /// Whatever it was called, it says that another producer with this transactional id has begun.
    fn fenced(&mut self, api: &'static str) {
        let said = format!("{api}: another producer has this transactional id (asked last: {})", self.trace);
        self.die(Error::broker_said(ErrorCode::PRODUCER_FENCED, said));
    }
}
