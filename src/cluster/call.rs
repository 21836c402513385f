//! A request on its way: resolved, taken apart, sent, judged, sent again where that helps, put together.

use std::cell::LazyCell;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use smallvec::SmallVec;

use super::brokers::{Brokers, Link};
use super::driver::{Cluster, State, connect};
use super::retry::{Schedule, Verdict};
use super::route::Route;
use super::split::{Routed, Spot, View, code_of, judge};
use crate::conn::{Lane, Target};
use crate::net::clock;
use crate::observe::{Event, Use};
use crate::wire::ApiKey;
use crate::{Error, ErrorCode, Result};

/// How a request is to be made. The defaults do what the table of routes says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// The broker that all of it goes to, whatever the table says.
    pub(crate) target: Option<Target>,
    /// When the caller gives up; `api_timeout` from now if it is not said.
    pub(crate) deadline: Option<Instant>,
    /// The versions that may be used, in place of those in which the request can be said.
    pub(crate) versions: Option<RangeInclusive<i16>>,
    /// Whether errors that would pass are given to the caller at once.
    pub(crate) once: bool,
    /// Whose connections are used where requests wait long; 0 is everyone's.
    pub(crate) lane: u32,
}

/// A part of a request, and what became of it.
#[derive(Debug)]
pub(crate) struct Part<R: Routed> {
    /// Who was asked last; nobody if it was never known whom to ask.
    pub(crate) target: Option<Target>,
    /// What was asked. Items that were then asked for elsewhere are in another part.
    pub(crate) request: R,
    pub(crate) result: Result<R::Response>,
}

/// A part that is not done.
struct Piece<R> {
    request: R,
    /// It stays with that broker.
    fixed: Option<Target>,
    last: Option<Target>,
    error: Option<Error>,
    /// An attempt may have been done.
    maybe: bool,
    /// What metadata says of what is waited for.
    lacking: Option<ErrorCode>,
}

impl<R: Routed> Piece<R> {
    fn new(request: R, fixed: Option<Target>) -> Self {
        Self { request, fixed, last: None, error: None, maybe: false, lacking: None }
    }

    /// Some of it, with its history.
    fn with(&self, request: R) -> Self {
        let Self { fixed, last, error, maybe, lacking, .. } = self;
        Self { request, fixed: *fixed, last: *last, error: error.clone(), maybe: *maybe, lacking: *lacking }
    }

    fn failed(self, error: Error) -> Part<R> {
        let error = if self.maybe { error.maybe_done() } else { error };
        Part { target: self.last, request: self.request, result: Err(error) }
    }

    /// Ends it because the time is over, with the last error if there was one, or what brokers say of the
    /// topic if they say it still.
    fn given_up(mut self, overdue: &Error) -> Part<R> {
        let said = self.lacking.filter(|_| std::error::Error::source(overdue).is_none());
        let said = said.map(|code| Error::broker_said(code, "it was asked again until the time was over"));
        let error = self.error.take().or(said).unwrap_or_else(|| overdue.clone());
        self.failed(error)
    }
}

/// What is to be done before the next attempt.
#[derive(Default)]
struct Next {
    error: Option<Error>,
    /// Wait for metadata newer than that of so many rounds.
    rounds: Option<u64>,
    /// A hint told where it is now; there is nothing to wait for.
    hinted: bool,
    /// The caller's time is over: what got no answer until now says nothing of its broker.
    over: bool,
}

impl<P: Brokers> Cluster<P> {
    /// Brings a request to whoever answers it, and the answer back, items that failed among it. Errors
    /// that pass are waited out until the deadline.
    ///
    /// Safe to drop; what was sent may then have been done.
    ///
    /// # Errors
    /// Why no part of it was answered; [`may_have_happened`](Error::may_have_happened) tells whether it may
    /// have been done all the same. An item of which only some others were answered is told in the answer.
    pub(crate) async fn request<R: Routed>(&self, request: R, options: &Options) -> Result<R::Response> {
        let route = route_of::<R>(options)?;
        let deadline = self.deadline(options);
        // Mostly all of it goes to one broker, which answers it, and nothing is taken apart.
        let Some(target) = self.spot(&request, options) else {
            let piece = Piece::new(request, options.target);
            return gather(Box::pin(self.go_on(piece, None, route, options, deadline)).await);
        };
        let mut result = self.attempt(target, &request, options, deadline).await;
        if let Ok(response) = &mut result
            && judge::<R>(response, route).0 == Verdict::Answer
            && route != Route::Same
        {
            request.complete(response);
            return result;
        }
        let piece = Piece::new(request, options.target);
        gather(Box::pin(self.go_on(piece, Some((target, result)), route, options, deadline)).await)
    }

