//! What the tables name.

pub(super) use bytes::Bytes;

pub(super) use crate::wire::{HiddenBytes, Ints, Legacy, Str, Uuid, message, request, versions};
