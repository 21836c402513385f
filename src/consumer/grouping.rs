//! The consumer's life in a group: what the group's machine says of partitions is done, revoked ones are handed over,
//! what is done is committed, the end is told. The keeper calls [`Shared::see_to_group`] whenever something may have
//! changed; nothing here waits but the requests, each in a task of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::TopicPartition;
use super::config::GroupProtocol;
use super::group::{Ask, Event, Membership, Request, Response};
use super::machine_core::Start;
use super::machine_offsets::{self, CommitOffset};
use super::member::{Closing, Member, News, Revoking, Subscription};
use super::shared::{Shared, State};
use crate::cluster::Options;
use crate::cluster::metadata::TopicKey;
use crate::messages::offset_fetch::OffsetFetchRequest;
use crate::net::clock;
use crate::net::task::{self, Task};
use crate::wire::{Str, Uuid};
use crate::{Error, Result};

/// So many errors without a code wait for the application at most; what comes after that is dropped.
const TROUBLES_MOST: usize = 16;

impl Shared {
    /// See the module. Gives the requests that are to be made.
    pub(crate) fn see_to_group(self: &Arc<Self>, now: Instant) -> Vec<Task> {
        let mut tasks = Vec::new();
        let mut state = self.lock();
        if state.group.is_none() {
            drop(state);
            return tasks;
        }
        let mut topics: Vec<TopicKey> = Vec::new();
        // Each may bring something for another.
        loop {
            state.wait_for_application(now);
            state.commit_by_itself(now, self.settings.request_timeout);
            let mut busy = false;
            // Time passes for the machines when they are asked.
            while let Some((ask, parting)) = state.member_ask(now) {
                busy = true;
                tasks.push(task::spawn(ask_group(Arc::clone(self), ask, parting)));
            }
            while let Some((ticket, ask)) = state.offsets_ask(now) {
                busy = true;
                tasks.push(task::spawn(ask_offsets(Arc::clone(self), ticket, ask)));
            }
            state.name_topics(now);
            busy |= state.hear_member(self, &mut topics, now);
            busy |= state.hear_offsets(now);
            busy |= state.hand_over(now);
            state.go_on_closing(now);
            if !busy {
                break;
            }
        }
        if let Some(group) = &state.group {
            topics.extend(group.member.iter().flat_map(Member::wanted));
        }
        let news = std::mem::take(&mut state.has_news);
        drop(state);
        if news {
            self.tell();
        }
        if !topics.is_empty() {
            self.cluster.want(topics);
        }
        tasks
    }
}

impl State {
    /// Whoever waits for records has not gone.
    fn wait_for_application(&mut self, now: Instant) {
        if let Some(group) = &mut self.group
            && group.waiting > 0
            && let Some(member) = &mut group.member
        {
            member.handle_poll(now);
        }
    }

    /// Tells a member the names of topics that it was given by id, where they are known already.
    fn name_topics(&mut self, now: Instant) {
        if let Some(group) = &mut self.group
            && let Some(member @ Member::Heartbeat(_)) = &mut group.member
            && !member.wanted().is_empty()
        {
            member.handle_cluster(&self.snapshot, now);
        }
    }

    /// Does what the member says of partitions.
    fn hear_member(&mut self, shared: &Arc<Shared>, topics: &mut Vec<TopicKey>, now: Instant) -> bool {
        let mut any = false;
        loop {
            let Some(group) = &mut self.group else { return any };
            let Some(event) = group.member.as_mut().and_then(Member::poll_event) else {
                return any;
            };
            any = true;
            match event {
                Event::Assigned(partitions) => {
                    topics.extend(partitions.iter().map(|at| TopicKey::Name(at.name().clone())));
                    self.take_over(partitions, now);
                }
                Event::Revoke { partitions, deadline } => self.revoke(partitions, deadline, now),
                Event::Lost { partitions, why } => self.lose_partitions(partitions, why, now),
                Event::Left => group.left = true,
                Event::Troubled(error) => self.trouble(error),
                Event::Failed(error) => self.member_failed(shared, error, now),
            }
            self.has_news = true;
        }
    }

