//! Bytes on their way to a socket: pieces of requests, written many at once without being copied.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use crate::wire::Segments;

/// Pieces that one vectored write takes. The kernel's own limit is 1024; more than a few dozen gain nothing.
const SLICES_MAX: usize = 64;

/// The writing half of a connection, with what was not written yet.
pub(super) struct Outbox {
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    pieces: VecDeque<Bytes>,
    /// The writer may hold bytes back, as TLS does.
    unflushed: bool,
}

impl Outbox {
    pub(super) fn new(writer: Box<dyn AsyncWrite + Send + Unpin>) -> Self {
        Self { writer, pieces: VecDeque::new(), unflushed: false }
    }

    pub(super) fn push(&mut self, segments: Segments) {
        if segments.is_one() {
            // Mostly so: all but the records of a large request.
            self.pieces.push_back(segments.into_bytes());
        } else {
            self.pieces.extend(segments.iter());
        }
    }

    /// Whether everything has left.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && !self.unflushed
    }

    /// Writes until everything has left.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pieces.is_empty() {
            let written = ready!(self.poll_write_some(cx))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.advance(written);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.writer).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }

    fn poll_write_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let writer = Pin::new(&mut self.writer);
        if let (Some(piece), 1) = (self.pieces.front(), self.pieces.len()) {
            return writer.poll_write(cx, piece);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = slices.iter_mut().zip(&self.pieces).map(|(slice, piece)| *slice = IoSlice::new(piece));
        let count = filled.count();
        writer.poll_write_vectored(cx, slices.get(..count).unwrap_or_default())
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            if written < piece.len() {
                return piece.advance(written);
            }
            written -= piece.len();
            self.pieces.pop_front();
        }
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("pieces", &self.pieces.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Writer;

    /// Takes a few bytes at a time, from however many slices, and is busy every other time.
    #[derive(Default)]
    struct Slow {
        got: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
        step: usize,
        busy: bool,
    }

    impl AsyncWrite for Slow {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(buf)])
        }
        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.busy = !self.busy;
            if self.busy {
                return Poll::Pending;
            }
            let some: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).take(self.step).collect();
            self.got.lock().unwrap().extend_from_slice(&some);
            Poll::Ready(Ok(some.len()))
        }
        fn is_write_vectored(&self) -> bool {
            true
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn pieces_arrive_whole_and_in_order_however_little_a_write_takes() {
        let big: Vec<u8> = (0..5000_u32).map(|n| n as u8).collect();
        let mut expected = Vec::new();
        for step in [1, 7, 999, 100_000] {
            let got = std::sync::Arc::default();
            let mut outbox =
                Outbox::new(Box::new(Slow { got: std::sync::Arc::clone(&got), step, busy: false }));
            expected.clear();
            for n in 0..3_u8 {
                let mut writer = Writer::default();
                writer.put(&[n; 5]);
                writer.put_shared(&Bytes::from(big.clone()));
                writer.put(&[n; 3]);
                let segments = writer.finish();
                expected.extend_from_slice(&segments.clone().into_bytes());
                outbox.push(segments);
            }
            let mut cx = Context::from_waker(std::task::Waker::noop());
            while outbox.poll_write(&mut cx).is_pending() {}
            assert!(outbox.is_empty());
            assert!(*got.lock().unwrap() == expected, "steps of {step}");
        }
    }

    #[test]
    fn a_writer_that_takes_nothing_is_an_error() {
        let mut outbox = Outbox::new(Box::new(Slow { step: 0, busy: true, ..Slow::default() }));
        outbox.push(Segments::framed(Bytes::from_static(b"x")));
        let done = outbox.poll_write(&mut Context::from_waker(std::task::Waker::noop()));
        assert!(matches!(done, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::WriteZero));
    }
}
