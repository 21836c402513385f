//! Decompression: any bytes give an error or no more than the bound, the same each time.

use weir::records::{Compression, Compressor, Decompressor};

const SIZE_MAX: usize = 1 << 20;
/// What a decoder may hold beyond its output: tables, windows, and room for the output to grow into.
const MEMORY_FREE: usize = 8 << 20;

/// Decompresses the input.
pub fn check(compression: Compression, input: &[u8]) {
    let mut decompressor = Decompressor::new().max_size(SIZE_MAX);
    let mut out = Vec::new();
    let (result, peak) = crate::peak_of(|| decompressor.decompress(compression, input, &mut out));
    assert!(peak <= MEMORY_FREE + 8 * input.len(), "{compression}: {} bytes took {peak}", input.len());
    // Tables that are used again must hold nothing of the last batch.
    let mut again = Vec::new();
    let second = decompressor.decompress(compression, input, &mut again);
    assert_eq!(second.is_ok(), result.is_ok(), "{compression}");
    if let Err(error) = result {
        return crate::assert_typed(&error);
    }
    assert!(out.len() <= SIZE_MAX, "{compression}");
    assert_eq!(again, out, "{compression}");
    let mut packed = Vec::new();
    Compressor::new(compression).expect("it is built in").compress(&out, &mut packed).expect("any bytes");
    decompressor.decompress(compression, &packed, &mut again).expect("what we wrote");
    assert_eq!(again, out, "{compression}");
}

/// Inputs for [`check`].
pub fn seeds(compression: Compression) -> Vec<(String, Vec<u8>)> {
    let text = b"Any bytes, and again any bytes, some more of any bytes. ".repeat(9);
    let mixed: Vec<u8> = (0_u32..3000).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 & 0x1f).collect();
    let plains = [
        ("empty", Vec::new()),
        ("one", vec![7]),
        ("zeros", vec![0; 70_000]),
        ("text", text),
        ("mixed", mixed),
    ];
    let levels: &[Option<i32>] = match compression {
        Compression::None | Compression::Snappy => &[None],
        Compression::Gzip => &[None, Some(1), Some(9)],
        Compression::Lz4 => &[None, Some(1), Some(17)],
        Compression::Zstd => &[None, Some(-5), Some(1), Some(19)],
    };
    let mut found = Vec::new();
    for level in levels {
        let mut all = Vec::new();
        for (name, plain) in &plains {
            let compressor = match level {
                Some(level) => Compressor::with_level(compression, *level),
                None => Compressor::new(compression),
            };
            let mut packed = Vec::new();
            compressor.expect("a level").compress(plain, &mut packed).expect("any bytes");
            all.extend_from_slice(&packed);
            found.push((format!("{name}-{}", level.unwrap_or(0)), packed));
        }
        found.push((format!("all-{}", level.unwrap_or(0)), all));
    }
    found
}
