//! Who coordinates a group, a transaction, or the state of a share group.
//!
//! A look-up is made once for all who want it, together with others of its kind (KIP-699), and what was
//! found is kept until an error says otherwise. A key whose look-up failed waits for a backoff that grows;
//! what is refused for good is told to all who ask until the backoff is over, and only then asked again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::metadata::Broker;
use crate::conn::Dice;
use crate::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use crate::observe::{Event, Lookup};
use crate::wire::Str;
use crate::{Error, ErrorCode};

/// Coordinators that are kept at most; beyond, the one that was not used for longest goes.
const KEPT_MAX: usize = 10_000;

/// A key that nobody asked for during this time is not looked up again.
const IDLE: Duration = Duration::from_mins(1);

/// Keys of one request at most.
const BATCH_MAX: usize = 1000;

/// The first version with more than one key (KIP-699).
const BATCHES: i16 = 4;

/// What a coordinator is looked up by.
pub(crate) type Key = (Lookup, Str);

/// What is known of a coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is that broker.
    At(i32),
    /// It is being looked up, or waits for that.
    Wait,
    /// There is none for us: not allowed, not a valid id.
    Refused(ErrorCode),
}

/// A look-up that is to be sent now, to any broker. It is ended by [`Coordinators::handle_end`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Find {
    pub(crate) ticket: u64,
    pub(crate) lookup: Lookup,
    pub(crate) keys: Vec<Str>,
}

impl Find {
    /// The requests that say it in that version: one, or one a key.
    pub(crate) fn requests(&self, version: i16) -> Vec<FindCoordinatorRequest> {
        let key_type = match self.lookup {
            Lookup::Group => 0,
            Lookup::Transaction => 1,
            Lookup::Share => 2,
        };
        let request = FindCoordinatorRequest { key_type, ..FindCoordinatorRequest::default() };
        if version >= BATCHES {
            return vec![FindCoordinatorRequest { coordinator_keys: self.keys.clone(), ..request }];
        }
        let one = |key: &Str| FindCoordinatorRequest { key: key.clone(), ..request.clone() };
        self.keys.iter().map(one).collect()
    }
}

/// What an answer said of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) key: Str,
    pub(crate) broker: Result<Broker, ErrorCode>,
}

/// Reads the answer to a request with those keys. No error, but no broker that could be one either, is
/// taken as one that is not there yet.
pub(crate) fn read(request: &FindCoordinatorRequest, response: FindCoordinatorResponse) -> Vec<Said> {
    let said = |key, code, id, host: Str, port| {
        let broker = Broker::checked(id, &host, port, None);
        let broker = match ErrorCode(code) {
            ErrorCode::NONE => broker.ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE),
            code => Err(code),
        };
        Said { key, broker }
    };
    if request.coordinator_keys.is_empty() {
        let FindCoordinatorResponse { error_code, node_id, host, port, .. } = response;
        return vec![said(request.key.clone(), error_code, node_id, host, port)];
    }
    let one = |at: crate::messages::find_coordinator::Coordinator| {
        said(at.key, at.error_code, at.node_id, at.host, at.port)
    };
    response.coordinators.into_iter().map(one).collect()
}

/// The code that tells callers of an error which another attempt would not change.
fn fatal(error: &Error) -> Option<ErrorCode> {
    match error.code() {
        Some(code) => Some(code).filter(|code| !code.is_retriable()),
        None if error.is_auth() => Some(ErrorCode::SASL_AUTHENTICATION_FAILED),
        None if error.is_unsupported() => Some(ErrorCode::UNSUPPORTED_VERSION),
        None => None,
    }
}

/// A coordinator that was found, and when it was last asked for, counted in uses.
#[derive(Debug)]
struct Known {
    broker: i32,
    used: u64,
}

/// A coordinator that is not known.
#[derive(Debug)]
enum State {
    /// To be looked up, not before that time.
    Due {
        at: Instant,
        failures: u32,
        wanted: Instant,
    },
    InFlight {
        ticket: u64,
        failures: u32,
        wanted: Instant,
    },
    Refused {
        code: ErrorCode,
        until: Instant,
    },
}

#[derive(Debug)]
pub(crate) struct Coordinators {
    backoff: Backoff,
    dice: Dice,
    known: BTreeMap<Key, Known>,
    open: BTreeMap<Key, State>,
    tickets: u64,
    uses: u64,
    events: VecDeque<Event>,
}