    /// What comes again and again is told once to an application that does not listen yet.
    fn trouble(&mut self, error: Error) {
        let told = match error.code() {
            Some(code) => self.errors.iter().any(|before| before.code() == Some(code)),
            None => self.errors.len() >= TROUBLES_MOST,
        };
        if !told {
            self.errors.push_back(error);
        }
    }

    fn take_over(&mut self, partitions: BTreeSet<TopicPartition>, now: Instant) {
        self.assignment += 1;
        let (assignment, snapshot) = (self.assignment, Arc::clone(&self.snapshot));
        for at in &partitions {
            self.core.assign(at.clone(), assignment, Start::Committed, now);
            if let Some(key) = self.core.key(at) {
                self.core.look(key, &snapshot, now);
            }
        }
        let Some(group) = &mut self.group else { return };
        for at in &partitions {
            group.committed.remove(at);
        }
        group.offsets.handle_fetch(partitions.clone(), now);
        group.news.push_back(News::Assigned(partitions));
    }

    fn revoke(&mut self, partitions: BTreeSet<TopicPartition>, deadline: Instant, now: Instant) {
        for at in &partitions {
            self.core.stop(at, now);
        }
        let Some(group) = &mut self.group else { return };
        // Nobody is there to be asked.
        let handed = partitions.is_empty() || self.closing.is_some();
        self.revocations += 1;
        let number = self.revocations;
        group.news.push_back(News::Revoked(partitions.clone(), deadline, number));
        let (mut all, mut count) = (partitions, 1);
        if let Some(before) = group.revoking.take() {
            all.extend(before.partitions);
            count += before.count;
        }
        group.revoking = Some(Revoking {
            partitions: all,
            deadline,
            number,
            count,
            handed,
            commit: None,
            committed: false,
        });
    }

    fn lose_partitions(&mut self, partitions: BTreeSet<TopicPartition>, why: Error, now: Instant) {
        for at in &partitions {
            self.core.unassign(at);
            self.given.remove(at);
        }
        let assignment = self.assignment;
        let Some(group) = &mut self.group else { return };
        group.offsets.handle_unassigned(&partitions, assignment);
        // What is lost need not be handed over; the classic member counts on hearing so.
        let gone = |revoking: &mut Revoking| !revoking.partitions.is_disjoint(&partitions);
        if let Some(revoking) = group.revoking.take_if(gone)
            && let Some(member @ Member::Classic(_)) = &mut group.member
        {
            (0..revoking.count).for_each(|_| member.handle_revoked(now));
        }
        if !partitions.is_empty() {
            group.news.push_back(News::Lost(partitions, why));
        }
    }

    /// There is no going on, but perhaps by the other protocol.
    fn member_failed(&mut self, shared: &Arc<Shared>, error: Error, now: Instant) {
        let snapshot = Arc::clone(&self.snapshot);
        let seed = self.roll();
        let Some(group) = &mut self.group else { return };
        if let Some(Member::Heartbeat(machine)) = &group.member
            && machine.fallback(&error).is_some()
        {
            let assignors = shared.settings.assignors.clone();
            let mut member = Member::classic(group.settings.clone(), assignors, seed);
            member.handle_poll(now);
            member.handle_subscription(&group.subscription, &snapshot, now);
            member.handle_cluster(&snapshot, now);
            group.member = Some(member);
            return;
        }
        group.left = true;
        self.fatal.get_or_insert(error);
    }

