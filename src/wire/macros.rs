//! The macro that turns the tables of `messages/` into structs, encoders and decoders.
//!
//! A row of a table is a field: name, type, default if it is not the type's own, the versions that
//! have it, what becomes of it in the others (`or ignored`: left out; `or refused`: an error if it
//! is set), and the versions in which it may be null if those are fewer. Rows under `tagged` are
//! written only when they differ from their default.
//!
//! The direction in front (`sent`, `received`, `both`) says which half a client needs; the other
//! half comes with the feature `protocol`. What a message does beyond its fields is in
//! [`versions!`] and [`request!`].

/// Structs with their encoders and decoders.
macro_rules! message {
    (sent $($table:tt)*) => { $crate::wire::message! { @ [] [cfg(feature = "protocol")] $($table)* } };
    (received $($table:tt)*) => { $crate::wire::message! { @ [cfg(feature = "protocol")] [] $($table)* } };
    (both $($table:tt)*) => { $crate::wire::message! { @ [] [] $($table)* } };
    (@ [$($encoder:meta)?] [$($decoder:meta)?]
        $(#[$doc:meta])*
        $name:ident {
            $( $(#[$fdoc:meta])* $field:ident: $ty:ty $(= $default:expr)?, $in:expr
                $(, or $absent:ident)? $(, null $null:expr)?; )*
        }
        $(tagged {
            $( $(#[$tdoc:meta])* $tag:literal $tfield:ident: $tty:ty $(= $tdefault:expr)?, $tin:expr
                $(, or $tabsent:ident)?; )*
        })?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $( $(#[$fdoc])* #[doc = concat!("Versions `", stringify!($in), "`", $("; default `", stringify!($default), "`",)?
                $("; ", stringify!($absent), " in others",)? $("; null in `", stringify!($null), "`",)? ".")]
            pub $field: $ty, )*
            $($( $(#[$tdoc])* #[doc = concat!("Versions `", stringify!($tin), "`, tag ", $tag, $("; default `", stringify!($tdefault), "`",)?
                $("; ", stringify!($tabsent), " in others",)? ".")]
            pub $tfield: $tty, )*)?
            /// Tagged fields that are not known here, kept and written back.
            pub unknown_tags: $crate::wire::UnknownTags,
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $( $field: $crate::wire::message!(@default $($default)?), )*
                    $($( $tfield: $crate::wire::message!(@default $($tdefault)?), )*)?
                    unknown_tags: Default::default(),
                }
            }
        }

        impl $crate::wire::field::sealed::Sealed for $name {}

        impl $crate::wire::Field for $name {
            #[allow(unused_variables)]
            fn min_len(version: i16, flex: bool) -> usize {
                // Tagged fields may be absent; their number may not.
                let mut min = usize::from(flex);
                $( if ($in).contains(&version) {
                    min += <$ty as $crate::wire::Field>::min_len(version, flex);
                } )*
                min
            }

            // Null is one byte.
            fn min_nullable_len(_: i16, _: bool) -> usize {
                1
            }
        }

        $(#[$encoder])?
        impl $crate::wire::Encode for $name {
            #[allow(unused_variables, clippy::float_cmp)]
            fn write(&self, w: &mut $crate::wire::Writer, version: i16, flex: bool) -> $crate::Result<()> {
                $( if ($in).contains(&version) {
                    $( if $crate::wire::Field::is_null(&self.$field) && !($null).contains(&version) {
                        return Err($crate::wire::field::null_given(stringify!($field)));
                    } )?
                    $crate::wire::Encode::write(&self.$field, w, version, flex)?;
                } else {
                    $crate::wire::message!(@absent [$($absent)?] $field
                        $crate::wire::field::differs(&self.$field, $crate::wire::message!(@default $($default)?)));
                } )*
                $crate::wire::message!(@encode_tags self w version flex [$($( $tag $tfield ($tin) [$($tdefault)?] [$($tabsent)?] )*)?]);
                Ok(())
            }
        }

        $(#[$decoder])?
        impl $crate::wire::Decode for $name {
            #[allow(unused_variables)]
            fn read(&mut self, r: &mut $crate::wire::Reader<'_>, version: i16, flex: bool) -> $crate::Result<()> {
                $( if ($in).contains(&version) {
                    $crate::wire::Decode::read(&mut self.$field, r, version, flex)?;
                    $( if $crate::wire::Field::is_null(&self.$field) && !($null).contains(&version) {
                        return Err($crate::wire::field::null_refused(r));
                    } )?
                } )*
                if flex {
                    $crate::wire::message!(@decode_tags self r version [$($( $tag $tfield ($tin) )*)?]);
                }
                Ok(())
            }
        }

        #[cfg(feature = "draw")]
        impl $crate::wire::draw::Draw for $name {
            #[allow(unused_variables)]
            fn draw(e: &mut $crate::wire::draw::Entropy, version: i16, flex: bool, may_be_null: bool) -> Self {
                let mut drawn = Self::default();
                $( if ($in).contains(&version) {
                    let null = true $( && ($null).contains(&version) )?;
                    drawn.$field = $crate::wire::draw::Draw::draw(e, version, flex, null);
                } )*
                $($( if ($tin).contains(&version) && e.chance(2) {
                    drawn.$tfield = $crate::wire::draw::Draw::draw(e, version, flex, true);
                } )*)?
                if flex {
                    e.unknown_tags(&mut drawn.unknown_tags);
                }
                drawn
            }
        }
    };
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
    (@absent [refused] $field:ident $is_set:expr) => {
        if $is_set {
            return Err($crate::wire::field::absent(stringify!($field)));
        }
    };
    (@absent [$($ignored:ident)?] $field:ident $is_set:expr) => {};
    (@encode_tags $self:ident $w:ident $version:ident $flex:ident []) => {
        if $flex {
            $self.unknown_tags.encode_section($w);
        } else {
            $self.unknown_tags.refuse_any()?;
        }
    };
    (@encode_tags $self:ident $w:ident $version:ident $flex:ident
        [$( $tag:literal $field:ident ($in:expr) [$($default:expr)?] [$($absent:ident)?] )*]) => {
        $( let $field = $crate::wire::field::differs(&$self.$field, $crate::wire::message!(@default $($default)?));
        $crate::wire::message!(@absent [$($absent)?] $field ($field && !($in).contains(&$version))); )*
        if $flex {
            $( let $field = $field && ($in).contains(&$version); )*
            $w.uvarint($self.unknown_tags.count() $( + u32::from($field) )*);
            let mut from = 0;
            $( if $field {
                $self.unknown_tags.encode_between($w, from, $tag)?;
                from = $tag + 1;
                $w.uvarint($tag);
                let start = $w.start_sized();
                $crate::wire::Encode::write(&$self.$field, $w, $version, true)?;
                $w.end_sized(start);
            } )*
            $self.unknown_tags.encode_between($w, from, u32::MAX)?;
        } else {
            $self.unknown_tags.refuse_any()?;
        }
    };
    (@decode_tags $self:ident $r:ident $version:ident []) => {
        $self.unknown_tags.decode_section($r)?;
    };
    (@decode_tags $self:ident $r:ident $version:ident [$( $tag:literal $field:ident ($in:expr) )*]) => {
        let mut tags = $crate::wire::tags::Tags::start($r)?;
        while let Some((tag, mut part)) = tags.next($r)? {
            match tag {
                $( $tag if ($in).contains(&$version) => {
                    $crate::wire::Decode::read(&mut $self.$field, &mut part, $version, true)?;
                    part.finish()?;
                } )*
                _ => $self.unknown_tags.keep(tag, part)?,
            }
        }
    };
}

