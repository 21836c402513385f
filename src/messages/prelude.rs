//! What the tables name.

pub(super) use bytes::Bytes;

pub(super) use crate::wire::{Ints, Legacy, Str, Uuid, message, request, versions};
