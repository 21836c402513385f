//! The one error type of the crate.
//!
//! An [`Error`] is opaque: what callers need to decide (is it the peer's bytes, a limit of ours, a
//! version that cannot say this?) are predicates, and the words are for people. It is one pointer
//! wide, so that a decoder's `Result<()>` travels in a register; all constructors are cold.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::error_code::ErrorCode;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, with the place where it did.
///
/// The text names what was expected, what was found and, for bytes from outside, the message, its
/// version and the offset in it. Strings from a peer are escaped and cut before they get here.
///
/// Callers decide by predicates: [`is_retriable`](Self::is_retriable) (may the same call succeed later?),
/// [`may_have_happened`](Self::may_have_happened) (may the broker have done it all the same?), and those
/// of the kind. One is never both of the kinds.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    what: Cow<'static, str>,
    /// The message being read or written, innermost first.
    message: Option<(&'static str, i16)>,
    /// Bytes from the start of the message or batch.
    offset: Option<usize>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    /// The broker that it concerns, as people name it.
    broker: Option<Box<str>>,
    /// What the broker called it, where its kind is another than that of an answer.
    code: Option<ErrorCode>,
    /// The request was on its way, so the broker may have done it.
    may_have_happened: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Malformed,
    Corrupt,
    Limit,
    Unsupported,
    Invalid,
    Io,
    Timeout,
    Auth,
    Broker(ErrorCode),
    /// The broker refused others that came with it.
    Beside(ErrorCode),
    Closed,
    Internal,
}

impl Error {
    /// For a [`Mechanism`](crate::conn::sasl::Mechanism) or [`TokenProvider`](crate::conn::sasl::TokenProvider)
    /// of your own: authentication failed, and trying again will not help. Where it may help, give a
    /// [`std::io::Error`], which becomes a retriable error of this type. The words must not hold secrets.
    #[cfg(feature = "client")]
    #[cold]
    pub fn authentication(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source = source.into();
        let mut error = Self::new(Kind::Auth, source.to_string());
        error.0.source = Some(source.into());
        error
    }

    /// Bytes that are no message of their type: cut short, a length that cannot be, bad UTF-8.
    #[cold]
    pub(crate) fn malformed(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Malformed, what)
    }

    /// Record data whose checksum, codec or structure is wrong.
    #[cold]
    pub(crate) fn corrupt(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Corrupt, what)
    }

    /// Data that may be well formed but is larger than a limit that was set.
    #[cold]
    pub(crate) fn limit(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Limit, what)
    }

    /// An API, version or codec that one side does not have.
    #[cold]
    pub(crate) fn unsupported(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Unsupported, what)
    }

    /// A value that the caller gave and the protocol cannot carry.
    #[cold]
    pub(crate) fn invalid(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Invalid, what)
    }

    /// The network refused, ended or broke something.
    #[cold]
    pub(crate) fn io(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Io, what)
    }

    /// It took longer than it was given.
    #[cold]
    pub(crate) fn timeout(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Timeout, what)
    }

    /// One side did not accept who the other says it is.
    #[cold]
    pub(crate) fn auth(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Auth, what)
    }

    /// A broker answered with an error code, and perhaps its own words, which must be escaped already.
    #[cold]
    pub(crate) fn broker_said(code: ErrorCode, what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Broker(code), what)
    }

    /// Nothing is wrong with it, but a broker refused what it came with.
    #[cfg(feature = "client")]
    #[cold]
    pub(crate) fn beside(code: ErrorCode, what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Beside(code), what)
    }

    /// The client was closed.
    #[cold]
    pub(crate) fn closed(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Closed, what)
    }

    /// A task of the client died. That is a defect of ours.
    #[cold]
    pub(crate) fn internal(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Internal, what)
    }

    #[cold]
    fn new(kind: Kind, what: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            what: what.into(),
            message: None,
            offset: None,
            source: None,
            broker: None,
            code: None,
            may_have_happened: false,
        }))
    }

    /// Says that the request had left, or may have, when it failed.
    #[cold]
    pub(crate) fn maybe_done(mut self) -> Self {
        self.0.may_have_happened = true;
        self
    }

    /// Says that whatever its parts may have come to, what was wanted as a whole did not happen.
    #[cfg(feature = "client")]
    #[cold]
    pub(crate) fn not_done(mut self) -> Self {
        self.0.may_have_happened = false;
        self
    }

    /// Says what the broker calls it.
    #[cfg(feature = "client")]
    #[cold]
    pub(crate) fn with_code(mut self, code: ErrorCode) -> Self {
        self.0.code = Some(code);
        self
    }

    /// Says which broker it concerns, unless that was already said.
    #[cold]
    pub(crate) fn with_broker(mut self, broker: impl fmt::Display) -> Self {
        self.0.broker.get_or_insert_with(|| broker.to_string().into());
        self
    }

    /// Says where in the bytes it happened, unless a deeper place was already said.
    #[cold]
    pub(crate) fn at(mut self, offset: usize) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Says in which message it happened, unless a deeper one was already said.
    #[cold]
    pub(crate) fn in_message(mut self, name: &'static str, version: i16) -> Self {
        self.0.message.get_or_insert((name, version));
        self
    }

    /// Says in which larger thing it happened.
    #[cold]
    pub(crate) fn within(mut self, place: impl fmt::Display) -> Self {
        self.0.what = format!("{place}: {}", self.0.what).into();
        self
    }

    /// Keeps the error of the library underneath.
    #[cold]
    pub(crate) fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// The bytes are no message of their type. The sender is broken or not Kafka.
    pub fn is_malformed(&self) -> bool {
        self.0.kind == Kind::Malformed
    }

    /// Record data failed its checksum, its codec, or its structure.
    pub fn is_corrupt(&self) -> bool {
        self.0.kind == Kind::Corrupt
    }

    /// A limit that was set refused the data before memory was spent on it.
    pub fn is_limit(&self) -> bool {
        self.0.kind == Kind::Limit
    }

    /// The API, version or codec is not there on one of the two sides.
    pub fn is_unsupported(&self) -> bool {
        self.0.kind == Kind::Unsupported
    }

    /// The value given cannot be said in this version of the protocol.
    pub fn is_invalid(&self) -> bool {
        self.0.kind == Kind::Invalid
    }

    /// A connection could not be made, or was lost: the operating system's or the peer's doing.
    pub fn is_io(&self) -> bool {
        self.0.kind == Kind::Io
    }

    /// It took longer than it was given.
    pub fn is_timeout(&self) -> bool {
        self.0.kind == Kind::Timeout
    }

    /// TLS or SASL failed: a certificate, a name or a password is not what the other side wants.
    pub fn is_auth(&self) -> bool {
        self.0.kind == Kind::Auth
    }

    /// The client was closed before or meanwhile.
    pub fn is_closed(&self) -> bool {
        self.0.kind == Kind::Closed
    }

    /// A task of the client died. That is a defect of weir.
    pub fn is_internal(&self) -> bool {
        self.0.kind == Kind::Internal
    }

    /// What the broker answered, if it is a broker's answer that this error tells; that of an authentication
    /// ([`is_auth`](Self::is_auth)) among them, where the broker gave its refusal a code.
    pub fn code(&self) -> Option<ErrorCode> {
        match self.0.kind {
            Kind::Broker(code) | Kind::Beside(code) => Some(code),
            _ => self.0.code,
        }
    }

    /// Somebody else has taken the place of this producer or group member: a newer one with the same
    /// transactional id (KIP-98, KIP-588) or instance id (KIP-345). A partition's leader can only say that the
    /// producer's epoch is old, which counts as this too; the coordinator says the rest when the
    /// transaction is ended.
    pub fn is_fenced(&self) -> bool {
        let fenced = |code| {
            matches!(
                code,
                ErrorCode::PRODUCER_FENCED
                    | ErrorCode::INVALID_PRODUCER_EPOCH
                    | ErrorCode::FENCED_INSTANCE_ID
            )
        };
        self.code().is_some_and(fenced)
    }

    /// Whether the same call may succeed when it is made again later. Whether that is safe is another
    /// question: [`may_have_happened`](Self::may_have_happened).
    ///
    /// A record that a broker refused only because of others in its batch (KIP-467) is retriable, although its
    /// [`code`](Self::code) alone would not say so; those others are not.
    pub fn is_retriable(&self) -> bool {
        match self.0.kind {
            Kind::Io | Kind::Timeout | Kind::Beside(_) => true,
            Kind::Broker(code) => code.is_retriable(),
            _ => false,
        }
    }

    /// Whether the broker may have done what it was asked, although no good answer came: the request
    /// had left when the connection broke or the time was over.
    pub fn may_have_happened(&self) -> bool {
        self.0.may_have_happened
    }

    /// The broker that it concerns: its id if it is known, and its address.
    pub fn broker(&self) -> Option<&str> {
        self.0.broker.as_deref()
    }

    /// Where in the message or batch it happened, in bytes from its start, if that is known.
    pub fn offset(&self) -> Option<usize> {
        self.0.offset
    }
}

