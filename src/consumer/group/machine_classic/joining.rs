//! The way into a generation: what is asked, and what the leader does between the join and the sync.

use super::{
    Arc, Ask, Assignor, BTreeMap, BTreeSet, Bytes, Duration, Error, Event, Heart, Instant, JOIN_LONGER,
    LEADER_WAITS, Led, Machine, Member, PROTOCOL_TYPE, Rebalance, Request, Result, State, Str,
    TopicPartition, TopicPartitions, millis,
};
use crate::consumer::assignors::{Assignment, Received, Subscription, lead, topics_of};
use crate::messages::heartbeat::HeartbeatRequest;
use crate::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponseMember};
use crate::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};

impl Machine {
    /// On the way to a join, not before that time: what must be given up first is revoked.
    pub(super) fn prepare(&mut self, reason: &'static str, not_before: Instant, now: Instant) {
        self.reason = reason;
        self.again = None;
        let given_up = match self.rebalance {
            Rebalance::Eager => std::mem::take(&mut self.owned),
            Rebalance::Cooperative => {
                self.owned.iter().filter(|owned| !self.wants(owned.name())).cloned().collect()
            }
        };
        self.revoke(given_up, now);
        #[cfg(test)]
        if self.planted == super::tests::Planted::JoinsBeforeHandingOver {
            self.state = State::ToJoin { not_before };
            return;
        }
        self.state = if self.must_hand_over() {
            State::Preparing { not_before }
        } else {
            State::ToJoin { not_before }
        };
    }

    /// Joins again because an attempt failed. What a rebalance brings with it is tried again at once the first
    /// time, as in Java; but whoever goes on answering so is not asked in a circle.
    pub(super) fn join_again(&mut self, reason: &'static str, is_usual: bool, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let counted = self.failures.saturating_sub(u32::from(is_usual));
        let pause = self.settings.backoff.after(counted, &mut self.dice);
        self.prepare(reason, now + pause, now);
    }

    pub(super) fn ask_join(&mut self) -> Option<Ask> {
        let topics = self.topics.clone().unwrap_or_default();
        let protocols = match self.protocols(&topics) {
            Ok(protocols) => protocols,
            Err(error) => {
                self.fail(error);
                return None;
            }
        };
        let ticket = self.ticket();
        let request = JoinGroupRequest {
            group_id: self.settings.group.clone(),
            session_timeout_ms: millis(self.settings.session_timeout),
            rebalance_timeout_ms: millis(self.settings.max_poll_interval),
            member_id: self.member.clone(),
            group_instance_id: self.settings.instance.clone(),
            protocol_type: Str::from(PROTOCOL_TYPE),
            protocols,
            reason: Some(Str::from(self.reason)),
            ..Default::default()
        };
        self.joined_topics = topics;
        self.again = None;
        if let Some(heart) = &mut self.heart {
            // The join says more than the answer to a heartbeat that is still on its way.
            heart.in_flight = None;
        }
        self.state = State::Joining { ticket };
        self.in_flight = Some(ticket);
        let held = self.settings.max_poll_interval + JOIN_LONGER;
        Some(Ask { ticket, request: Request::Join(request), held })
    }

    /// What each assignor is to be told.
    fn protocols(&self, topics: &BTreeSet<Str>) -> Result<Vec<JoinGroupRequestProtocol>> {
        let topics: Vec<Arc<str>> = topics.iter().map(|topic| Arc::from(topic.as_str())).collect();
        let owned = match self.rebalance {
            Rebalance::Eager => Vec::new(),
            Rebalance::Cooperative => by_topic(&self.claimed()),
        };
        let write = |(place, assignor): (usize, &Arc<dyn Assignor>)| {
            let received = self.received.get(&place);
            let received = received.map(|(partitions, generation)| Received::new(partitions, *generation));
            let subscription = Subscription {
                topics: topics.clone(),
                user_data: assignor.user_data(&topics, received),
                owned: owned.clone(),
                generation: self.generation,
                rack: self.settings.rack.as_deref().map(Arc::from),
            };
            let (name, metadata) = (Str::from(assignor.name()), subscription.to_bytes()?);
            Ok(JoinGroupRequestProtocol { name, metadata, ..Default::default() })
        };
        self.assignors.iter().enumerate().map(write).collect()
    }

    /// This leads: reads what the members want. `skips` is of a static leader that came back: nothing changed, and
    /// it only goes on looking after the topics (KIP-814).
    pub(super) fn lead(&mut self, joined: Vec<JoinGroupResponseMember>, skips: bool, now: Instant) {
        let (mut members, mut unreadable) = (Vec::new(), Vec::new());
        for one in joined {
            let id: Arc<str> = Arc::from(one.member_id.as_str());
            match Subscription::from_bytes(&one.metadata) {
                Ok(subscription) => {
                    let instance_id = one.group_instance_id.as_deref().map(Arc::from);
                    members.push(Member { id, instance_id, subscription });
                }
                Err(error) => {
                    let who = crate::error::quoted(id.as_bytes());
                    let error = error.within(format_args!("member {who}, which gets nothing"));
                    self.events.push_back(Event::Troubled(error));
                    unreadable.push(id);
                }
            }
        }
        let topics = topics_of(&members).iter().map(|topic| Str::from(&**topic)).collect();
        self.led = Some(Led { topics, seen: BTreeMap::new(), found: skips });
        if skips {
            self.see_found();
            self.state = State::ToSync { assignments: Vec::new() };
            return;
        }
        self.state = State::Leading { members, unreadable, until: now + LEADER_WAITS };
        if self.knows_what_it_leads() {
            self.assign(now);
        }
    }