    /// As [`request`](Self::request), with what each broker said by itself. There is one part at least.
    pub(crate) async fn parts<R: Routed>(&self, request: R, options: &Options) -> Result<Vec<Part<R>>> {
        let route = route_of::<R>(options)?;
        let piece = Piece::new(request, options.target);
        Ok(self.go_on(piece, None, route, options, self.deadline(options)).await)
    }

    fn deadline(&self, options: &Options) -> Instant {
        options.deadline.unwrap_or_else(|| clock::now() + self.inner.config.api_timeout)
    }

    /// Brings a request to its end, from the beginning or from what a first attempt came to.
    async fn go_on<R: Routed>(
        &self,
        piece: Piece<R>,
        tried: Option<(Target, Result<R::Response>)>,
        route: Route,
        options: &Options,
        deadline: Instant,
    ) -> Vec<Part<R>> {
        let backoff = self.inner.config.metadata.backoff;
        let mut schedule = Schedule::new(backoff, self.inner.seed(), deadline);
        let (mut pieces, mut results) = match tried {
            Some((target, result)) => (Vec::new(), vec![(target, piece, result)]),
            None => (vec![piece], Vec::new()),
        };
        let mut done = Vec::new();
        loop {
            let mut changes = self.inner.changes();
            let (ready, mut waiting) = self.resolve(pieces, route, &mut done);
            let attempts = ready.into_iter().map(|(target, piece)| async move {
                let result = self.attempt(target, &piece.request, options, deadline).await;
                (target, piece, result)
            });
            results.extend(join(attempts.collect()).await);
            let sent = !results.is_empty();
            let mut next = Next { over: clock::now() >= deadline, ..Next::default() };
            for (target, piece, result) in results.drain(..) {
                let piece = Piece { last: Some(target), ..piece };
                let rest = self.settle(piece, result, route, options, &mut done, &mut next);
                waiting.extend(rest);
            }
            pieces = waiting;
            if pieces.is_empty() {
                return done;
            }
            let waited = match &next.error {
                Some(_) => self.rest(&mut schedule, &next, R::KEY).await,
                None if sent => continue,
                None => self.inner.pause(&mut changes, deadline).await,
            };
            if let Err(overdue) = waited {
                done.extend(pieces.into_iter().map(|piece| piece.given_up(&overdue)));
                return done;
            }
        }
    }

    /// One attempt at one broker, in the highest version that both sides and the request can. Its error
    /// tells whether it may have been done. Safe to drop.
    pub(crate) async fn attempt<R: Routed>(
        &self,
        target: Target,
        request: &R,
        options: &Options,
        deadline: Instant,
    ) -> Result<R::Response> {
        let link = connect(&self.inner, target, lane_of(R::KEY, options), deadline).await?;
        let theirs = link.usable(R::KEY)?;
        let agree =
            |request: &R| agreed::<R>(options.versions.clone().unwrap_or(request.versions()), &theirs);
        let refused = match agree(request) {
            Ok(version) => return link.call(request, version, deadline).await,
            Err(refused) => refused,
        };
        let parts = request.alone();
        let versions = parts.iter().map(agree).collect::<Result<Vec<i16>>>();
        let Some(versions) = versions.ok().filter(|versions| !versions.is_empty()) else {
            return Err(refused);
        };
        let calls = parts.iter().zip(versions).map(|(part, version)| link.call(part, version, deadline));
        let answers = join(calls.collect()).await.into_iter().collect::<Result<_>>()?;
        Ok(request.together(answers))
    }

