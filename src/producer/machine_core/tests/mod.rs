//! The core without brokers: rules by name, and whatever may happen against a model of brokers' logs.

mod model;
mod world;
