//! The same work done by weir, by hand-written floors and by other crates, in one run.
//!
//! A machine that is shared, or that changes its clock, moves every figure by a fifth from one
//! minute to the next; the ratio of two figures taken within the same few milliseconds hardly
//! moves. So every comparison here is a [`contest::Contest`]: its entrants take turns, round after
//! round, on thread CPU time, and what is reported and gated is the median of the rounds' ratios.
//!
//! How data flows: [`data`] makes the inputs, always the same; a binary in `src/bin` enters one
//! closure an entrant, after it has checked that all of them compute the same; [`contest`] times
//! them; [`report`] prints tables, judges the aims and, with `--gate`, fails the process.
//!
//! - `codec`: control messages, against kafka-protocol.
//! - `records`: fetching and producing record batches, against [`floor`] and kafka-protocol.
//! - `allocs`: allocations a record, counted.
//! - `choices`: crates that weir is built on, or could be.

pub mod contest;
pub mod data;
pub mod floor;
pub mod ours;
pub mod peer;
pub mod report;
