//! The machine against a small model of a coordinator.
