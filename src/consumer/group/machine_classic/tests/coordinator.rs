//! A small model of a coordinator of classic groups, as far as members can tell.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::messages::heartbeat::HeartbeatResponse;
use crate::messages::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use crate::messages::leave_group::LeaveGroupResponse;
use crate::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};

/// Who asked: a consumer, and its ticket.
pub(super) type Asker = (usize, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Empty,
    Preparing { until: Instant },
    Completing,
    Stable,
}

#[derive(Debug, Default)]
struct Known {
    protocols: Vec<(Str, Bytes)>,
    instance: Option<Str>,
    session: Duration,
    rebalance: Duration,
    expires: Option<Instant>,
    join: Option<Asker>,
    sync: Option<Asker>,
    assignment: Bytes,
}

#[derive(Debug)]
pub(super) struct Coordinator {
    group: Group,
    generation: i32,
    leader: Str,
    protocol: Str,
    members: BTreeMap<Str, Known>,
    /// Ids that were given out and have not joined.
    pending: BTreeSet<Str>,
    ids: u64,
    /// Which consumer an id was given to.
    pub(super) owners: BTreeMap<Str, usize>,
    pub(super) answers: Vec<(Asker, Response)>,
}

impl Coordinator {
    pub(super) fn new() -> Self {
        Self {
            group: Group::Empty,
            generation: 0,
            leader: Str::new(),
            protocol: Str::new(),
            members: BTreeMap::new(),
            pending: BTreeSet::new(),
            ids: 0,
            owners: BTreeMap::new(),
            answers: Vec::new(),
        }
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Str> {
        self.members.keys()
    }

    pub(super) fn apply(&mut self, asker: Asker, request: &Request, now: Instant) {
        match request {
            Request::Join(join) => self.join(asker, join, now),
            Request::Sync(sync) => self.sync(asker, sync, now),
            Request::Heartbeat(beat) => {
                let code = self.check(&beat.member_id, beat.generation_id, beat.group_instance_id.as_ref());
                if code.is_none() {
                    self.touch(&beat.member_id, now);
                }
                let preparing = matches!(self.group, Group::Preparing { .. });
                let code = if code.is_none() && preparing { ErrorCode::REBALANCE_IN_PROGRESS } else { code };
                self.answer(
                    asker,
                    Response::Heartbeat(HeartbeatResponse { error_code: code.0, ..Default::default() }),
                );
            }
            Request::Leave(leave) => {
                for member in &leave.members {
                    self.pending.remove(&member.member_id);
                    self.remove(&member.member_id, now);
                }
                self.answer(asker, Response::Leave(LeaveGroupResponse::default()));
            }
            Request::Consumer(_) => unreachable!("another protocol"),
        }
    }

    fn check(&self, id: &Str, generation: i32, instance: Option<&Str>) -> ErrorCode {
        if let Some(instance) = instance
            && self
                .members
                .iter()
                .any(|(other, known)| known.instance.as_ref() == Some(instance) && other != id)
        {
            return ErrorCode::FENCED_INSTANCE_ID;
        }
        match self.members.contains_key(id) {
            false => ErrorCode::UNKNOWN_MEMBER_ID,
            true if generation != self.generation => ErrorCode::ILLEGAL_GENERATION,
            true => ErrorCode::NONE,
        }
    }

    fn touch(&mut self, id: &Str, now: Instant) {
        if let Some(known) = self.members.get_mut(id) {
            known.expires = Some(now + known.session);
        }
    }

    fn answer(&mut self, asker: Asker, response: Response) {
        self.answers.push((asker, response));
    }

    fn refuse_join(&mut self, asker: Asker, code: ErrorCode, id: &Str) {
        let response = JoinGroupResponse { error_code: code.0, member_id: id.clone(), ..Default::default() };
        self.answer(asker, Response::Join(response));
    }

    fn refuse_sync(&mut self, asker: Asker, code: ErrorCode) {
        self.answer(asker, Response::Sync(SyncGroupResponse { error_code: code.0, ..Default::default() }));
    }

    fn join(&mut self, asker: Asker, request: &JoinGroupRequest, now: Instant) {
        let mut id = request.member_id.clone();
        if id.is_empty() {
            self.ids += 1;
            id = Str::from(format!("m{}", self.ids));
            self.owners.insert(id.clone(), asker.0);
            let before = self
                .members
                .iter()
                .find(|(_, known)| known.instance.is_some() && known.instance == request.group_instance_id);
            if let Some(before) = before.map(|(id, _)| id.clone()) {
                return self.replace(asker, &before, &id, request, now);
            }
            if request.group_instance_id.is_none() {
                self.pending.insert(id.clone());
                return self.refuse_join(asker, ErrorCode::MEMBER_ID_REQUIRED, &id);
            }
        } else if !self.members.contains_key(&id) && !self.pending.contains(&id) {
            return self.refuse_join(asker, ErrorCode::UNKNOWN_MEMBER_ID, &id);
        }
        self.pending.remove(&id);
        let protocols: Vec<(Str, Bytes)> =
            request.protocols.iter().map(|one| (one.name.clone(), one.metadata.clone())).collect();
        let known = self.members.entry(id.clone()).or_default();
        let is_new = known.protocols.is_empty();
        let is_same = known.protocols == protocols;
        known.protocols = protocols;
        known.instance = request.group_instance_id.clone();
        known.session = Duration::from_millis(request.session_timeout_ms as u64);
        known.rebalance = Duration::from_millis(request.rebalance_timeout_ms as u64);
        known.join = Some(asker);
        let stays = match self.group {
            Group::Stable => is_same && !is_new && id != self.leader,
            Group::Completing => is_same && !is_new,
            _ => false,
        };
        if stays {
            self.tell_joined(&id, false, now);
        } else if matches!(self.group, Group::Preparing { .. }) {
            self.complete_if_all(now);
        } else {
            self.prepare(now);
        }
    }

    /// A static member that has forgotten its id takes its former place.
    fn replace(&mut self, asker: Asker, before: &Str, id: &Str, request: &JoinGroupRequest, now: Instant) {
        let mut known = self.members.remove(before).expect("it was found");
        known.join = Some(asker);
        known.sync = None;
        known.protocols =
            request.protocols.iter().map(|one| (one.name.clone(), one.metadata.clone())).collect();
        self.members.insert(id.clone(), known);
        if self.leader == *before {
            self.leader = id.clone();
        }
        match self.group {
            Group::Stable => self.tell_joined(id, true, now),
            Group::Preparing { .. } => self.complete_if_all(now),
            _ => self.prepare(now),
        }
    }

    fn prepare(&mut self, now: Instant) {
        let mut syncs = Vec::new();
        for known in self.members.values_mut() {
            if let Some(asker) = known.sync.take() {
                known.expires = Some(now + known.session);
                syncs.push(asker);
            }
        }
        for asker in syncs {
            self.refuse_sync(asker, ErrorCode::REBALANCE_IN_PROGRESS);
        }
        let longest = self.members.values().map(|known| known.rebalance).max().unwrap_or_default();
        self.group = Group::Preparing { until: now + longest };
        self.complete_if_all(now);
    }

    fn complete_if_all(&mut self, now: Instant) {
        if self.members.values().all(|known| known.join.is_some()) {
            self.complete(now);
        }
    }

    fn complete(&mut self, now: Instant) {
        self.members.retain(|_, known| known.join.is_some() || known.instance.is_some());
        self.generation += 1;
        if self.members.is_empty() {
            self.group = Group::Empty;
            return;
        }
        self.group = Group::Completing;
        let joined = |id: &Str| self.members.get(id).is_some_and(|known| known.join.is_some());
        if !joined(&self.leader) {
            let Some(first) = self.members.keys().find(|id| joined(id)).cloned() else {
                // Only static members that did not come: their sessions will time out.
                self.group = Group::Stable;
                return;
            };
            self.leader = first;
        }
        let supports = |name: &Str| {
            self.members.values().all(|known| known.protocols.iter().any(|(other, _)| other == name))
        };
        let of_leader = &self.members[&self.leader].protocols;
        self.protocol =
            of_leader.iter().map(|(name, _)| name).find(|name| supports(name)).expect("shared").clone();
        for known in self.members.values_mut() {
            known.assignment = Bytes::new();
        }
        let all: Vec<Str> = self.members.keys().cloned().collect();
        for id in all {
            self.tell_joined(&id, false, now);
        }
    }

    fn tell_joined(&mut self, id: &Str, skips: bool, now: Instant) {
        self.touch(id, now);
        let Some(asker) = self.members.get_mut(id).and_then(|known| known.join.take()) else { return };
        let metadata = |known: &Known| {
            known.protocols.iter().find(|(name, _)| *name == self.protocol).expect("shared").1.clone()
        };
        let members =
            self.members.iter().filter(|_| *id == self.leader).map(|(id, known)| JoinGroupResponseMember {
                member_id: id.clone(),
                group_instance_id: known.instance.clone(),
                metadata: metadata(known),
                ..Default::default()
            });
        let response = JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: Some(Str::from("consumer")),
            protocol_name: Some(self.protocol.clone()),
            leader: self.leader.clone(),
            skip_assignment: skips && *id == self.leader,
            member_id: id.clone(),
            members: members.collect(),
            ..Default::default()
        };
        self.answer(asker, Response::Join(response));
    }

