//! Instructions that a record costs from `enqueue` to its acknowledgement, counted by valgrind: no clock, so no
//! noise of the machine.
//!
//!     cargo bench --bench enqueue
//!
//! For each row this program runs itself twice under callgrind, with different numbers of records, against a broker
//! that is none in a process of its own; the difference of the two counts, divided by that of the numbers, is a
//! record's share of everything that the client does: partition, memory, encoding, checksum, requests, the answers
//! and one awaited `Ack`. What happens once (connecting, metadata, lanes) falls out. Values have 100 bytes, keys 8;
//! batches close when they are full or memory runs out, since time has no meaning in there.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use weir::{Client, Record};

#[path = "../examples/support/acker.rs"]
mod acker;

type Fail = Box<dyn Error + Send + Sync>;

const TOPIC: &str = "orders";
/// As many as fill all memory with the most partitions, and twice as many.
const RECORDS: [u64; 2] = [400_000, 800_000];
const ROWS: [(&str, i32); 6] =
    [("none", 1), ("none", 1000), ("none", 10_000), ("key", 1), ("key", 1000), ("key", 10_000)];

fn main() -> Result<(), Fail> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["broker", partitions] => {
            println!("{}", acker::serve(partitions.parse()?)?);
            // Until whoever started it is gone.
            std::io::stdin().read_to_end(&mut Vec::new())?;
            Ok(())
        }
        ["client", broker, keys, records] => client(broker, *keys == "key", records.parse()?),
        // Cargo says `--bench`.
        _ => table(),
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people to read")]
fn table() -> Result<(), Fail> {
    println!("{:8} {:>10} {:>20} {:>8}", "keys", "partitions", "instructions/record", "to one");
    let mut one = f64::NAN;
    for (keys, partitions) in ROWS {
        let [fewer, more] = RECORDS.map(|records| count(keys, partitions, records));
        let each = (more? - fewer?) as f64 / (RECORDS[1] - RECORDS[0]) as f64;
        if partitions == 1 {
            one = each;
        }
        println!("{keys:8} {partitions:>10} {each:>20.1} {:>8.2}", each / one);
    }
    Ok(())
}

/// The instructions of a client that sends so many records.
fn count(keys: &str, partitions: i32, records: u64) -> Result<i64, Fail> {
    let own = std::env::current_exe()?;
    let mut broker = Command::new(&own);
    broker.args(["broker", &partitions.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut broker = broker.spawn()?;
    let mut address = String::new();
    BufReader::new(broker.stdout.take().ok_or("no output")?).read_line(&mut address)?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(&own);
    valgrind.args(["client", address.trim(), keys, &records.to_string()]);
    let counted = valgrind.output().map_err(|error| format!("valgrind: {error}; is it installed?"))?;
    drop(broker.stdin.take());
    broker.wait()?;
    let said = String::from_utf8_lossy(&counted.stderr);
    let instructions = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match instructions {
        Some(instructions) if counted.status.success() => Ok(instructions),
        _ => Err(format!("no count of {keys}, {partitions} partitions: {said}").into()),
    }
}

/// Sends records and awaits their acknowledgements, on one thread.
fn client(broker: &str, keyed: bool, records: u64) -> Result<(), Fail> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let kafka = Client::connect(broker).await?;
        let producer = kafka.producer().linger(Duration::from_mins(1)).build()?;
        let topic = producer.topic(TOPIC);
        let mut acks = Vec::with_capacity(records as usize);
        for number in 0..records {
            let (record, key) = (Record::new().value(&[7; 100]), number.to_be_bytes());
            let record = if keyed { record.key(&key) } else { record };
            acks.push(topic.enqueue(record).await?);
        }
        producer.flush().await?;
        for ack in acks {
            ack.await?;
        }
        Ok(())
    })
}
