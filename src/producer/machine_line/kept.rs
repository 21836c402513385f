//! What is kept of a line that nobody uses: where its sequence numbers go on.

use super::Line;
use crate::producer::machine_identity::Identity;

/// Where the sequence numbers of a partition go on. They are not lost with its line, for as long as the identity
/// lives: a broker takes a number that it knows for a duplicate (P09).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequences {
    pub(crate) identity: Identity,
    next: i32,
    acked: Option<i32>,
}

impl<B> Line<B> {
    /// Whether nothing is on its way, and nothing of it is uncertain.
    pub(crate) fn is_quiet(&self) -> bool {
        self.slots.is_empty() && self.events.is_empty() && !self.broken && self.over.is_none()
    }

    /// Becomes the line of another partition, whose sequences go on there. Tickets do not come again.
    pub(crate) fn restart(&mut self, kept: Option<Sequences>) {
        *self = Self { next_ticket: self.next_ticket, ..Self::new(self.rules) };
        if let Some(Sequences { identity, next, acked }) = kept {
            (self.identity, self.next_sequence, self.acked_sequence) = (Some(identity), next, acked);
        }
    }

    /// Where its sequences go on.
    pub(crate) fn sequences(&self) -> Option<Sequences> {
        let identity = self.identity?;
        Some(Sequences { identity, next: self.next_sequence, acked: self.acked_sequence })
    }
}