/// The versions of a message, from which on it is flexible, and which of the fields that any response
/// may have at its top it has.
macro_rules! versions {
    ($name:ident, $versions:expr, $flexible:expr $(, $common:ident)*) => {
        impl $crate::wire::Message for $name {
            const NAME: &'static str = stringify!($name);
            const VERSIONS: std::ops::RangeInclusive<i16> = $versions;
            const FLEXIBLE: std::ops::RangeFrom<i16> = $flexible;
            $( $crate::wire::versions!(@ $common); )*
        }
    };
    (@ throttle_time_ms) => {
        fn throttle_time_ms(&self) -> i32 {
            self.throttle_time_ms
        }
    };
    (@ error_code) => {
        fn error_code(&self) -> $crate::ErrorCode {
            $crate::ErrorCode(self.error_code)
        }
    };
}

/// The API of a request and the message that answers it.
macro_rules! request {
    ($name:ident, $api:ident, $response:ident) => {
        impl $crate::wire::Request for $name {
            const KEY: $crate::wire::ApiKey = $crate::wire::ApiKey::$api;
            type Response = $response;
        }
    };
}

/// The APIs as constants of [`ApiKey`](crate::wire::ApiKey), with what is known of each.
macro_rules! api_keys {
    ($( $name:ident = $key:literal, $text:literal, $versions:expr, stable $stable:literal; )*) => {
        impl $crate::wire::ApiKey {
            $( #[doc = concat!("`", $text, "`, versions `", stringify!($versions), "`.")]
            pub const $name: Self = Self($key); )*

            /// The name in Kafka's specs, if Kafka has this API.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $( Self::$name => Some($text), )*
                    _ => None,
                }
            }

            /// The versions that there are, unstable ones included.
            pub fn versions(self) -> Option<std::ops::RangeInclusive<i16>> {
                match self {
                    $( Self::$name => Some($versions), )*
                    _ => None,
                }
            }

            /// The versions that may be negotiated without being asked for.
            pub fn stable_versions(self) -> Option<std::ops::RangeInclusive<i16>> {
                let stable = match self {
                    $( Self::$name => $stable, )*
                    _ => return None,
                };
                self.versions().map(|versions| *versions.start()..=stable)
            }
        }
    };
}

pub(crate) use {api_keys, message, request, versions};
