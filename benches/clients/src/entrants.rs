//! The clients, each as its own documentation says to use it, with nothing waited for before sending.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use weir::ErrorCode;
use weir::protocol::create_topics::{CreatableTopic, CreateTopicsRequest};
use weir::protocol::produce::{ProduceRequest, ProduceResponse};

use crate::{Fail, Sender, Start, floor};

type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Fail>> + Send + 'a>>;

/// All that were built in.
pub fn all() -> Vec<(&'static str, Start)> {
    vec![
        ("floor", start_floor),
        ("weir", start_weir),
        ("rskafka", start_rskafka),
        ("krafka", start_krafka),
        #[cfg(feature = "rdkafka")]
        ("rdkafka", start_rdkafka),
    ]
}

/// Sees to it that there is the topic, with one partition, and that its leader takes records.
pub async fn create(bootstrap: &str, topic: &str) -> Result<(), Fail> {
    let client = weir::Client::connect(bootstrap).await?;
    let wanted = CreatableTopic {
        name: topic.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![wanted], timeout_ms: 30_000, ..CreateTopicsRequest::default() };
    let answer = client.request(request).await?;
    match answer.topics.iter().map(|topic| ErrorCode(topic.error_code)).next() {
        Some(ErrorCode::NONE | ErrorCode::TOPIC_ALREADY_EXISTS) => {}
        other => return Err(format!("the topic cannot be made: {other:?}").into()),
    }
    Weir(client, floor::request(topic)?).send().await
}

struct Socket(floor::Floor);

impl Sender for Socket {
    fn send(&mut self) -> Pending<'_, ()> {
        // It blocks the thread, which is the point of it.
        Box::pin(std::future::ready(self.0.send()))
    }
}

fn start_floor(bootstrap: String, topic: String) -> Pending<'static, Box<dyn Sender>> {
    Box::pin(
        async move { Ok(Box::new(Socket(floor::Floor::connect(&bootstrap, &topic)?)) as Box<dyn Sender>) },
    )
}

struct Weir(weir::Client, ProduceRequest);

impl Sender for Weir {
    fn send(&mut self) -> Pending<'_, ()> {
        Box::pin(async move {
            let answer: ProduceResponse = self.0.request(self.1.clone()).await?;
            let partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
            match partitions.map(|partition| partition.error_code).collect::<Vec<_>>()[..] {
                [0] => Ok(()),
                ref other => Err(format!("the broker answered {other:?}").into()),
            }
        })
    }
}

fn start_weir(bootstrap: String, topic: String) -> Pending<'static, Box<dyn Sender>> {
    Box::pin(async move {
        let client = weir::Client::connect(&bootstrap).await?;
        Ok(Box::new(Weir(client, floor::request(&topic)?)) as Box<dyn Sender>)
    })
}

struct Rskafka(rskafka::client::partition::PartitionClient);

impl Sender for Rskafka {
    fn send(&mut self) -> Pending<'_, ()> {
        Box::pin(async move {
            let record = rskafka::record::Record {
                key: None,
                value: Some(vec![b'x'; 100]),
                headers: BTreeMap::new(),
                timestamp: chrono::Utc::now(),
            };
            let none = rskafka::client::partition::Compression::NoCompression;
            self.0.produce(vec![record], none).await?;
            Ok(())
        })
    }
}

fn start_rskafka(bootstrap: String, topic: String) -> Pending<'static, Box<dyn Sender>> {
    Box::pin(async move {
        let client = rskafka::client::ClientBuilder::new(vec![bootstrap]).build().await?;
        let handling = rskafka::client::partition::UnknownTopicHandling::Retry;
        Ok(Box::new(Rskafka(client.partition_client(topic, 0, handling).await?)) as Box<dyn Sender>)
    })
}

struct Krafka {
    producer: krafka::producer::Producer,
    topic: String,
    /// The producer lives on its connections.
    _kafka: krafka::Kafka,
}

impl Sender for Krafka {
    fn send(&mut self) -> Pending<'_, ()> {
        Box::pin(async move {
            let _at = self.producer.send(krafka::Record::new(self.topic.as_str(), vec![b'x'; 100])).await?;
            Ok(())
        })
    }
}

fn start_krafka(bootstrap: String, topic: String) -> Pending<'static, Box<dyn Sender>> {
    Box::pin(async move {
        let kafka = krafka::Kafka::builder(bootstrap).connect().await?;
        let producer = kafka.producer().linger(Duration::ZERO).build().await?;
        Ok(Box::new(Krafka { producer, topic, _kafka: kafka }) as Box<dyn Sender>)
    })
}

#[cfg(feature = "rdkafka")]
struct Rdkafka(rdkafka::producer::FutureProducer, String);

#[cfg(feature = "rdkafka")]
impl Sender for Rdkafka {
    fn send(&mut self) -> Pending<'_, ()> {
        Box::pin(async move {
            let record = rdkafka::producer::FutureRecord::<(), _>::to(&self.1).payload(&[b'x'; 100]);
            self.0.send(record, Duration::from_secs(30)).await.map_err(|(error, _)| error)?;
            Ok(())
        })
    }
}

#[cfg(feature = "rdkafka")]
fn start_rdkafka(bootstrap: String, topic: String) -> Pending<'static, Box<dyn Sender>> {
    Box::pin(async move {
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("linger.ms", "0").set("acks", "all");
        config.set("enable.idempotence", "true");
        Ok(Box::new(Rdkafka(config.create()?, topic)) as Box<dyn Sender>)
    })
}
