//! Members of groups of KIP-848 that a coordinator refuses for a while.

use weir::conn::sasl::Plain;
use weir::protocol::create_acls::{AclCreation, CreateAclsRequest};
use weir_kafka_harness::proxy::{End, Fault, Proxies, Rule};
use weir_kafka_harness::{Cluster, Listener, Mechanism, PASSWORD, USER, unless_skipped};

use super::*;

const VERSION: &str = "4.4.0";
/// Kafka's number of the heartbeat.
const CONSUMER_GROUP_HEARTBEAT: i16 = 68;

/// Kafka refuses a second join for an instance that has not left, by the same member too.
#[test]
fn g07_a_static_member_joins_though_the_first_answer_was_lost() {
    let proxies = Proxies::for_nodes(1).unwrap();
    let told = proxies.addresses()[0];
    let builder = Cluster::builder(VERSION).advertise(|_, _| Some(told));
    let Some(cluster) = unless_skipped("a broker behind a proxy", builder.start()) else { return };
    proxies.set_upstreams(cluster.node(1).address(Listener::plain()));
    run(async {
        let kafka = connect(proxies.bootstrap()).await;
        create_topic(&kafka, "groups-static", 2).await;
        send(&kafka, "groups-static", 2, 0..100).await;
        let lost = Rule::new(Fault::Cut(End::Reset)).responses().api(CONSUMER_GROUP_HEARTBEAT).nth(1);
        let rules = proxies.add(&lost).unwrap();
        let instance = || {
            let settings = member(&kafka, "groups-static", GroupProtocol::Consumer).group_instance("one");
            settings.topics(["groups-static"]).build().unwrap()
        };
        let mut first = instance();
        assert_eq!(read(&mut first, 100).await.len(), 100);
        let faults: u64 = proxies.iter().map(|proxy| proxy.log().faults(rules[0])).sum();
        assert_eq!(faults, 1, "the answer was lost");

        // Another by that name is refused, and harms nobody.
        let mut second = instance();
        let refused = tokio::time::timeout(LONG, second.next()).await.expect("it ends");
        assert_eq!(refused.unwrap_err().code(), Some(ErrorCode::UNRELEASED_INSTANCE_ID));
        second.close(LONG).await.unwrap();
        send(&kafka, "groups-static", 2, 100..200).await;
        assert_eq!(read(&mut first, 100).await.into_keys().min(), Some(100));

        // It leaves for a while, and another takes its place.
        first.commit_all().await.unwrap();
        first.close(LONG).await.unwrap();
        send(&kafka, "groups-static", 2, 200..300).await;
        let mut third = instance();
        assert_eq!(read(&mut third, 100).await.into_keys().min(), Some(200));
        third.close(LONG).await.unwrap();
        kafka.close().await;
    });
}

/// Kafka's own consumer tells the application, stays, and asks again.
#[test]
fn a_member_waits_for_rights_to_its_topic() {
    let listener = Listener::sasl(Mechanism::Plain);
    let builder = Cluster::builder(VERSION)
        .listener(Listener::plain())
        .listener(listener)
        .property("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
        .property("super.users", "User:ANONYMOUS");
    let Some(cluster) = unless_skipped("a broker with ACLs", builder.start()) else { return };
    run(async {
        let root = connect(cluster.bootstrap_text(Listener::plain())).await;
        create_topic(&root, "groups-rights", 2).await;
        send(&root, "groups-rights", 2, 0..100).await;
        // Kafka's numbers: a topic or a group, by its very name; to read; allowed.
        let allow = async |resource_type| {
            let creation = AclCreation {
                resource_type,
                resource_name: "groups-rights".into(),
                resource_pattern_type: 3,
                principal: format!("User:{USER}").as_str().into(),
                host: "*".into(),
                operation: 3,
                permission_type: 3,
                ..Default::default()
            };
            let request = CreateAclsRequest { creations: vec![creation], ..Default::default() };
            let made = root.request(request).await.unwrap();
            assert!(made.results.iter().all(|result| result.error_code == 0), "{made:?}");
        };
        allow(3).await;
        let user = Client::builder(&cluster.bootstrap_text(listener))
            .sasl(Plain::new(USER, PASSWORD).unwrap())
            .allow_sasl_without_tls();
        let kafka = user.connect().await.unwrap();
        let settings = member(&kafka, "groups-rights", GroupProtocol::Consumer);
        let mut consumer = settings.topics(["groups-rights"]).build().unwrap();
        for _ in 0..3 {
            let refused = tokio::time::timeout(LONG, consumer.next()).await.expect("it is told");
            assert_eq!(refused.unwrap_err().code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
        }
        allow(2).await;
        let mut seen = BTreeSet::new();
        let began = Instant::now();
        while seen.len() < 100 {
            assert!(began.elapsed() < LONG, "{} were read", seen.len());
            match tokio::time::timeout(LONG, consumer.next()).await.expect("it goes on") {
                Ok(batch) => {
                    seen.extend(batch.expect("it is open").iter().map(|record| number(record.value())));
                }
                // Of before.
                Err(error) => assert_eq!(error.code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED)),
            }
        }
        consumer.close(LONG).await.unwrap();
        kafka.close().await;
        root.close().await;
    });
}
