//! Requests taken apart by who answers what, and answers put together.
//!
//! Each client request is [`Routed`]: it says where it goes, in which versions it can be said, and what in
//! its answer has gone wrong. One with items that go to different brokers (partitions, groups, resources)
//! is [split](Routed::split) into one part a broker; items that are refused as being elsewhere are
//! [taken out](Routed::again) of an answer and sent again; and an item whose part was lost on the way is
//! [answered](Routed::failed) by us, so that one broker's failure is no other item's.

use std::collections::BTreeMap;
use std::ops::{Deref, RangeInclusive};
use std::time::Duration;

use smallvec::SmallVec;

use super::coordinators::{Coordinators, Found};
use super::metadata::hints::Hints;
use super::metadata::{Leader, Snapshot, TopicKey};
use super::retry::{Verdict, is_repeatable};
use super::route::Route;
use crate::conn::Target;
use crate::observe::Lookup;
use crate::wire::{ApiKey, Decode, Encode, Request, Str, Uuid};
use crate::{Error, ErrorCode};

mod configs;
mod each;
mod groups;
mod leaders;
mod markers;
mod one_group;
mod whole;

#[cfg(test)]
mod tests;

/// Where an item goes, by its nature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Any broker.
    Any,
    /// Any broker, and always the same.
    Same,
    /// The controller.
    Controller,
    /// The leader of a partition.
    Leader(TopicKey, i32),
    /// A coordinator.
    Coordinator(Lookup, Str),
    /// That broker.
    Broker(i32),
    /// The broker that the caller names.
    Named,
    /// Nobody that a caller can ask.
    Nobody,
}

/// Where an item goes, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spot {
    At(Target),
    /// It is not known yet; it is being found out.
    Wait,
    /// It cannot go anywhere.
    Refused(ErrorCode),
}

/// What a split looks at, and what it finds lacking.
pub(crate) struct View<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) coordinators: &'a mut Coordinators,
    pub(crate) now: std::time::Instant,
    /// The broker for what any can answer. It is looked for when this is looked at.
    pub(crate) any: &'a dyn Deref<Target = Option<i32>>,
    /// The broker for what always the same one is to answer.
    pub(crate) same: Option<i32>,
    /// The broker that the caller names: all goes there.
    pub(crate) named: Option<Target>,
    /// Topics that were looked for, known or not; one may be there more than once. Mostly there is one.
    pub(crate) topics: SmallVec<[TopicKey; 1]>,
    /// Whether metadata was lacking.
    pub(crate) stale: bool,
    /// What brokers say of a topic or partition that is waited for.
    pub(crate) lacking: Option<ErrorCode>,
}

