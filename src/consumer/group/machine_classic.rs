//! A member of a consumer group of the classic protocol: `JoinGroup`, `SyncGroup`, Heartbeat, `LeaveGroup`.
//!
//! After every input the driver takes from [`Machine::poll_ask`] until there is nothing more, which is also what
//! makes time pass, then from [`Machine::poll_event`], and sleeps until [`Machine::poll_timeout`]. Each [`Ask`] is
//! ended by one [`Machine::handle_answer`]. A `LeaveGroup` may be asked while a `JoinGroup` is in flight: brokers
//! answer a connection's requests in their order, so it is to go by another connection.
//!
//! Idle -> (Preparing) -> `ToJoin` -> Joining -> (Leading) -> `ToSync` -> Syncing -> Stable, and from Stable back to
//! Preparing or `ToJoin` whenever the group or the subscription changes; every failure leads back to `ToJoin`, after a
//! pause. Preparing is where the application hands over what must be given up before the member joins again.
//! Whoever does not come back in time leaves: Leaving -> Away, and joins again once it does. Closing goes through
//! Parting, where the application hands over, and Leaving to Left. Failed is the end. No second `JoinGroup` or `SyncGroup`
//! is sent while one is in flight, even if its answer is not wanted any more (G09).
//!
//! The files: `answers` reads what the coordinator says, `joining` writes requests and leads, `owning` keeps which
//! partitions are ours, `leaving` ends the membership.

mod answers;
mod joining;
mod leaving;
mod owning;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::leaving::Leaving;
use self::owning::Handing;
use super::{Ask, Event, Leave, Membership, Phase, Request, Response, Settings};
use crate::conn::Dice;
use crate::consumer::TopicPartition;
use crate::consumer::assignors::{
    Assignor, ClusterView, Member, Rebalance, TopicPartitions, shared_protocol,
};
use crate::wire::Str;
use crate::{Error, ErrorCode, Result};

/// What the coordinator calls the groups of consumers.
const PROTOCOL_TYPE: &str = "consumer";

/// How much longer than the rebalance timeout a `JoinGroup` may be held, as in Java: coordinators take their time to
/// end a rebalance.
const JOIN_LONGER: Duration = Duration::from_secs(5);

/// How long a leader waits for the metadata of topics that others want and it does not know. After that it assigns
/// what it knows, and the group rebalances again when the rest comes.
const LEADER_WAITS: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum State {
    /// Nothing is subscribed to yet.
    Idle,
    /// The application did not come back; it is waited for.
    Away,
    /// The application hands over; then the group is joined, not before that time.
    Preparing {
        not_before: Instant,
    },
    ToJoin {
        not_before: Instant,
    },
    Joining {
        ticket: u64,
    },
    /// The leader waits for metadata.
    Leading {
        members: Vec<Member>,
        unreadable: Vec<Arc<str>>,
        until: Instant,
    },
    ToSync {
        assignments: Vec<(Arc<str>, Bytes)>,
    },
    Syncing {
        ticket: u64,
    },
    Stable,
    /// The application hands over; then the group is left for good.
    Parting,
    Leaving(Leaving),
    Left,
    Failed,
}

/// The heartbeat that is in flight, or when the next is due.
#[derive(Debug, Clone, Copy)]
struct Heart {
    /// With when it was sent.
    in_flight: Option<(u64, Instant)>,
    due: Instant,
    failures: u32,
    /// When the coordinator was sure to know that we live.
    heard: Instant,
}

/// What the leader of a generation looks after.
#[derive(Debug, Default)]
struct Led {
    /// What all members subscribe to.
    topics: BTreeSet<Str>,
    /// Of these, the partitions when they were assigned, each with its racks.
    seen: BTreeMap<Str, Vec<Vec<Arc<str>>>>,
    /// Another made the assignment, before this came back (KIP-814).
    found: bool,
}

