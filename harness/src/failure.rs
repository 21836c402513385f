//! Why there is no broker: the machine cannot, or something is broken.

use std::fmt;

/// Why something of the harness could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// This machine lacks something (Java, Maven, a way to the jars, a KDC): a test can only skip.
    NotHere(String),
    /// It should have worked: a test must fail.
    Broken(String),
}

/// What the harness returns.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHere(why) | Self::Broken(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Failure {}

/// Names what was being done when an error came, for `map_err`.
pub(crate) fn broken<E: fmt::Display>(doing: impl fmt::Display) -> impl FnOnce(E) -> Failure {
    move |error| Failure::Broken(format!("{doing}: {error}"))
}