impl Coordinators {
    pub(crate) fn new(backoff: Backoff, seed: u64) -> Self {
        let (dice, events) = (Dice::new(seed), VecDeque::new());
        let (known, open) = (BTreeMap::new(), BTreeMap::new());
        Self { backoff, dice, known, open, tickets: 0, uses: 0, events }
    }

    /// Where it is; if that is not known, it is looked up from now on.
    pub(crate) fn handle_want(&mut self, lookup: Lookup, key: &Str, now: Instant) -> Found {
        self.uses += 1;
        let key = (lookup, key.clone());
        if let Some(known) = self.known.get_mut(&key) {
            known.used = self.uses;
            return Found::At(known.broker);
        }
        match self.open.get_mut(&key) {
            Some(State::Refused { code, until }) if *until > now => Found::Refused(*code),
            Some(State::Due { wanted, .. } | State::InFlight { wanted, .. }) => {
                *wanted = now;
                Found::Wait
            }
            Some(State::Refused { .. }) | None => {
                self.open.insert(key, State::Due { at: now, failures: 0, wanted: now });
                Found::Wait
            }
        }
    }

    /// An error says that this broker does not coordinate it, or it cannot be reached. What was found
    /// elsewhere meanwhile stays.
    pub(crate) fn handle_lost(&mut self, lookup: Lookup, key: &Str, broker: i32, now: Instant) {
        let key = (lookup, key.clone());
        if self.known.get(&key).is_some_and(|known| known.broker == broker) {
            self.known.remove(&key);
            // The group has not moved in no time: one failure already.
            let at = now + self.backoff.after(1, &mut self.dice);
            self.open.insert(key, State::Due { at, failures: 1, wanted: now });
        }
    }

    /// The look-up of that ticket ended, with what was said of its keys, or with an error. A key of which
    /// nothing was said is looked up again.
    pub(crate) fn handle_end(&mut self, ticket: u64, said: Result<Vec<Said>, Error>, now: Instant) {
        let mine = |state: &State| matches!(state, State::InFlight { ticket: at, .. } if *at == ticket);
        let keys = self.open.iter().filter(|(_, state)| mine(state)).map(|(key, _)| key.clone());
        let mut waiting: BTreeSet<Key> = keys.collect();
        let Some(lookup) = waiting.first().map(|(lookup, _)| *lookup) else { return };
        let fatal = said.as_ref().err().and_then(fatal);
        for Said { key, broker } in said.unwrap_or_default() {
            // A key that was not asked for, or comes twice, is not believed.
            if let Some(key) = waiting.take(&(lookup, key)) {
                match broker {
                    Ok(broker) => self.found(key, broker.id),
                    Err(code) if code.is_retriable() => self.again(key, now),
                    Err(code) => self.refused(key, code, now),
                }
            }
        }
        for key in waiting {
            match fatal {
                Some(code) => self.refused(key, code, now),
                None => self.again(key, now),
            }
        }
    }

    /// A look-up that is to be sent now: all keys of one kind that wait for one.
    pub(crate) fn poll_request(&mut self, now: Instant) -> Option<Find> {
        let due = |state: &State| matches!(state, State::Due { at, .. } if *at <= now);
        let (lookup, _) = *self.open.iter().find(|(_, state)| due(state))?.0;
        self.tickets += 1;
        let mut keys = Vec::new();
        for ((_, key), state) in self.open.iter_mut().filter(|((kind, _), _)| *kind == lookup) {
            match *state {
                State::Due { at, failures, wanted } if at <= now && keys.len() < BATCH_MAX => {
                    *state = State::InFlight { ticket: self.tickets, failures, wanted };
                    keys.push(key.clone());
                }
                _ => {}
            }
        }
        Some(Find { ticket: self.tickets, lookup, keys })
    }

