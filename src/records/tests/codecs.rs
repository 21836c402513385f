//! The codecs by themselves: rows B26, B27 and B29 of the fault list, levels, and missing features.

use super::*;

fn compress(compression: Compression, input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::new(compression).unwrap().compress(input, &mut out).unwrap();
    out
}

fn decompress(compression: Compression, input: &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    Decompressor::new().decompress(compression, input, &mut out).map(|()| out)
}

/// Text, numbers and noise, as records have them.
fn sample(len: usize) -> Vec<u8> {
    let mut seeded = Seeded(7);
    let mut out = Vec::with_capacity(len + 100);
    while out.len() < len {
        match seeded.below(3) {
            0 => out.extend(b"{\"user\":\"anna\",\"amount\":"),
            1 => out.extend(seeded.next().to_string().bytes()),
            _ => out.extend(seeded.bytes(40)),
        }
    }
    out.truncate(len);
    out
}

#[test]
fn all_sizes_around_the_blocks_go_both_ways() {
    let whole = sample(300_000);
    let sizes = [0, 1, 2, 4, 5, 11, 12, 13, 14, 100, 32_767, 32_768, 32_769, 65_535, 65_536, 65_537, 300_000];
    for compression in available() {
        for size in sizes {
            let packed = compress(compression, &whole[..size]);
            assert_eq!(decompress(compression, &packed).unwrap(), whole[..size], "{compression} {size}");
        }
    }
}

#[test]
fn all_levels_go_both_ways_and_wrong_ones_are_refused() {
    let plain = sample(100_000);
    let levels: [(Compression, &[i32], &[i32]); 3] = [
        (Compression::Gzip, &[1, 2, 5, 6, 9], &[0, 10, -1]),
        (Compression::Lz4, &[1, 2, 3, 4, 6, 8, 9, 10, 12, 17], &[0, 18]),
        (Compression::Zstd, &[-131_072, -5, 1, 2, 3, 7, 12, 19, 22], &[23, -131_073]),
    ];
    for (compression, good, bad) in levels {
        for level in bad {
            let error = Compressor::with_level(compression, *level).unwrap_err();
            assert!(error.is_invalid(), "{error}");
        }
        for level in good.iter().filter(|_| compression.is_available()) {
            let mut compressor = Compressor::with_level(compression, *level).unwrap();
            for _ in 0..2 {
                let mut packed = vec![1, 2, 3];
                compressor.compress(&plain, &mut packed).unwrap();
                assert_eq!(packed[..3], [1, 2, 3], "what was there stays");
                assert_eq!(decompress(compression, &packed[3..]).unwrap(), plain, "{compression} {level}");
            }
        }
    }
    assert!(Compressor::with_level(Compression::Snappy, 1).unwrap_err().is_invalid());
}

#[cfg(feature = "lz4")]
#[test]
fn deeper_lz4_search_does_not_get_larger() {
    let plain = sample(400_000);
    let size = |level| {
        let mut out = Vec::new();
        Compressor::with_level(Compression::Lz4, level).unwrap().compress(&plain, &mut out).unwrap();
        out.len()
    };
    let fast = size(9);
    assert!(size(12) < fast && size(5) < fast, "levels {} {}, fast {fast}", size(12), size(5));
    assert!(size(12) <= size(5) && size(5) <= size(3));
    // What repeats must not take the depth of the search for each byte.
    let zeros = vec![0; 1 << 20];
    let mut out = Vec::new();
    Compressor::with_level(Compression::Lz4, 17).unwrap().compress(&zeros, &mut out).unwrap();
    assert!(out.len() < 6000, "{}", out.len());
}

#[test]
fn a_codec_that_was_not_built_in_names_its_feature() {
    for compression in Compression::ALL.into_iter().filter(|compression| !compression.is_available()) {
        let feature = format!("feature `{compression}`");
        let error = Compressor::new(compression).unwrap_err();
        assert!(error.is_unsupported() && error.to_string().contains(&feature), "{error}");
        let error = decompress(compression, b"any").unwrap_err();
        assert!(error.is_unsupported() && error.to_string().contains(&feature), "{error}");
    }
    assert_eq!(Compression::from_id(5), None);
    assert_eq!(Compression::ALL.map(Compression::id), [0, 1, 2, 3, 4]);
}

#[test]
fn b26_bombs_stop_at_the_size() {
    let zeros = vec![0; 5 << 20];
    for compression in available() {
        let bomb = compress(compression, &zeros);
        let run = |decompressor: &mut Decompressor| {
            let mut out = Vec::new();
            let result = decompressor.decompress(compression, &bomb, &mut out);
            // A vector doubles as it grows.
            assert!(out.capacity() <= 10 << 20, "{compression} took {}", out.capacity());
            result
        };
        let by_size = run(&mut Decompressor::new().max_size(4 << 20)).unwrap_err();
        assert!(by_size.is_limit(), "{compression}: {by_size}");
        run(&mut Decompressor::new().max_size(5 << 20)).unwrap();
    }
}

