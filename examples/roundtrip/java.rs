//! Java's side: the two programs under `tests/oracle`, whose format is told at the top of
//! `JavaConsumer.java`.

use std::fmt;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use weir::records::{Compression, Record};

use super::PARTITIONS;
use super::support::Result;
use super::text::Text;

/// What can be said of a partition without its records: as `JavaConsumer` prints it.
pub(crate) struct Digest {
    partition: usize,
    count: u64,
    crc: crc_fast::Digest,
}

impl Digest {
    pub(crate) fn new(partition: usize) -> Self {
        Self { partition, count: 0, crc: crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi) }
    }

    pub(crate) fn add(&mut self, record: &Record<'_>) {
        let headers: Vec<_> = record.headers().map(|header| (header.key, header.value)).collect();
        let bytes = encode(
            self.partition,
            record.offset(),
            record.timestamp(),
            [record.key(), record.value()],
            &headers,
        );
        self.crc.update(&bytes);
        self.count += 1;
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, count, .. } = self;
        let crc = self.crc.finalize();
        write!(f, "{partition} 0 {count} {count} {crc:08x}")
    }
}

/// A record in the format of the two programs.
fn encode(
    partition: usize,
    offset: i64,
    timestamp: i64,
    key_and_value: [Option<&[u8]>; 2],
    headers: &[(&[u8], Option<&[u8]>)],
) -> Vec<u8> {
    fn blob(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
        out.extend(bytes.map_or(-1, |bytes| bytes.len() as i32).to_be_bytes());
        out.extend(bytes.unwrap_or_default());
    }
    let mut body = Vec::with_capacity(256);
    body.extend([0; 4]);
    body.extend((partition as i32).to_be_bytes());
    body.extend(offset.to_be_bytes());
    body.extend(timestamp.to_be_bytes());
    for part in key_and_value {
        blob(&mut body, part);
    }
    body.extend((headers.len() as i32).to_be_bytes());
    for (key, value) in headers {
        blob(&mut body, Some(key));
        blob(&mut body, *value);
    }
    let size = body.len() as i32 - 4;
    body.splice(..4, size.to_be_bytes());
    body
}

/// Kafka's own clients.
pub(crate) struct Java {
    class_path: String,
    bootstrap: String,
}

impl Java {
    /// The jars of that version, if one is named.
    pub(crate) fn find(version: Option<&str>, bootstrap: &str) -> Result<Option<Self>> {
        let Some(version) = version else { return Ok(None) };
        let output = Command::new(root().join("scripts/kafka")).args(["fetch", version]).output()?;
        if !output.status.success() {
            return Err(format!("no jars of {version}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let class_path = format!("{}/*", String::from_utf8(output.stdout)?.trim());
        Ok(Some(Self { class_path, bootstrap: bootstrap.to_owned() }))
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new("java");
        command
            .args(["-cp", &self.class_path])
            .arg(root().join("tests/oracle").join(name))
            .arg(&self.bootstrap);
        command
    }

    /// Java's consumer sees the same records in that topic.
    pub(crate) fn reads_the_same(&self, topic: &str, seen: &[Digest]) -> Result<()> {
        let output =
            self.program("JavaConsumer.java").args([topic, "digest"]).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("Java's consumer ended with {}", output.status).into());
        }
        let theirs = String::from_utf8(output.stdout)?;
        let ours: Vec<String> = seen.iter().map(Digest::to_string).collect();
        if theirs.lines().ne(&ours) {
            return Err(format!("Java read other records:\n{theirs}weir read:\n{}", ours.join("\n")).into());
        }
        Ok(())
    }

    /// Java's producer writes the text to that topic.
    pub(crate) fn writes(&self, topic: &str, text: &Text, codec: Compression) -> Result<()> {
        let mut command = self.program("JavaProducer.java");
        command.args([topic, codec.name(), "batch.size=262144", "linger.ms=5"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()?;
        let mut stdin = BufWriter::new(child.stdin.take().ok_or("no input to write")?);
        for n in 0..text.len() {
            let key = Text::key(n);
            let key_and_value = [key.as_ref().map(String::as_bytes), text.value(n)];
            let headers: Vec<_> =
                Text::headers(n).iter().map(|(key, value)| (key.as_bytes(), *value)).collect();
            stdin.write_all(&encode(n % PARTITIONS, 0, Text::timestamp(n), key_and_value, &headers))?;
        }
        stdin.write_all(&(-1_i32).to_be_bytes())?;
        stdin.flush()?;
        drop(stdin);
        let status = child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("Java's producer ended with {status}").into()) }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
