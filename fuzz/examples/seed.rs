//! Writes inputs for the fuzzer to begin from into `corpus/`, beside those that it has found itself:
//! drawn messages of every API and version, batches and message sets with every codec.
//!
//!     cargo run --manifest-path fuzz/Cargo.toml --example seed

use std::fs;
use std::path::Path;

use weir::protocol::Kind;
use weir::records::Compression;
use weir_fuzz::{codecs, messages, records, stream, varints};

fn main() -> std::io::Result<()> {
    let corpora = [
        ("request", messages::seeds(&[Kind::Request])),
        ("response", messages::seeds(&[Kind::Response])),
        ("data", messages::seeds(&[Kind::Header, Kind::Data])),
        ("frames", stream::seeds()),
        ("batches", records::seeds()),
        ("legacy", records::seeds_legacy()),
        ("gzip", codecs::seeds(Compression::Gzip)),
        ("snappy", codecs::seeds(Compression::Snappy)),
        ("lz4", codecs::seeds(Compression::Lz4)),
        ("zstd", codecs::seeds(Compression::Zstd)),
        ("varint", varints::seeds()),
    ];
    for (target, inputs) in corpora {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        fs::create_dir_all(&folder)?;
        for (name, input) in &inputs {
            fs::write(folder.join(name), input)?;
        }
        println!("{target}: {} inputs", inputs.len());
    }
    Ok(())
}
