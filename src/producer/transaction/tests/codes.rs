//! Every error code, by the request that it answers, and what the machine does then.

use super::super::machine_codes::{self as codes, Verdict};
use super::*;

/// All codes that there are, and some that there are not.
fn every() -> impl Iterator<Item = ErrorCode> {
    (-1..=200).map(ErrorCode)
}

/// The verdict of the codes that are named, by number; the others by whether they are retriable.
fn check(of: fn(ErrorCode) -> Verdict, named: &[(Verdict, &[i16])], others: Verdict) {
    for code in every() {
        let named = named.iter().find(|(_, codes)| codes.contains(&code.0)).map(|(verdict, _)| *verdict);
        let otherwise = if code.is_retriable() { Verdict::Again } else { others };
        assert_eq!(of(code), named.unwrap_or(otherwise), "{code}");
    }
}

#[test]
fn every_code_of_every_request_has_its_verdict() {
    let (done, soon, elsewhere) = (Verdict::Done, Verdict::Soon, Verdict::Elsewhere);
    let (abort, raise, fatal, fenced) =
        (Verdict::Abort, Verdict::AbortAndBump, Verdict::Fatal, Verdict::Fenced);
    check(
        codes::of_added_partition,
        &[
            (done, &[0]),
            (soon, &[51]),
            (elsewhere, &[15, 16]),
            (fenced, &[47, 90]),
            (fatal, &[53, 48, 49]),
            (raise, &[59]),
            (abort, &[29, 55, 120]),
        ],
        abort,
    );
    check(
        codes::of_added_offsets,
        &[
            (done, &[0]),
            (soon, &[51]),
            (elsewhere, &[15, 16]),
            (fenced, &[47, 90]),
            (fatal, &[53, 48, 49]),
            (raise, &[59]),
            (abort, &[30, 120]),
        ],
        fatal,
    );
    check(
        codes::of_committed_offset,
        &[
            (done, &[0]),
            (elsewhere, &[15, 16, 7]),
            (fenced, &[47, 90]),
            (fatal, &[53, 43]),
            (abort, &[30, 82, 25, 22, 69, 113, 120]),
        ],
        fatal,
    );
    check(
        codes::of_end,
        &[
            (done, &[0]),
            (soon, &[51]),
            (elsewhere, &[15, 16]),
            (fenced, &[47, 90]),
            (fatal, &[53, 49]),
            (Verdict::Gone, &[48]),
            (raise, &[59]),
            (abort, &[120]),
            (Verdict::Unclear, &[-1]),
        ],
        fatal,
    );
    for code in every().filter(|code| !code.is_none()) {
        let expected = match code.0 {
            31 | 53 | 35 | 49 => fatal,
            90 => fenced,
            _ => raise,
        };
        assert_eq!(codes::of_batch(Some(code)), expected, "{code}");
    }
    assert_eq!(codes::of_batch(None), raise);
}

/// What the machine is like after that code, told by what it says and sends next.
fn after(bench: &mut Bench) -> &'static str {
    let mut seen = "again";
    while let Some(event) = bench.event() {
        match event {
            Event::Failing { .. } => seen = "abort",
            Event::Fatal(_) => seen = "fatal",
            Event::Added | Event::Ended { .. } | Event::Ready(_) if seen == "again" => seen = "done",
            _ => {}
        }
    }
    if seen == "fatal" {
        assert!(bench.machine.poll_request(bench.now + Duration::from_hours(1)).is_none(), "nothing is sent");
        assert!(bench.machine.handle_begin(V2).is_err() && bench.machine.handle_partition("t", 9).is_err());
    }
    seen
}

#[test]
fn every_code_drives_the_machine_so() {
    for abilities in [V1, V2] {
        for code in every() {
            if abilities == V1 {
                let mut bench = Bench::new(V1);
                bench.begin();
                bench.machine.handle_partition("t", 1).unwrap();
                bench.ask();
                bench.answer(added(&[1], code));
                let expected = match codes::of_added_partition(code) {
                    Verdict::Done => "done",
                    Verdict::Soon | Verdict::Again | Verdict::Elsewhere => "again",
                    Verdict::Abort | Verdict::AbortAndBump => "abort",
                    _ => "fatal",
                };
                assert_eq!(after(&mut bench), expected, "AddPartitionsToTxn {code}");
                if expected == "again" {
                    let elsewhere = codes::of_added_partition(code) == Verdict::Elsewhere;
                    assert_eq!(bench.ask().find_again, elsewhere, "{code}");
                }
            }
            let mut bench = Bench::begun(abilities);
            bench.machine.handle_offsets(group(), vec![offset(0)]).unwrap();
            if abilities == V1 {
                bench.ask();
                bench.answer(Answer::AddOffsets(ErrorCode::NONE));
            }
            bench.ask();
            bench.answer(committed(&[(0, code)]));
            let seen = bench.machine.error().is_some();
            assert_eq!(seen, codes::of_committed_offset(code) >= Verdict::Fenced, "TxnOffsetCommit {code}");

            for commit in [true, false] {
                let mut bench = Bench::begun(abilities);
                if commit {
                    bench.committing();
                } else {
                    bench.aborting();
                }
                bench.answer(Answer::End { code, id: -1, epoch: -1 });
                let verdict = codes::of_end(code);
                let dies = verdict >= Verdict::Fenced || (verdict == Verdict::Abort && !commit);
                assert_eq!(bench.machine.error().is_some(), dies, "EndTxn {commit} {code}");
                let outcome = bench.outcome();
                let is_committed = matches!(outcome, Some(Outcome::Committed));
                assert_eq!(is_committed, commit && code.is_none(), "only NONE commits: {code}");
            }
        }
    }
}