    pub(super) fn knows_what_it_leads(&self) -> bool {
        let known = self.known_topics();
        self.led.as_ref().is_none_or(|led| led.topics.iter().all(|topic| known.contains(topic.as_str())))
    }

    fn known_topics(&self) -> BTreeSet<&str> {
        self.view.topics().map(|(topic, _)| &**topic).collect()
    }

    /// Remembers what the assignment stands on.
    fn see(&mut self) {
        let Some(mut led) = self.led.take() else { return };
        led.seen = led.topics.iter().map(|topic| (topic.clone(), self.layout(topic))).collect();
        self.led = Some(led);
    }

    /// Of an assignment that was found and not made, what it stands on is how the topics first look.
    pub(super) fn see_found(&mut self) {
        let Some(mut led) = self.led.take_if(|led| led.found) else { return };
        let known = self.known_topics();
        for topic in led.topics.iter().filter(|topic| known.contains(topic.as_str())) {
            led.seen.entry(topic.clone()).or_insert_with(|| self.layout(topic));
        }
        self.led = Some(led);
    }

    /// A topic's partitions, with their racks if this consumer has one: only then do they matter to it.
    fn layout(&self, topic: &str) -> Vec<Vec<Arc<str>>> {
        let racks = |partition| match self.settings.rack {
            Some(_) => self.view.racks(topic, partition).to_vec(),
            None => Vec::new(),
        };
        (0..self.view.partition_count(topic)).map(racks).collect()
    }

    /// Says who gets what.
    pub(super) fn assign(&mut self, now: Instant) {
        let State::Leading { members, unreadable, .. } = std::mem::replace(&mut self.state, State::Stable)
        else {
            return;
        };
        self.see();
        let assignor = self.protocol.as_ref().and_then(|(place, _)| self.assignors.get(*place)).cloned();
        let assigned = assignor.map_or_else(
            || Err(Error::invalid("there is no assignor")),
            |assignor| lead(&*assignor, self.rebalance, &self.view, &members),
        );
        let nothing = Assignment::default().to_bytes();
        match assigned.and_then(|assigned| Ok((assigned, nothing?))) {
            Ok((mut assignments, nothing)) => {
                assignments.extend(unreadable.into_iter().map(|id| (id, nothing.clone())));
                self.state = State::ToSync { assignments };
            }
            // Without an answer the others wait; the coordinator has them join again with us.
            Err(error) => {
                self.events.push_back(Event::Troubled(error));
                self.join_again("the assignor failed", false, now);
            }
        }
    }

    pub(super) fn ask_sync(&mut self) -> Option<Ask> {
        let generation_id = self.generation?;
        let ticket = self.ticket();
        let before = std::mem::replace(&mut self.state, State::Syncing { ticket });
        let State::ToSync { assignments } = before else { return None };
        self.in_flight = Some(ticket);
        let write = |(id, assignment): (Arc<str>, Bytes)| SyncGroupRequestAssignment {
            member_id: Str::from(&*id),
            assignment,
            ..Default::default()
        };
        let request = SyncGroupRequest {
            group_id: self.settings.group.clone(),
            generation_id,
            member_id: self.member.clone(),
            group_instance_id: self.settings.instance.clone(),
            protocol_type: Some(Str::from(PROTOCOL_TYPE)),
            protocol_name: self.protocol.as_ref().map(|(_, name)| name.clone()),
            assignments: assignments.into_iter().map(write).collect(),
            ..Default::default()
        };
        Some(Ask { ticket, request: Request::Sync(request), held: self.settings.max_poll_interval })
    }

    pub(super) fn ask_heartbeat(&mut self, now: Instant) -> Option<Ask> {
        let heart =
            self.heart.filter(|heart| heart.in_flight.is_none() && heart.due <= now && self.beats())?;
        let request = HeartbeatRequest {
            group_id: self.settings.group.clone(),
            generation_id: self.generation?,
            member_id: self.member.clone(),
            group_instance_id: self.settings.instance.clone(),
            ..Default::default()
        };
        let ticket = self.ticket();
        self.heart = Some(Heart { in_flight: Some((ticket, now)), ..heart });
        Some(Ask { ticket, request: Request::Heartbeat(request), held: Duration::ZERO })
    }

    /// In a stable group: joins again if it stands on what is not so any more.
    pub(super) fn rejoin_if_out_of_date(&mut self, now: Instant) {
        let known = self.known_topics();
        let has_moved =
            |(topic, seen): (&Str, &Vec<_>)| known.contains(topic.as_str()) && self.layout(topic) != *seen;
        let moved = |led: &Led| led.seen.iter().any(has_moved);
        let why = if let Some(why) = self.again {
            Some(why)
        } else if self.topics.as_ref().is_some_and(|topics| *topics != self.joined_topics) {
            Some("the subscription changed")
        } else {
            self.led.as_ref().is_some_and(moved).then_some("the topics changed")
        };
        if let Some(why) = why {
            self.prepare(why, now, now);
        }
    }
}

fn by_topic(partitions: &BTreeSet<TopicPartition>) -> Vec<TopicPartitions> {
    let mut grouped: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for one in partitions {
        grouped.entry(one.topic()).or_default().push(one.partition());
    }
    grouped.into_iter().map(|(topic, numbers)| TopicPartitions::new(topic, numbers)).collect()
}