    fn sync(&mut self, asker: Asker, request: &SyncGroupRequest, now: Instant) {
        let code = self.check(&request.member_id, request.generation_id, request.group_instance_id.as_ref());
        if !code.is_none() {
            return self.refuse_sync(asker, code);
        }
        match self.group {
            Group::Preparing { .. } | Group::Empty => {
                self.refuse_sync(asker, ErrorCode::REBALANCE_IN_PROGRESS);
            }
            Group::Completing => {
                self.members.get_mut(&request.member_id).expect("checked").sync = Some(asker);
                if request.member_id == self.leader {
                    for one in &request.assignments {
                        if let Some(known) = self.members.get_mut(&one.member_id) {
                            known.assignment = one.assignment.clone();
                        }
                    }
                    self.group = Group::Stable;
                    let all: Vec<Str> = self.members.keys().cloned().collect();
                    for id in all {
                        if let Some(asker) = self.members.get_mut(&id).and_then(|known| known.sync.take()) {
                            self.tell_assigned(asker, &id, now);
                        }
                    }
                }
            }
            Group::Stable => self.tell_assigned(asker, &request.member_id, now),
        }
    }

    fn tell_assigned(&mut self, asker: Asker, id: &Str, now: Instant) {
        self.touch(id, now);
        let response = SyncGroupResponse {
            protocol_type: Some(Str::from("consumer")),
            protocol_name: Some(self.protocol.clone()),
            assignment: self.members[id].assignment.clone(),
            ..Default::default()
        };
        self.answer(asker, Response::Sync(response));
    }