impl View<'_> {
    pub(crate) fn spot(&mut self, place: &Place) -> Spot {
        if let Some(named) = self.named {
            return Spot::At(named);
        }
        match place {
            Place::Any => self.known(**self.any),
            Place::Same => self.known(self.same.or_else(|| **self.any)),
            Place::Controller => self.known(self.snapshot.controller),
            Place::Leader(topic, partition) => self.leader(topic, *partition),
            Place::Coordinator(lookup, key) => self.coordinator(*lookup, key),
            // A broker that is not there may come back, but metadata has to say so.
            Place::Broker(id) => self.known(self.snapshot.broker(*id).map(|broker| broker.id)),
            Place::Named | Place::Nobody => Spot::Refused(ErrorCode::INVALID_REQUEST),
        }
    }

    /// All brokers, or the one that the caller names.
    pub(crate) fn each(&mut self) -> Vec<Spot> {
        if let Some(named) = self.named {
            return vec![Spot::At(named)];
        }
        if self.snapshot.brokers().len() == 0 {
            return vec![self.known(None)];
        }
        self.snapshot.brokers().map(|broker| Spot::At(Target::Broker(broker.id))).collect()
    }

    /// How a topic is looked up that may be told by its id, its name, or both. The id counts, but only metadata
    /// by name says in every version which topic has it; by id alone it can be asked for from version 12 on.
    pub(crate) fn topic(&self, id: Uuid, name: &Str) -> TopicKey {
        let new = !name.is_empty() && self.snapshot.topic(name).is_none_or(|known| known.id.is_zero());
        TopicKey::of(if new { Uuid::ZERO } else { id }, name)
    }

    fn known(&mut self, broker: Option<i32>) -> Spot {
        self.stale |= broker.is_none();
        broker.map_or(Spot::Wait, |id| Spot::At(Target::Broker(id)))
    }

    /// Where a partition of that topic goes.
    fn leader(&mut self, topic: &TopicKey, partition: i32) -> Spot {
        if let Some(named) = self.named {
            return Spot::At(named);
        }
        // The partitions of a topic come one after the other.
        if self.topics.last() != Some(topic) {
            self.topics.push(topic.clone());
        }
        match self.snapshot.leader(topic, partition) {
            Leader::Known { broker, .. } => self.known(Some(broker)),
            Leader::None => {
                self.lacking = Some(ErrorCode::LEADER_NOT_AVAILABLE);
                self.known(None)
            }
            Leader::Unknown => {
                // Until brokers are known nobody has said so.
                if self.snapshot.brokers().len() > 0 {
                    self.lacking = Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
                }
                self.known(None)
            }
            Leader::Refused(code) => Spot::Refused(code),
        }
    }

    fn coordinator(&mut self, lookup: Lookup, key: &Str) -> Spot {
        match self.coordinators.handle_want(lookup, key, self.now) {
            // One that metadata does not know any more is not asked.
            Found::At(id) if self.snapshot.broker(id).is_none() => {
                self.coordinators.handle_lost(lookup, key, id, self.now);
                self.known(None)
            }
            Found::At(id) => Spot::At(Target::Broker(id)),
            Found::Wait => Spot::Wait,
            Found::Refused(code) => Spot::Refused(code),
        }
    }
}

/// A request that the cluster can bring to whoever answers it.
pub(crate) trait Routed:
    Request<Response: Decode + Send + 'static> + Encode + Clone + Send + Sync + 'static
{
    /// Where it goes, if all of it goes to one place.
    fn place(&self) -> Place {
        match Route::of(Self::KEY) {
            Some(Route::Any | Route::Resource | Route::CoordinatorIfTransactional) => Place::Any,
            Some(Route::Same) => Place::Same,
            Some(Route::Controller) => Place::Controller,
            Some(Route::Named) => Place::Named,
            _ => Place::Nobody,
        }
    }

    /// The versions in which it can be said as it is.
    fn versions(&self) -> RangeInclusive<i16> {
        all(Self::KEY)
    }

    /// Whether doing it twice is the same as doing it once.
    fn is_repeatable(&self) -> bool {
        is_repeatable(Self::KEY)
    }

    /// Whether brokers answer it at all.
    fn is_answered(&self) -> bool {
        true
    }

    /// How long it lets the broker wait before it answers, for data or for other members of a group. A broker
    /// that is silent for so long is not lost.
    fn held(&self) -> Duration {
        Duration::ZERO
    }

    /// Where all of it goes, if that is one spot, and the request need not be taken apart. Most need not.
    fn spot(&self, _view: &mut View<'_>) -> Option<Spot> {
        None
    }

    /// One part for each spot that some of it goes to.
    fn split(self, view: &mut View<'_>) -> Vec<(Spot, Self)> {
        vec![(view.spot(&self.place()), self)]
    }

    /// Every error code in an answer.
    fn codes(response: &Self::Response) -> SmallVec<[ErrorCode; 4]>;

    /// Takes the items out of an answer that are to be sent again, and says what to send; the answer goes
    /// with its last item. By default a request goes as a whole: again if something is to be, and nothing
    /// was done.
    fn again(
        &self,
        response: &mut Option<Self::Response>,
        is_again: &dyn Fn(ErrorCode) -> bool,
    ) -> Option<Self> {
        let codes = Self::codes(response.as_ref()?);
        let none_done = self.is_repeatable() || !codes.contains(&ErrorCode::NONE);
        (none_done && codes.into_iter().any(is_again)).then(|| {
            *response = None;
            self.clone()
        })
    }

    /// Adds to an answer the items that the broker should have spoken of and did not, as failed.
    fn complete(&self, _response: &mut Self::Response) {}

    /// The answer to all parts out of theirs. What is not split has one.
    fn merge(first: Self::Response, _rest: Vec<Self::Response>) -> Self::Response {
        first
    }

    /// The same in requests of one item each, for brokers that have no version for all of it; none if there
    /// is no such form.
    fn alone(&self) -> Vec<Self> {
        Vec::new()
    }

    /// The answer to this request out of those to [`alone`](Self::alone), in their order.
    fn together(&self, answers: Vec<Self::Response>) -> Self::Response {
        answers.into_iter().next().unwrap_or_default()
    }

    /// An answer that says of every item that it failed. None if an answer cannot say that.
    fn failed(&self, _code: ErrorCode, _words: &str) -> Option<Self::Response> {
        None
    }

    /// Leaders that the answer tells of (KIP-951).
    fn hints(_response: &Self::Response) -> Hints {
        Hints::default()
    }

    /// The coordinators that it went to.
    fn coordinated(&self) -> Vec<(Lookup, Str)> {
        match self.place() {
            Place::Coordinator(lookup, key) => vec![(lookup, key)],
            _ => Vec::new(),
        }
    }
}

