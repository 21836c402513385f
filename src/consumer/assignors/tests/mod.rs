//! Assignors over small groups; blobs; what a leader refuses.
