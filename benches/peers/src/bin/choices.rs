//! The crates that weir is built on, next to those it could be built on.
//!
//! `cargo run --release --bin choices -- [zstd] [crc] [gzip] [strings]`

use std::io::{Read, Write};
use std::process::ExitCode;

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use structured_zstd::encoding::CompressionLevel;
use weir_peers::contest::Contest;
use weir_peers::data::{self, Random};
use weir_peers::report::Report;

/// Bytes of records that are compressed at once: a large batch.
const MEGABYTE: usize = 1 << 20;

fn main() -> ExitCode {
    let mut report = match Report::from_args() {
        Ok(report) => report,
        Err(exit) => return exit,
    };
    let plain = data::half_compressible(MEGABYTE);
    for level in [1, 3] {
        zstd_compress(&mut report, &plain, level);
    }
    zstd_decompress(&mut report, &plain);
    for level in [1, 6] {
        gzip_compress(&mut report, &plain, level);
    }
    gzip_decompress(&mut report, &plain);
    crc32c(&mut report);
    crc32(&mut report);
    strings(&mut report);
    report.finish()
}

fn zstd_compress(report: &mut Report, plain: &[u8], level: i32) {
    let name = format!("zstd, compress, level {level}");
    if !report.wants(&name) {
        return;
    }
    let mut c = zstd::bulk::Compressor::new(level).expect("a level of zstd");
    let mut contest = Contest::new(name, 1, plain.len());
    let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(plain.len()));
    let len = c.compress_to_buffer(plain, &mut out).expect("room for the worst case");
    size("zstd (C)", len, plain.len());
    contest = contest.entrant("zstd (C)", move || {
        out.clear();
        c.compress_to_buffer(plain, &mut out).expect("room for the worst case")
    });
    let mut structured: structured_zstd::encoding::FrameCompressor =
        structured_zstd::encoding::FrameCompressor::new(CompressionLevel::Level(level));
    let mut out = Vec::new();
    structured.compress_independent_frame_into(plain, &mut out);
    assert!(zstd::bulk::decompress(&out, plain.len()).is_ok_and(|back| back == plain));
    size("structured-zstd", out.len(), plain.len());
    contest = contest.entrant("structured-zstd", move || {
        structured.compress_independent_frame_into(plain, &mut out);
        out.len()
    });
    // ruzstd compresses at its fastest only.
    if level == 1 {
        let squeeze =
            || ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest);
        size("ruzstd", squeeze().len(), plain.len());
        contest = contest.entrant("ruzstd", squeeze);
    }
    report.run(contest);
}

fn zstd_decompress(report: &mut Report, plain: &[u8]) {
    let name = "zstd, decompress";
    if !report.wants(name) {
        return;
    }
    let packed = zstd::bulk::compress(plain, 3).expect("level 3 compresses");
    let packed = packed.as_slice();
    let room = plain.len() + 64;
    let mut c = zstd::bulk::Decompressor::new().expect("memory for a context");
    let mut structured = structured_zstd::decoding::FrameDecoder::new();
    let mut ru = ruzstd::decoding::FrameDecoder::new();
    let (mut first, mut second, mut third) = (vec![0; room], vec![0; room], vec![0; room]);
    let contest = Contest::new(name, 1, plain.len())
        .entrant("zstd (C)", || c.decompress_to_buffer(packed, first.as_mut_slice()).expect("a good frame"))
        .entrant("structured-zstd", || structured.decode_all(packed, &mut second).expect("a good frame"))
        .entrant("ruzstd", || ru.decode_all(packed, &mut third).expect("a good frame"));
    report.run(contest);
    for out in [first, second, third] {
        assert!(out[..plain.len()] == *plain, "a decoder is wrong");
    }
}

fn gzip_compress(report: &mut Report, plain: &[u8], level: u8) {
    let name = format!("gzip, deflate, level {level}");
    if !report.wants(&name) {
        return;
    }
    let zlib_rs = || {
        let mut out = GzEncoder::new(Vec::with_capacity(MEGABYTE), Compression::new(level.into()));
        out.write_all(plain).and_then(|()| out.finish()).expect("a vector takes all")
    };
    let miniz = || miniz_oxide::deflate::compress_to_vec(plain, level);
    size("flate2 on zlib-rs", zlib_rs().len(), plain.len());
    size("miniz_oxide", miniz().len(), plain.len());
    let contest = Contest::new(name, 1, plain.len())
        .entrant("flate2 on zlib-rs", zlib_rs)
        .entrant("miniz_oxide", miniz);
    report.run(contest);
}

