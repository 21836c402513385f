//! One direction of a link: what came and has yet to go, in its order.
//!
//! Bytes and barriers stand in one queue. Marks are faults that happen at a byte yet to come. Standing faults
//! concern all bytes while they last.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::Out;
use super::rules::draw;
use crate::proxy::RuleId;
use crate::proxy::rule::{End, Fault};

/// What may wait in one direction before reading stops. Only delays and holds fill it.
const QUEUE_MAX: usize = 1 << 20;

/// What an item of the queue costs beside its bytes, so that barriers count too.
const ITEM_COST: usize = 32;

/// With a bandwidth, so much of a second goes at a time.
const PACE: Duration = Duration::from_millis(50);

#[derive(Debug)]
enum Item {
    Bytes { bytes: Bytes, due: Instant },
    Until(Instant),
    Hold(RuleId),
    Finish { due: Instant },
    Cut(End),
}

/// A fault at a byte yet to come.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) rule: RuleId,
    pub(super) fault: Fault,
    /// Of the bytes of this direction, how many go before.
    pub(super) at: u64,
    pub(super) api: Option<i16>,
    pub(super) correlation: Option<i32>,
    /// Of the frame, when the fault takes all of it.
    pub(super) size: u64,
    /// Whether the log has it already.
    pub(super) told: bool,
}

#[derive(Debug)]
enum Edit {
    Flip(u8),
    Become(u8),
}

/// The faults that concern all bytes of a direction at present.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pub(super) delays: Vec<(Duration, Duration)>,
    pub(super) rate: Option<u64>,
    pub(super) slice: Option<(usize, Duration)>,
    pub(super) hold: bool,
    pub(super) hole: bool,
}

#[derive(Debug)]
pub(super) struct Flow {
    /// For jitter.
    seed: u64,
    link: u64,
    jitters: u64,
    queue: VecDeque<Item>,
    queued: usize,
    position: u64,
    marks: Vec<Mark>,
    edits: VecDeque<Edit>,
    /// Bytes before this one belong to a frame that is swallowed.
    swallowed_to: u64,
    pub(super) standing: Standing,
    /// The black hole that a mark opened.
    pub(super) hole: Option<RuleId>,
    lost: bool,
    /// The sender said that no more comes.
    ended: bool,
    output: Output,
    /// No piece goes before this.
    not_before: Option<Instant>,
    /// With a bandwidth, when all that went so far has had its time.
    paid: Option<Instant>,
}

/// What the receiver was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Open,
    /// It is to be told that no more comes; whatever comes now is thrown away.
    Finishing,
    Finished,
}