    /// Where all of a request goes, if that is known and one broker.
    fn spot<R: Routed>(&self, request: &R, options: &Options) -> Option<Target> {
        self.inner.with(|state, now| {
            state.usable().ok()?;
            let look = |view: &mut View<'_>| {
                view.named = options.target;
                request.spot(view)
            };
            match self.look(state, now, look)? {
                Spot::At(target) => Some(target),
                Spot::Wait | Spot::Refused(_) => None,
            }
        })
    }

    /// Shows somebody what is known, and sees to what he misses.
    fn look<T>(&self, state: &mut State, now: Instant, show: impl FnOnce(&mut View<'_>) -> T) -> T {
        let inner = &self.inner;
        let State { metadata, coordinators, same, .. } = state;
        let snapshot = Arc::clone(metadata.snapshot());
        let any = LazyCell::new(|| metadata.any(&|id| inner.load(id)));
        let mut view = View {
            snapshot: &snapshot,
            coordinators,
            now,
            any: &any,
            same: same.filter(|id| snapshot.broker(*id).is_some()),
            named: None,
            topics: SmallVec::new(),
            stale: false,
            lacking: None,
        };
        let seen = show(&mut view);
        let (wanted, lacks) = (std::mem::take(&mut view.topics), view.stale);
        for topic in wanted {
            metadata.handle_want(topic, now);
        }
        if lacks && !metadata.has_added() {
            metadata.handle_lacking(now);
        }
        seen
    }

    /// Takes pieces apart by where they go. What cannot go anywhere is done; what is not known waits.
    #[allow(clippy::type_complexity, reason = "two lists, named where it is called")]
    fn resolve<R: Routed>(
        &self,
        pieces: Vec<Piece<R>>,
        route: Route,
        done: &mut Vec<Part<R>>,
    ) -> (Vec<(Target, Piece<R>)>, Vec<Piece<R>>) {
        self.inner.with(|state, now| {
            // An error of all would hide what is done, and what may have been.
            if let Err(closed) = state.usable() {
                done.extend(pieces.into_iter().map(|piece| piece.failed(closed.clone())));
                return (Vec::new(), Vec::new());
            }
            let (mut ready, mut waiting) = (Vec::new(), Vec::new());
            let mut put = |spot, mut part: Piece<R>| match spot {
                Spot::At(target) => {
                    // Split again, it would go to all brokers again.
                    part.fixed = part.fixed.or((route == Route::Each).then_some(target));
                    ready.push((target, part));
                }
                Spot::Wait => waiting.push(part),
                Spot::Refused(code) => done.push(part.failed(refused(code))),
            };
            let lacking = self.look(state, now, |view| {
                for piece in pieces {
                    view.named = piece.fixed;
                    match piece.request.spot(view) {
                        Some(spot) => put(spot, piece),
                        None => piece
                            .request
                            .clone()
                            .split(view)
                            .into_iter()
                            .for_each(|(spot, request)| put(spot, piece.with(request))),
                    }
                }
                view.lacking
            });
            for piece in &mut waiting {
                piece.lacking = lacking;
            }
            if let Err(hopeless) = state.hope() {
                done.extend(waiting.drain(..).map(|piece| piece.failed(hopeless.clone())));
            }
            (ready, waiting)
        })
    }

    /// Judges what an attempt came to: done, or what is to be sent again.
    fn settle<R: Routed>(
        &self,
        mut piece: Piece<R>,
        result: Result<R::Response>,
        route: Route,
        options: &Options,
        done: &mut Vec<Part<R>>,
        next: &mut Next,
    ) -> Option<Piece<R>> {
        let mut response = match result {
            Ok(response) => response,
            Err(error) => {
                piece.maybe |= error.may_have_happened();
                let verdict = Verdict::of_failure(&error, route, piece.request.is_repeatable());
                let elsewhere = error.code() == Some(ErrorCode::REBOOTSTRAP_REQUIRED);
                if elsewhere {
                    // Another broker, or another cluster, is where the one was (KIP-1242).
                    self.inner.with(|state, now| state.metadata.handle_rebootstrap(now));
                }
                let lost = error.is_io() || (error.is_timeout() && !next.over) || elsewhere;
                let gone = self.remember_failure(&piece, verdict, lost, next);
                if options.once || !verdict.is_again() || gone {
                    done.push(piece.failed(error));
                    return None;
                }
                next.error = Some(error.clone());
                piece.error = Some(error);
                return Some(piece);
            }
        };
        piece.request.complete(&mut response);
        let (verdict, code) = judge::<R>(&response, route);
        self.remember_answer(&piece, &response, verdict, route, next);
        let mut response = Some(response);
        // A broker that the caller names stays the same, and will say "not here" again.
        let elsewhere =
            |verdict| options.target.is_some() && matches!(verdict, Verdict::Metadata | Verdict::Coordinator);
        let is_again = |code| {
            let verdict = Verdict::of(code, route);
            !options.once && verdict.is_again() && !elsewhere(verdict)
        };
        let again = piece.request.again(&mut response, &is_again);
        let rest = again.map(|request| {
            let error = Error::broker_said(code, "");
            let error = piece.last.map_or_else(|| error.clone(), |at| error.clone().with_broker(name(at)));
            next.error = Some(error.clone());
            Piece { error: Some(error), ..piece.with(request) }
        });
        if let Some(response) = response {
            done.push(Part { target: piece.last, request: piece.request, result: Ok(response) });
        }
        rest
    }

    /// Tells the machines of an attempt without an answer. Says whether the broker that it has to go to
    /// has left.
    fn remember_failure<R: Routed>(
        &self,
        piece: &Piece<R>,
        verdict: Verdict,
        lost: bool,
        next: &mut Next,
    ) -> bool {
        let Some(Target::Broker(broker)) = piece.last.filter(|_| lost) else { return false };
        self.inner.with(|state, now| {
            state.metadata.handle_unreachable(broker);
            state.metadata.handle_stale(now);
            if state.same == Some(broker) {
                state.same = None;
            }
            if verdict == Verdict::Metadata {
                next.rounds = Some(state.metadata.rounds());
            }
            for (lookup, key) in piece.request.coordinated() {
                state.coordinators.handle_lost(lookup, &key, broker, now);
            }
            // Before there is metadata, nobody knows who is there.
            let known = state.metadata.snapshot();
            piece.fixed.is_some() && known.brokers().len() > 0 && known.broker(broker).is_none()
        })
    }

    /// Tells the machines of an answer: leaders that it names, and what it says is not where we thought.
    fn remember_answer<R: Routed>(
        &self,
        piece: &Piece<R>,
        response: &R::Response,
        verdict: Verdict,
        route: Route,
        next: &mut Next,
    ) {
        let Some(Target::Broker(broker)) = piece.last else { return };
        if verdict == Verdict::Answer && route != Route::Same {
            return;
        }
        let hints = R::hints(response);
        self.inner.with(|state, now| {
            if route == Route::Same {
                state.same = Some(broker);
            }
            next.hinted |= state.metadata.handle_hints(&hints) > 0;
            match verdict {
                Verdict::Metadata | Verdict::AnswerAndRefresh => {
                    next.rounds = Some(state.metadata.rounds());
                    state.metadata.handle_stale(now);
                }
                Verdict::Coordinator => {
                    for (lookup, key) in piece.request.coordinated() {
                        state.coordinators.handle_lost(lookup, &key, broker, now);
                    }
                }
                Verdict::Answer | Verdict::Wait => {}
            }
        });
    }

    /// Waits before the next attempt: for the backoff, and for metadata if an error says that it is old.
    async fn rest(&self, schedule: &mut Schedule, next: &Next, api: ApiKey) -> Result<()> {
        let overdue = || Error::timeout("no time is left to try again");
        let backoff = schedule.handle_failure(clock::now()).ok_or_else(overdue)?;
        // The first time a hint is followed at once.
        let backoff =
            if next.hinted && schedule.attempts() == 1 { std::time::Duration::ZERO } else { backoff };
        if let Some(why) = next.error.clone() {
            self.inner.hub.tell(&Event::Retried { api, attempt: schedule.attempts(), backoff, why });
        }
        clock::sleep_until(clock::now() + backoff).await;
        let Some(rounds) = next.rounds.filter(|_| !next.hinted) else { return Ok(()) };
        loop {
            let mut changes = self.inner.changes();
            let news =
                self.inner.with(|state, _| state.usable().map(|()| state.metadata.rounds() > rounds))?;
            if news {
                return Ok(());
            }
            self.inner.pause(&mut changes, schedule.deadline()).await?;
        }
    }
}

