//! A producer holds what it was given for records and a little more, whatever the broker does.
//!
//! The broker of these tests, on a thread with a socket, answers all but produce requests. Memory is counted
//! over all threads, which is why this is a binary of its own.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::alloc::System;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use cap::Cap;
use weir::producer::Topic;
use weir::protocol::api_versions::{ApiVersion, ApiVersionsResponse};
use weir::protocol::init_producer_id::InitProducerIdResponse;
use weir::protocol::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use weir::protocol::{ApiKey, Message};
use weir::records::Compression;
use weir::{Client, Record};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// What a producer holds for a partition beside records: its lane, its line, its places in queues and tables, and
/// for each of its batches an entry and what its acks share. Some four batches a partition here.
const PER_PARTITION: usize = 3 * KIB;
/// And in all: connections' buffers, the runtime, tables that have doubled.
const FREE: usize = 768 * KIB;
/// For each thread that compresses a buffer to compress into and the codec's own tables.
const PER_COMPRESSOR: usize = 768 * KIB;

/// The broker: gives the address. Connections end with their clients.
fn broker(partitions: i32) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(stream.unwrap(), address, partitions));
        }
    });
    address
}

/// Answers until it is asked to produce; what comes after that it does not even read.
fn serve(mut stream: TcpStream, address: SocketAddr, partitions: i32) {
    let mut len = [0; 4];
    while stream.read_exact(&mut len).is_ok() {
        let mut head = [0; 8];
        stream.read_exact(&mut head).unwrap();
        let rest = u64::from(u32::from_be_bytes(len)) - 8;
        let key = i16::from_be_bytes([head[0], head[1]]);
        let version = i16::from_be_bytes([head[2], head[3]]);
        if ApiKey(key) == ApiKey::PRODUCE {
            loop {
                std::thread::park();
            }
        }
        std::io::copy(&mut (&mut stream).take(rest), &mut std::io::sink()).unwrap();
        let body = match ApiKey(key) {
            ApiKey::API_VERSIONS => api_versions().to_bytes(version),
            ApiKey::METADATA => metadata(address, partitions).to_bytes(version),
            ApiKey::INIT_PRODUCER_ID => {
                InitProducerIdResponse { producer_id: 1, ..Default::default() }.to_bytes(version)
            }
            other => panic!("{other:?} was not expected"),
        };
        let answer = [&head[4..], &body.unwrap()].concat();
        stream.write_all(&(answer.len() as u32).to_be_bytes()).unwrap();
        stream.write_all(&answer).unwrap();
    }
}

/// Versions whose headers have no tagged fields.
fn api_versions() -> ApiVersionsResponse {
    let api = |(api_key, min_version, max_version)| ApiVersion {
        api_key,
        min_version,
        max_version,
        ..Default::default()
    };
    let apis = [(0, 3, 8), (3, 0, 8), (18, 0, 2), (22, 0, 1)];
    ApiVersionsResponse { api_keys: apis.into_iter().map(api).collect(), ..Default::default() }
}

fn metadata(address: SocketAddr, partitions: i32) -> MetadataResponse {
    let partition =
        |partition_index| MetadataResponsePartition { partition_index, leader_id: 1, ..Default::default() };
    let topic = MetadataResponseTopic {
        name: Some("t".into()),
        partitions: (0..partitions).map(partition).collect(),
        ..Default::default()
    };
    let broker = MetadataResponseBroker {
        node_id: 1,
        host: address.ip().to_string().into(),
        port: i32::from(address.port()),
        ..Default::default()
    };
    MetadataResponse { brokers: vec![broker], controller_id: 1, topics: vec![topic], ..Default::default() }
}

/// Numbers that look random, so that values do not compress to nothing.
fn noise(bytes: &mut [u8], seed: &mut u64) {
    for byte in bytes {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        // Letters: they compress somewhat.
        *byte = b'a' + (*seed >> 40) as u8 % 16;
    }
}

struct Case {
    partitions: i32,
    memory: usize,
    compression: Compression,
    /// Records at most.
    count: usize,
}

/// What a case came to.
#[derive(Debug)]
struct Held {
    /// Records that were taken before it had to wait.
    taken: usize,
    /// The most that was allocated beyond what a client without records holds.
    most: usize,
    /// What of the memory for records was in use.
    used: usize,
    waits: bool,
}

async fn fill(case: &Case) -> Held {
    let address = broker(case.partitions);
    let client = Client::connect(&address.to_string()).await.unwrap();
    let builder = client.producer().buffer_memory(case.memory).linger(Duration::from_millis(1));
    let producer = builder.compression(case.compression).build().unwrap();
    let topic = producer.topic("t");
    // Known, with all its partitions, before anything is counted.
    while !is_known(&topic) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = MEMORY.allocated();
    let (mut most, mut taken, mut waits) = (before, 0, false);
    let mut value = [0; 1000];
    let mut seed = 88_172_645_463_325_252;
    for n in 0..case.count {
        noise(&mut value, &mut seed);
        let record = Record::new().value(&value).partition((n % case.partitions as usize) as i32);
        // Acks are not kept: they are the caller's memory.
        let room = tokio::time::timeout(Duration::from_millis(500), topic.enqueue(record)).await;
        most = most.max(MEMORY.allocated());
        if room.is_err() {
            waits = true;
            break;
        }
        drop(room.unwrap().unwrap());
        taken += 1;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    most = most.max(MEMORY.allocated());
    let stats = producer.stats();
    assert_eq!(stats.buffer_total, case.memory as u64);
    let used = (stats.buffer_total - stats.buffer_available) as usize;
    let held = Held { taken, most: most - before, used, waits };
    producer.close(Duration::from_millis(10)).await.unwrap_err();
    held
}

/// Whether records would be taken at once: it can be told that a partition cannot be.
fn is_known(topic: &Topic) -> bool {
    topic.try_enqueue(Record::new().partition(-1)).is_err_and(|refused| refused.error.is_invalid())
}

fn run(case: &Case) -> Held {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let held = runtime.block_on(fill(case));
    runtime.shutdown_timeout(Duration::from_secs(5));
    println!("{} partitions, {:?}, {} bytes: {held:?}", case.partitions, case.compression, case.memory);
    held
}

fn bound(case: &Case) -> usize {
    let compressors = match case.compression {
        Compression::None => 0,
        _ => std::thread::available_parallelism().map_or(2, usize::from).max(2),
    };
    case.memory + FREE + PER_PARTITION * case.partitions as usize + PER_COMPRESSOR * compressors
}

#[test]
fn memory_is_what_was_given_and_grows_with_data() {
    // One after the other, since all is counted together.
    for partitions in [1, 1000] {
        for compression in [Compression::None, Compression::Lz4] {
            let case = Case { partitions, memory: 8 * MIB, compression, count: 100_000 };
            let held = run(&case);
            assert!(held.waits, "enqueue waits when all is in use: {held:?}");
            assert!(held.used <= case.memory && held.most <= bound(&case), "{held:?} of {}", bound(&case));
            // The memory is for records: most of it holds some.
            assert!(held.taken * 1000 >= case.memory / 3, "{held:?}");
        }
    }
    // KIP-1332: a record to each of a thousand partitions takes what the records take, rounded up, and not a whole
    // batch's memory for each partition.
    let case = Case { partitions: 1000, memory: 64 * MIB, compression: Compression::None, count: 1000 };
    let held = run(&case);
    assert!(!held.waits && held.taken == 1000, "{held:?}");
    assert!(held.used <= 1000 * 2 * KIB, "{held:?}");
    assert!(held.most <= held.used + FREE + 1000 * PER_PARTITION, "{held:?}");
}