impl Flow {
    pub(super) fn new(seed: u64, link: u64) -> Self {
        Self {
            seed,
            link,
            jitters: 0,
            queue: VecDeque::new(),
            queued: 0,
            position: 0,
            marks: Vec::new(),
            edits: VecDeque::new(),
            swallowed_to: 0,
            standing: Standing::default(),
            hole: None,
            lost: false,
            ended: false,
            output: Output::Open,
            not_before: None,
            paid: None,
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn wants_bytes(&self) -> bool {
        !self.ended && !self.standing.hold && self.queued < QUEUE_MAX
    }

    pub(super) fn in_hole(&self) -> bool {
        self.standing.hole || self.hole.is_some()
    }

    pub(super) fn finished(&self) -> bool {
        self.output == Output::Finished
    }

    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Marks at the same byte keep the order in which they were made.
    pub(super) fn mark(&mut self, mark: Mark) {
        let after = self.marks.partition_point(|other| other.at <= mark.at);
        self.marks.insert(after, mark);
    }

    /// The next mark whose byte is reached.
    pub(super) fn due_mark(&mut self) -> Option<Mark> {
        let due = self.marks.first().is_some_and(|mark| mark.at <= self.position);
        due.then(|| self.marks.remove(0))
    }

    /// How many of so many bytes go before the next mark.
    pub(super) fn before_mark(&self, len: usize) -> usize {
        let gap = self.marks.first().map_or(u64::MAX, |mark| mark.at.saturating_sub(self.position));
        usize::try_from(gap).unwrap_or(usize::MAX).min(len)
    }

    /// Takes bytes in which no mark lies.
    pub(super) fn push(&mut self, bytes: Bytes, now: Instant) {
        let from = self.position;
        self.position += bytes.len() as u64;
        // A frame lies whole on one side of this: parts end where frames do.
        if self.output != Output::Open || from < self.swallowed_to {
            return;
        }
        if self.in_hole() {
            self.lost |= !bytes.is_empty();
            return;
        }
        let bytes = self.edited(bytes);
        let due = self.due(now);
        self.enqueue(Item::Bytes { bytes, due });
    }

    /// The frame is over, and with it what was to be changed in it.
    pub(super) fn end_frame(&mut self) {
        self.edits.clear();
    }

    /// A fault strikes here, after all bytes that were pushed.
    pub(super) fn strike(&mut self, mark: Mark, now: Instant) {
        match mark.fault {
            Fault::Delay { ms, jitter_ms } => {
                let (base, jitter) = (Duration::from_millis(ms), Duration::from_millis(jitter_ms));
                let until = now + base + self.jitter(jitter);
                self.enqueue(Item::Until(until));
            }
            Fault::Hold => self.enqueue(Item::Hold(mark.rule)),
            Fault::Swallow => self.swallowed_to = mark.at + mark.size,
            Fault::Cut(end) => self.enqueue(Item::Cut(end)),
            Fault::HalfClose => self.finish(now),
            Fault::BlackHole { .. } => self.hole = Some(mark.rule),
            Fault::Flip(bits) => self.edits.push_back(Edit::Flip(bits)),
            Fault::Replace(bytes) => self.edits.extend(bytes.into_iter().map(Edit::Become)),
            // Rules with these have no marks.
            Fault::Bandwidth { .. } | Fault::Slice { .. } | Fault::Refuse => {}
        }
    }

    /// The sender closed its side.
    pub(super) fn end(&mut self, now: Instant) {
        self.ended = true;
        if !self.in_hole() {
            self.finish(now);
        }
    }

    /// The sender's connection broke. The receiver's breaks after what came before, unless the news are lost
    /// in a hole.
    pub(super) fn break_off(&mut self, now: Instant) {
        self.ended = true;
        if !self.in_hole() {
            let due = self.due(now);
            self.enqueue(Item::Until(due));
            self.enqueue(Item::Cut(End::Reset));
        }
    }

    /// Forgets what waited for rules that are gone; tells whether the link has a gap that now shows.
    pub(super) fn settle(
        &mut self,
        was_in_hole: bool,
        in_force: impl Fn(RuleId) -> bool,
        now: Instant,
    ) -> bool {
        self.marks.retain(|mark| in_force(mark.rule));
        self.hole = self.hole.filter(|rule| in_force(*rule));
        self.queue.retain(|item| !matches!(item, Item::Hold(rule) if !in_force(*rule)));
        self.queued = self.queue.iter().map(Item::cost).sum();
        let healed = was_in_hole && !self.in_hole();
        if healed && self.ended {
            self.finish(now);
        }
        healed && self.lost
    }

    /// What may go now, if anything.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Out> {
        if self.standing.hold {
            return None;
        }
        loop {
            let ready = match self.queue.front()? {
                Item::Hold(_) => false,
                Item::Until(due) | Item::Finish { due } => *due <= now,
                Item::Bytes { due, .. } => *due <= now && self.not_before.is_none_or(|then| then <= now),
                Item::Cut(_) => true,
            };
            if !ready {
                return None;
            }
            let item = self.queue.pop_front()?;
            self.queued -= item.cost();
            match item {
                Item::Hold(_) | Item::Until(_) => {}
                Item::Finish { .. } => {
                    self.output = Output::Finished;
                    return Some(Out::Finish);
                }
                Item::Cut(end) => return Some(Out::Cut(end)),
                Item::Bytes { mut bytes, due } => {
                    let piece = bytes.split_to(self.piece_max().min(bytes.len()));
                    if !bytes.is_empty() {
                        self.queued += bytes.len() + ITEM_COST;
                        self.queue.push_front(Item::Bytes { bytes, due });
                    }
                    self.pace(piece.len(), now);
                    return Some(Out::Bytes(piece));
                }
            }
        }
    }

    /// When [`Flow::poll`] has something that it does not have yet.
    pub(super) fn timeout(&self) -> Option<Instant> {
        if self.standing.hold {
            return None;
        }
        match self.queue.front()? {
            Item::Hold(_) | Item::Cut(_) => None,
            Item::Until(due) | Item::Finish { due } => Some(*due),
            Item::Bytes { due, .. } => Some(self.not_before.map_or(*due, |then| then.max(*due))),
        }
    }

    fn finish(&mut self, now: Instant) {
        if self.output == Output::Open {
            self.output = Output::Finishing;
            let due = self.due(now);
            self.enqueue(Item::Finish { due });
        }
    }

    fn enqueue(&mut self, item: Item) {
        self.queued += item.cost();
        self.queue.push_back(item);
    }

    fn edited(&mut self, bytes: Bytes) -> Bytes {
        if self.edits.is_empty() {
            return bytes;
        }
        let mut changed = BytesMut::from(bytes);
        for byte in changed.iter_mut() {
            match self.edits.pop_front() {
                Some(Edit::Flip(bits)) => *byte ^= bits,
                Some(Edit::Become(value)) => *byte = value,
                None => break,
            }
        }
        changed.freeze()
    }

    fn due(&mut self, now: Instant) -> Instant {
        let delays = std::mem::take(&mut self.standing.delays);
        let due = delays.iter().fold(now, |due, (base, jitter)| due + *base + self.jitter(*jitter));
        self.standing.delays = delays;
        due
    }

    fn jitter(&mut self, most: Duration) -> Duration {
        let most = most.as_micros() as u64;
        self.jitters += 1;
        Duration::from_micros(draw(self.seed, self.link, self.jitters) % (most + 1))
    }

    fn piece_max(&self) -> usize {
        let rate = self.standing.rate.map_or(usize::MAX, |rate| {
            usize::try_from(rate * PACE.as_millis() as u64 / 1000).unwrap_or(usize::MAX).max(1)
        });
        self.standing.slice.map_or(usize::MAX, |(bytes, _)| bytes).min(rate)
    }

    fn pace(&mut self, sent: usize, now: Instant) {
        let pause = self.standing.slice.map(|(_, pause)| now + pause);
        self.paid = self.standing.rate.map(|rate| {
            // A late timer is made up for, an idle link saves up no more than one piece.
            let credit = now.checked_sub(PACE).unwrap_or(now);
            let from = self.paid.map_or(credit, |paid| paid.max(credit));
            from + Duration::from_nanos((sent as u128 * 1_000_000_000 / u128::from(rate)) as u64)
        });
        self.not_before = pause.max(self.paid);
    }
}

impl Item {
    fn cost(&self) -> usize {
        ITEM_COST + if let Self::Bytes { bytes, .. } = self { bytes.len() } else { 0 }
    }
}
