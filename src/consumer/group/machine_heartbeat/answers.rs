//! What coordinators answer to heartbeats, and what that means.

use std::time::{Duration, Instant};

use super::super::{Event, Response};
use super::{Flight, INTERVAL, INTERVAL_LEAST, INTERVAL_MOST, JOIN, LEAVE_STATIC, Machine, Phase, Then};
use crate::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatResponse;
use crate::{Error, ErrorCode, Result};

/// What to do about a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Done,
    Again,
    /// Again, but it may be for long, and the application can do something about it.
    Troubled,
    /// Join anew: the coordinator does not know this member or its epoch.
    Fenced,
    /// The instance is in use, perhaps by us.
    Held,
    Fatal,
}

impl Verdict {
    fn of(code: ErrorCode, joining: bool) -> Self {
        match code {
            ErrorCode::NONE => Self::Done,
            ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::STALE_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID => {
                Self::Fenced
            }
            // A group that is gone is made anew by joining. To who joins it says that the group is of another kind.
            ErrorCode::GROUP_ID_NOT_FOUND if !joining => Self::Fenced,
            // Rights come and go: Kafka's own consumer stays and goes on asking.
            ErrorCode::TOPIC_AUTHORIZATION_FAILED => Self::Troubled,
            ErrorCode::UNRELEASED_INSTANCE_ID => Self::Held,
            code if code.is_retriable() => Self::Again,
            _ => Self::Fatal,
        }
    }
}

/// Whether what got no answer is asked again.
pub(super) fn passes(error: &Error) -> bool {
    error.is_io() || error.is_timeout() || error.is_retriable() || error.is_malformed()
}

impl Machine {
    pub(super) fn answered(&mut self, flight: Flight, answer: Result<Response>, now: Instant) {
        let answer = match answer {
            Ok(Response::Consumer(answer)) => answer,
            Ok(_) => return self.failed(Error::internal("a heartbeat was answered by something else")),
            Err(error) if flight.leaves => return self.left_without_answer(&error, now),
            // Authentication and rights fail here too; a closed pool ends everything.
            Err(error) if passes(&error) => return self.again(now),
            Err(error) => return self.failed(error),
        };
        let code = ErrorCode(answer.error_code);
        if flight.leaves {
            return self.leave_answered(code, now);
        }
        #[cfg(test)]
        if matches!(self.phase, Phase::Leaving { .. } | Phase::Stale { .. }) {
            self.phase = Phase::Member;
        }
        let said = |code| {
            let words = answer.error_message.as_deref().unwrap_or("sent a heartbeat to the group");
            Error::broker_said(code, words.to_owned())
        };
        match Verdict::of(code, self.epoch == JOIN) {
            Verdict::Done => self.taken(flight, &answer, now),
            Verdict::Again => self.again(now),
            Verdict::Troubled => {
                self.events.push_back(Event::Troubled(said(code)));
                self.again(now);
            }
            Verdict::Held if flight.known && self.holds_itself() => self.leave(LEAVE_STATIC, Then::Join),
            Verdict::Fenced => {
                // Who is refused while joining waits before the next attempt: there is nothing to release first.
                let joining = self.epoch == JOIN;
                self.known = code == ErrorCode::FENCED_MEMBER_EPOCH;
                self.fenced(&said(code));
                if joining {
                    self.again(now);
                } else {
                    self.failures = 0;
                    self.not_before = None;
                }
            }
            Verdict::Held | Verdict::Fatal => {
                let gone = [ErrorCode::FENCED_INSTANCE_ID, ErrorCode::UNRELEASED_INSTANCE_ID];
                self.known = flight.known && !gone.contains(&code);
                self.failed(said(code));
            }
        }
    }

    /// Whether an instance may be in use because of this very member.
    fn holds_itself(&self) -> bool {
        #[cfg(test)]
        if self.planted == Some(super::Planted::HeldIsFinal) {
            return false;
        }
        self.epoch == JOIN && self.settings.instance.is_some()
    }

    /// A good answer, if it can be right (N08).
    fn taken(&mut self, flight: Flight, answer: &ConsumerGroupHeartbeatResponse, now: Instant) {
        if answer.member_epoch <= JOIN || answer.member_epoch < self.epoch {
            return self.again(now);
        }
        self.failures = 0;
        self.not_before = None;
        self.claimed = false;
        self.interval = interval(answer.heartbeat_interval_ms);
        self.last_sent = Some(flight.at);
        self.epoch = answer.member_epoch;
        self.phase = Phase::Member;
        if let Some(assignment) = &answer.assignment {
            self.assigned(assignment);
        }
        self.reconcile(now);
    }

    fn leave_answered(&mut self, code: ErrorCode, now: Instant) {
        if code.is_retriable() {
            self.again(now);
        } else {
            // Whoever is unknown has left, and any other refusal will not change (N02).
            self.leave_done();
        }
    }

    fn left_without_answer(&mut self, error: &Error, now: Instant) {
        if passes(error) { self.again(now) } else { self.leave_done() }
    }

    fn leave_done(&mut self) {
        self.failures = 0;
        self.not_before = None;
        self.known = false;
        match self.phase {
            Phase::Leaving { then: Then::Left, .. } => self.left(),
            Phase::Leaving { then: Then::Join, .. } => self.join(),
            Phase::Leaving { then: Then::Idle, .. } => self.phase = Phase::Idle,
            Phase::Stale { .. } => self.phase = Phase::Stale { leave: None },
            _ => {}
        }
    }
}

fn interval(millis: i32) -> Duration {
    match u64::try_from(millis) {
        Ok(0) | Err(_) => INTERVAL,
        Ok(millis) => Duration::from_millis(millis).clamp(INTERVAL_LEAST, INTERVAL_MOST),
    }
}