    /// What became of commits and of offsets that were asked for.
    fn hear_offsets(&mut self, now: Instant) -> bool {
        let mut any = false;
        loop {
            let Some(group) = &mut self.group else { return any };
            let Some(event) = group.offsets.poll_event() else { return any };
            any = true;
            match event {
                machine_offsets::Event::Committed { id, results } => {
                    let failed = results.into_iter().find_map(|(at, result)| {
                        result.err().map(|error| (at.clone(), error.within(format_args!("committing {at}"))))
                    });
                    if let Some((at, _)) = &failed {
                        group.committed.remove(at);
                    }
                    let result = failed.map_or(Ok(()), |(_, error)| Err(error));
                    if let Some(waiter) = group.commits.remove(&id) {
                        drop(waiter.send(result));
                    }
                    if let Some(revoking) = group.revoking.as_mut().filter(|one| one.commit == Some(id)) {
                        revoking.committed = true;
                    }
                    if let Some(closing) = self.closing.as_mut().filter(|one| one.commit == Some(id)) {
                        closing.commit = None;
                    }
                }
                machine_offsets::Event::Fetched(offsets) => {
                    for (at, committed) in offsets {
                        let position = committed.map(|one| super::batch::Position {
                            offset: one.offset,
                            epoch: one.leader_epoch,
                        });
                        if let Some(key) = self.core.key(&at) {
                            self.core.handle_committed(key, position, now);
                        }
                    }
                }
                machine_offsets::Event::FetchFailed { partitions, error } => {
                    for at in partitions {
                        self.core.handle_committed_failed(&at, &error, now);
                    }
                }
                machine_offsets::Event::Rejoin(code) => {
                    if let Some(member) = &mut group.member
                        && let Some(membership) = &group.asked_as
                    {
                        member.handle_rejoin(membership, code, now);
                    }
                }
            }
        }
    }

    /// Gives revoked partitions back once the application has handed them over and what was done is committed.
    fn hand_over(&mut self, now: Instant) -> bool {
        let Some(group) = &mut self.group else { return false };
        let readers = &self.readers;
        let Some(revoking) = group.revoking.as_mut().filter(|revoking| {
            // Those who read a partition by itself finish it first.
            let read = revoking.partitions.iter().any(|at| readers.contains_key(at));
            revoking.handed && (!read || now >= revoking.deadline)
        }) else {
            return false;
        };
        if group.auto_commit.is_some() && !revoking.committed && now < revoking.deadline {
            if revoking.commit.is_some() {
                return false;
            }
            let deadline = revoking.deadline;
            let partitions = revoking.partitions.clone();
            let commit = self.commit_done(|at| partitions.contains(at), deadline, now);
            if let Some(group) = &mut self.group
                && let Some(revoking) = &mut group.revoking
            {
                revoking.committed = commit.is_none();
                revoking.commit = commit;
            }
            return true;
        }
        let Some(revoking) = group.revoking.take() else { return false };
        group.offsets.handle_unassigned(&revoking.partitions, self.assignment);
        if let Some(member) = &mut group.member {
            (0..revoking.count).for_each(|_| member.handle_revoked(now));
        }
        for at in &revoking.partitions {
            self.core.unassign(at);
            self.given.remove(at);
        }
        true
    }

    /// Commits what the application has come back from, where that was not done before.
    fn commit_done(
        &mut self,
        of: impl Fn(&TopicPartition) -> bool,
        deadline: Instant,
        now: Instant,
    ) -> Option<machine_offsets::CommitId> {
        let group = self.group.as_mut()?;
        let done = self.core.parts().filter(|part| of(&part.at)).filter_map(|part| {
            let done = part.done?;
            (group.committed.get(&part.at) != Some(&done.offset)).then(|| (part.at.clone(), done))
        });
        let offsets: BTreeMap<TopicPartition, CommitOffset> = done
            .map(|(at, done)| {
                let metadata = Str::new();
                (at, CommitOffset { offset: done.offset, leader_epoch: done.epoch, metadata })
            })
            .collect();
        if offsets.is_empty() {
            return None;
        }
        group.committed.extend(offsets.iter().map(|(at, offset)| (at.clone(), offset.offset)));
        let origin = machine_offsets::Origin::Automatic;
        Some(group.offsets.handle_commit(offsets, self.assignment, origin, deadline, now))
    }

    fn commit_by_itself(&mut self, now: Instant, patience: std::time::Duration) {
        let Some(group) = &mut self.group else { return };
        let Some(every) = group.auto_commit else { return };
        if group.next_commit.is_some_and(|at| at > now) || group.revoking.is_some() {
            return;
        }
        group.next_commit = Some(now + every);
        self.commit_done(|_| true, now + patience, now);
    }

