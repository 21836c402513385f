//! Rows of the catalogue of faults that want a real broker.
