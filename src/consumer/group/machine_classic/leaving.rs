//! Leaving: because the consumer is closed, or because its application does not come back. Whoever is known to the
//! coordinator says goodbye, or the group would wait for its session to time out (G11).

use super::{Ask, BTreeSet, Duration, Error, Event, Instant, Leave, Machine, Request, State, Str};
use crate::messages::leave_group::{LeaveGroupRequest, MemberIdentity};

#[derive(Debug)]
pub(super) struct Leaving {
    /// The `JoinGroup` whose answer says which id is to leave.
    pub(super) waits_for: Option<u64>,
    pub(super) in_flight: Option<u64>,
    not_before: Instant,
    failures: u32,
    /// When the coordinator has given us up anyway; of closing its caller says how long it may take.
    until: Option<Instant>,
    /// The application has come back meanwhile.
    pub(super) back: bool,
    reason: &'static str,
}

impl Leaving {
    pub(super) fn timeout(&self) -> Option<Instant> {
        let next = Some(self.not_before).filter(|_| self.in_flight.is_none());
        [next, self.until].into_iter().flatten().min().filter(|_| self.waits_for.is_none())
    }
}

impl LeaveGroupRequest {
    /// The same for brokers before 2.4, which know versions up to 2.
    pub(crate) fn before_version_3(mut self) -> Self {
        if let Some(member) = self.members.pop() {
            self.member_id = member.member_id;
        }
        Self { members: Vec::new(), ..self }
    }
}

impl Machine {
    /// The consumer is being closed. What is owned is revoked; when that was handed over, the group is left.
    /// [`Event::Left`] is the end.
    pub(crate) fn handle_close(&mut self, leave: Leave, now: Instant) {
        if self.close.is_some() {
            return;
        }
        self.close = Some(leave);
        match &mut self.state {
            // It goes on until it is done; whoever closes bounds it.
            State::Leaving(leaving) => leaving.until = None,
            State::Idle | State::Away | State::Left => self.left(),
            _ => {
                let owned = std::mem::take(&mut self.owned);
                self.revoke(owned, now);
                if self.handing.is_empty() {
                    self.part(now);
                } else {
                    // An answer to a join or a sync under way changes nothing any more.
                    self.state = State::Parting;
                }
            }
        }
    }

    /// Everything was handed over: the group is left for good.
    pub(super) fn part(&mut self, now: Instant) {
        self.leave("the consumer is being closed", now);
    }

    /// The application did not come back in time (G01).
    pub(super) fn stayed_away(&mut self, now: Instant) {
        let longest = self.settings.max_poll_interval;
        let away = self.polled.take().map_or(longest, |polled| now.saturating_duration_since(polled));
        let why = Error::timeout(format!(
            "the application did not come back for {away:?}, which is longer than max.poll.interval of {longest:?}; \
             the group is left and joined again when it does"
        ));
        // It is told even if nothing was owned.
        if self.owned.is_empty() {
            self.events.push_back(Event::Lost { partitions: BTreeSet::new(), why: why.clone() });
        }
        self.lose(why);
        self.leave("the application exceeded max.poll.interval", now);
    }

    fn leave(&mut self, reason: &'static str, now: Instant) {
        let waits_for = match self.state {
            State::Joining { ticket } if self.member.is_empty() => Some(ticket),
            _ => None,
        };
        self.generation = None;
        self.led = None;
        self.heart = None;
        let until = self.leaves_until(now).filter(|_| waits_for.is_none());
        self.state = State::Leaving(Leaving {
            waits_for,
            in_flight: None,
            not_before: now,
            failures: 0,
            until,
            back: false,
            reason,
        });
        if !self.says_goodbye() || (waits_for.is_none() && self.has_nothing_to_leave()) {
            self.left();
        }
    }

    fn leaves_until(&self, now: Instant) -> Option<Instant> {
        self.close.is_none().then(|| now + self.settings.session_timeout)
    }

    fn says_goodbye(&self) -> bool {
        #[cfg(test)]
        if self.planted == super::tests::Planted::LeavesSilently {
            return false;
        }
        match self.close.unwrap_or_default() {
            Leave::Default => self.settings.instance.is_none(),
            Leave::Always => true,
            Leave::Never => false,
        }
    }

    /// A static member can be let go by its instance id alone.
    fn has_nothing_to_leave(&self) -> bool {
        self.member.is_empty() && self.settings.instance.is_none()
    }

    pub(super) fn ask_leave(&mut self, now: Instant) -> Option<Ask> {
        let State::Leaving(leaving) = &self.state else { return None };
        if leaving.waits_for.is_some() || leaving.in_flight.is_some() || now < leaving.not_before {
            return None;
        }
        let member = MemberIdentity {
            member_id: self.member.clone(),
            group_instance_id: self.settings.instance.clone(),
            reason: Some(Str::from(leaving.reason)),
            ..Default::default()
        };
        let ticket = self.ticket();
        if let State::Leaving(leaving) = &mut self.state {
            leaving.in_flight = Some(ticket);
        }
        let group_id = self.settings.group.clone();
        let request = LeaveGroupRequest { group_id, members: vec![member], ..Default::default() };
        Some(Ask { ticket, request: Request::Leave(request), held: Duration::ZERO })
    }

    /// The join that was in flight when the leaving began was answered; the member's id is known if it ever will be.
    pub(super) fn leave_what_was_joined(&mut self, now: Instant) {
        let until = self.leaves_until(now);
        if let State::Leaving(leaving) = &mut self.state {
            leaving.waits_for = None;
            leaving.until = until;
            leaving.not_before = now;
        }
        if !self.says_goodbye() || self.has_nothing_to_leave() {
            self.left();
        }
    }

    /// Leaves again after a pause, if that makes sense; else it is done.
    pub(super) fn leave_answered(&mut self, again: bool, now: Instant) {
        let State::Leaving(leaving) = &mut self.state else { return };
        if again {
            leaving.in_flight = None;
            leaving.failures = leaving.failures.saturating_add(1);
            leaving.not_before = now + self.settings.backoff.after(leaving.failures, &mut self.dice);
        } else {
            self.member = Str::new();
            self.left();
        }
    }

    pub(super) fn expire_leaving(&mut self, now: Instant) {
        if let State::Leaving(leaving) = &self.state
            && leaving.until.is_some_and(|until| until <= now)
        {
            self.left();
        }
    }

    fn left(&mut self) {
        let back = matches!(&self.state, State::Leaving(leaving) if leaving.back);
        if self.close.is_some() {
            self.state = State::Left;
            self.events.push_back(Event::Left);
        } else if back && let Some(polled) = self.polled {
            self.prepare("the application came back", polled, polled);
        } else {
            self.state = State::Away;
        }
    }
}
