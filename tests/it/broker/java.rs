//! Kafka's own clients on a real broker: what weir wrote is read by Java, and the other way about.
//!
//! [`produce`] and [`consume`] run the programs of `tests/oracle` with the jars of the broker's version, and
//! speak the format that `JavaConsumer.java` tells at its top.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use super::{Broker, root, shared};

/// A record as both programs carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JavaRecord {
    pub(crate) partition: i32,
    /// Not looked at when it is sent.
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// What a partition took from [`produce`]: its number, first offset, end offset and count.
pub(crate) type Taken = (i32, i64, i64, u64);

/// Sends the records with Java's producer. `properties` are the producer's, as `key=value`; with
/// `create.partitions=N` the topic is made first.
pub(crate) fn produce(
    broker: &Broker,
    topic: &str,
    codec: &str,
    records: &[JavaRecord],
    properties: &[&str],
) -> Vec<Taken> {
    produce_from(&broker.jars(), &broker.bootstrap.to_string(), topic, codec, records, properties)
}

/// The same to any cluster, with the jars of any version that can speak to it.
pub(crate) fn produce_from(
    jars: &Path,
    bootstrap: &str,
    topic: &str,
    codec: &str,
    records: &[JavaRecord],
    properties: &[&str],
) -> Vec<Taken> {
    let mut input = Vec::new();
    for record in records {
        record.write(&mut input);
    }
    input.extend((-1_i32).to_be_bytes());
    let args = [&[topic, codec], properties].concat();
    let said = run(jars, bootstrap, "JavaProducer", &args, input);
    let said = String::from_utf8(said).expect("the producer prints text");
    said.lines().map(|line| taken(line).unwrap_or_else(|| panic!("not an answer: {line}"))).collect()
}

fn taken(line: &str) -> Option<Taken> {
    let mut words = line.split(' ');
    let row = (
        words.next()?.parse().ok()?,
        words.next()?.parse().ok()?,
        words.next()?.parse().ok()?,
        words.next()?.parse().ok()?,
    );
    words.next().is_none().then_some(row)
}

/// Reads the whole topic with Java's consumer; each partition's records stand in the order of their offsets.
pub(crate) fn consume(broker: &Broker, topic: &str, properties: &[&str]) -> Vec<JavaRecord> {
    consume_from(&broker.jars(), &broker.bootstrap.to_string(), topic, properties)
}

/// The same from any cluster, with the jars of any version that can speak to it.
pub(crate) fn consume_from(
    jars: &Path,
    bootstrap: &str,
    topic: &str,
    properties: &[&str],
) -> Vec<JavaRecord> {
    let args = [&[topic, "records"], properties].concat();
    let said = run(jars, bootstrap, "JavaConsumer", &args, Vec::new());
    let mut rest = Cursor(&said);
    let mut records = Vec::new();
    while rest.i32() >= 0 {
        records.push(rest.record());
    }
    assert!(rest.0.is_empty(), "nothing follows the end mark");
    records
}

/// What a consumer group has committed: a line of topic, partition, offset and metadata for each partition.
pub(crate) fn offsets_of(jars: &Path, bootstrap: &str, group: &str) -> Vec<String> {
    let said = run(jars, bootstrap, "JavaOffsets", &[group], Vec::new());
    String::from_utf8(said).expect("the program prints text").lines().map(str::to_owned).collect()
}

/// Runs one of the programs with these jars against a cluster and returns its standard output.
fn run(jars: &Path, bootstrap: &str, program: &str, args: &[&str], input: Vec<u8>) -> Vec<u8> {
    let mut java = Command::new("java")
        .args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(jars.join("*"))
        .arg(root().join(format!("tests/oracle/{program}.java")))
        .arg(bootstrap)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the broker runs on this Java");
    let mut stdin = java.stdin.take().expect("it was asked for");
    // On a thread, since Java may answer before it has read all. It may also end early; its exit code tells.
    let feeder = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = java.wait_with_output().expect("it is our child");
    feeder.join().expect("the feeder does not panic");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {}\n{words}", output.status);
    output.stdout
}

