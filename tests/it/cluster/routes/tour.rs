//! How each API is asked, and what is noted of the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write as _};
use std::sync::Arc;
use std::time::Duration;

use weir::conn::Versions;
use weir::observe::Event;
use weir::protocol::{ApiKey, Request, Uuid};
use weir::{Client, ClientRequest, Error, ErrorCode};

use super::super::Record;
use crate::seed::say;

/// What says that another broker is meant.
const MISROUTED: [ErrorCode; 4] = [
    ErrorCode::NOT_CONTROLLER,
    ErrorCode::NOT_LEADER_OR_FOLLOWER,
    ErrorCode::NOT_COORDINATOR,
    ErrorCode::COORDINATOR_NOT_AVAILABLE,
];

/// What the requests are about.
pub(super) struct Ground {
    pub(super) topic_id: Uuid,
}

impl Ground {
    /// Twelve partitions, with copies everywhere.
    pub(super) const TOPIC: &'static str = "routes";
}

/// What is known of an API after a round.
#[derive(Debug, Default)]
struct Row {
    versions: BTreeSet<i16>,
    brokers: BTreeSet<i32>,
    codes: BTreeSet<i16>,
    misrouted: Vec<ErrorCode>,
    not_offered: bool,
}

/// A round over all APIs.
pub(super) struct Tour<'a> {
    kafka: &'a Client,
    record: Record,
    pub(super) ground: &'a Ground,
    versions: Arc<Versions>,
    rows: BTreeMap<ApiKey, Row>,
}

impl<'a> Tour<'a> {
    pub(super) async fn new(kafka: &'a Client, record: Record, ground: &'a Ground) -> Self {
        let versions = kafka.versions(1).await.unwrap();
        Self { kafka, record, ground, versions, rows: BTreeMap::new() }
    }

    pub(super) fn kafka(&self) -> &'a Client {
        self.kafka
    }

    /// Whether brokers have that version of an API.
    pub(super) fn offers(&self, api: ApiKey, version: i16) -> bool {
        self.versions.usable(api).is_ok_and(|versions| versions.contains(&version))
    }

    /// Sends a request on the client's way. The answer may have only the codes that are `fine`, besides none.
    /// `None` if these brokers do not have the API.
    pub(super) async fn ask<R>(&mut self, request: R, fine: &[ErrorCode]) -> Option<R::Response>
    where
        R: ClientRequest + Request<Response: Debug>,
    {
        self.ask_at(None, request, fine).await
    }

    /// The same, where the caller has to name the broker.
    pub(super) async fn ask_at<R>(
        &mut self,
        broker: Option<i32>,
        request: R,
        fine: &[ErrorCode],
    ) -> Option<R::Response>
    where
        R: ClientRequest + Request<Response: Debug>,
    {
        let row = self.rows.entry(R::KEY).or_default();
        if self.versions.usable(R::KEY).is_err() {
            row.not_offered = true;
            return None;
        }
        self.record.take();
        let call = self.kafka.request(request);
        let call = match broker {
            Some(id) => call.to(id),
            None => call,
        };
        let answer = call.await;
        let codes = self.note::<R>(&answer);
        let strange: Vec<_> = codes.into_iter().filter(|code| !fine.contains(code)).collect();
        assert!(strange.is_empty(), "{}: {strange:?} in {answer:?}", R::KEY);
        Some(answer.unwrap_or_else(|error| panic!("{}: {error}", R::KEY)))
    }

    /// Sends a request twice to a broker that is the wrong one, as a wrong route would.
    pub(super) async fn ask_wrongly<R: ClientRequest + Request<Response: Debug>>(
        &mut self,
        request: R,
        broker: i32,
    ) {
        self.record.take();
        for request in [request.clone(), request] {
            let answer = self.kafka.request(request).to(broker).timeout(Duration::from_secs(2)).await;
            self.note::<R>(&answer);
        }
    }

    /// Puts into the table what came of a request, and gives the codes of the answer other than none.
    fn note<R: ClientRequest + Request<Response: Debug>>(
        &mut self,
        answer: &Result<R::Response, Error>,
    ) -> Vec<ErrorCode> {
        let row = self.rows.entry(R::KEY).or_default();
        let events = self.record.take();
        if answer.is_err() {
            // What led to it, for whoever reads the failure.
            say(&format!("routes: {}: {events:#?}", R::KEY));
        }
        for event in events {
            match event {
                Event::Answered { broker, api, version, .. } if api == R::KEY => {
                    row.versions.insert(version);
                    row.brokers.extend(broker.split_whitespace().find_map(|word| word.parse::<i32>().ok()));
                }
                Event::Retried { api, why, .. } if api == R::KEY => {
                    row.misrouted.extend(why.code().filter(|code| MISROUTED.contains(code)));
                }
                _ => {}
            }
        }
        let codes = match answer {
            Ok(answer) => codes_in(&format!("{answer:?}")),
            Err(error) => error.code().into_iter().collect(),
        };
        row.codes.extend(codes.iter().map(|code| code.0));
        row.misrouted.extend(codes.iter().find(|code| MISROUTED.contains(code)));
        codes
    }

    /// Whether that API was asked, or these brokers do not have it.
    pub(super) fn knows(&self, api: ApiKey) -> bool {
        self.rows.contains_key(&api)
    }

    /// The APIs that were told more than once that another broker is meant.
    pub(super) fn wrong_routes(&self) -> Vec<(ApiKey, usize, ErrorCode)> {
        let wrong = self.rows.iter().filter(|(_, row)| row.misrouted.len() > 1);
        wrong.map(|(api, row)| (*api, row.misrouted.len(), row.misrouted[0])).collect()
    }

    /// How often each API was told that another broker is meant.
    pub(super) fn misrouted(&self) -> String {
        let told = self.rows.iter().filter(|(_, row)| !row.misrouted.is_empty());
        let told: Vec<_> = told.map(|(api, row)| format!("{api} {:?}", row.misrouted)).collect();
        if told.is_empty() { "nothing misrouted".to_owned() } else { told.join(", ") }
    }

    pub(super) fn table(&self) -> String {
        let mut table = format!("{:<32} {:<8} {:<10} codes\n", "API", "version", "brokers");
        let list = |items: Vec<String>| items.join(",");
        for (api, row) in &self.rows {
            if row.not_offered {
                let _ = writeln!(table, "{:<32} these brokers do not have it", api.to_string());
                continue;
            }
            let versions = list(row.versions.iter().map(ToString::to_string).collect());
            let brokers = list(row.brokers.iter().map(ToString::to_string).collect());
            let mut codes = list(row.codes.iter().map(|code| ErrorCode(*code).to_string()).collect());
            if !row.misrouted.is_empty() {
                let _ = write!(codes, " misrouted {:?}", row.misrouted);
            }
            let _ = writeln!(table, "{:<32} {versions:<8} {brokers:<10} {codes}", api.to_string());
        }
        table
    }
}

/// Every error code in a message, as its `Debug` writes them: whatever its type, and however deep they are.
fn codes_in(text: &str) -> Vec<ErrorCode> {
    let codes = text.split("error_code: ").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '-')).unwrap_or(rest.len());
        rest[..end].parse().ok().map(ErrorCode)
    });
    codes.filter(|code| *code != ErrorCode::NONE).collect()
}

#[test]
fn codes_are_found_at_every_depth() {
    let text = "R { error_code: 0, topics: [T { partition_error_code: 6 }, T { error_code: -1, x: 3 }] }";
    assert_eq!(codes_in(text), [ErrorCode(6), ErrorCode(-1)]);
}
