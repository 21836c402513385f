//! The whole producer against a broker that is a script, over streams in memory and in virtual time.
//!
//! The broker holds what it is sent to the rules of an idempotent producer as Kafka does: a batch that it knows is a
//! duplicate, one that does not follow is out of order. So what is in its logs after a test is what would be in
//! Kafka's.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::conn::script::{Asked, versions};
use crate::frame::Frames;
use crate::messages::api_versions::ApiVersionsRequest;
use crate::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use crate::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use crate::net::{Address, BoxFuture, Connect, Transport, clock};
use crate::records::{Batches, Decompressor, RecordBatch};
use crate::wire::ApiKey;
use crate::{Client, ErrorCode};

mod answers;
mod dropped;
mod ends;
mod forgotten;
mod hooks;
mod latency;
mod parts;

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);
/// How long the broker takes for a request.
const LATENCY: Duration = Duration::from_millis(2);

type Change = Arc<dyn Fn(&mut ProduceResponse) + Send + Sync>;

/// What the broker does with a produce request.
#[derive(Clone)]
enum Reply {
    /// Writes it and says so.
    Write,
    /// Writes it and says something else.
    But(Change),
    /// Does not write it; this is the error of each partition.
    Refuse(ErrorCode),
    /// Writes it and answers with bytes that mean nothing.
    Garbage,
    /// Writes it, and the connection is gone.
    Cut,
    /// Neither writes nor answers, for ever.
    Silence,
}

/// What goes back.
enum Answer {
    Frame(Bytes),
    None,
    /// The connection ends.
    Cut,
}

#[derive(Default)]
struct World {
    /// How many partitions each topic has.
    topics: BTreeMap<String, i32>,
    /// What comes of the next produce requests; after that all are written.
    plan: VecDeque<Reply>,
    /// What comes of all when the plan is over.
    always: Option<Reply>,
    /// Metadata has no answers.
    mute: bool,
    /// What metadata says of topics, whether they are there or not.
    forbidden: Option<ErrorCode>,
    /// How many brokers there are beside the first. All answer alike; partitions go to them in turn.
    others: i32,
    /// Nothing is read from connections.
    stalled: bool,
    /// Topics that metadata was asked about.
    asked: Vec<String>,
    /// What was written.
    logs: BTreeMap<(String, i32), Log>,
    /// Each produce request: when it came, and how many partitions it was for.
    requests: Vec<(Instant, usize)>,
    ids: i64,
}

#[derive(Default)]
struct Log {
    values: Vec<Vec<u8>>,
    headers: Vec<usize>,
    /// By producer id and epoch.
    writers: BTreeMap<(i64, i16), Writer>,
}

/// What a leader knows of a producer.
#[derive(Default)]
struct Writer {
    next: i32,
    /// The sequences of its batches, and their offsets.
    batches: Vec<(i32, i64)>,
}

/// A broker, alone in its cluster.
#[derive(Clone, Default)]
struct Broker(Arc<Mutex<World>>);

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Broker")
    }
}

impl Connect for Broker {
    fn connect<'a>(&'a self, _: &'a Address) -> BoxFuture<'a, Result<Box<dyn Transport>>> {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        drop(tokio::spawn(self.clone().serve(theirs)));
        Box::pin(async move { Ok(Box::new(ours) as Box<dyn Transport>) })
    }
}

