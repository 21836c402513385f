//! What the coordinator's answers mean, as Java's `AbstractCoordinator` reads them: which code takes the id or the
//! generation away, which is tried again, and which is the end.

use super::{Error, ErrorCode, Event, Heart, Instant, Machine, PROTOCOL_TYPE, Response, Result, State, Str};
use crate::consumer::assignors::Assignment;
use crate::messages::heartbeat::HeartbeatResponse;
use crate::messages::join_group::JoinGroupResponse;
use crate::messages::leave_group::LeaveGroupResponse;
use crate::messages::sync_group::SyncGroupResponse;

/// Whether a request that got no answer, or that answer, is made again.
fn passes(error: &Error) -> bool {
    // Who sends what cannot be read is asked again on another connection.
    error.is_io() || error.is_timeout() || error.is_retriable() || error.is_malformed()
}

impl Machine {
    /// What came of an `Ask`. Tickets of what is not wanted any more are ignored.
    pub(crate) fn handle_answer(&mut self, ticket: u64, answer: Result<Response>, now: Instant) {
        let was_in_flight = self.in_flight == Some(ticket);
        if was_in_flight {
            self.in_flight = None;
        }
        let heartbeat = self.heart.and_then(|heart| heart.in_flight).filter(|(sent, _)| *sent == ticket);
        match &self.state {
            State::Joining { ticket: sent } if *sent == ticket => match answer {
                Ok(Response::Join(response)) => self.join_answered(response, now),
                other => self.join_failed(&unexpected(other), now),
            },
            State::Syncing { ticket: sent } if *sent == ticket => match answer {
                Ok(Response::Sync(response)) => self.sync_answered(&response, now),
                other => self.join_failed(&unexpected(other), now),
            },
            State::Leaving(leaving) if leaving.waits_for == Some(ticket) => {
                if let Ok(Response::Join(response)) = answer {
                    self.member = response.member_id;
                }
                self.leave_what_was_joined(now);
            }
            State::Leaving(leaving) if leaving.in_flight == Some(ticket) => {
                let again = match answer {
                    Ok(Response::Leave(response)) => leave_code(&response).is_retriable(),
                    other => passes(&unexpected(other)),
                };
                self.leave_answered(again, now);
            }
            _ => {
                if let Some((_, sent)) = heartbeat {
                    self.heartbeat_answered(answer, sent, now);
                }
            }
        }
    }

    fn join_answered(&mut self, response: JoinGroupResponse, now: Instant) {
        match ErrorCode(response.error_code) {
            ErrorCode::NONE => match self.read_join(&response) {
                Ok(protocol) => self.joined(response, protocol, now),
                Err(error) => self.join_failed(&error, now),
            },
            // Of a group that has not seen this member before; with the id it is let in (KIP-394).
            ErrorCode::MEMBER_ID_REQUIRED if !response.member_id.is_empty() => {
                self.member = response.member_id;
                #[cfg(test)]
                if self.planted == super::tests::Planted::ForgetsId {
                    self.member = Str::new();
                }
                self.join_again("a member id was required", true, now);
            }
            code => self.refused(code, "joining the group", now),
        }
    }

    /// Which assignor the group agreed on, if the answer makes sense.
    fn read_join(&self, response: &JoinGroupResponse) -> Result<(usize, Str)> {
        consistent("type", response.protocol_type.as_ref(), PROTOCOL_TYPE)?;
        if response.generation_id < 0 || response.member_id.is_empty() {
            let (generation, member) = (response.generation_id, response.member_id.len());
            let what = format!("generation {generation} and a member id of {member} bytes");
            return Err(Error::malformed(what));
        }
        let name = response.protocol_name.clone().unwrap_or_default();
        let place = self.assignors.iter().position(|assignor| assignor.name() == name.as_str());
        let inconsistent = || {
            let shown = crate::error::quoted(name.as_bytes());
            Error::broker_said(
                ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
                format!("no assignor is called {shown}"),
            )
        };
        place.map(|place| (place, name.clone())).ok_or_else(inconsistent)
    }

    fn joined(&mut self, response: JoinGroupResponse, protocol: (usize, Str), now: Instant) {
        let leads = response.leader == response.member_id;
        self.member = response.member_id;
        self.generation = Some(response.generation_id);
        self.protocol = Some(protocol);
        self.led = None;
        let due = now + self.settings.heartbeat_interval;
        self.heart = Some(Heart { in_flight: None, due, failures: 0, heard: now });
        if leads {
            self.lead(response.members, response.skip_assignment, now);
        } else {
            self.state = State::ToSync { assignments: Vec::new() };
        }
    }

    fn sync_answered(&mut self, response: &SyncGroupResponse, now: Instant) {
        match ErrorCode(response.error_code) {
            ErrorCode::NONE => match self.read_sync(response) {
                Ok(assignment) => self.synced(&assignment, now),
                Err(error) => {
                    if error.is_malformed() {
                        self.events.push_back(Event::Troubled(error.clone()));
                    }
                    self.join_failed(&error, now);
                }
            },
            code => self.refused(code, "getting the group's assignment", now),
        }
    }