/// How an API gets to whoever answers it, if it is for a client to send as it is.
fn route_of<R: Routed>(options: &Options) -> Result<Route> {
    let Some(route) = Route::of(R::KEY).filter(|route| *route != Route::Connection) else {
        return Err(Error::invalid(format!("{} is not for clients to send", R::KEY)));
    };
    if route == Route::Named && options.target.is_none() {
        return Err(Error::invalid(format!("{} goes to the broker that the caller names", R::KEY)));
    }
    Ok(route)
}

/// The highest version that a request can be said in and the broker has.
fn agreed<R: Routed>(ours: RangeInclusive<i16>, theirs: &RangeInclusive<i16>) -> Result<i16> {
    let (first, version) = (*theirs.start().max(ours.start()), *theirs.end().min(ours.end()));
    if first <= version {
        return Ok(version);
    }
    Err(Error::unsupported(format!(
        "this {} needs a version of {} to {}, and there are {} to {}",
        R::KEY,
        ours.start(),
        ours.end(),
        theirs.start(),
        theirs.end(),
    )))
}

/// Which connection an API uses: what waits long at the broker does not hold up the rest.
fn kind_of(api: ApiKey) -> Use {
    match api {
        ApiKey::PRODUCE => Use::Produce,
        ApiKey::FETCH | ApiKey::SHARE_FETCH | ApiKey::SHARE_ACKNOWLEDGE => Use::Fetch,
        ApiKey::JOIN_GROUP
        | ApiKey::SYNC_GROUP
        | ApiKey::HEARTBEAT
        | ApiKey::LEAVE_GROUP
        | ApiKey::CONSUMER_GROUP_HEARTBEAT
        | ApiKey::SHARE_GROUP_HEARTBEAT
        | ApiKey::STREAMS_GROUP_HEARTBEAT => Use::Group,
        // Leaders wait for their followers with it; brokers pass changes of settings on to the controller.
        ApiKey::DELETE_RECORDS | ApiKey::ALTER_CONFIGS | ApiKey::INCREMENTAL_ALTER_CONFIGS => Use::Admin,
        _ if Route::of(api) == Some(Route::Controller) => Use::Admin,
        _ => Use::General,
    }
}

