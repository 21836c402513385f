//! Driver and pool against scripted brokers.