    fn read_sync(&self, response: &SyncGroupResponse) -> Result<Assignment> {
        consistent("type", response.protocol_type.as_ref(), PROTOCOL_TYPE)?;
        let name = self.protocol.as_ref().map_or("", |(_, name)| name.as_str());
        consistent("name", response.protocol_name.as_ref(), name)?;
        Assignment::from_bytes(&response.assignment)
    }

    fn synced(&mut self, assignment: &Assignment, now: Instant) {
        self.state = State::Stable;
        if let Some(heart) = &mut self.heart {
            heart.heard = now;
            heart.due = now + self.settings.heartbeat_interval;
        }
        if let (Some((place, _)), Some(generation)) = (&self.protocol, self.generation) {
            if let Some(assignor) = self.assignors.get(*place) {
                assignor.on_assignment(assignment, generation);
            }
            self.received.insert(*place, (assignment.partitions.clone(), generation));
        }
        if self.take(&assignment.partitions, now) {
            self.failures = 0;
            self.rejoin_if_out_of_date(now);
        } else {
            self.join_again("the assignment does not match the subscription", true, now);
        }
    }

    /// A join or a sync got no good answer. Whether it happened or not: the same id joins again (G07).
    fn join_failed(&mut self, error: &Error, now: Instant) {
        if passes(error) {
            self.join_again("the coordinator did not answer", false, now);
        } else {
            self.fail(error.clone());
        }
    }

    fn heartbeat_answered(&mut self, answer: Result<Response>, sent: Instant, now: Instant) {
        let Some(heart) = &mut self.heart else { return };
        heart.in_flight = None;
        let code = match answer {
            Ok(Response::Heartbeat(HeartbeatResponse { error_code, .. })) => ErrorCode(error_code),
            other => {
                let error = unexpected(other);
                if passes(&error) {
                    self.beat_again(now);
                } else {
                    self.fail(error);
                }
                return;
            }
        };
        if matches!(code, ErrorCode::NONE | ErrorCode::REBALANCE_IN_PROGRESS) {
            heart.heard = heart.heard.max(sent);
            heart.failures = 0;
            heart.due = sent + self.settings.heartbeat_interval;
        }
        if !code.is_none() {
            self.refused(code, "a heartbeat", now);
        }
    }

    fn beat_again(&mut self, now: Instant) {
        if let Some(heart) = &mut self.heart {
            heart.failures = heart.failures.saturating_add(1);
            let pause = self.settings.backoff.after(heart.failures, &mut self.dice);
            heart.due = now + pause.min(self.settings.heartbeat_interval);
        }
    }

    /// The coordinator refused something.
    pub(super) fn refused(&mut self, code: ErrorCode, what: &'static str, now: Instant) {
        let is_join = matches!(self.state, State::Joining { .. } | State::Syncing { .. });
        let error = || Error::broker_said(code, what);
        match code {
            ErrorCode::REBALANCE_IN_PROGRESS if is_join => {
                // Whoever waits there is not given up, and a session begins when it is answered.
                if let Some(heart) = &mut self.heart {
                    heart.heard = now;
                }
                self.join_again("the group is rebalancing", true, now);
            }
            ErrorCode::REBALANCE_IN_PROGRESS => {
                if matches!(self.state, State::Stable) {
                    self.prepare("the group is rebalancing", now, now);
                }
            }
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION => {
                // With another generation the id may still be good (K-13563).
                if code == ErrorCode::UNKNOWN_MEMBER_ID {
                    self.member = Str::new();
                }
                self.lose(error());
                if is_join {
                    self.join_again("the coordinator did not know the member", true, now);
                } else {
                    self.after_loss("the coordinator did not know the member", now);
                }
            }
            _ if is_join => self.join_failed(&error(), now),
            _ if code.is_retriable() => self.beat_again(now),
            _ => self.fail(error()),
        }
    }
}

/// KIP-559: what the coordinator thinks that the group is, if it says it.
fn consistent(what: &str, said: Option<&Str>, ours: &str) -> Result<()> {
    match said {
        Some(said) if said.as_str() != ours => {
            let said = crate::error::quoted(said.as_bytes());
            let what = format!("the group's protocol {what} is {said}, not \"{ours}\"");
            Err(Error::broker_said(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, what))
        }
        _ => Ok(()),
    }
}

fn leave_code(response: &LeaveGroupResponse) -> ErrorCode {
    let of_member = response.members.first().map_or(0, |member| member.error_code);
    ErrorCode(if response.error_code == 0 { of_member } else { response.error_code })
}

/// The error, where an answer of the right kind is none.
fn unexpected(answer: Result<Response>) -> Error {
    match answer {
        Ok(_) => Error::internal("an answer to another request"),
        Err(error) => error,
    }
}
