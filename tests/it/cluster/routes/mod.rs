//! Every API, on the way that the table of routes says, in steady state.
//!
//! A [`Tour`] sends each API of a client once, valid and harmless, and notes who answered, in which version,
//! and with which codes. It is made twice: the first time brokers and client warm up; the second time no API
//! may be told twice that it went to the wrong broker. That the checker sees a wrong route is shown by
//! planting one.

use weir::Client;
use weir::conn::sasl::Plain;
use weir::protocol::ApiKey;
use weir::protocol::create_topics::{CreatableTopic, CreateTopicsRequest};
use weir::protocol::delete_groups::DeleteGroupsRequest;
use weir::protocol::find_coordinator::FindCoordinatorRequest;
use weir::protocol::list_offsets::ListOffsetsRequest;
use weir_kafka_harness::{Listener, Mechanism, PASSWORD, USER};

use self::tour::{Ground, Tour};
use super::{Record, Three, create_topic, list, run};
use crate::seed::say;

/// What the controller does, and what any broker says.
mod control;
/// Groups of all kinds.
mod groups;
/// Partitions.
mod leaders;
/// How it is asked, and what is noted.
mod tour;
/// Transactions.
mod transactions;

/// Where tokens are asked for, a client has to be somebody.
const LISTENER: Listener = Listener::sasl(Mechanism::Plain);

/// What the connections ask by themselves.
const BY_CONNECTIONS: [ApiKey; 2] = [ApiKey::SASL_HANDSHAKE, ApiKey::SASL_AUTHENTICATE];

/// What brokers and controllers say to each other.
const NOT_OURS: [i16; 22] =
    [4, 5, 6, 7, 52, 53, 54, 56, 58, 59, 62, 63, 67, 70, 73, 82, 83, 84, 85, 86, 87, 95];

fn ours() -> impl Iterator<Item = ApiKey> {
    (0..1000).map(ApiKey).filter(|api| api.name().is_some() && !NOT_OURS.contains(&api.0))
}

async fn connect(three: &Three, record: &Record) -> Client {
    let plain = Plain::new(USER, PASSWORD).unwrap();
    let builder = Client::builder(&list(&three.cluster.bootstrap(LISTENER)));
    builder.sasl(plain).allow_sasl_without_tls().on_event(record.listener()).connect().await.unwrap()
}

/// One round over all APIs.
async fn round(tour: &mut Tour<'_>) {
    leaders::ask(tour).await;
    groups::classic(tour).await;
    groups::consumer(tour).await;
    groups::share(tour).await;
    groups::streams(tour).await;
    transactions::ask(tour).await;
    control::topics(tour).await;
    control::configs(tour).await;
    control::access(tour).await;
    control::tokens(tour).await;
    control::quorum(tour).await;
    control::any(tour).await;
}

fn every_route(version: &str, authorizer: &str) {
    let started = Three::start(version, |builder| {
        builder
            .listener(LISTENER)
            .property("authorizer.class.name", authorizer)
            .property("super.users", format!("User:ANONYMOUS;User:{USER}"))
            .property("delegation.token.secret.key", "a-secret-of-brokers")
            .property("delegation.token.master.key", "a-secret-of-brokers")
    });
    let Some(three) = started else { return };
    run(async {
        let record = Record::default();
        let kafka = connect(&three, &record).await;
        let topic_id = create_topic(&kafka, Ground::TOPIC, 12, 3).await;
        let ground = Ground { topic_id };
        let mut tour = Tour::new(&kafka, record.clone(), &ground).await;
        round(&mut tour).await;
        say(&format!("routes: {version}: warming up: {}", tour.misrouted()));
        let mut tour = Tour::new(&kafka, record.clone(), &ground).await;
        round(&mut tour).await;
        say(&format!("routes: {version}\n{}", tour.table()));
        let missing: Vec<_> =
            ours().filter(|api| !BY_CONNECTIONS.contains(api) && !tour.knows(*api)).collect();
        assert!(missing.is_empty(), "nobody asked {missing:?}");
        assert_eq!(tour.wrong_routes(), [], "told twice in steady state that another broker is meant");
        planted(version, &mut tour).await;
        kafka.close().await;
    });
}

/// Wrong routes, each of which the checker must see.
async fn planted(version: &str, tour: &mut Tour<'_>) {
    let mut wrong = Vec::new();
    let leader = leaders::leader_of(tour.kafka(), 0).await;
    let request = leaders::list_offsets(&[0]);
    let other = 1 + leader % 3;
    tour.ask_wrongly::<ListOffsetsRequest>(request, other).await;
    wrong.push(ApiKey::LIST_OFFSETS);

    let request =
        FindCoordinatorRequest { coordinator_keys: vec![groups::NONE.into()], ..Default::default() };
    let request = if tour.offers(ApiKey::FIND_COORDINATOR, 4) {
        request
    } else {
        FindCoordinatorRequest { key: groups::NONE.into(), ..Default::default() }
    };
    let found = tour.kafka().request(request).await.unwrap();
    let coordinator = found.coordinators.first().map_or(found.node_id, |coordinator| coordinator.node_id);
    let request = DeleteGroupsRequest { groups_names: vec![groups::NONE.into()], ..Default::default() };
    tour.ask_wrongly(request, 1 + coordinator % 3).await;
    wrong.push(ApiKey::DELETE_GROUPS);

    // Since Kafka 2.8 with KRaft, brokers pass on to the controller what is his.
    if version.starts_with('2') {
        let all = tour.kafka().request(control::metadata(Some(Vec::new()))).await.unwrap();
        let topic = CreatableTopic {
            name: "routes-planted".into(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], validate_only: true, ..Default::default() };
        tour.ask_wrongly(request, 1 + all.controller_id % 3).await;
        wrong.push(ApiKey::CREATE_TOPICS);
    }
    wrong.sort_unstable();
    let seen: Vec<_> = tour.wrong_routes().into_iter().map(|(api, ..)| api).collect();
    assert_eq!(seen, wrong, "planted and not seen, or seen and not planted");
    say(&format!("routes: {version}: planted and caught: {:?}", tour.wrong_routes()));
}

#[test]
fn a02_every_route_is_right_4_4_0() {
    every_route("4.4.0", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
}

#[test]
fn a02_every_route_is_right_2_8_2() {
    every_route("2.8.2", "kafka.security.authorizer.AclAuthorizer");
}

#[test]
fn every_api_of_a_client_is_known_by_number() {
    let ours: Vec<_> = ours().collect();
    assert!(ours.contains(&ApiKey::PRODUCE) && ours.contains(&ApiKey::SHARE_FETCH));
    assert!(!ours.contains(&ApiKey::VOTE), "{ours:?}");
}