/// Up to 32 MiB the ratio does not count, beyond that it does, and the output stops there.
#[test]
fn b26_bombs_stop_at_the_ratio_above_32_mib() {
    let zeros = vec![0; (32 << 20) + 1];
    for compression in available().skip(1) {
        let run = |zeros: &[u8], ratio| {
            let bomb = compress(compression, zeros);
            let mut out = Vec::new();
            let result = Decompressor::new().max_ratio(ratio).decompress(compression, &bomb, &mut out);
            // A vector doubles as it grows.
            assert!(out.capacity() <= 65 << 20, "{compression} took {}", out.capacity());
            result.map(|()| out.len())
        };
        assert_eq!(run(&zeros[1..], 1).unwrap(), 32 << 20, "{compression}");
        let over = run(&zeros, 1).unwrap_err();
        assert!(over.is_limit(), "{compression}: {over}");
        // Of the codecs, zstd alone can be more than 2000 times smaller.
        let over_2000 = run(&zeros, 2000).is_err();
        assert_eq!(over_2000, compression == Compression::Zstd, "{compression}");
    }
}

#[test]
fn every_cut_is_an_error() {
    let plain = sample(3_000);
    for compression in available().skip(1) {
        let packed = compress(compression, &plain);
        for cut in 1..packed.len() {
            // Cut between two chunks, snappy's framing cannot be told from a whole one.
            match decompress(compression, &packed[..cut]) {
                Ok(out) => assert!(compression == Compression::Snappy && cut == 16 && out.is_empty()),
                Err(error) => assert!(error.is_corrupt(), "{compression} {cut}: {error}"),
            }
        }
    }
}

#[cfg(feature = "gzip")]
#[test]
fn b27_gzip_members_count_together() {
    let (a, b) = (sample(2000), sample(500));
    let two = [compress(Compression::Gzip, &a), compress(Compression::Gzip, &b)].concat();
    assert_eq!(decompress(Compression::Gzip, &two).unwrap(), [a, b].concat());
    let mut trailing = two.clone();
    trailing.extend([0; 5]);
    assert!(decompress(Compression::Gzip, &trailing).unwrap_err().is_corrupt());
    let error = Decompressor::new().max_size(2400).decompress(Compression::Gzip, &two, &mut Vec::new());
    assert!(error.unwrap_err().is_limit());
    assert!(decompress(Compression::Gzip, b"").unwrap_err().is_corrupt());
}

#[cfg(any(feature = "zstd", feature = "zstd-pure"))]
#[test]
fn b27_zstd_frames_one_after_the_other_and_skippable_ones() {
    let (a, b) = (sample(2000), sample(500));
    let (packed_a, packed_b) = (compress(Compression::Zstd, &a), compress(Compression::Zstd, &b));
    let skippable = [0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9];
    let all = [&skippable[..], &packed_a, &skippable, &packed_b, &skippable].concat();
    assert_eq!(decompress(Compression::Zstd, &all).unwrap(), [a, b].concat());
    assert!(decompress(Compression::Zstd, &all[..all.len() - 1]).unwrap_err().is_corrupt());
    let error = Decompressor::new().max_size(2400).decompress(Compression::Zstd, &all, &mut Vec::new());
    assert!(error.unwrap_err().is_limit());
    assert_eq!(decompress(Compression::Zstd, b"").unwrap(), b"");
}

/// Frames whose headers claim gigabytes, before one raw block of three bytes.
#[cfg(any(feature = "zstd", feature = "zstd-pure"))]
#[test]
fn b26_zstd_claims_take_no_memory() {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let block = [0x19, 0, 0, 1, 2, 3];
    let size = (64_u64 << 30).to_le_bytes();
    let single_segment = [&MAGIC[..], &[0xe0], &size, &block].concat();
    let error = decompress(Compression::Zstd, &single_segment).unwrap_err();
    assert!(error.is_limit() || error.is_corrupt(), "{error}");
    // A window of 128 MiB is what Java writes at level 22, for batches of any size.
    let window = [&MAGIC[..], &[0x00, 17 << 3], &block].concat();
    let mut out = Vec::new();
    Decompressor::new().decompress(Compression::Zstd, &window, &mut out).unwrap();
    assert_eq!((&out[..], out.capacity() <= 1 << 20), (&[1, 2, 3][..], true));
}

