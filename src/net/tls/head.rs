//! A stream that keeps the first bytes read from it, to tell what spoke if it was not TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::hint::HEAD_BYTES;

/// Passes everything through, and keeps what came first. Once that is kept, it costs a comparison a read.
#[derive(Debug)]
pub(crate) struct Head<T> {
    inner: T,
    bytes: [u8; HEAD_BYTES],
    kept: usize,
}

impl<T> Head<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, bytes: [0; HEAD_BYTES], kept: 0 }
    }

    pub(super) fn head(&self) -> &[u8] {
        self.bytes.get(..self.kept).unwrap_or_default()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Head<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(context, into))?;
        let new = into.filled().get(before..).unwrap_or_default();
        let room = this.bytes.get_mut(this.kept..).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(new) {
            *to = *from;
            this.kept += 1;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Head<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
