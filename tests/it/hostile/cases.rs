//! The cases: a message drawn for each type and version, with the places in it that can be broken.

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use bytes::Bytes;
use weir::protocol::{AnyMessage, decode, draw, messages};

use super::specs::{Mark, Specs};
use crate::seed::seed;

/// Places of one message that are broken, at most; a sample where it has more.
const MARKS_MAX: usize = 40;

pub(super) struct Case {
    pub(super) kind: &'static str,
    pub(super) name: &'static str,
    pub(super) version: i16,
    seed: u64,
    pub(super) bytes: Bytes,
    pub(super) marks: Vec<Mark>,
}

/// What is tested: weir, or a decoder with a planted defect.
pub(super) type Decoder = dyn Fn(&Case, &Bytes) -> weir::Result<Box<dyn AnyMessage>>;

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, version, seed, .. } = self;
        write!(f, "{kind} {name} {version} of seed {seed}")
    }
}

impl Case {
    pub(super) fn draw(kind: &'static str, name: &'static str, version: i16, seed: u64) -> Self {
        static SPECS: LazyLock<Specs> = LazyLock::new(Specs::read);
        let bytes = draw(kind, name, version, seed).unwrap();
        let mut marks = SPECS.get(kind, name).walk(version, &bytes);
        if marks.len() > MARKS_MAX {
            let step = marks.len().div_ceil(MARKS_MAX);
            marks = marks.into_iter().step_by(step).collect();
        }
        Self { kind, name, version, seed, bytes, marks }
    }

    /// The message with something else in that place.
    pub(super) fn with(&self, place: Range<usize>, bytes: &[u8]) -> Bytes {
        [&self.bytes[..place.start], bytes, &self.bytes[place.end..]].concat().into()
    }
}

/// A case for each message and version.
pub(super) fn every_case(seed: u64) -> impl Iterator<Item = Case> {
    messages().iter().flat_map(move |found| {
        found.versions().map(move |version| Case::draw(found.kind().as_str(), found.name(), version, seed))
    })
}

pub(super) fn weir_decoder(case: &Case, bytes: &Bytes) -> weir::Result<Box<dyn AnyMessage>> {
    decode(case.kind, case.name, case.version, bytes)
}

/// Complains unless the decoder says, in a typed error, that the bytes are no such message.
pub(super) fn complain_unless_refused(
    case: &Case,
    decode: &Decoder,
    what: &str,
    bytes: &Bytes,
) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| decode(case, bytes))) {
        Ok(Err(error)) if error.is_malformed() => None,
        Ok(Err(error)) => Some(format!("{case:?}: {what}: an error of another kind: {error}")),
        Ok(Ok(message)) => Some(format!("{case:?}: {what}: read as {message:?}")),
        Err(_) => Some(format!("{case:?}: {what}: a panic")),
    }
}

/// Runs a check over all messages and versions, drawn from a few seeds.
pub(super) fn hold(check: fn(&Case, &Decoder) -> Vec<String>) {
    const ROUNDS: u64 = 5;
    let seed = seed("hostile");
    for round in 0..ROUNDS {
        for case in every_case(seed.wrapping_add(round)) {
            let mut complaints = check(&case, &weir_decoder);
            complaints.truncate(5);
            assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
        }
    }
}
