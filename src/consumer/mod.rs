//! The consumer. So far the part of the classic group protocol that is pure: who gets which partition.

pub mod assignors;