#[cfg(feature = "snappy")]
#[test]
fn b27_snappy_chunks_that_cannot_be() {
    let header = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
    let block = snap::raw::Encoder::new().compress_vec(b"hello hello hello").unwrap();
    let framed = |length: i32, block: &[u8]| [&header[..], &length.to_be_bytes(), block].concat();
    let whole = framed(block.len() as i32, &block);
    assert_eq!(decompress(Compression::Snappy, &whole).unwrap(), b"hello hello hello");
    let twice = [&whole[..], &whole].concat();
    assert_eq!(decompress(Compression::Snappy, &twice).unwrap().len(), 34, "a stream behind a stream");
    assert_eq!(decompress(Compression::Snappy, &block).unwrap(), b"hello hello hello", "raw");
    assert_eq!(decompress(Compression::Snappy, &header).unwrap(), b"", "no chunks");
    for length in [0, -1, i32::MIN, i32::MAX, block.len() as i32 + 1] {
        assert!(
            decompress(Compression::Snappy, &framed(length, &block)).unwrap_err().is_corrupt(),
            "{length}"
        );
    }
    for broken in [&header[..15], &b""[..], &[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2], &[0xff; 9]] {
        assert!(decompress(Compression::Snappy, broken).unwrap_err().is_corrupt(), "{broken:?}");
    }
}

#[cfg(feature = "lz4")]
mod lz4 {
    use twox_hash::XxHash32;

    use super::*;

    /// A frame with these flags around these blocks, each with its length in front.
    fn frame(flg: u8, bd: u8, rest: &[u8]) -> Vec<u8> {
        let checksum = (XxHash32::oneshot(0, &[flg, bd]) >> 8) as u8;
        [&[0x04, 0x22, 0x4d, 0x18, flg, bd, checksum], rest].concat()
    }

    fn fails(bytes: &[u8]) -> Error {
        decompress(Compression::Lz4, bytes).unwrap_err()
    }

    #[test]
    fn b29_lz4_offsets_before_the_start() {
        // One literal, then a match of four bytes from `offset` bytes back; five literals at the end.
        let block = |offset: u8| [&[0x10, b'a', offset, 0][..], &[0x50], b"bcdef"].concat();
        let whole = |offset| {
            let block = block(offset);
            frame(0x60, 0x40, &[&[block.len() as u8, 0, 0, 0][..], &block, &[0; 4]].concat())
        };
        assert_eq!(decompress(Compression::Lz4, &whole(1)).unwrap(), b"aaaaabcdef");
        assert!(fails(&whole(0)).is_corrupt() && fails(&whole(2)).is_corrupt());
        // In a linked frame, into the block before but not beyond it.
        let linked = |offset| {
            let block = block(offset);
            let stored = [3, 0, 0, 0x80, b'x', b'y', b'z'];
            frame(0x40, 0x40, &[&stored[..], &[block.len() as u8, 0, 0, 0], &block, &[0; 4]].concat())
        };
        assert_eq!(decompress(Compression::Lz4, &linked(4)).unwrap(), b"xyzaxyzabcdef");
        assert!(fails(&linked(5)).is_corrupt());
    }

    #[test]
    fn b29_lz4_checksums_and_sizes() {
        let stored = [3, 0, 0, 0x80, b'x', b'y', b'z'];
        let sum = XxHash32::oneshot(0, b"xyz").to_le_bytes();
        let both = frame(0x74, 0x40, &[&stored[..], &sum, &[0; 4], &sum].concat());
        assert_eq!(decompress(Compression::Lz4, &both).unwrap(), b"xyz");
        for at in [4, 5, 6, 14, 17, 22, 25] {
            let mut bytes = both.clone();
            bytes[at] ^= 1;
            let error = fails(&bytes);
            assert!(error.is_corrupt() || error.is_unsupported(), "{at}: {error}");
        }
        let flags = [0x68, 0x40, 4, 0, 0, 0, 0, 0, 0, 0];
        let mut sized = vec![0x04, 0x22, 0x4d, 0x18];
        sized.extend(flags);
        sized.push((XxHash32::oneshot(0, &flags) >> 8) as u8);
        sized.extend(stored);
        sized.extend([0; 4]);
        assert!(fails(&sized).to_string().contains("another size"));
        let large = frame(0x60, 0x40, &[1, 0, 1, 0]);
        assert!(fails(&large).to_string().contains("65537"));
        assert!(fails(b"").is_corrupt() && fails(b"\x04\x22\x4d\x19").is_corrupt());
        let skippable = [0x5f, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9];
        assert_eq!(decompress(Compression::Lz4, &[&skippable[..], &both].concat()).unwrap(), b"xyz");
    }

    #[test]
    fn b29_a_dictionary_is_asked_for() {
        assert!(fails(&frame(0x61, 0x40, &[0; 8])).is_unsupported());
    }
}
