//! Messages whose type is known only when the bytes arrive: for proxies, the mock cluster, fuzzing.

use std::any::Any;
use std::fmt;
use std::ops::RangeInclusive;

use crate::Result;
use crate::wire::message::{request_header_version, response_header_version};
use crate::wire::{ApiKey, Decode, Encode, Message, Reader, Writer};

/// Which of the four kinds a message is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What a client sends.
    Request,
    /// What a broker answers.
    Response,
    /// What stands before a request or a response.
    Header,
    /// What is kept in records or inside other messages.
    Data,
}

impl Kind {
    /// The word for it in Kafka's specs: `request`, `response`, `header`, `data`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
            Self::Header => "header",
            Self::Data => "data",
        }
    }
}

/// Any message. [`as_any`](Self::as_any) leads back to its type.
pub trait AnyMessage: fmt::Debug + Send + Sync {
    /// Its name in Kafka's specs, such as `FetchRequest`.
    fn name(&self) -> &'static str;

    /// Appends it in that version.
    fn encode_any(&self, w: &mut Writer, version: i16) -> Result<()>;

    /// For a downcast to the message's own type.
    fn as_any(&self) -> &dyn Any;

    /// For a downcast by value.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<M: Message + Encode + fmt::Debug + Send + Sync + 'static> AnyMessage for M {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn encode_any(&self, w: &mut Writer, version: i16) -> Result<()> {
        Message::encode(self, w, version)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// What a message type must be for the table of all of them.
#[cfg(feature = "draw")]
pub(crate) trait Listed: AnyMessage + Message + Decode + crate::wire::draw::Draw + 'static {}

#[cfg(feature = "draw")]
impl<M: AnyMessage + Message + Decode + crate::wire::draw::Draw + 'static> Listed for M {}

/// What a message type must be for the table of all of them.
#[cfg(not(feature = "draw"))]
pub(crate) trait Listed: AnyMessage + Message + Decode + 'static {}

#[cfg(not(feature = "draw"))]
impl<M: AnyMessage + Message + Decode + 'static> Listed for M {}

/// What is known of a message type without a message.
#[derive(Clone)]
pub struct MessageType {
    pub(crate) kind: Kind,
    pub(crate) key: Option<ApiKey>,
    pub(crate) name: &'static str,
    pub(crate) versions: RangeInclusive<i16>,
    pub(crate) flexible_from: i16,
    pub(crate) decode: fn(&mut Reader<'_>, i16) -> Result<Box<dyn AnyMessage>>,
    pub(crate) default: fn() -> Box<dyn AnyMessage>,
    #[cfg(feature = "draw")]
    pub(crate) draw: fn(&mut crate::wire::draw::Entropy, i16) -> Box<dyn AnyMessage>,
}

impl MessageType {
    pub(crate) const fn of<M: Listed>(kind: Kind, key: Option<ApiKey>) -> Self {
        Self {
            kind,
            key,
            name: M::NAME,
            versions: M::VERSIONS,
            flexible_from: M::FLEXIBLE.start,
            decode: decode_boxed::<M>,
            default: || Box::new(M::default()),
            #[cfg(feature = "draw")]
            draw: |e, version| Box::new(M::draw(e, version, M::FLEXIBLE.contains(&version), false)),
        }
    }

    /// The kind of the message.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The API of a request or response.
    pub fn api_key(&self) -> Option<ApiKey> {
        self.key
    }

    /// The name in Kafka's specs, such as `FetchRequest`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The versions that there are.
    pub fn versions(&self) -> RangeInclusive<i16> {
        self.versions.clone()
    }

    /// A message of this type with every field at its default.
    pub fn default_message(&self) -> Box<dyn AnyMessage> {
        (self.default)()
    }

    /// Whether that version writes compact lengths and tagged fields (KIP-482).
    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_from
    }

    /// The version of the header in front of that version of the request or response. `None` for
    /// headers themselves, and for data.
    pub fn header_version(&self, version: i16) -> Option<i16> {
        let (key, flexible) = (self.key?, self.is_flexible(version));
        match self.kind {
            Kind::Request => Some(request_header_version(key, version, flexible)),
            Kind::Response => Some(response_header_version(key, flexible)),
            Kind::Header | Kind::Data => None,
        }
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.versions.start(), self.versions.end());
        write!(f, "{} {} {first}-{last}", self.kind.as_str(), self.name)
    }
}

fn decode_boxed<M: Listed>(r: &mut Reader<'_>, version: i16) -> Result<Box<dyn AnyMessage>> {
    <M as Message>::decode(r, version).map(|message| Box::new(message) as _)
}

/// The table of all messages, from lines such as `request 1 fetch::FetchRequest;`. It stands in a module
/// beside the messages: `super` is meant there, since this layer knows none of them.
macro_rules! dispatch {
    ($( $kind:ident $($key:literal)? $module:ident::$name:ident; )*) => {
        /// Every message type, by kind and then by API key or name.
        pub(crate) static ALL: &[$crate::wire::any::MessageType] = &[
            $( $crate::wire::any::MessageType::of::<super::$module::$name>(
                $crate::wire::any::dispatch!(@kind $kind),
                $crate::wire::any::dispatch!(@key $($key)?),
            ), )*
        ];
    };
    (@kind request) => { $crate::wire::any::Kind::Request };
    (@kind response) => { $crate::wire::any::Kind::Response };
    (@kind header) => { $crate::wire::any::Kind::Header };
    (@kind data) => { $crate::wire::any::Kind::Data };
    (@key $key:literal) => { Some($crate::wire::ApiKey($key)) };
    (@key) => { None };
}

pub(crate) use dispatch;