impl JavaRecord {
    fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; 4]);
        out.extend(self.partition.to_be_bytes());
        out.extend(self.offset.to_be_bytes());
        out.extend(self.timestamp.to_be_bytes());
        write_blob(out, self.key.as_deref());
        write_blob(out, self.value.as_deref());
        out.extend((self.headers.len() as i32).to_be_bytes());
        for (name, value) in &self.headers {
            write_blob(out, Some(name.as_bytes()));
            write_blob(out, value.as_deref());
        }
        let size = (out.len() - start - 4) as i32;
        out[start..start + 4].copy_from_slice(&size.to_be_bytes());
    }
}

fn write_blob(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.extend(bytes.map_or(-1, |bytes| bytes.len() as i32).to_be_bytes());
    out.extend(bytes.unwrap_or_default());
}

/// What is still unread. Java's output is trusted: a surprise fails the test.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn i32(&mut self) -> i32 {
        let (head, rest) = self.0.split_first_chunk().expect("four more bytes");
        self.0 = rest;
        i32::from_be_bytes(*head)
    }

    fn i64(&mut self) -> i64 {
        let (head, rest) = self.0.split_first_chunk().expect("eight more bytes");
        self.0 = rest;
        i64::from_be_bytes(*head)
    }

    fn blob(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.i32()).ok()?;
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(head.to_vec())
    }

    /// One record without its size.
    fn record(&mut self) -> JavaRecord {
        JavaRecord {
            partition: self.i32(),
            offset: self.i64(),
            timestamp: self.i64(),
            key: self.blob(),
            value: self.blob(),
            headers: (0..self.i32())
                .map(|_| {
                    let name = self.blob().expect("a header has a name");
                    (String::from_utf8(name).expect("Java's strings are UTF-8"), self.blob())
                })
                .collect(),
        }
    }
}

/// Null, empty and filled in every place, over three partitions.
fn examples(count: i64) -> Vec<JavaRecord> {
    let blob = |n: i64, text: &str| match n % 3 {
        0 => None,
        1 => Some(Vec::new()),
        _ => Some(format!("{text} {n}").into_bytes()),
    };
    (0..count)
        .map(|n| JavaRecord {
            partition: (n % 3) as i32,
            offset: n / 3,
            timestamp: 1_500_000_000_000 + n,
            key: blob(n / 3, "key"),
            value: blob(n / 9, "value"),
            // The same name twice is two headers.
            headers: (0..n % 4).map(|i| (format!("é{}", i / 2), blob(n + i, "header"))).collect(),
        })
        .collect()
}

/// What Java's producer sent, Java's consumer sees: the two programs and the format between us are sound.
#[test]
fn java_reads_what_java_wrote() {
    let sent = examples(300);
    for version in super::VERSIONS {
        let Some(broker) = shared(version) else { continue };
        for codec in ["none", "zstd"] {
            let topic = format!("java-to-java-{codec}");
            let taken = produce(broker, &topic, codec, &sent, &["create.partitions=3"]);
            assert_eq!(taken, [(0, 0, 100, 100), (1, 0, 100, 100), (2, 0, 100, 100)], "{version} {codec}");
            let mut seen = consume(broker, &topic, &[]);
            seen.sort_by_key(|record| (record.offset, record.partition));
            assert_eq!(seen, sent, "{version} {codec}");
        }
    }
}

#[test]
fn a_record_comes_back_from_its_bytes() {
    for record in examples(60) {
        let mut bytes = Vec::new();
        record.write(&mut bytes);
        let mut rest = Cursor(&bytes);
        assert_eq!(rest.i32() as usize, bytes.len() - 4);
        assert_eq!(rest.record(), record);
        assert!(rest.0.is_empty());
    }
}