/// All versions of an API. Which of them may be used at all, connections know.
pub(crate) fn all(api: ApiKey) -> RangeInclusive<i16> {
    // An API without versions is one that Kafka does not have; there is no request of one.
    #[allow(clippy::reversed_empty_ranges, reason = "none")]
    api.versions().unwrap_or(0..=-1)
}

/// Those versions, cut to what says topics by name or by id. `by_id` is the first that says them by id
/// alone; a request that has both can be said in all.
fn by_name_or_id<'a>(
    api: ApiKey,
    by_id: i16,
    topics: impl Iterator<Item = (&'a Str, Uuid)>,
) -> RangeInclusive<i16> {
    let (mut first, mut last) = all(api).into_inner();
    for (name, id) in topics {
        if id.is_zero() {
            last = last.min(by_id - 1);
        }
        if name.is_empty() {
            first = first.max(by_id);
        }
    }
    first..=last
}

/// The code that stands for an error of the way.
pub(crate) fn code_of(error: &Error) -> ErrorCode {
    match error.code() {
        Some(code) => code,
        None if error.is_timeout() => ErrorCode::REQUEST_TIMED_OUT,
        None if error.is_io() || error.is_closed() => ErrorCode::NETWORK_EXCEPTION,
        None if error.is_unsupported() => ErrorCode::UNSUPPORTED_VERSION,
        None if error.is_auth() => ErrorCode::SASL_AUTHENTICATION_FAILED,
        None => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

/// The worst verdict on the codes of an answer: what is to be done before it is sent again.
pub(crate) fn judge<R: Routed>(response: &R::Response, route: Route) -> (Verdict, ErrorCode) {
    let judged = R::codes(response).into_iter().map(|code| (Verdict::of(code, route), code));
    judged.max_by_key(|(verdict, _)| *verdict).unwrap_or((Verdict::Answer, ErrorCode::NONE))
}

/// A time that a request gives in milliseconds, where less than none is none.
fn ms(time: i32) -> Duration {
    Duration::from_millis(u64::try_from(time).unwrap_or(0))
}

/// The first error of two.
fn first_error(a: i16, b: i16) -> i16 {
    if a == 0 { b } else { a }
}

/// What is said of an item that the broker did not speak of.
const UNSAID: (ErrorCode, &str) = (ErrorCode::UNKNOWN_SERVER_ERROR, "the broker said nothing of it");

/// Puts items that go to the same spot together, in the order of spots.
fn group<T>(items: impl IntoIterator<Item = T>, mut spot: impl FnMut(&T) -> Spot) -> BTreeMap<Spot, Vec<T>> {
    let mut groups: BTreeMap<Spot, Vec<T>> = BTreeMap::new();
    for item in items {
        groups.entry(spot(&item)).or_default().push(item);
    }
    groups
}
