//! The connections of one client: to each broker one for each use, and where a use waits long one for each user, made when first wanted, shared by
//! all, and made again after they end, with growing pauses after failures.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::config::Config;
use super::connection::{Connection, Ended};
use super::dice::Dice;
use super::driver::{self, Start};
use super::handshake::Expected;
use super::reconnect::Reconnect;
use crate::net::task::{self, Task};
use crate::net::{Address, Dialer, Origin};
use crate::observe::{Hub, Use};
use crate::wire::Str;
use crate::{Error, Result};

/// The newest version in which we ask what versions there are.
const ASK_VERSION: i16 = 5;

/// Connections that are waited for in turn, if each is let go before it is ready.
const MOVES_MAX: usize = 3;

/// To whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    /// A broker that metadata names.
    Broker(i32),
    /// One of the addresses that the user gave, by its place among them.
    Bootstrap(usize),
}

/// One of the connections to a broker: what it is used for, and whose it is among those who use it for that.
/// A member of a group that waits for the others must not stand before another member of the same client,
/// for whom it waits; nor may a fetch stand before another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lane {
    pub(crate) kind: Use,
    /// 0 is everyone's.
    pub(crate) number: u32,
}

impl Lane {
    const FIRST: Self = Self { kind: Use::General, number: 0 };
}

impl From<Use> for Lane {
    fn from(kind: Use) -> Self {
        Self { kind, number: 0 }
    }
}

/// All connections of one client. Clones share them.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    config: Arc<Config>,
    dialer: Dialer,
    hub: Hub,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    slots: BTreeMap<(Target, Lane), Slot>,
    bootstrap: Vec<Address>,
    brokers: BTreeMap<i32, Address>,
    cluster: Option<Str>,
    closed: bool,
    dice: Dice,
    /// Ended or closing, kept until their tasks are done.
    retired: Vec<(Connection, Task)>,
}

/// The connection of one use to one broker, and what is remembered from those before.
#[derive(Default)]
struct Slot {
    current: Option<(Connection, Task)>,
    address: Option<Address>,
    reconnect: Reconnect,
    /// The broker breaks off when it is asked for versions in a newer form.
    old: bool,
}

impl Pool {
    /// No connection yet. `seed` is any number; pauses are drawn from it.
    pub(crate) fn new(config: Config, dialer: Dialer, hub: Hub, bootstrap: Vec<Address>, seed: u64) -> Self {
        let state = State { bootstrap, dice: Dice::new(seed), ..State::default() };
        Self(Arc::new(Inner { config: Arc::new(config), dialer, hub, state: Mutex::new(state) }))
    }

    /// How many addresses the user gave.
    pub(crate) fn bootstrap_len(&self) -> usize {
        self.0.lock().bootstrap.len()
    }

    /// Where brokers are now. Connections to brokers that have moved, or are gone, finish what they
    /// have and end. A connection to an address that the user gave is from now on that to the broker
    /// there, so that nobody is connected to twice for the same use.
    pub(crate) fn set_brokers(&self, brokers: BTreeMap<i32, Address>, cluster: Option<Str>) {
        let mut state = self.0.lock();
        if cluster.is_some() {
            state.cluster = cluster;
        }
        if state.brokers == brokers {
            return;
        }
        let before = std::mem::replace(&mut state.brokers, brokers);
        let State { brokers: now, .. } = &*state;
        let moved: Vec<i32> =
            before.iter().filter(|(id, at)| now.get(id) != Some(at)).map(|(id, _)| *id).collect();
        state.retire(|target| matches!(target, Target::Broker(id) if moved.contains(id)));
        state.adopt(|address| self.0.dialer.is_plain(address));
    }

