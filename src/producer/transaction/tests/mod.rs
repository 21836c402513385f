//! Transactions without brokers.
