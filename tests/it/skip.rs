//! Skips are never silent: the harness prints each as a line that begins with `skipped:`, and with
//! `WEIR_SKIPS=deny` a skip is a failure.

pub(crate) use weir_kafka_harness::skip;