    /// Whoever it is, by an administrator or because it is thought dead.
    pub(super) fn remove(&mut self, id: &Str, now: Instant) {
        let Some(known) = self.members.remove(id) else { return };
        if let Some(asker) = known.join {
            self.refuse_join(asker, ErrorCode::UNKNOWN_MEMBER_ID, &Str::new());
        }
        if let Some(asker) = known.sync {
            self.refuse_sync(asker, ErrorCode::UNKNOWN_MEMBER_ID);
        }
        match self.group {
            Group::Preparing { .. } => self.complete_if_all(now),
            _ => self.prepare(now),
        }
    }

    /// When time brings something next.
    pub(super) fn timeout(&self) -> Option<Instant> {
        let idle = self.members.values().filter(|known| known.join.is_none() && known.sync.is_none());
        let preparing = match self.group {
            Group::Preparing { until } => Some(until),
            _ => None,
        };
        idle.filter_map(|known| known.expires).chain(preparing).min()
    }

    pub(super) fn tick(&mut self, now: Instant) {
        let dead = |known: &Known| {
            known.join.is_none() && known.sync.is_none() && known.expires.is_some_and(|at| at <= now)
        };
        while let Some(id) = self.members.iter().find(|(_, known)| dead(known)).map(|(id, _)| id.clone()) {
            self.remove(&id, now);
        }
        if matches!(self.group, Group::Preparing { until } if until <= now) {
            self.complete(now);
        }
    }

    /// Another broker takes over: what is written stays, who waits is turned away.
    pub(super) fn moves(&mut self, now: Instant) {
        let all: Vec<Str> = self.members.keys().cloned().collect();
        for id in all {
            self.touch(&id, now);
            let known = self.members.get_mut(&id).expect("listed");
            let (join, sync) = (known.join.take(), known.sync.take());
            if let Some(asker) = join {
                self.refuse_join(asker, ErrorCode::NOT_COORDINATOR, &Str::new());
            }
            if let Some(asker) = sync {
                self.refuse_sync(asker, ErrorCode::NOT_COORDINATOR);
            }
        }
        // The members were written with their generation; the rebalance under way was not.
        if !self.members.is_empty() {
            self.prepare(now);
        }
    }
}