fn lane_of(api: ApiKey, options: &Options) -> Lane {
    match kind_of(api) {
        kind @ (Use::Fetch | Use::Group) => Lane { kind, number: options.lane },
        kind => kind.into(),
    }
}

fn refused(code: ErrorCode) -> Error {
    Error::broker_said(code, "the cluster refuses the topic, group or transactional id")
}

fn name(target: Target) -> String {
    match target {
        Target::Broker(id) => id.to_string(),
        Target::Bootstrap(place) => format!("bootstrap address {place}"),
    }
}

/// One answer out of all parts. A part that failed is told in it, unless all did.
fn gather<R: Routed>(parts: Vec<Part<R>>) -> Result<R::Response> {
    let mut answers = Vec::new();
    let mut failures = Vec::new();
    let mut first = None;
    for Part { request, result, .. } in parts {
        match result {
            Ok(answer) => answers.push(answer),
            Err(error) => {
                failures.extend(request.failed(code_of(&error), &error.to_string()));
                first.get_or_insert(error);
            }
        }
    }
    let mut answers = answers.into_iter();
    match (answers.next(), first) {
        // Mostly there is one broker, and its answer stays as it is.
        (Some(answer), _) if answers.len() == 0 && failures.is_empty() => Ok(answer),
        (Some(answer), _) => Ok(R::merge(answer, answers.chain(failures).collect())),
        (None, Some(error)) => Err(error),
        (None, None) => Err(Error::internal("a request without parts")),
    }
}

/// Runs futures side by side on the caller's task, and gives their results in their order.
async fn join<F: Future>(mut futures: Vec<F>) -> Vec<F::Output> {
    if futures.len() == 1
        && let Some(only) = futures.pop()
    {
        return vec![only.await];
    }
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut all = true;
        for (future, result) in running.iter_mut().zip(&mut results) {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(output) => *result = Some(output),
                    Poll::Pending => all = false,
                }
            }
        }
        if all { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_may_hold_is_not_general() {
        // All whose requests have a time for the broker.
        for api in [
            ApiKey::CREATE_TOPICS,
            ApiKey::DELETE_TOPICS,
            ApiKey::CREATE_PARTITIONS,
            ApiKey::DELETE_RECORDS,
            ApiKey::ELECT_LEADERS,
            ApiKey::ALTER_PARTITION_REASSIGNMENTS,
            ApiKey::LIST_PARTITION_REASSIGNMENTS,
            ApiKey::UPDATE_FEATURES,
            ApiKey::ADD_RAFT_VOTER,
        ] {
            assert_eq!(kind_of(api), Use::Admin, "{api}");
        }
        for api in [ApiKey::METADATA, ApiKey::FIND_COORDINATOR, ApiKey::API_VERSIONS, ApiKey::LIST_OFFSETS] {
            assert_eq!(kind_of(api), Use::General, "{api}");
        }
        assert_eq!(kind_of(ApiKey::STREAMS_GROUP_HEARTBEAT), Use::Group);
    }
}