    /// Commits, leaves, ends.
    fn go_on_closing(&mut self, now: Instant) {
        let Some(closing) = self.closing else { return };
        let automatic = self.group.as_ref().is_some_and(|group| group.auto_commit.is_some());
        let over = now >= closing.deadline;
        if !closing.told && closing.commit.is_none() && automatic && !over {
            let commit = self.commit_done(|_| true, closing.deadline, now);
            if commit.is_some() {
                self.closing = Some(Closing { commit, ..closing });
                return;
            }
        }
        if closing.told || (closing.commit.is_some() && !over) {
            return;
        }
        self.closing = Some(Closing { told: true, ..closing });
        let all: Vec<TopicPartition> = self.core.parts().map(|part| part.at.clone()).collect();
        for at in &all {
            self.core.unassign(at);
        }
        let Some(group) = &mut self.group else { return };
        // Commits that were begun are still waited for.
        if let Some(revoking) = &mut group.revoking {
            revoking.handed = true;
        }
        match &mut group.member {
            Some(member) => member.handle_close(closing.leave, now),
            None => group.left = true,
        }
    }

    /// The next request of the member, or of the one before, on its way out.
    fn member_ask(&mut self, now: Instant) -> Option<(Ask, bool)> {
        let group = self.group.as_mut()?;
        if let Some(parting) = &mut group.parting {
            let mut left = false;
            if let Some(ask) = parting.poll_ask(now) {
                return Some((ask, true));
            }
            while let Some(event) = parting.poll_event() {
                match event {
                    Event::Revoke { .. } => parting.handle_revoked(now),
                    Event::Left | Event::Failed(_) => left = true,
                    Event::Assigned(_) | Event::Lost { .. } | Event::Troubled(_) => {}
                }
            }
            if left {
                group.parting = None;
            } else if let Some(ask) = parting.poll_ask(now) {
                return Some((ask, true));
            }
        }
        Some((group.member.as_mut()?.poll_ask(now)?, false))
    }

    fn offsets_ask(&mut self, now: Instant) -> Option<(u64, machine_offsets::Request)> {
        let group = self.group.as_mut()?;
        let membership: Option<Membership> = match &group.member {
            Some(member) => member.membership(),
            // Nobody assigns partitions to it but itself.
            None => Some(Membership {
                group: group.settings.group.clone(),
                member: Str::new(),
                instance: None,
                generation: -1,
            }),
        };
        let ask = group.offsets.poll_ask(now, membership.as_ref())?;
        group.asked_as = membership;
        Some((ask.ticket, ask.request))
    }

    /// Whether nothing is left to be done for the group.
    pub(crate) fn has_left(&self, now: Instant) -> bool {
        let Some(closing) = self.closing else { return false };
        let left = self.group.as_ref().is_none_or(|group| group.left && !group.offsets.is_committing());
        now >= closing.deadline || (closing.told && left)
    }

    /// When something is due in the group.
    pub(crate) fn group_due(&self) -> Option<Instant> {
        let group = self.group.as_ref()?;
        let member = group.member.as_ref().and_then(Member::poll_timeout);
        let parting = group.parting.as_ref().and_then(Member::poll_timeout);
        let handing = group.revoking.as_ref().filter(|one| one.handed).map(|one| one.deadline);
        let closing = self.closing.map(|closing| closing.deadline);
        let due = [member, parting, group.offsets.poll_timeout(), group.next_commit, handing, closing];
        due.into_iter().flatten().min()
    }
}

/// Asks the group's coordinator for its member.
async fn ask_group(shared: Arc<Shared>, ask: Ask, parting: bool) {
    let Ask { ticket, request, held } = ask;
    let patience = shared.settings.request_timeout.saturating_add(held);
    let options = Options {
        once: true,
        deadline: Some(clock::now() + patience),
        lane: shared.lane,
        ..Options::default()
    };
    let cluster = &shared.cluster;
    let answer = match request {
        Request::Join(request) => cluster.request(request, &options).await.map(Response::Join),
        Request::Sync(request) => cluster.request(request, &options).await.map(Response::Sync),
        Request::Heartbeat(request) => cluster.request(request, &options).await.map(Response::Heartbeat),
        Request::Leave(request) => {
            // Not behind a JoinGroup that waits for others.
            let options = Options { lane: 0, ..options };
            let answer = match cluster.request(request.clone(), &options).await {
                Err(error) if error.is_unsupported() => {
                    cluster.request(request.before_version_3(), &options).await
                }
                answer => answer,
            };
            answer.map(Response::Leave)
        }
        Request::Consumer(request) => cluster.request(request, &options).await.map(Response::Consumer),
    };
    let now = clock::now();
    {
        let mut state = shared.lock();
        if let Some(group) = state.group.as_mut() {
            let member = if parting { group.parting.as_mut() } else { group.member.as_mut() };
            if let Some(member) = member {
                member.handle_answer(ticket, answer, now);
            }
        }
    }
    shared.kick.notify_one();
}

