//! Each check must be able to fail: given a decoder with the defect that it looks for, it complains.

use bytes::Bytes;
use weir::protocol::{AnyMessage, decode};

use super::cases::{Case, Decoder, weir_decoder};
use super::{cuts, error_codes, lengths, tags, text, trailing, unknown_tags, varints};

type Read = weir::Result<Box<dyn AnyMessage>>;

/// Reads what is there, and forgets to look whether that is all.
fn ignores_what_is_left_over(case: &Case, bytes: &Bytes) -> Read {
    weir_decoder(case, &bytes.slice(..case.bytes.len().min(bytes.len())))
}

/// Takes zeros where bytes are missing.
fn fills_up_with_zeros(case: &Case, bytes: &Bytes) -> Read {
    let missing = case.bytes.len().saturating_sub(bytes.len());
    weir_decoder(case, &[bytes, &vec![0; missing][..]].concat().into())
}

/// Takes the message as it should have been for whatever it cannot read.
fn takes_a_default_for_an_error(case: &Case, bytes: &Bytes) -> Read {
    weir_decoder(case, bytes).or_else(|_| weir_decoder(case, &case.bytes))
}

#[allow(clippy::unnecessary_wraps, reason = "a decoder has this signature")]
fn panics_on_an_error(case: &Case, bytes: &Bytes) -> Read {
    Ok(weir_decoder(case, bytes).unwrap())
}

fn calls_malformed_bytes_unsupported(case: &Case, bytes: &Bytes) -> Read {
    // There is no version -1, and the error says so.
    weir_decoder(case, bytes).or_else(|_| decode(case.kind, case.name, -1, bytes))
}

/// Refuses all but the one message that it knows.
fn knows_one_message_only(case: &Case, bytes: &Bytes) -> Read {
    if *bytes == case.bytes { weir_decoder(case, bytes) } else { weir_decoder(case, &bytes.slice(..0)) }
}

fn complaints(check: fn(&Case, &Decoder) -> Vec<String>, decode: &Decoder) -> usize {
    // Of all kinds of places: strings, arrays, tags, error codes.
    let cases = (1..6).map(|seed| Case::draw("response", "MetadataResponse", 12, seed));
    cases.map(|case| check(&case, decode).len()).sum()
}

#[test]
fn a_decoder_that_ignores_what_is_left_over_is_caught() {
    assert!(complaints(trailing, &ignores_what_is_left_over) > 0);
}

#[test]
fn a_decoder_that_reads_past_the_end_is_caught() {
    assert!(complaints(cuts, &fills_up_with_zeros) > 0);
}

#[test]
fn a_decoder_that_takes_a_default_for_an_error_is_caught_by_every_check() {
    for check in [cuts, trailing, lengths, varints, tags, text] {
        assert!(complaints(check, &takes_a_default_for_an_error) > 0);
        assert_eq!(complaints(check, &weir_decoder), 0);
    }
}

#[test]
fn a_decoder_that_panics_is_caught() {
    assert!(complaints(lengths, &panics_on_an_error) > 0);
}

#[test]
fn a_decoder_that_refuses_what_is_only_new_is_caught() {
    for check in [unknown_tags, error_codes] {
        assert!(complaints(check, &knows_one_message_only) > 0);
        assert_eq!(complaints(check, &weir_decoder), 0);
    }
}

#[test]
fn an_error_of_the_wrong_kind_is_caught() {
    assert!(complaints(varints, &calls_malformed_bytes_unsupported) > 0);
}
