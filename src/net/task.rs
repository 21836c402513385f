//! Tasks in the background, ended with whoever holds them.

use tokio::task::JoinHandle;

use crate::{Error, Result};

/// A running task. Dropping this ends it at its next await; that neither blocks nor waits.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    /// Whether it has come to its end.
    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// Fails where there is no runtime that tasks could run on.
pub(crate) fn check_runtime() -> Result<()> {
    match tokio::runtime::Handle::try_current() {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(Error::invalid("the client runs on a tokio runtime, and is not on one").because(error))
        }
    }
}

/// Runs `future` in the background, on the runtime that this is called on.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Task {
    Task(tokio::spawn(future))
}

/// Runs what takes the processor for long on a thread where it holds nobody up. When the future is dropped, the
/// work goes on to its end and its result is dropped.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal("work in the background died").because(e))
}

/// Does work that takes the processor for long where it holds nobody up, and waits for nothing. Without a
/// runtime it is done at once.
pub(crate) fn aside(work: impl FnOnce() + Send + 'static) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        Err(_) => work(),
    }
}

/// The runtime on which something was made, for work that begins elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Home(tokio::runtime::Handle);

impl Home {
    /// The runtime that this is called on.
    pub(crate) fn here() -> Result<Self> {
        check_runtime()?;
        let handle = tokio::runtime::Handle::try_current();
        handle.map(Self).map_err(|e| Error::invalid("there is no runtime").because(e))
    }

    /// Runs `future` in the background until it ends by itself, or the runtime does.
    pub(crate) fn detach(&self, future: impl Future<Output = ()> + Send + 'static) {
        drop(self.0.spawn(future));
    }

    /// Does work that takes the processor for long where it holds nobody up.
    pub(crate) fn aside(&self, work: impl FnOnce() + Send + 'static) {
        drop(self.0.spawn_blocking(work));
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
