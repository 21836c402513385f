//! One partition: where it is read, from whom, and what waits for the application.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::positions::Sought;
use crate::consumer::TopicPartition;
use crate::consumer::batch::{Marks, Position};
use crate::consumer::machine_session::Spec;
use crate::consumer::unpack::Chunk;
use crate::wire::Uuid;
use crate::{Error, ErrorCode};

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Here, as the application or the group says.
    At(Position),
    /// Where a look-up says.
    Sought(Sought),
    /// Where the group has got to.
    Committed,
    /// By the reset policy.
    Policy,
}

/// What is known of the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The group is asked for it.
    Committed,
    /// Its leader is asked for it; or that is to be done.
    Sought {
        sought: Sought,
        asked: bool,
    },
    /// There is one, and the leader is asked whether its log still has that (KIP-320).
    Check {
        asked: bool,
    },
    Fetching,
}

impl State {
    /// Whether there is a position.
    pub(crate) fn has_position(self) -> bool {
        matches!(self, Self::Check { .. } | Self::Fetching)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) at: TopicPartition,
    /// The assignment with which it came.
    pub(crate) assignment: u64,
    pub(crate) topic_id: Uuid,
    /// Of the position; a number that no other has had.
    pub(super) version: u64,
    pub(crate) state: State,
    /// What to fetch next.
    pub(super) position: Position,
    /// What the application gets next.
    pub(crate) given: Position,
    /// What the application has come back from; nothing before this needs to be read again.
    pub(crate) done: Option<Position>,
    pub(crate) paused: bool,
    /// It is about to be given back.
    pub(crate) stopped: bool,
    /// It has a reader of its own.
    pub(crate) apart: bool,
    /// The leader and its epoch.
    pub(super) leader: Option<(i32, i32)>,
    /// Of the leaders that there were, the latest epoch; the position was held against that, or is being so. -1 if
    /// against none.
    pub(super) epoch: i32,
    /// The question for the position that is to be answered.
    pub(super) lookup: u64,
    /// Why there is none.
    pub(crate) refused: Option<ErrorCode>,
    /// A follower nearby (KIP-392), until when.
    pub(super) read_from: Option<(i32, Instant)>,
    pub(crate) marks: Marks,
    pub(super) chunks: VecDeque<Chunk>,
    pub(crate) buffered: usize,
    /// The application unpacks one of them.
    pub(super) out: bool,
    /// It stands in the turn.
    pub(super) queued: bool,
    /// The broker in whose session it stands.
    pub(super) node: Option<i32>,
    pub(super) not_before: Option<Instant>,
    pub(super) failures: u32,
    /// To be told to the application.
    pub(super) error: Option<Error>,
    /// What it may have in a fetch, if that was not enough for one batch.
    pub(super) grown: Option<usize>,
}

impl Part {
    pub(super) fn new(at: TopicPartition, assignment: u64, version: u64) -> Self {
        let unknown = Position { offset: -1, epoch: -1 };
        Self {
            at,
            assignment,
            topic_id: Uuid::ZERO,
            version,
            state: State::Committed,
            position: unknown,
            given: unknown,
            done: None,
            paused: false,
            stopped: false,
            apart: false,
            leader: None,
            epoch: -1,
            lookup: 0,
            refused: None,
            read_from: None,
            marks: Marks::UNKNOWN,
            chunks: VecDeque::new(),
            buffered: 0,
            out: false,
            queued: false,
            node: None,
            not_before: None,
            failures: 0,
            error: None,
            grown: None,
        }
    }

    /// The broker that it is read from.
    pub(super) fn home(&self) -> Option<i32> {
        self.read_from.map(|(broker, _)| broker).or(self.leader.map(|(broker, _)| broker))
    }

    /// Whether it is to be fetched, if there is room.
    pub(super) fn is_active(&self) -> bool {
        let broken = self.chunks.back().is_some_and(Chunk::is_broken);
        self.state == State::Fetching && !self.paused && !self.stopped && !broken
    }

    /// Whether a leader is to be asked for its position.
    pub(super) fn is_unsettled(&self) -> bool {
        let waits = matches!(self.state, State::Sought { asked: false, .. } | State::Check { asked: false });
        waits && self.leader.is_some() && !self.stopped
    }

    /// Whether there is something for the application.
    pub(super) fn may_give(&self) -> bool {
        let something = !self.chunks.is_empty() || self.error.is_some();
        something && !self.paused && !self.stopped && !self.out
    }

    /// What is to be fetched next.
    pub(super) fn spec(&self, max: usize) -> Spec {
        Spec {
            topic: self.at.name().clone(),
            topic_id: self.topic_id,
            partition: self.at.partition(),
            offset: self.position.offset,
            leader_epoch: self.leader.map_or(-1, |(_, epoch)| epoch),
            last_epoch: self.position.epoch,
            max_bytes: i32::try_from(self.grown.unwrap_or(max)).unwrap_or(i32::MAX),
            version: self.version,
        }
    }

    /// Another leader may not have what was fetched from the one before. Tells whether there is a position that is
    /// of no use, because the topic was deleted and made anew.
    pub(super) fn handle_leader(&mut self, leader: Option<(i32, i32)>, id: Uuid) -> bool {
        let mut anew = false;
        if !id.is_zero() && id != self.topic_id {
            anew = !self.topic_id.is_zero() && self.state.has_position();
            self.topic_id = id;
            self.epoch = -1;
        }
        let before = self.leader;
        self.leader = leader;
        if before == leader {
            return anew;
        }
        self.read_from = None;
        if let State::Sought { asked, .. } | State::Check { asked } = &mut self.state {
            *asked = false;
        }
        if let Some((_, epoch)) = leader
            && epoch > self.epoch
        {
            // A time without a leader in between changes nothing about that.
            self.epoch = epoch;
            if self.state == State::Fetching && epoch > self.position.epoch {
                self.check();
            }
        }
        anew
    }

    /// The position is checked, if its epoch is known.
    pub(super) fn check(&mut self) {
        if self.position.epoch >= 0 {
            self.state = State::Check { asked: false };
        }
    }

    /// Drops what was fetched; tells its size.
    pub(super) fn drop_chunks(&mut self) -> usize {
        self.chunks.clear();
        std::mem::take(&mut self.buffered)
    }

    /// Follows a broker's advice to read from a follower.
    pub(super) fn prefer(&mut self, broker: i32, until: Instant) {
        self.read_from = Some((broker, until));
    }

    /// How long until followers are asked about again, if one is read from.
    pub(super) fn prefers(&self) -> Option<(i32, Instant)> {
        self.read_from
    }

    /// Of its position: another number after each seek.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The application has come back: what it was given is done.
    pub(crate) fn handle_return(&mut self) {
        if self.state.has_position() {
            self.done = Some(self.given);
        }
    }

    /// How many records there are from the application's position to the end that it may read to.
    pub(crate) fn lag(&self, committed_only: bool) -> Option<u64> {
        let end = if committed_only { self.marks.last_stable } else { self.marks.high_watermark };
        if end < 0 || !self.state.has_position() {
            return None;
        }
        Some(u64::try_from(end.saturating_sub(self.given.offset)).unwrap_or(0))
    }
}

/// How long a follower is read from before the leader is asked again.
pub(super) fn preferred_until(now: Instant, max_age: Duration) -> Instant {
    now + max_age
}
