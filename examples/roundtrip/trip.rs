//! One codec, there and back, and past Java.

use std::time::Instant;

use weir::records::Compression;

use super::java::Java;
use super::support::{Connection, Result};
use super::text::Text;
use super::{PARTITIONS, consume, produce};

/// Writes the text to a topic, reads it back and compares; then the same with Java on either side.
pub(crate) fn round_trip(
    connection: &mut Connection,
    java: Option<&Java>,
    text: &Text,
    codec: Compression,
    run: u32,
) -> Result<()> {
    let name = format!("roundtrip-{run}-{}", codec.name());
    let topic = connection.create_topic(&name, PARTITIONS as i32)?;
    let start = Instant::now();
    let bytes = produce::all(connection, &topic, text, codec)?;
    let written = start.elapsed();
    let start = Instant::now();
    let seen = consume::all(connection, &topic, text, codec)?;
    let read = start.elapsed();
    println!(
        "{:>6}: {} records, {} bytes of batches, written in {written:.2?}, read and compared in {read:.2?}",
        codec.name(),
        text.len(),
        bytes
    );
    let Some(java) = java else { return Ok(()) };
    java.reads_the_same(&name, &seen)?;
    let name = format!("{name}-java");
    let topic = connection.create_topic(&name, PARTITIONS as i32)?;
    java.writes(&name, text, codec)?;
    consume::all(connection, &topic, text, codec)?;
    println!("{:>6}: Java reads what weir wrote, and weir what Java wrote", codec.name());
    Ok(())
}