fn gzip_decompress(report: &mut Report, plain: &[u8]) {
    let name = "gzip, inflate";
    if !report.wants(name) {
        return;
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::new(6));
    let packed = packed.write_all(plain).and_then(|()| packed.finish()).expect("a vector takes all");
    // miniz_oxide reads the deflate stream within; flate2 also checks the CRC of the trailer.
    let bare = &packed[10..packed.len() - 8];
    let zlib_rs = || {
        let mut out = Vec::with_capacity(plain.len() + 1);
        GzDecoder::new(&packed[..]).read_to_end(&mut out).expect("a good stream");
        out
    };
    let miniz = || miniz_oxide::inflate::decompress_to_vec(bare).expect("a good stream");
    assert!(zlib_rs() == plain && miniz() == plain);
    let contest = Contest::new(name, 1, plain.len())
        .entrant("flate2 on zlib-rs", zlib_rs)
        .entrant("miniz_oxide", miniz);
    report.run(contest);
}

fn size(who: &str, packed: usize, plain: usize) {
    println!("{who}: {plain} to {packed} bytes, {:.3}", packed as f64 / plain as f64);
}

/// The checksum of message format 2.
fn crc32c(report: &mut Report) {
    for len in [100, 1_000, 16_384, 110_000, MEGABYTE] {
        let name = format!("crc-32c of {len} bytes");
        if !report.wants(&name) {
            continue;
        }
        let bytes = noise(len);
        assert_eq!(crc32c::crc32c(&bytes), crc_fast::crc32_iscsi(&bytes));
        let contest = Contest::new(name, 1, len)
            .entrant("crc32c", || crc32c::crc32c(&bytes))
            .entrant("crc-fast", || crc_fast::crc32_iscsi(&bytes));
        report.run(contest);
    }
}

/// The checksum of message formats 0 and 1, and of gzip.
fn crc32(report: &mut Report) {
    for len in [100, 16_384, MEGABYTE] {
        let name = format!("crc-32 of {len} bytes");
        if !report.wants(&name) {
            continue;
        }
        let bytes = noise(len);
        assert_eq!(crc32fast::hash(&bytes), crc_fast::crc32_iso_hdlc(&bytes));
        let contest = Contest::new(name, 1, len)
            .entrant("crc32fast", || crc32fast::hash(&bytes))
            .entrant("crc-fast", || crc_fast::crc32_iso_hdlc(&bytes));
        report.run(contest);
    }
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Random::seeded(3).fill(&mut bytes);
    bytes
}

/// Ways to hold the strings of a message: 100 topic names from one frame, read and dropped.
fn strings(report: &mut Report) {
    for (name, len) in [("strings of 12 bytes", 12), ("strings of 30 bytes", 30)] {
        if !report.wants(name) {
            continue;
        }
        let frame: bytes::Bytes =
            data::half_compressible(64 << 10).into_iter().map(|byte| byte & 0x7f).collect();
        let spans: Vec<_> = (0..100).map(|i| i * len..(i + 1) * len).collect();
        let text = |span: &std::ops::Range<usize>| {
            std::str::from_utf8(&frame[span.clone()]).expect("seven bits are UTF-8")
        };
        let contest = Contest::new(name, 100, 100 * len)
            .entrant("&str", || spans.iter().map(text).collect::<Vec<_>>())
            .entrant("String", || spans.iter().map(|span| text(span).to_owned()).collect::<Vec<_>>())
            .entrant("bytestring", || {
                let slice = |span: &std::ops::Range<usize>| frame.slice(span.clone());
                let strings = spans.iter().map(|span| bytestring::ByteString::try_from(slice(span)));
                strings.collect::<Result<Vec<_>, _>>().expect("seven bits are UTF-8")
            })
            .entrant("compact_str", || {
                spans.iter().map(|span| compact_str::CompactString::new(text(span))).collect::<Vec<_>>()
            });
        report.run(contest);
    }
}