    /// A ready connection: the one there is, or a new one. Safe to drop: what was begun goes on for others.
    ///
    /// # Errors
    /// Why the connection could not be made; [`is_closed`](Error::is_closed) after the pool was closed.
    pub(crate) async fn connection(&self, target: Target, lane: impl Into<Lane>) -> Result<Connection> {
        let lane = lane.into();
        let mut last = None;
        for _ in 0..MOVES_MAX {
            let connection = self.current(target, lane)?;
            match connection.ready().await {
                Ok(_) => return Ok(connection),
                // It was let go meanwhile, because it was idle or the broker has moved: there is another,
                // unless all is closed.
                Err(error) if error.is_closed() => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        let error = Error::io("connections are let go as soon as they are made");
        Err(last.into_iter().fold(error, Error::because))
    }

    /// Where a broker is, for people.
    pub(crate) fn address(&self, target: Target) -> Option<String> {
        let state = self.0.lock();
        match target {
            Target::Broker(id) => state.brokers.get(&id).map(|address| format!("{id} ({address})")),
            Target::Bootstrap(place) => state.bootstrap.get(place).map(ToString::to_string),
        }
    }

    /// Requests that wait on all connections to a broker; none if there is no connection.
    pub(crate) fn load(&self, target: Target) -> Option<usize> {
        let state = self.0.lock();
        let slots = state.slots.range((target, Lane::FIRST)..).take_while(|((t, _), _)| *t == target);
        let open = slots
            .filter_map(|(_, slot)| slot.current.as_ref())
            .filter(|(connection, _)| connection.is_open());
        open.map(|(connection, _)| connection.load()).reduce(|a, b| a + b)
    }

    /// Takes no more requests, waits until those under way are done, and ends all connections; what is
    /// not done by the deadline is broken off. Safe to drop, and to call again.
    pub(crate) async fn close(&self, deadline: Instant) {
        let waiting: Vec<Connection> = {
            let mut state = self.0.lock();
            state.closed = true;
            state.retire(|_| true);
            state.retired.iter().map(|(connection, _)| connection.clone()).collect()
        };
        let all = async {
            for connection in &waiting {
                connection.ended().await;
            }
        };
        let _ = tokio::time::timeout_at(deadline.into(), all).await;
        // Dropping a task ends it, and fails what waits on its connection.
        let retired = std::mem::take(&mut self.0.lock().retired);
        drop(retired);
    }

    fn current(&self, target: Target, lane: Lane) -> Result<Connection> {
        let mut state = self.0.lock();
        let state = &mut *state;
        if state.closed {
            return Err(Error::closed("the client was closed"));
        }
        state.retired.retain(|(connection, _)| connection.end_of().is_none());
        if let Some(Slot { current: Some((connection, _)), .. }) = state.slots.get(&(target, lane))
            && connection.is_open()
        {
            return Ok(connection.clone());
        }
        if let Some(connection) = state.take_over(target, lane) {
            return Ok(connection);
        }
        let (address, origin) = match target {
            Target::Bootstrap(place) => (state.bootstrap.get(place), Origin::Bootstrap),
            Target::Broker(id) => (state.brokers.get(&id), Origin::Advertised),
        };
        let Some(address) = address.cloned() else {
            let known: Vec<String> = state.brokers.keys().take(16).map(ToString::to_string).collect();
            let known = known.join(", ");
            return Err(match target {
                Target::Broker(id) => Error::io(format!("there is no broker {id}; known are: {known}")),
                Target::Bootstrap(place) => Error::io(format!("there is no bootstrap address {place}")),
            });
        };
        let slot = state.slots.entry((target, lane)).or_default();
        let chance = state.dice.roll();
        slot.note_end(&self.0.config, chance);
        slot.current = None;
        // Whoever is at the user's own addresses is right, even in another cluster than before.
        let expected = match target {
            Target::Broker(id) => state.cluster.clone().map(|cluster| (cluster, id)),
            Target::Bootstrap(_) => None,
        };
        Ok(self.open(slot, (target, lane.kind), (address, origin), expected, chance))
    }

    fn open(
        &self,
        slot: &mut Slot,
        (target, kind): (Target, Use),
        (address, origin): (Address, Origin),
        expected: Expected,
        chance: u64,
    ) -> Connection {
        let config = &self.0.config;
        let broker: Arc<str> = match target {
            Target::Broker(id) => name(id, &address),
            Target::Bootstrap(_) => address.to_string().into(),
        };
        let connection = Connection::new(broker, kind, self.0.hub.clone(), Arc::clone(config));
        if slot.address.as_ref() != Some(&address) {
            (slot.reconnect, slot.old) = (Reconnect::default(), false);
        }
        let start = Start {
            dialer: self.0.dialer.clone(),
            address: address.clone(),
            origin,
            expected,
            not_before: slot.reconnect.not_before(),
            setup_timeout: slot.reconnect.setup_timeout(config),
            ask_version: if slot.old { 0 } else { ASK_VERSION },
            chance,
        };
        let task = task::spawn(driver::run(Arc::clone(&connection.0), start));
        slot.address = Some(address);
        slot.current = Some((connection.clone(), task));
        connection
    }
}

impl Slot {
    /// Remembers how the connection ended that was here, for the pause before the next.
    fn note_end(&mut self, config: &Config, chance: u64) {
        let Some((connection, _)) = &self.current else { return };
        let Some(Ended { why, old, at, ready_for }) = connection.end_of() else { return };
        // Asked in the first form once; if that fails too, or works, the next attempt begins anew.
        self.old = old && !self.old;
        // One that did not last counts as a failure, or a broker that breaks off at once would be asked
        // again and again without a pause.
        if ready_for.is_some_and(|time| time >= config.backoff_max) || why.is_closed() {
            self.reconnect.succeeded();
        }
        if !why.is_closed() {
            self.reconnect.failed(config, chance, at);
        }
    }
}

impl State {
    /// Lets connections finish and end.
    fn retire(&mut self, which: impl Fn(&Target) -> bool) {
        for ((target, _), slot) in &mut self.slots {
            if which(target)
                && let Some((connection, task)) = slot.current.take()
            {
                connection.close();
                self.retired.push((connection, task));
            }
        }
        self.slots.retain(|(target, _), _| !which(target));
    }

    /// The connection by which the cluster was found serves the first use that wants one to its broker, if
    /// it has nothing to do: the first record need not wait for another. Uses still share none; what is
    /// general gets a new one when it next wants one. Fetches, joins and changes wait long at the broker, and who was
    /// given the connection a moment ago must not come to stand behind one: they get none that was another's.
    fn take_over(&mut self, target: Target, lane: Lane) -> Option<Connection> {
        let (from, to) = ((target, Lane::FIRST), (target, lane));
        let (connection, _) = self.slots.get(&from)?.current.as_ref()?;
        let waits_long = matches!(lane.kind, Use::Fetch | Use::Group | Use::Admin);
        if waits_long || self.slots.contains_key(&to) || !connection.is_spare() {
            return None;
        }
        let connection = connection.clone();
        connection.take_for(lane.kind);
        let slot = self.slots.remove(&from)?;
        self.slots.insert(to, slot);
        Some(connection)
    }

    /// Makes ready connections to bootstrap addresses those to the brokers that are there. Before brokers
    /// are known only general ones are made.
    fn adopt(&mut self, may: impl Fn(&Address) -> bool) {
        for (id, address) in &self.brokers {
            // Where several are said to be at one address there is no telling which was reached.
            let alone = self.brokers.values().filter(|other| *other == address).count() == 1;
            let Some(place) = self.bootstrap.iter().position(|given| given == address) else { continue };
            let (from, to) = ((Target::Bootstrap(place), Lane::FIRST), (Target::Broker(*id), Lane::FIRST));
            if !alone || !may(address) || self.slots.contains_key(&to) {
                continue;
            }
            let current = self.slots.get(&from).and_then(|slot| slot.current.as_ref());
            if let Some((connection, _)) = current
                && connection.is_open()
                && connection.versions().is_ok()
            {
                connection.rename(name(*id, address));
                let slot = self.slots.remove(&from).unwrap_or_default();
                self.slots.insert(to, slot);
            }
        }
    }
}

/// A broker, as people name it.
fn name(id: i32, address: &Address) -> Arc<str> {
    format!("{id} ({address})").into()
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        let open: Vec<_> =
            state.slots.iter().filter(|(_, slot)| slot.current.is_some()).map(|(to, _)| *to).collect();
        f.debug_struct("Pool")
            .field("connections", &open)
            .field("closed", &state.closed)
            .finish_non_exhaustive()
    }
}
