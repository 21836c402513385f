//! Transactions (KIP-98, 360, 447, 588, 654, 890).
//!
//! [`machine`] decides, from what the user wants and ([`machine_answers`]) what brokers say, what is sent to a
//! coordinator next and how each transaction ends; [`machine_codes`] says what every error code means to it;
//! [`machine_work`] is what one transaction consists of. [`driver`] is between it and the batches of the
//! producer, [`coordinator`] makes its requests, [`api`] is what the user has in hand and [`groups`] what he
//! says of consumer groups.

mod api;
mod coordinator;
mod driver;
mod groups;
mod machine;
mod machine_answers;
mod machine_codes;
mod machine_work;
mod trace;

pub use api::{Transaction, TransactionTopic, TransactionalBuilder, TransactionalProducer};
pub(crate) use driver::Transactions;
pub use groups::{GroupMetadata, OffsetAndMetadata};

#[cfg(test)]
mod tests;
