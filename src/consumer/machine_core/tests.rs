//! What the core must do, event by event.
