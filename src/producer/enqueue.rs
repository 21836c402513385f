//! Taking a record as a future. Mostly there is room, and then it is done the first time it is polled, without
//! a state to be kept; what has to be waited for is in a box.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::ack::Ack;
use super::buffers::Buffer;
use super::interceptor::Headers;
use super::lane::Refusal;
use super::record::Record;
use super::shared::Shared;
use super::topic::TopicState;
use crate::net::{BoxFuture, clock};
use crate::records::AsHeader;
use crate::{Error, Result};

/// A record that is about to be taken, by [`Topic::enqueue`](super::Topic::enqueue). Await it.
#[must_use = "the record is taken when this is awaited"]
pub struct Enqueue<'a, H> {
    shared: &'a Arc<Shared>,
    topic: &'a Arc<TopicState>,
    record: Record<'a, H>,
    wrong: Option<Error>,
    /// What interceptors added, once they have seen it.
    added: Option<Box<Headers>>,
    waiting: Option<Box<Waiting>>,
}

/// What the record waits for.
struct Waiting {
    deadline: Instant,
    /// Memory for it, or none if it was not that.
    news: BoxFuture<'static, Result<Option<Buffer>>>,
}

impl<'a, H: AsHeader> Enqueue<'a, H> {
    #[inline]
    pub(crate) fn new(
        shared: &'a Arc<Shared>,
        topic: &'a Arc<TopicState>,
        record: Record<'a, H>,
        wrong: Option<Error>,
    ) -> Self {
        Self { shared, topic, record, wrong, added: None, waiting: None }
    }

    /// The record could not be taken at once, or waits already.
    #[cold]
    #[inline(never)]
    fn poll_slowly(&mut self, first: Option<Refusal>, cx: &mut Context<'_>) -> Poll<Result<Ack>> {
        let mut refusal = first;
        loop {
            let mut buffer = None;
            if let Some(refused) = refusal.take() {
                let deadline = match &self.waiting {
                    Some(waiting) => waiting.deadline,
                    None => clock::now() + self.shared.settings.max_block,
                };
                let news = match self.wait_for(refused, deadline) {
                    Ok(news) => news,
                    Err(error) => return Poll::Ready(Err(error)),
                };
                self.waiting = Some(Box::new(Waiting { deadline, news }));
            }
            if let Some(waiting) = &mut self.waiting {
                match ready!(waiting.news.as_mut().poll(cx)) {
                    Ok(room) => buffer = room,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            match self.try_now(&mut buffer) {
                Ok(ack) => return Poll::Ready(Ok(ack)),
                Err(next) => refusal = Some(next),
            }
        }
    }

    #[inline]
    fn try_now(&self, buffer: &mut Option<Buffer>) -> Result<Ack, Refusal> {
        match &self.added {
            None => self.shared.try_append(self.topic, &self.record, buffer),
            Some(added) => {
                let headers = added.join(&self.record);
                self.shared.try_append(self.topic, &self.record.headers(&headers), buffer)
            }
        }
    }

    fn wait_for(
        &self,
        refused: Refusal,
        deadline: Instant,
    ) -> Result<BoxFuture<'static, Result<Option<Buffer>>>> {
        let shared = Arc::clone(self.shared);
        match refused {
            Refusal::Error(error) => Err(error),
            Refusal::NoRoom(size) if size > shared.buffers.total() => {
                Err(Error::limit(format!("a record of {size} bytes, more than all memory for records")))
            }
            Refusal::NoRoom(size) => {
                Ok(Box::pin(async move { shared.wait_for_room(size, deadline).await.map(Some) }))
            }
            Refusal::Ahead => Ok(Box::pin(async move {
                shared.pace.wait().await;
                Ok(None)
            })),
            Refusal::Busy => Ok(Box::pin(async move {
                shared.wait_for_compression().await;
                Ok(None)
            })),
            Refusal::NotReady | Refusal::Elsewhere => {
                let (topic, partition) = (Arc::clone(self.topic), self.record.partition);
                Ok(Box::pin(async move {
                    shared.wait_for_topic(&topic, partition, deadline).await.map(|()| None)
                }))
            }
        }
    }
}

impl<H: AsHeader> Future for Enqueue<'_, H> {
    type Output = Result<Ack>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.waiting.is_some() {
            return this.poll_slowly(None, cx);
        }
        if let Some(wrong) = this.wrong.take() {
            return Poll::Ready(Err(wrong));
        }
        let interceptors = &this.shared.settings.interceptors;
        if !interceptors.is_empty() {
            this.added = Some(Box::new(interceptors.on_send(&this.topic.name, &this.record)));
        }
        if this.shared.pace.is_ahead() {
            return this.poll_slowly(Some(Refusal::Ahead), cx);
        }
        match this.try_now(&mut None) {
            Ok(ack) => Poll::Ready(Ok(ack)),
            Err(refusal) => this.poll_slowly(Some(refusal), cx),
        }
    }
}

impl<H> fmt::Debug for Enqueue<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enqueue").field("topic", &self.topic.name).finish_non_exhaustive()
    }
}
