//! Commits of a group's offsets, and what was committed.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::batch::Batch;
use super::machine_offsets::{self, CommitOffset};
use super::member::News;
use super::shared::Shared;
use super::{Consumer, TopicPartition};
use crate::cluster::Options;
use crate::messages::offset_fetch::OffsetFetchRequest;
use crate::net::clock;
use crate::producer::GroupMetadata;
use crate::wire::Str;
use crate::{Error, Result};

/// Where a group has got to in a partition: the offset of the next record to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) metadata: String,
}

impl Committed {
    /// The offset of the next record to be read, with nothing more.
    pub fn new(offset: i64) -> Self {
        Self { offset, leader_epoch: -1, metadata: String::new() }
    }

    /// Adds words of the application's own, which brokers keep (up to 4096 bytes unless they are set otherwise).
    #[must_use]
    pub fn with_metadata(mut self, metadata: impl Into<String>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// Adds the epoch of the leader that wrote the record before that offset, so that a log that was cut is noticed
    /// (KIP-320). [`Batch::leader_epoch`] has it.
    #[must_use]
    pub fn with_leader_epoch(mut self, epoch: i32) -> Self {
        self.leader_epoch = epoch.max(-1);
        self
    }

    /// The offset of the next record to be read.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The epoch of the leader that wrote the record before that; -1 if it is not known.
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// The application's own words.
    pub fn metadata(&self) -> &str {
        &self.metadata
    }
}

impl From<i64> for Committed {
    fn from(offset: i64) -> Self {
        Self::new(offset)
    }
}

/// A commit that has begun. It goes on whether this is awaited or dropped; commits are done in the order in which they
/// were begun.
///
/// # Errors
/// A partition that is [not this member's any more](crate::ErrorCode::ILLEGAL_GENERATION), whose new owner goes on
/// from the commit before; what the coordinator [refuses](Error::code); the request timeout, after which it
/// [may have been done](Error::may_have_happened).
#[must_use = "await it to know how it ends; `drop` it to let it go on alone"]
pub struct Commit(State);

enum State {
    Failed(Option<Error>),
    Begun(oneshot::Receiver<Result<()>>),
}

impl Future for Commit {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.0 {
            State::Failed(error) => Poll::Ready(error.take().map_or(Ok(()), Err)),
            State::Begun(end) => Pin::new(end).poll(cx).map(|end| {
                let gone = || Error::closed("the consumer ended before the commit did").maybe_done();
                end.unwrap_or_else(|_| Err(gone()))
            }),
        }
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit").finish_non_exhaustive()
    }
}

impl Consumer {
    /// Commits that the batch is done: the group goes on behind it. Begins at once, and need not be awaited.
    pub fn commit(&self, batch: &Batch) -> Commit {
        let position =
            CommitOffset { offset: batch.next.offset, leader_epoch: batch.next.epoch, metadata: Str::new() };
        let offsets = BTreeMap::from([(batch.at.clone(), position)]);
        self.shared.commit(offsets, Some(batch.assignment))
    }

    /// Commits that all is done which the application was given so far. Begins at once, and need not be awaited.
    pub fn commit_all(&self) -> Commit {
        self.shared.returned();
        let offsets = {
            let state = self.shared.lock();
            let done = state.core.parts().filter_map(|part| Some((part.at.clone(), part.done?)));
            done.map(|(at, done)| {
                let position =
                    CommitOffset { offset: done.offset, leader_epoch: done.epoch, metadata: Str::new() };
                (at, position)
            })
            .collect()
        };
        self.shared.commit(offsets, None)
    }

    /// Commits these offsets, each of the next record to be read. Begins at once, and need not be awaited. An offset that
    /// is lower than the one committed before takes the group back.
    pub fn commit_offsets<T, C>(&self, offsets: impl IntoIterator<Item = (T, C)>) -> Commit
    where
        T: Into<TopicPartition>,
        C: Into<Committed>,
    {
        let mut wanted = BTreeMap::new();
        for (at, committed) in offsets {
            let Committed { offset, leader_epoch, metadata } = committed.into();
            let at = at.into();
            if offset < 0 {
                let error = Error::invalid(format!("offset {offset} of {at}"));
                return Commit(State::Failed(Some(error)));
            }
            wanted.insert(at, CommitOffset { offset, leader_epoch, metadata: Str::from(metadata.as_str()) });
        }
        self.shared.commit(wanted, None)
    }

    /// What the group has committed of these partitions; those of which nothing is committed are left out. Waits for
    /// transactions that are about to commit some (KIP-447).
    ///
    /// Safe to drop.
    ///
    /// # Errors
    /// [Invalid](Error::is_invalid) without a group; what the coordinator [refuses](Error::code); the time that is over.
    pub async fn committed<T: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = T>,
    ) -> Result<BTreeMap<TopicPartition, Committed>> {
        let shared = &self.shared;
        shared.check_open()?;
        let group = shared.settings.group.as_ref().ok_or_else(no_group)?;
        let asked = partitions.into_iter().map(Into::into).collect();
        let request = machine_offsets::question(&group.group, &asked);
        let options = Options::default();
        let answer = match shared.cluster.request(request.clone(), &options).await {
            // Brokers before 2.5 cannot be asked to wait for transactions.
            Err(error) if error.is_unsupported() => {
                let request = OffsetFetchRequest { require_stable: false, ..request };
                shared.cluster.request(request, &options).await
            }
            answer => answer,
        };
        let told = machine_offsets::told(answer?, &group.group, &asked)?.into_iter();
        let named = told.map(|(at, CommitOffset { offset, leader_epoch, metadata })| {
            (at, Committed { offset, leader_epoch, metadata: metadata.to_string() })
        });
        Ok(named.collect())
    }

    /// Who commits, for [`Transaction::send_offsets`](crate::Transaction::send_offsets): a transaction whose
    /// member was replaced meanwhile cannot commit (KIP-447). `None` without a group, as long as the member has not
    /// joined, and after it has lost partitions until the application was [told](super::Event::Lost): what it has in its
    /// hands may be another's by now.
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        let mut state = self.shared.lock();
        let group = state.group.as_mut()?;
        let Some(member) = &group.member else {
            return Some(GroupMetadata::new(&group.settings.group));
        };
        if group.news.iter().any(|news| matches!(news, News::Lost(..))) {
            return None;
        }
        let membership = member.membership()?;
        let metadata =
            GroupMetadata::new(&membership.group).member(membership.generation, &membership.member);
        Some(match &membership.instance {
            Some(instance) => metadata.instance(instance),
            None => metadata,
        })
    }
}

impl Shared {
    fn commit(
        self: &Arc<Self>,
        offsets: BTreeMap<TopicPartition, CommitOffset>,
        assignment: Option<u64>,
    ) -> Commit {
        if let Err(error) = self.check_open() {
            return Commit(State::Failed(Some(error)));
        }
        let now = clock::now();
        let deadline = now + self.settings.request_timeout.saturating_mul(2);
        let origin = machine_offsets::Origin::Explicit;
        let mut state = self.lock();
        let latest = state.assignment;
        let Some(group) = &mut state.group else { return Commit(State::Failed(Some(no_group()))) };
        for (at, offset) in &offsets {
            group.committed.insert(at.clone(), offset.offset);
        }
        let id = group.offsets.handle_commit(offsets, assignment.unwrap_or(latest), origin, deadline, now);
        let (tell, end) = oneshot::channel();
        group.commits.insert(id, tell);
        drop(state);
        self.kick.notify_one();
        Commit(State::Begun(end))
    }
}

fn no_group() -> Error {
    Error::invalid("offsets are committed for a group, and none is named")
}
