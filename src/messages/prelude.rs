//! What the tables name.

pub(super) use bytes::Bytes;
pub(super) use smallvec::SmallVec;

pub(super) use crate::wire::{Legacy, Str, Uuid, message, request, versions};