impl From<std::io::Error> for Error {
    #[cold]
    fn from(source: std::io::Error) -> Self {
        Self::new(Kind::Io, source.kind().to_string()).because(source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, what, message, offset, broker, .. } = &*self.0;
        f.write_str(match kind {
            Kind::Malformed => "malformed data",
            Kind::Corrupt => "corrupt record data",
            Kind::Limit => "limit exceeded",
            Kind::Unsupported => "unsupported",
            Kind::Invalid => "invalid value",
            Kind::Io => "connection failed",
            Kind::Timeout => "timed out",
            Kind::Auth => "authentication failed",
            Kind::Broker(_) => "refused by the broker",
            Kind::Beside(_) => "refused by the broker for what came with it",
            Kind::Closed => "closed",
            Kind::Internal => "internal error",
        })?;
        if let Kind::Broker(code) | Kind::Beside(code) = kind {
            write!(f, " with {code}")?;
        }
        if let Some(broker) = broker {
            write!(f, " at {broker}")?;
        }
        if let Some((name, version)) = message {
            write!(f, " in {name} version {version}")?;
        }
        if let Some(offset) = offset {
            write!(f, " at byte {offset}")?;
        }
        if !what.is_empty() {
            write!(f, ": {what}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        match &self.0.source {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// A peer's words as an error may carry them: escaped, and cut to what a person reads.
pub(crate) fn quoted(words: &[u8]) -> String {
    const SHOWN_MAX: usize = 256;
    let shown = words.get(..SHOWN_MAX).unwrap_or(words);
    let dots = if shown.len() < words.len() { ".." } else { "" };
    format!("\"{}\"{dots}", String::from_utf8_lossy(shown).escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_one_pointer_wide() {
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn the_innermost_place_wins() {
        let error = Error::malformed("length -2").at(7).in_message("FetchResponse", 12);
        let error = error.at(99).in_message("Outer", 0);
        assert_eq!(error.to_string(), "malformed data in FetchResponse version 12 at byte 7: length -2");
        assert_eq!(error.offset(), Some(7));
        assert!(error.is_malformed() && !error.is_corrupt());
    }
}
