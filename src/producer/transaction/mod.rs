//! Transactions (KIP-98, 360, 447, 588, 654, 890).
//!
//! [`machine`] decides, from what the user wants and ([`machine_answers`]) what brokers say, what is sent to a coordinator next
//! and how each transaction ends; [`machine_codes`] says what every error code means to it; [`machine_work`]
//! is what one
//! transaction consists of.

mod machine;
mod machine_answers;
mod machine_codes;
mod machine_work;

#[cfg(test)]
mod tests;
