//! The format in which messages and answers pass the pipe: `tests/oracle/Oracle.java` tells it.

use std::io::{self, BufRead, Read, Write};

use bytes::Bytes;

/// A message on its way.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) version: i16,
    pub(super) bytes: Bytes,
    /// Over the JSON of the message that Java drew; 0 for those that weir drew.
    pub(super) hash: u64,
}

impl Frame {
    /// The next message, or `None` where the stream ends between two.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        if from.fill_buf()?.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            kind: read_text(from)?,
            name: read_text(from)?,
            version: i16::from_be_bytes(read_array(from)?),
            bytes: read_blob(from)?.into(),
            hash: u64::from_be_bytes(read_array(from)?),
        }))
    }

    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        write_text(to, &self.kind)?;
        write_text(to, &self.name)?;
        to.write_all(&self.version.to_be_bytes())?;
        write_blob(to, &self.bytes)?;
        to.write_all(&self.hash.to_be_bytes())
    }
}

/// What Java encoded again, or why it could not. With JSON if that was asked for.
pub(super) fn read_answer(from: &mut impl Read) -> io::Result<Result<Vec<u8>, String>> {
    let [ok] = read_array(from)?;
    let blob = read_blob(from)?;
    Ok(if ok == 1 { Ok(blob) } else { Err(String::from_utf8_lossy(&blob).into_owned()) })
}

pub(super) fn read_blob(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut blob = vec![0; u32::from_be_bytes(read_array(from)?) as usize];
    from.read_exact(&mut blob)?;
    Ok(blob)
}

pub(super) fn write_blob(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&(bytes.len() as u32).to_be_bytes())?;
    to.write_all(bytes)
}

pub(super) fn read_text(from: &mut impl Read) -> io::Result<String> {
    let mut text = vec![0; u16::from_be_bytes(read_array(from)?) as usize];
    from.read_exact(&mut text)?;
    String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

pub(super) fn write_text(to: &mut impl Write, text: &str) -> io::Result<()> {
    to.write_all(&(text.len() as u16).to_be_bytes())?;
    to.write_all(text.as_bytes())
}

pub(super) fn read_array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn a_frame_comes_back_and_the_end_is_seen() {
    let frame =
        Frame { kind: "data".into(), name: "é".into(), version: -2, bytes: "xyz".into(), hash: 1 << 63 };
    let mut pipe = Vec::new();
    frame.write(&mut pipe).unwrap();
    let mut from = pipe.as_slice();
    let back = Frame::read(&mut from).unwrap().unwrap();
    assert_eq!(format!("{back:?}"), format!("{frame:?}"));
    assert!(Frame::read(&mut from).unwrap().is_none());
    assert!(Frame::read(&mut &pipe[..9]).is_err());
}