impl Broker {
    /// With a topic "t" of so many partitions.
    fn with(partitions: i32) -> Self {
        let broker = Self::default();
        broker.world().topics.insert("t".into(), partitions);
        broker
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    fn plan(&self, replies: impl IntoIterator<Item = Reply>) {
        self.world().plan.extend(replies);
    }

    fn always(&self, reply: Reply) {
        self.world().always = Some(reply);
    }

    /// The values in a partition of "t".
    fn log(&self, partition: i32) -> Vec<Vec<u8>> {
        self.world().logs.get(&("t".into(), partition)).map(|log| log.values.clone()).unwrap_or_default()
    }

    /// How many records are in all logs.
    fn written(&self) -> usize {
        self.world().logs.values().map(|log| log.values.len()).sum()
    }

    async fn client(&self) -> Client {
        let net = crate::net::Config::new().connect_with(self.clone());
        Client::builder("broker:9092").net(net).connect().await.unwrap()
    }

    /// A producer with these settings, whose topic "t" is known and whose connection stands.
    async fn producer(&self, set: impl FnOnce(Builder) -> Builder) -> (Client, Producer) {
        let client = self.client().await;
        let producer = set(client.producer()).build().unwrap();
        (client, producer)
    }

    /// The same, once a record was sent to each partition.
    async fn warm(&self, set: impl FnOnce(Builder) -> Builder) -> (Client, Producer) {
        let (client, producer) = self.producer(set).await;
        let partitions = self.world().topics["t"];
        for partition in 0..partitions {
            producer.send(Record::to("t").value("warm").partition(partition)).await.unwrap();
        }
        let mut world = self.world();
        world.requests.clear();
        for log in world.logs.values_mut() {
            log.values.clear();
        }
        drop(world);
        (client, producer)
    }

    async fn serve(self, mut stream: DuplexStream) {
        let mut frames = Frames::new(64 << 20);
        loop {
            let asked = loop {
                while self.world().stalled {
                    tokio::time::sleep(MS).await;
                }
                if let Some(frame) = frames.next_frame().unwrap() {
                    break Asked::parse_body(frame);
                }
                if stream.read_buf(frames.space()).await.unwrap_or(0) == 0 {
                    return;
                }
            };
            let came = clock::now();
            tokio::time::sleep(LATENCY).await;
            let answer = match self.answer(&asked, came) {
                Answer::Frame(answer) => answer,
                Answer::None => continue,
                Answer::Cut => return,
            };
            let len = (answer.len() as u32).to_be_bytes();
            // A client that has gone needs no answer.
            let _ = stream.write_all(&[&len[..], &answer].concat()).await;
        }
    }

    fn answer(&self, asked: &Asked, came: Instant) -> Answer {
        let mut world = self.world();
        match asked.key {
            ApiKey::API_VERSIONS => {
                let apis = [(0, 3, 9), (3, 0, 12), (18, 0, 4), (22, 0, 4)];
                Answer::Frame(asked.answer::<ApiVersionsRequest>(&versions(&apis)))
            }
            ApiKey::METADATA if world.mute => Answer::None,
            ApiKey::METADATA => {
                let request: MetadataRequest = asked.body();
                let names = request.topics.iter().flatten().filter_map(|topic| topic.name.clone());
                world.asked.extend(names.map(|name| name.to_string()));
                Answer::Frame(asked.answer::<MetadataRequest>(&world.metadata(&request)))
            }
            ApiKey::INIT_PRODUCER_ID => {
                world.ids += 1;
                let answer = InitProducerIdResponse { producer_id: world.ids, ..Default::default() };
                Answer::Frame(asked.answer::<InitProducerIdRequest>(&answer))
            }
            ApiKey::PRODUCE => world.produce(asked, came),
            other => panic!("{other:?} was not expected"),
        }
    }
}

impl World {
    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let names: Vec<String> = match &request.topics {
            Some(topics) => topics.iter().map(|topic| topic.name.clone().unwrap().to_string()).collect(),
            None => self.topics.keys().cloned().collect(),
        };
        let partition = |index| MetadataResponsePartition {
            partition_index: index,
            leader_id: 1 + index % (1 + self.others),
            leader_epoch: 1,
            ..Default::default()
        };
        let topic = |name: &String| {
            let count = self.topics.get(name).copied();
            let code = match self.forbidden {
                Some(code) => code,
                None if count.is_some() => ErrorCode::NONE,
                None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            };
            let count = count.filter(|_| code.is_none());
            MetadataResponseTopic {
                name: Some(name.as_str().into()),
                error_code: code.0,
                partitions: (0..count.unwrap_or(0)).map(partition).collect(),
                ..Default::default()
            }
        };
        let broker = |node_id| MetadataResponseBroker {
            node_id,
            host: "broker".into(),
            port: 9091 + node_id,
            ..Default::default()
        };
        MetadataResponse {
            brokers: (1..=1 + self.others).map(broker).collect(),
            controller_id: 1,
            topics: names.iter().map(topic).collect(),
            ..Default::default()
        }
    }

    fn produce(&mut self, asked: &Asked, came: Instant) -> Answer {
        let request: ProduceRequest = asked.body();
        let partitions = request.topic_data.iter().map(|topic| topic.partition_data.len()).sum();
        self.requests.push((came, partitions));
        let reply = self.plan.pop_front().or_else(|| self.always.clone()).unwrap_or(Reply::Write);
        let refused = match &reply {
            Reply::Refuse(code) => Some(*code),
            Reply::Silence => return Answer::None,
            _ => None,
        };
        let mut response = ProduceResponse::default();
        for topic in &request.topic_data {
            let partition_responses = topic.partition_data.iter().map(|data| {
                let (code, base_offset) = match refused {
                    Some(code) => (code, -1),
                    None => self.write(&topic.name, data.index, data.records.clone().unwrap()),
                };
                PartitionProduceResponse {
                    index: data.index,
                    error_code: code.0,
                    base_offset,
                    ..Default::default()
                }
            });
            let partition_responses = partition_responses.collect();
            let name = topic.name.clone();
            response.responses.push(TopicProduceResponse { name, partition_responses, ..Default::default() });
        }
        match reply {
            Reply::But(change) => change(&mut response),
            Reply::Cut => return Answer::Cut,
            Reply::Garbage => {
                return Answer::Frame(crate::conn::script::answer(asked.correlation, true, &[0xff; 9]));
            }
            _ => {}
        }
        // Without acks nothing is answered.
        match request.acks {
            0 => Answer::None,
            _ => Answer::Frame(asked.answer::<ProduceRequest>(&response)),
        }
    }

    /// Writes a batch as a leader does, and gives its offset.
    fn write(&mut self, topic: &str, partition: i32, records: Bytes) -> (ErrorCode, i64) {
        let batches: Vec<RecordBatch> = Batches::new(records).map(Result::unwrap).collect();
        let [batch] = &batches[..] else { panic!("{} batches for one partition", batches.len()) };
        batch.check_crc().unwrap();
        let log = self.logs.entry((topic.to_owned(), partition)).or_default();
        let end = log.values.len() as i64;
        let sequence = batch.base_sequence();
        if batch.producer_id() >= 0 {
            let writer = log.writers.entry((batch.producer_id(), batch.producer_epoch())).or_default();
            if let Some((_, offset)) = writer.batches.iter().find(|(known, _)| *known == sequence) {
                return (ErrorCode::NONE, *offset);
            }
            if sequence != writer.next {
                return (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
            }
            writer.next += batch.count().unwrap() as i32;
            writer.batches.push((sequence, end));
        }
        for record in &batch.records(&mut Decompressor::new()).unwrap() {
            let record = record.unwrap();
            log.values.push(record.value().unwrap_or_default().to_vec());
            log.headers.push(record.headers().count());
        }
        (ErrorCode::NONE, end)
    }
}

/// Polls a future so often at most, and then drops it: what it came to, if it came to its end.
async fn polled<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
