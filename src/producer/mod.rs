//! The producer: what stands so far are two machines that know nothing of sockets or time.
//!
//! [`machine_identity`] gets an idempotent producer its id and epoch; [`transaction`] does so for a
//! transactional one, and leads each of its transactions to an end.

mod machine_identity;
mod transaction;
