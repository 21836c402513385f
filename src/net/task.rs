//! Tasks in the background, ended with whoever holds them.

use tokio::task::JoinHandle;

/// A running task. Dropping this ends it at its next await; that neither blocks nor waits.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

/// Runs `future` in the background, on the runtime that this is called on.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Task {
    Task(tokio::spawn(future))
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