pub(crate) struct Machine {
    settings: Settings,
    assignors: Vec<Arc<dyn Assignor>>,
    rebalance: Rebalance,
    dice: Dice,
    tickets: u64,
    state: State,
    events: VecDeque<Event>,
    /// What the application wants, once it has said it.
    topics: Option<BTreeSet<Str>>,
    /// What the last `JoinGroup` said that it wants.
    joined_topics: BTreeSet<Str>,
    view: ClusterView,
    /// The id that the coordinator gave; empty if it gave none.
    member: Str,
    /// The last that was joined, unless it was lost since.
    generation: Option<i32>,
    /// Which assignor that generation agreed on: its place in our list, and its name.
    protocol: Option<(usize, Str)>,
    led: Option<Led>,
    /// Told as assigned, and neither as revoked nor as lost since.
    owned: BTreeSet<TopicPartition>,
    handing: VecDeque<Handing>,
    /// How many revocations were told, and how many the application has handed over.
    told: u64,
    handed: u64,
    /// What each assignor last gave to this member, and when: by its place in our list.
    received: BTreeMap<usize, (Vec<TopicPartitions>, i32)>,
    /// When the application last came back, while that counts.
    polled: Option<Instant>,
    heart: Option<Heart>,
    /// The `JoinGroup` or `SyncGroup` in flight, wanted or not.
    in_flight: Option<u64>,
    /// Attempts at joining in a row that did not end in a stable group.
    failures: u32,
    /// Why the next `JoinGroup` is sent (KIP-800).
    reason: &'static str,
    /// What was joined is out of date: join again when it is done.
    again: Option<&'static str>,
    close: Option<Leave>,
    #[cfg(test)]
    planted: tests::Planted,
}

impl Machine {
    /// The assignors by preference; there must be one at least. The seed spreads the pauses between attempts.
    pub(crate) fn new(settings: Settings, assignors: Vec<Arc<dyn Assignor>>, seed: u64) -> Self {
        let rebalance = shared_protocol(assignors.iter().map(|assignor| &**assignor));
        Self {
            settings,
            assignors,
            rebalance,
            dice: Dice::new(seed),
            tickets: 0,
            state: State::Idle,
            events: VecDeque::new(),
            topics: None,
            joined_topics: BTreeSet::new(),
            view: ClusterView::new(),
            member: Str::new(),
            generation: None,
            protocol: None,
            led: None,
            owned: BTreeSet::new(),
            handing: VecDeque::new(),
            told: 0,
            handed: 0,
            received: BTreeMap::new(),
            polled: None,
            heart: None,
            in_flight: None,
            failures: 0,
            reason: "the consumer subscribed",
            again: None,
            close: None,
            #[cfg(test)]
            planted: tests::Planted::Nothing,
        }
    }

    /// Who commits, while this is a member.
    pub(crate) fn membership(&self) -> Option<Membership> {
        Some(Membership {
            group: self.settings.group.clone(),
            member: self.member.clone(),
            instance: self.settings.instance.clone(),
            generation: self.generation?,
        })
    }

    #[cfg_attr(not(test), allow(dead_code, reason = "for health, which comes with the patterns"))]
    pub(crate) fn phase(&self) -> Phase {
        match self.state {
            State::Idle | State::Away => Phase::Unjoined,
            State::Preparing { .. } => Phase::Preparing,
            State::ToJoin { .. } | State::Joining { .. } => Phase::Joining,
            State::Leading { .. } | State::ToSync { .. } | State::Syncing { .. } => Phase::Syncing,
            State::Stable => Phase::Stable,
            State::Parting | State::Leaving(_) => Phase::Leaving,
            State::Left => Phase::Closed,
            State::Failed => Phase::Failed,
        }
    }

    /// The topics whose metadata is needed: our own, and when this leads, those of all members. `handle_cluster` must
    /// be told of those that do not exist too, as topics without partitions.
    pub(crate) fn wanted_topics(&self) -> BTreeSet<Str> {
        let mut wanted = self.topics.clone().unwrap_or_default();
        wanted.extend(self.led.iter().flat_map(|led| led.topics.iter().cloned()));
        wanted
    }

    /// What the application wants from now on. No topics at all are a subscription too, such as a pattern that
    /// matches nothing yet.
    pub(crate) fn handle_subscription(&mut self, topics: BTreeSet<Str>, now: Instant) {
        if self.topics.as_ref() == Some(&topics) {
            return;
        }
        self.topics = Some(topics);
        match self.state {
            State::Idle => {
                self.polled.get_or_insert(now);
                self.prepare(self.reason, now, now);
            }
            State::Preparing { not_before } | State::ToJoin { not_before } => {
                self.prepare("the subscription changed", not_before, now);
            }
            State::Stable => self.prepare("the subscription changed", now, now),
            #[cfg(test)]
            State::Joining { .. } if self.planted == tests::Planted::JoinsTwice => {
                self.in_flight = None;
                self.prepare("the subscription changed", now, now);
            }
            // What is in flight is ended first (G09); then it is seen that the group knows another subscription.
            _ => {}
        }
    }

