//! The records: lines of real text, made again from their number whenever one is compared.

use std::path::Path;

use super::support::Result;

/// When the first record was made; the others follow a millisecond apart.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// So many records, each a line of this package's source.
pub(crate) struct Text {
    lines: Vec<String>,
    len: usize,
}

impl Text {
    pub(crate) fn of_this_package(len: usize) -> Result<Self> {
        let mut lines = Vec::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for folder in ["src", "src/wire", "src/records", "src/messages", "examples/roundtrip"] {
            let mut files: Vec<_> = std::fs::read_dir(root.join(folder))?.collect::<std::io::Result<_>>()?;
            files.sort_by_key(std::fs::DirEntry::file_name);
            for file in files.iter().filter(|file| file.path().extension().is_some_and(|ext| ext == "rs")) {
                lines.extend(std::fs::read_to_string(file.path())?.lines().map(str::to_owned));
            }
        }
        if lines.is_empty() {
            return Err("no text to send".into());
        }
        Ok(Self { lines, len })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The value of a record: a line, or null now and then.
    pub(crate) fn value(&self, n: usize) -> Option<&[u8]> {
        if n % 1000 == 999 { None } else { self.lines.get(n % self.lines.len()).map(String::as_bytes) }
    }

    /// Its key. Every seventh has none.
    pub(crate) fn key(n: usize) -> Option<String> {
        (!n.is_multiple_of(7)).then(|| format!("line-{n}"))
    }

    pub(crate) fn timestamp(n: usize) -> i64 {
        EPOCH_MS + n as i64
    }

    /// Its headers: every tenth record has two, of the same name, the second of them null.
    pub(crate) fn headers(n: usize) -> &'static [(&'static str, Option<&'static [u8]>)] {
        if n.is_multiple_of(10) { &[("seen", Some(b"by weir")), ("seen", None)] } else { &[] }
    }
}