/// Commits, or asks what was committed.
async fn ask_offsets(shared: Arc<Shared>, ticket: u64, ask: machine_offsets::Request) {
    let options = Options {
        once: true,
        deadline: Some(clock::now() + shared.settings.request_timeout),
        ..Options::default()
    };
    let answer: Result<machine_offsets::Response> = match ask {
        machine_offsets::Request::Commit(request) => {
            shared.cluster.request(request, &options).await.map(machine_offsets::Response::Commit)
        }
        machine_offsets::Request::Fetch(request) => {
            let stable = shared.cluster.request(request.clone(), &options).await;
            let answer = match stable {
                // Brokers before 2.5 cannot be asked to wait for transactions.
                Err(error) if error.is_unsupported() => {
                    let request = OffsetFetchRequest { require_stable: false, ..request };
                    shared.cluster.request(request, &options).await
                }
                answer => answer,
            };
            answer.map(machine_offsets::Response::Fetch)
        }
    };
    let now = clock::now();
    {
        let mut state = shared.lock();
        if let Some(group) = &mut state.group {
            group.offsets.handle_answer(ticket, answer, now);
        }
    }
    shared.kick.notify_one();
}

impl Shared {
    /// Subscribes to this from now on.
    pub(crate) fn subscribe(&self, wanted: Subscription) -> Result<()> {
        self.check_open()?;
        let now = clock::now();
        let settings = &self.settings;
        let mut guard = self.lock();
        let state = &mut *guard;
        let (seed, id, snapshot) = (state.roll(), member_id(state), Arc::clone(&state.snapshot));
        let Some(group) = &mut state.group else {
            return Err(Error::invalid("topics are subscribed to as a member of a group, and none is named"));
        };
        if group.member.is_none() {
            // What was assigned by hand is not any more.
            let all: Vec<TopicPartition> = state.core.parts().map(|part| part.at.clone()).collect();
            for at in &all {
                state.core.unassign(at);
            }
        }
        group.subscription = wanted;
        group.next_commit = group.auto_commit.map(|every| now + every);
        let member = group.member.get_or_insert_with(|| match settings.protocol {
            GroupProtocol::Classic => {
                Member::classic(group.settings.clone(), settings.assignors.clone(), seed)
            }
            GroupProtocol::Consumer => Member::heartbeat(group.settings.clone(), id, seed),
        });
        member.handle_poll(now);
        member.handle_subscription(&group.subscription, &snapshot, now);
        member.handle_cluster(&snapshot, now);
        drop(guard);
        self.kick.notify_one();
        Ok(())
    }

    /// Subscribes to nothing any more: what is read is said by hand.
    pub(crate) fn leave_subscription(&self) {
        let now = clock::now();
        let mut state = self.lock();
        if let Some(group) = &mut state.group {
            group.next_commit = group.auto_commit.map(|every| now + every);
            group.subscription = Subscription::None;
            if let Some(mut member) = group.member.take() {
                member.handle_close(super::group::Leave::Default, now);
                group.parting = Some(member);
            }
        }
        drop(state);
        self.kick.notify_one();
    }

    /// Ends it in the background, by then at the latest.
    pub(crate) fn begin_close(&self, leave: super::group::Leave, deadline: Instant) {
        if self.is_closed() {
            return;
        }
        let mut state = self.lock();
        state.closing.get_or_insert(Closing { leave, deadline, commit: None, told: false });
        drop(state);
        self.kick.notify_one();
    }
}

/// A name of a member that nobody else has (KIP-1082): a random UUID, as Kafka writes them.
fn member_id(state: &mut State) -> Str {
    let bits = (u128::from(state.roll()) << 64) | u128::from(state.roll());
    Str::from(Uuid::from_bytes(bits.to_be_bytes()).to_string().as_str())
}
