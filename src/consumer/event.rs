//! What happens to a member of a group, as values among the batches.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::member::News;
use super::shared::Shared;
use super::{Consumer, TopicPartition};
use crate::net::clock;
use crate::{Error, Result};

/// What [`Consumer::next_event`] gives.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Records.
    Batch(Batch),
    /// These partitions are this member's too from now on. None, if a rebalance has brought nothing new.
    Assigned(BTreeSet<TopicPartition>),
    /// These are to be given back. No more of them is given; what was given may still be finished and committed.
    Revoked(Revocation),
    /// These are not this member's any more, and may be another's already: nothing of them can be committed.
    Lost {
        /// The partitions.
        partitions: BTreeSet<TopicPartition>,
        /// Why.
        why: Error,
    },
}

/// Partitions that are to be given back, which is done when this is dropped.
///
/// With [`auto_commit`](super::Builder::auto_commit) what the application has come back from is committed then; without
/// it, commit first. Whoever takes longer than the [deadline](Self::deadline) loses them.
pub struct Revocation {
    pub(super) partitions: BTreeSet<TopicPartition>,
    pub(super) deadline: Instant,
    pub(super) number: u64,
    pub(super) shared: Arc<Shared>,
}

impl Revocation {
    /// The partitions.
    pub fn partitions(&self) -> &BTreeSet<TopicPartition> {
        &self.partitions
    }

    /// Until when they can be handed over: [`max_poll_interval`](super::Builder::max_poll_interval) after they were
    /// wanted.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Hands them over. The same as dropping this.
    pub fn done(self) {
        drop(self);
    }
}

impl Drop for Revocation {
    fn drop(&mut self) {
        self.shared.hand_over(self.number);
    }
}

impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocation")
            .field("partitions", &self.partitions)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// The application has handed these over.
    fn hand_over(&self, number: u64) {
        let mut state = self.lock();
        if let Some(group) = &mut state.group
            && let Some(revoking) = group.revoking.as_mut().filter(|one| one.number == number)
        {
            revoking.handed = true;
        }
        drop(state);
        self.kick.notify_one();
    }

    /// What happened that is not records.
    fn take_news(&self) -> Option<Result<News>> {
        let mut state = self.lock();
        if let Some(error) = state.errors.pop_front() {
            return Some(Err(error));
        }
        state.group.as_mut()?.news.pop_front().map(Ok)
    }
}

/// Says that the application waits, for as long as it does.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared) -> Self {
        if let Some(group) = &mut shared.lock().group {
            group.waiting += 1;
        }
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let now = clock::now();
        if let Some(group) = &mut self.0.lock().group {
            group.waiting = group.waiting.saturating_sub(1);
            if let Some(member) = &mut group.member {
                member.handle_poll(now);
            }
        }
    }
}

impl Consumer {
    /// The next batch, of the partitions in turn. `None` once the consumer was closed.
    ///
    /// By coming back here the application says that it is done with all that it was given before. Partitions that the
    /// group wants back are handed over then, and new ones taken; [`next_event`](Self::next_event) tells of it.
    ///
    /// Cancel safe: no record is lost when the future is dropped.
    ///
    /// # Errors
    /// What concerns one partition names it; the others go on, and so does that one after a pause, where it met the
    /// error: [corrupt](Error::is_corrupt) records, a position that is gone where the reset policy is
    /// [`Reset::None`](super::Reset::None), a topic that is [refused](Error::code). That the application took longer than
    /// [`max_poll_interval`](super::Builder::max_poll_interval), and lost its partitions, is an error here, once; the
    /// member joins again by itself. What ends the consumer is told each time.
    pub async fn next(&mut self) -> Result<Option<Batch>> {
        loop {
            match self.next_event().await? {
                None => return Ok(None),
                Some(Event::Batch(batch)) => return Ok(Some(batch)),
                Some(Event::Lost { why, .. }) => return Err(why),
                // Dropped, they are handed over.
                Some(Event::Assigned(_) | Event::Revoked(_)) => {}
            }
        }
    }

    /// As [`next`](Self::next), with what happens to the partitions of a member: told before anything that comes of it,
    /// so that state by partition can be made and let go.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn next_event(&mut self) -> Result<Option<Event>> {
        let shared = Arc::clone(&self.shared);
        shared.returned();
        let mut waiting = None;
        loop {
            let news = shared.news.notified();
            let mut news = std::pin::pin!(news);
            news.as_mut().enable();
            if let Some(error) = shared.lock().fatal.clone() {
                return if error.is_closed() { Ok(None) } else { Err(error) };
            }
            if shared.is_closed() {
                return Ok(None);
            }
            match shared.take_news() {
                Some(Err(error)) => return Err(error),
                Some(Ok(News::Assigned(partitions))) => return Ok(Some(Event::Assigned(partitions))),
                Some(Ok(News::Revoked(partitions, deadline, number))) => {
                    let shared = Arc::clone(&shared);
                    return Ok(Some(Event::Revoked(Revocation { partitions, deadline, number, shared })));
                }
                Some(Ok(News::Lost(partitions, why))) => return Ok(Some(Event::Lost { partitions, why })),
                None => {}
            }
            if let Some(batch) = shared.take(None)? {
                return Ok(Some(Event::Batch(batch)));
            }
            waiting.get_or_insert_with(|| Waiting::new(&shared));
            news.await;
        }
    }

    /// Ends the consumer: commits what the application has come back from, if it commits by itself, leaves the group, and
    /// stops. Records of the last batch count as done only if the application came back after it, or
    /// [committed](Self::commit) it. Takes no longer than `timeout`, of which the rest goes on in the background when
    /// the future is dropped.
    ///
    /// # Errors
    /// The [time](Error::is_timeout) was over before the group was left: the others wait for the session to end.
    pub async fn close(self, timeout: Duration) -> Result<()> {
        self.close_as(timeout, super::Leave::Default).await
    }

    /// As [`close`](Self::close), and says whether the group is left (KIP-1092).
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub async fn close_as(self, timeout: Duration, leave: super::Leave) -> Result<()> {
        let deadline = clock::now() + timeout.min(clock::FOREVER);
        let shared = Arc::clone(&self.shared);
        shared.begin_close(leave, deadline);
        loop {
            let ended = shared.ended.notified();
            let mut ended = std::pin::pin!(ended);
            ended.as_mut().enable();
            if shared.is_closed() {
                break;
            }
            if tokio::time::timeout_at(deadline.into(), ended).await.is_err() {
                break;
            }
        }
        shared.shut(None);
        let left = shared.lock().group.as_ref().is_none_or(|group| group.member.is_none() || group.left);
        if left { Ok(()) } else { Err(Error::timeout("the group was not left in time")) }
    }
}
