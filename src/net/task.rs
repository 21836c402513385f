//! Tasks in the background, ended with whoever holds them.

use tokio::task::JoinHandle;

#[cfg(feature = "rustls")]
use crate::error::{Error, Result};

/// A running task. Dropping this ends it at its next await; that neither blocks nor waits.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

/// Runs `future` in the background, on the runtime that this is called on.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Task {
    Task(tokio::spawn(future))
}

/// Runs `work`, which blocks, where that holds nobody up. Dropping the future does not end it.
#[cfg(feature = "rustls")]
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let died = |error| Error::internal("a blocking task died").because(error);
    tokio::task::spawn_blocking(work).await.map_err(died)
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
