//! The end of a program that was told to end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Comes to its end with the first SIGTERM or SIGINT from now on.
pub(crate) fn ended() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