    /// When there is a look-up to be sent, if nothing else happens before.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let due = |state: &State| match state {
            State::Due { at, .. } => Some(*at),
            _ => None,
        };
        self.open.values().filter_map(due).min()
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn found(&mut self, key: Key, broker: i32) {
        let text = key.1.escape_debug().to_string().into();
        self.events.push_back(Event::CoordinatorChanged { lookup: key.0, key: text, node: broker });
        self.uses += 1;
        self.open.remove(&key);
        self.known.insert(key, Known { broker, used: self.uses });
        if self.known.len() > KEPT_MAX {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.used);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.known.remove(&key);
            }
        }
    }

    fn again(&mut self, key: Key, now: Instant) {
        let (failures, wanted) = match self.open.remove(&key) {
            Some(State::InFlight { failures, wanted, .. }) => (failures.saturating_add(1), wanted),
            _ => return,
        };
        if now.saturating_duration_since(wanted) < IDLE {
            let at = now + self.backoff.after(failures, &mut self.dice);
            self.open.insert(key, State::Due { at, failures, wanted });
        }
    }

    fn refused(&mut self, key: Key, code: ErrorCode, now: Instant) {
        let until = now + self.backoff.most;
        self.open.insert(key, State::Refused { code, until });
        // What is refused is forgotten soon, so that names made up by a caller do not add up.
        self.open.retain(|_, state| !matches!(state, State::Refused { until, .. } if *until <= now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::find_coordinator::Coordinator;
    use crate::wire::Message;

    const MS: Duration = Duration::from_millis(1);

    struct Bench {
        machine: Coordinators,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self { machine: Coordinators::new(Backoff::default(), 5), now: Instant::now() }
        }

        fn want(&mut self, key: &str) -> Found {
            self.machine.handle_want(Lookup::Group, &key.into(), self.now)
        }

        fn find(&mut self) -> Option<Find> {
            self.machine.poll_request(self.now)
        }

        /// Waits until there is something to be looked up.
        fn next(&mut self) -> Find {
            self.now = self.now.max(self.machine.poll_timeout().unwrap());
            self.find().unwrap()
        }

        fn say(&mut self, find: &Find, said: &[(&str, Result<i32, ErrorCode>)]) {
            let broker = |id| Broker::checked(id, "b", 9092, None).unwrap();
            let said = said.iter().map(|(key, at)| Said { key: (*key).into(), broker: at.map(broker) });
            self.machine.handle_end(find.ticket, Ok(said.collect()), self.now);
        }

        fn known(key: &str, broker: i32) -> Self {
            let mut bench = Self::new();
            bench.want(key);
            let find = bench.find().unwrap();
            bench.say(&find, &[(key, Ok(broker))]);
            bench
        }
    }

    #[test]
    fn all_that_is_wanted_is_looked_up_at_once_and_only_once() {
        let mut bench = Bench::new();
        for key in ["g", "h", "g"] {
            assert_eq!(bench.want(key), Found::Wait);
        }
        bench.machine.handle_want(Lookup::Transaction, &"t".into(), bench.now);
        let groups = bench.find().unwrap();
        assert_eq!((groups.lookup, &groups.keys[..]), (Lookup::Group, &["g".into(), "h".into()][..]));
        let transactions = bench.find().unwrap();
        assert_eq!(transactions.keys, ["t"]);
        bench.want("g");
        assert!(bench.find().is_none() && bench.machine.poll_timeout().is_none(), "they are on their way");
        bench.say(&groups, &[("g", Ok(1)), ("h", Ok(2)), ("uninvited", Ok(3)), ("g", Ok(9))]);
        assert_eq!((bench.want("g"), bench.want("h")), (Found::At(1), Found::At(2)));
        assert_eq!(bench.want("uninvited"), Found::Wait, "it was not asked for");
        // A second end of the same look-up is nobody's.
        bench.say(&groups, &[("g", Ok(7))]);
        assert_eq!(bench.want("g"), Found::At(1));
    }

    #[test]
    fn g06_an_error_leads_to_a_new_look_up_after_a_backoff() {
        let mut bench = Bench::known("g", 1);
        bench.machine.handle_lost(Lookup::Group, &"g".into(), 2, bench.now);
        assert_eq!(bench.want("g"), Found::At(1), "an old error, of a broker that is not it any more");
        bench.machine.handle_lost(Lookup::Group, &"g".into(), 1, bench.now);
        assert_eq!(bench.want("g"), Found::Wait);
        assert!(bench.find().is_none(), "not at once");
        let before = bench.now;
        let find = bench.next();
        assert!((80 * MS..=120 * MS).contains(&(bench.now - before)));
        bench.say(&find, &[("g", Ok(2))]);
        assert_eq!(bench.want("g"), Found::At(2));
    }

    #[test]
    fn look_ups_that_fail_slow_down_and_end_when_nobody_waits() {
        let mut bench = Bench::new();
        bench.want("g");
        let (start, mut count) = (bench.now, 0);
        while bench.machine.poll_timeout().is_some() {
            let find = bench.next();
            count += 1;
            match count % 3 {
                0 => bench.say(&find, &[("g", Err(ErrorCode::COORDINATOR_NOT_AVAILABLE))]),
                1 => bench.machine.handle_end(find.ticket, Err(Error::timeout("")), bench.now),
                // The answer does not speak of it.
                _ => bench.say(&find, &[]),
            }
        }
        assert!((50..=80).contains(&count), "{count} in a minute");
        assert!(bench.now - start < 62 * 1000 * MS);
        assert!(bench.machine.open.is_empty());
    }

    #[test]
    fn what_is_refused_is_told_for_a_while() {
        let mut bench = Bench::new();
        let code = ErrorCode::GROUP_AUTHORIZATION_FAILED;
        bench.want("g");
        let find = bench.find().unwrap();
        bench.say(&find, &[("g", Err(code))]);
        assert_eq!(bench.want("g"), Found::Refused(code));
        assert!(bench.machine.poll_timeout().is_none());
        bench.now += 1001 * MS;
        assert_eq!(bench.want("g"), Found::Wait);
        let find = bench.find().unwrap();
        bench.machine.handle_end(find.ticket, Err(Error::auth("no")), bench.now);
        assert_eq!(bench.want("g"), Found::Refused(ErrorCode::SASL_AUTHENTICATION_FAILED));
        bench.now += 1001 * MS;
        bench.want("h");
        let find = bench.find().unwrap();
        bench.machine.handle_end(find.ticket, Err(Error::unsupported("no")), bench.now);
        assert_eq!(bench.want("h"), Found::Refused(ErrorCode::UNSUPPORTED_VERSION));
        assert_eq!(bench.machine.open.len(), 1, "the older one is forgotten");
    }

    #[test]
    fn b16_a_coordinator_that_cannot_be_is_one_that_is_not_there_yet() {
        let request = FindCoordinatorRequest { key: "g".into(), ..FindCoordinatorRequest::default() };
        for (node_id, host, port) in [(-1, "b", 9092), (1, "", 9092), (1, "b", 0), (1, "b", 70_000)] {
            let host = host.into();
            let answer =
                FindCoordinatorResponse { node_id, host, port, ..FindCoordinatorResponse::default() };
            let said = read(&request, answer);
            assert_eq!(said[0].broker, Err(ErrorCode::COORDINATOR_NOT_AVAILABLE));
            assert!(said[0].broker.as_ref().unwrap_err().is_retriable());
        }
    }

    #[test]
    fn each_version_asks_and_is_read_in_its_way() {
        let keys = vec!["g".into(), "h".into()];
        let find = Find { ticket: 1, lookup: Lookup::Group, keys };
        let old = find.requests(3);
        assert_eq!(old.iter().map(|request| request.key.as_str()).collect::<Vec<_>>(), ["g", "h"]);
        assert!(old.iter().all(|request| request.to_bytes(3).is_ok() && request.to_bytes(0).is_ok()));
        let [new] = &find.requests(6)[..] else { panic!("one request") };
        assert!(new.to_bytes(6).is_ok());
        let found = |key: &str, node_id, error_code: ErrorCode| Coordinator {
            key: key.into(),
            node_id,
            host: "b".into(),
            port: 1,
            error_code: error_code.0,
            ..Coordinator::default()
        };
        let coordinators =
            vec![found("g", 4, ErrorCode::NONE), found("h", -1, ErrorCode::COORDINATOR_NOT_AVAILABLE)];
        let said = read(new, FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() });
        assert_eq!(said[0].broker.as_ref().unwrap().id, 4);
        assert_eq!(said[1].broker, Err(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut bench = Bench::new();
        for n in 0..=KEPT_MAX {
            let key = n.to_string();
            bench.want(&key);
            let find = bench.find().unwrap();
            bench.say(&find, &[(&key, Ok(1))]);
            bench.want("0");
            while bench.machine.poll_event().is_some() {}
        }
        assert_eq!(bench.machine.known.len(), KEPT_MAX);
        assert_eq!((bench.want("0"), bench.want("1")), (Found::At(1), Found::Wait), "the oldest went");
    }
}
