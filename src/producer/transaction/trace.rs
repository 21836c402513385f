//! What was asked of coordinators last and what came of it, for the error of a producer that is told of
//! another one: that error is final, and without this nobody could tell why it was given.

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use super::machine_work::{Answer, Level, Request};
use crate::producer::machine_identity::Identity;
use crate::{Error, ErrorCode};

/// How many requests are remembered.
const STEPS_MAX: usize = 16;

#[derive(Debug, Clone, Copy)]
enum Heard {
    /// The gravest code, and what identity came with it.
    Code(ErrorCode, Option<(i64, i16)>),
    /// Nothing, after it may have arrived or before.
    Lost { maybe_done: bool },
}

#[derive(Debug)]
struct Step {
    at: Instant,
    broker: Option<i32>,
    name: &'static str,
    level: Option<Level>,
    identity: Option<Identity>,
    heard: Heard,
}

#[derive(Debug, Default)]
pub(super) struct Trace {
    steps: VecDeque<Step>,
}

impl Trace {
    pub(super) fn answered(&mut self, now: Instant, broker: Option<i32>, request: &Request, answer: &Answer) {
        let first_bad = |all: &[(crate::wire::Str, i32, ErrorCode)]| {
            let bad = all.iter().map(|(_, _, code)| *code).find(|code| !code.is_none());
            Heard::Code(bad.unwrap_or(ErrorCode::NONE), None)
        };
        let heard = match answer {
            Answer::Init { code, id, epoch } | Answer::End { code, id, epoch } => {
                Heard::Code(*code, Some((*id, *epoch)))
            }
            Answer::AddPartitions(all) | Answer::CommitOffsets(all) => first_bad(all),
            Answer::AddOffsets(code) => Heard::Code(*code, None),
        };
        self.push(now, broker, request, heard);
    }

    pub(super) fn lost(&mut self, now: Instant, broker: Option<i32>, request: &Request, error: &Error) {
        self.push(now, broker, request, Heard::Lost { maybe_done: error.may_have_happened() });
    }

    fn push(&mut self, at: Instant, broker: Option<i32>, request: &Request, heard: Heard) {
        let (name, level, identity) = match request {
            Request::Init { identity } => ("InitProducerId", None, *identity),
            Request::AddPartitions { identity, .. } => ("AddPartitionsToTxn", None, Some(*identity)),
            Request::AddOffsets { identity, .. } => ("AddOffsetsToTxn", None, Some(*identity)),
            Request::CommitOffsets { identity, level, .. } => {
                ("TxnOffsetCommit", Some(*level), Some(*identity))
            }
            Request::End { identity, level, commit: true } => {
                ("EndTxn(commit)", Some(*level), Some(*identity))
            }
            Request::End { identity, level, commit: false } => {
                ("EndTxn(abort)", Some(*level), Some(*identity))
            }
        };
        if self.steps.len() == STEPS_MAX {
            self.steps.pop_front();
        }
        self.steps.push_back(Step { at, broker, name, level, identity, heard });
    }
}

/// The last one comes last; times are before it.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(last) = self.steps.back() else { return f.write_str("nothing was asked") };
        for (at, step) in self.steps.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "; " })?;
            write!(f, "-{} ms {}", last.at.saturating_duration_since(step.at).as_millis(), step.name)?;
            if let Some(level) = step.level {
                write!(f, " {level:?}")?;
            }
            if let Some(Identity { id, epoch }) = step.identity {
                write!(f, " of {id}/{epoch}")?;
            }
            if let Some(broker) = step.broker {
                write!(f, " at broker {broker}")?;
            }
            match step.heard {
                Heard::Code(code, None | Some((-1, _))) => write!(f, ": {code}")?,
                Heard::Code(code, Some((id, epoch))) => write!(f, ": {code}, {id}/{epoch}")?,
                Heard::Lost { maybe_done: true } => f.write_str(": no answer")?,
                Heard::Lost { maybe_done: false } => f.write_str(": not sent")?,
            }
        }
        Ok(())
    }
}