    /// What is known of topics now.
    pub(crate) fn handle_cluster(&mut self, view: ClusterView, now: Instant) {
        self.view = view;
        self.see_found();
        match self.state {
            State::Leading { .. } if self.knows_what_it_leads() => self.assign(now),
            State::Stable => self.rejoin_if_out_of_date(now),
            _ => {}
        }
    }

    /// The application came back: it is alive for another `max_poll_interval`.
    pub(crate) fn handle_poll(&mut self, now: Instant) {
        self.tick(now);
        self.polled = Some(now);
        match &mut self.state {
            State::Away => self.prepare("the application came back", now, now),
            State::Leaving(leaving) => leaving.back = true,
            _ => {}
        }
    }

    /// A commit of `of` was refused with that code (G02).
    pub(crate) fn handle_rejoin(&mut self, of: &Membership, code: ErrorCode, now: Instant) {
        // Who commits may have joined anew since; and an answer to a join that is on its way says it better.
        let current = self.membership().is_some_and(|ours| ours == *of);
        let stands = matches!(self.state, State::Stable | State::Preparing { .. } | State::Parting);
        let acts = match code {
            ErrorCode::FENCED_INSTANCE_ID => true,
            ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::REBALANCE_IN_PROGRESS => stands,
            _ => false,
        };
        if current && acts {
            self.refused(code, "a commit", now);
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next request, if one is to be sent now.
    pub(crate) fn poll_ask(&mut self, now: Instant) -> Option<Ask> {
        self.tick(now);
        match &self.state {
            State::ToJoin { not_before } if *not_before <= now && self.in_flight.is_none() => self.ask_join(),
            State::ToSync { .. } if self.in_flight.is_none() => self.ask_sync(),
            State::Leaving(_) => self.ask_leave(now),
            _ => self.ask_heartbeat(now),
        }
    }

    /// When to call `poll_ask` again, if nothing else happens before.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let state = match &self.state {
            State::ToJoin { not_before } if self.in_flight.is_none() => Some(*not_before),
            State::Leading { until, .. } => Some(*until),
            State::Leaving(leaving) => leaving.timeout(),
            _ => None,
        };
        let heart = self.heart.filter(|_| self.beats());
        let beat = heart.filter(|heart| heart.in_flight.is_none()).map(|heart| heart.due);
        let handing = self.handing.iter().map(|handing| handing.deadline).min();
        [state, beat, handing, self.session_end(), self.poll_end()].into_iter().flatten().min()
    }

    /// What time alone brings.
    fn tick(&mut self, now: Instant) {
        let is_over = |end: Option<Instant>| end.is_some_and(|end| end <= now);
        if is_over(self.poll_end()) {
            self.stayed_away(now);
        }
        if is_over(self.session_end()) {
            let waited = self.settings.session_timeout;
            let why = format!("no heartbeat was answered within session.timeout of {waited:?}");
            self.lose(Error::timeout(why));
            self.after_loss("the session timed out", now);
        }
        self.expire_handing(now);
        if let State::Leading { until, .. } = &self.state
            && *until <= now
        {
            self.assign(now);
        }
        self.expire_leaving(now);
    }

    /// When the application is late, while that counts.
    fn poll_end(&self) -> Option<Instant> {
        let counts = !matches!(
            self.state,
            State::Idle | State::Away | State::Parting | State::Leaving(_) | State::Left | State::Failed
        );
        self.polled.filter(|_| counts).map(|polled| polled + self.settings.max_poll_interval)
    }

    /// When the coordinator will have given us up. It does not while a join or a sync is with it.
    fn session_end(&self) -> Option<Instant> {
        let counts = matches!(
            self.state,
            State::Preparing { .. }
                | State::ToJoin { .. }
                | State::Leading { .. }
                | State::Stable
                | State::Parting
        );
        self.generation?;
        let counts = counts && self.in_flight.is_none();
        self.heart.filter(|_| counts).map(|heart| heart.heard + self.settings.session_timeout)
    }

    /// Whether heartbeats are sent. Behind a join or a sync none would come through, and none is needed.
    fn beats(&self) -> bool {
        let state = matches!(
            self.state,
            State::Preparing { .. } | State::Leading { .. } | State::Stable | State::Parting
        );
        state && self.generation.is_some() && self.in_flight.is_none()
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// There is no going on.
    fn fail(&mut self, error: Error) {
        self.lose(error.clone());
        self.state = State::Failed;
        self.events.push_back(Event::Failed(error));
    }
}

/// As the messages carry it.
fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}
