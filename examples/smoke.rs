use std::time::{Duration, Instant};
use weir::{Client, Record};
#[tokio::main]
async fn main() -> weir::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let n: usize = args[2].parse().unwrap();
    let start = Instant::now();
    let kafka = Client::builder(&args[1]).create_topics_when_asked(true).on_event(|e| if std::env::var("EV").is_ok() { eprintln!("{e:?}") }).connect().await?;
    eprintln!("connected {:?}", start.elapsed());
    let codec = match args.get(3).map(String::as_str) { Some("lz4") => weir::records::Compression::Lz4, Some("zstd") => weir::records::Compression::Zstd, _ => weir::records::Compression::None };
    let producer = kafka.producer().linger(Duration::from_millis(5)).batch_size(1_000_000).max_request_size(4<<20).buffer_memory(64 << 20).compression(codec).max_block(Duration::from_secs(3)).delivery_timeout(Duration::from_secs(4)).build()?;
    let topic = format!("smoke{}", n);
    use weir::protocol::create_topics::*;
    let mut t = CreatableTopic::default(); t.name = topic.as_str().into(); t.num_partitions = 4; t.replication_factor = 1;
    let mut r = CreateTopicsRequest::default(); r.timeout_ms = 10000; r.topics.push(t);
    eprintln!("{:?}", kafka.request(r).await?.topics[0].error_code);
    let at = producer.send(Record::to(&topic).key("k").value("v")).await?;
    eprintln!("first {:?} {at:?}", start.elapsed());
    let topic = producer.topic(&topic);
    let pool: Vec<u8> = (0..16 << 20).map(|i: u32| (i.wrapping_mul(2654435761) >> 13) as u8).collect();
    let start = Instant::now();
    let mut acks = std::collections::VecDeque::new();
    let mut done = 0;
    for i in 0..n {
        let at = (i * 100) % (pool.len() - 100);
        acks.push_back(topic.enqueue(Record::new().value(&pool[at..at + 100])).await?);
        if acks.len() > 500_000 { acks.pop_front().unwrap().await?; done += 1; }
    }
    for ack in acks { ack.await?; done += 1; }
    let t = start.elapsed();
    eprintln!("{done} in {t:?}: {:.0} k/s", n as f64 / t.as_secs_f64() / 1000.0);
    producer.close(Duration::from_secs(5)).await?;
    kafka.close().await;
    Ok(())
}
