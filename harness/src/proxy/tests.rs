//! The machine by itself: no socket, and a clock that the tests turn.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::machine::wire::{request, response};
use super::machine::{Link, Out, Rules};
use super::{Direction, End, Fault, Log, Point, Rule, RuleId};

use Direction::{Requests, Responses};

/// A link, its rules and its time.
struct Bench {
    rules: Rules,
    link: Link,
    now: Instant,
}

impl Bench {
    fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let now = Instant::now();
        let mut table = Rules::new(1);
        for rule in rules {
            table.add(rule, now).expect("a good rule");
        }
        let id = table.open_link(now);
        let link = Link::new(id, &mut table, now);
        Self { rules: table, link, now }
    }

    fn add(&mut self, rule: Rule) -> RuleId {
        let id = self.rules.add(rule, self.now).expect("a good rule");
        self.link.handle_rules(&mut self.rules, self.now);
        id
    }

    fn remove(&mut self, rule: RuleId) {
        assert!(self.rules.remove(rule));
        self.link.handle_rules(&mut self.rules, self.now);
    }

    fn pass_ms(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.rules.advance(self.now);
        self.link.handle_rules(&mut self.rules, self.now);
    }

    fn put(&mut self, direction: Direction, bytes: &[u8]) {
        self.link.handle_bytes(&mut self.rules, direction, Bytes::copy_from_slice(bytes), self.now);
    }

    /// All that goes now: the bytes, then what was no bytes.
    fn take(&mut self, direction: Direction) -> (Vec<u8>, Option<Out>) {
        let mut taken = Vec::new();
        loop {
            match self.link.poll(direction, self.now) {
                Some(Out::Bytes(bytes)) => taken.extend_from_slice(&bytes),
                other => return (taken, other),
            }
        }
    }

    /// All bytes that go now, and nothing else.
    fn bytes(&mut self, direction: Direction) -> Vec<u8> {
        let (bytes, other) = self.take(direction);
        assert_eq!(other, None);
        bytes
    }

    fn log(&self) -> &Log {
        &self.rules.log
    }
}

#[test]
fn without_rules_everything_passes_at_once() {
    let mut bench = Bench::new([]);
    let (sent, answer) = (request(3, 1, b"x"), response(1, b"y"));
    bench.put(Requests, &sent);
    bench.put(Responses, &answer);
    assert_eq!(bench.bytes(Requests), sent);
    assert_eq!(bench.bytes(Responses), answer);
    assert_eq!((bench.log().requests(3), bench.log().responses(3)), (1, 1));
    // A head that never becomes whole is not kept when the sender closes.
    bench.put(Requests, b"\0\0");
    assert_eq!(bench.bytes(Requests), b"");
    bench.link.handle_end(&mut bench.rules, Requests, bench.now);
    assert_eq!(bench.take(Requests), (b"\0\0".to_vec(), Some(Out::Finish)));
    assert!(!bench.link.over());
    bench.link.handle_end(&mut bench.rules, Responses, bench.now);
    assert_eq!(bench.take(Responses), (Vec::new(), Some(Out::Finish)));
    assert!(bench.link.over());
}

#[test]
fn a_delay_keeps_the_distance_between_bytes() {
    let mut bench = Bench::new([Rule::new(Fault::Delay { ms: 100, jitter_ms: 0 }).requests()]);
    let (first, second) = (request(0, 1, b"a"), request(0, 2, b"b"));
    bench.put(Requests, &first);
    bench.pass_ms(60);
    bench.put(Requests, &second);
    assert_eq!(bench.bytes(Requests), b"");
    assert_eq!(bench.link.timeout(), Some(bench.now + Duration::from_millis(40)));
    bench.pass_ms(40);
    assert_eq!(bench.bytes(Requests), first);
    bench.pass_ms(59);
    assert_eq!(bench.bytes(Requests), b"");
    bench.pass_ms(1);
    assert_eq!(bench.bytes(Requests), second, "both were under way at once");
    bench.put(Responses, b"\xff\xff\xff\xff");
    assert_eq!(bench.bytes(Responses), b"\xff\xff\xff\xff", "the other way is as quick as ever");
}

#[test]
fn jitter_follows_from_the_seed() {
    let run = || {
        let mut bench = Bench::new([Rule::new(Fault::Delay { ms: 10, jitter_ms: 50 })]);
        let start = bench.now;
        let draws = (0..20).map(|_| {
            bench.put(Requests, b"\xff\xff\xff\xff");
            let due = bench.link.timeout().expect("it waits") - bench.now;
            bench.now += due;
            assert_eq!(bench.bytes(Requests).len(), 4);
            due
        });
        let draws: Vec<Duration> = draws.collect();
        assert!(bench.now > start);
        draws
    };
    let draws = run();
    assert_eq!(draws, run());
    let (least, most) = (draws.iter().min().expect("20"), draws.iter().max().expect("20"));
    assert!(*least >= Duration::from_millis(10) && *most <= Duration::from_millis(60) && least < most);
}

#[test]
fn bandwidth_and_slices_make_small_pieces() {
    let mut bench = Bench::new([
        Rule::new(Fault::Bandwidth { bytes_per_second: 1000 }).requests(),
        Rule::new(Fault::Slice { bytes: 3, pause_ms: 7 }).responses(),
    ]);
    // Two pieces of 50 ms go ahead; then it is a byte a millisecond, however often one looks.
    bench.put(Requests, &[0xff; 4000]);
    let mut sent = bench.bytes(Requests).len();
    for (ms, step) in [(0, 1), (1000, 7), (2000, 60)] {
        for _ in 0..ms / step {
            bench.pass_ms(step);
            sent += bench.bytes(Requests).len();
        }
    }
    assert!((2900..=3100).contains(&sent), "{sent} bytes in 3 s");
    bench.put(Responses, b"\xff\xff\xff\xff");
    bench.pass_ms(7);
    assert_eq!(bench.bytes(Responses), b"\xff\xff\xff");
    bench.pass_ms(7);
    assert_eq!(bench.bytes(Responses), b"\xff");
    bench.put(Responses, b"abcdefg");
    bench.pass_ms(7);
    for piece in [&b"abc"[..], b"def", b"g"] {
        assert_eq!(bench.bytes(Responses), piece);
        bench.pass_ms(7);
    }
}

#[test]
fn a_cut_falls_where_it_is_told_to() {
    let answers: Vec<Vec<u8>> = (1..=3).map(|n| response(n, b"0123456789")).collect();
    for (point, passes) in [(Point::Start, 18), (Point::Byte(5), 23), (Point::Byte(17), 35), (Point::End, 36)]
    {
        let mut bench =
            Bench::new([Rule::new(Fault::Cut(End::Reset)).responses().api(1).point(point).nth(2)]);
        for n in 1..=3 {
            bench.put(Requests, &request(1, n, b""));
        }
        let (bytes, end) = {
            bench.put(Responses, &answers.concat());
            bench.take(Responses)
        };
        assert_eq!((bytes.len(), end), (passes, Some(Out::Cut(End::Reset))), "{point:?}");
        assert_eq!(bench.log().faults(RuleId(1)), 1);
    }
    // No frame is that long, and a byte of the link is counted in its own way only.
    let mut bench = Bench::new([
        Rule::new(Fault::Cut(End::Reset)).api(1).point(Point::Byte(18)),
        Rule::new(Fault::Cut(End::Close)).responses().byte(30),
    ]);
    bench.put(Requests, &[request(1, 1, b"123456"), request(1, 2, b"123456")].concat());
    assert_eq!(bench.bytes(Requests).len(), 36);
    bench.put(Responses, &answers.concat());
    let (bytes, end) = bench.take(Responses);
    assert_eq!((bytes.len(), end), (30, Some(Out::Cut(End::Close))));
}

#[test]
fn a_frame_is_held_until_its_rule_ends() {
    let mut bench = Bench::new([]);
    let hold = bench.add(Rule::new(Fault::Hold).requests().api(1).times(1));
    let sent = [request(3, 1, b""), request(1, 2, b"fetch"), request(3, 3, b"")];
    bench.put(Requests, &sent.concat());
    assert_eq!(bench.bytes(Requests), sent[0]);
    bench.pass_ms(10_000);
    assert_eq!((bench.bytes(Requests), bench.link.timeout()), (Vec::new(), None));
    bench.remove(hold);
    assert_eq!(bench.bytes(Requests), sent[1..].concat());
}

#[test]
fn what_waits_is_bounded() {
    for rule in [
        Rule::new(Fault::Hold).any_frame(),
        Rule::new(Fault::Delay { ms: 1000, jitter_ms: 0 }),
        // Barriers without bytes count too.
        Rule::new(Fault::HalfClose).any_frame(),
    ] {
        let mut bench = Bench::new([rule.clone().requests(), Rule::new(Fault::Hold).requests().any_frame()]);
        let frame = request(0, 1, b"");
        let mut put = 0;
        while bench.link.wants_bytes(Requests) && put < 1 << 20 {
            bench.put(Requests, &frame);
            put += 1;
        }
        assert!(put < 50_000, "{rule:?}: {put} frames were taken");
        assert!(bench.link.wants_bytes(Responses));
    }
}

#[test]
fn swallowed_frames_leave_no_trace() {
    let mut bench = Bench::new([Rule::new(Fault::Swallow).requests().api(1).skip(1).times(2)]);
    let sent: Vec<Vec<u8>> = (1..=4).map(|n| request(1, n, &[n as u8; 100])).collect();
    for bytes in sent.concat().chunks(7) {
        bench.put(Requests, bytes);
    }
    assert_eq!(bench.bytes(Requests), [&sent[0][..], &sent[3]].concat());
    // The answer to the fourth is known as such, though two before it are never answered.
    bench.put(Responses, &[response(1, b""), response(4, b"")].concat());
    assert_eq!((bench.log().requests(1), bench.log().responses(1), bench.log().faults_total()), (4, 2, 2));
}

#[test]
fn changes_stay_inside_their_frame() {
    let mut bench = Bench::new([
        Rule::new(Fault::Replace(vec![9; 100])).requests().api(1).point(Point::Byte(12)).times(1),
        Rule::new(Fault::Flip(0xff)).requests().api(3).point(Point::Byte(8)),
        Rule::new(Fault::Flip(0x0f)).responses().byte(1),
    ]);
    let sent = [request(1, 1, b"abc"), request(1, 2, b"abc"), request(3, 3, b"abc")].concat();
    let mut expected = sent.clone();
    expected[12..15].fill(9);
    expected[30 + 8] = 0xff;
    for bytes in sent.chunks(5) {
        bench.put(Requests, bytes);
    }
    assert_eq!(bench.bytes(Requests), expected);
    bench.put(Responses, b"\xff\xff\xff\xff");
    assert_eq!(bench.bytes(Responses), b"\xff\xf0\xff\xff");
}

#[test]
fn a_hole_takes_everything_and_shows_when_it_closes() {
    // Nothing was lost: the link goes on, and an end is told late.
    let mut bench = Bench::new([]);
    let hole = bench.add(Rule::new(Fault::BlackHole { both: false }));
    bench.link.handle_end(&mut bench.rules, Requests, bench.now);
    assert_eq!(bench.take(Requests), (Vec::new(), None));
    bench.remove(hole);
    assert_eq!(bench.take(Requests), (Vec::new(), Some(Out::Finish)));
    assert_eq!(bench.link.cut(), None);

    // Bytes were lost: a stream with a gap cannot go on.
    let hole = bench.add(Rule::new(Fault::BlackHole { both: false }).responses());
    bench.put(Responses, &response(1, b""));
    assert_eq!(bench.bytes(Responses), b"");
    assert_eq!(bench.link.cut(), None);
    bench.remove(hole);
    assert_eq!(bench.link.cut(), Some(End::Reset));
}

#[test]
fn a_hole_opens_at_a_frame_and_can_take_both_ways() {
    for both in [false, true] {
        let mut bench = Bench::new([Rule::new(Fault::BlackHole { both }).responses().api(0)]);
        let sent = request(0, 1, b"");
        bench.put(Requests, &sent);
        assert_eq!(bench.bytes(Requests), sent);
        bench.put(Responses, &response(1, b"done"));
        bench.put(Requests, &sent);
        assert_eq!(bench.bytes(Responses), b"");
        assert_eq!(bench.bytes(Requests), if both { Vec::new() } else { sent });
        // News of a broken connection vanish as bytes do.
        bench.link.handle_reset(&mut bench.rules, Responses, bench.now);
        assert_eq!(bench.take(Responses), (Vec::new(), None));
    }
}

#[test]
fn a_half_close_leaves_the_other_way() {
    let mut bench = Bench::new([Rule::new(Fault::HalfClose).requests().api(0).point(Point::End)]);
    let sent = request(0, 1, b"last");
    bench.put(Requests, &[sent.clone(), request(0, 2, b"late")].concat());
    assert_eq!(bench.take(Requests), (sent, Some(Out::Finish)));
    let answer = response(1, b"");
    bench.put(Responses, &answer);
    assert_eq!(bench.bytes(Responses), answer);
}

#[test]
fn rules_begin_and_end_by_the_clock() {
    let mut bench = Bench::new([Rule::new(Fault::Hold).requests().start_ms(100).for_ms(50)]);
    bench.put(Requests, &request(0, 1, b""));
    assert_eq!(bench.bytes(Requests).len(), 12);
    bench.pass_ms(100);
    assert!(!bench.link.wants_bytes(Requests), "the sender feels it");
    assert_eq!(bench.rules.next_change(), Some(bench.now + Duration::from_millis(50)));
    bench.pass_ms(50);
    assert!(bench.link.wants_bytes(Requests));
    assert_eq!(bench.rules.next_change(), None);
    assert_eq!(bench.log().faults(RuleId(1)), 1);
}

#[test]
fn a_link_is_met_once_and_by_number() {
    let mut bench = Bench::new([Rule::new(Fault::Cut(End::Reset)).on_link(2)]);
    assert_eq!(bench.take(Requests).1, None);
    let id = bench.rules.open_link(bench.now);
    let mut second = Link::new(id, &mut bench.rules, bench.now);
    assert_eq!(second.poll(Requests, bench.now), Some(Out::Cut(End::Reset)));
    assert_eq!(bench.log().faults(RuleId(1)), 1);
    // An order is for the links that are open.
    bench.rules.cut_open(End::Close);
    bench.link.handle_rules(&mut bench.rules, bench.now);
    assert_eq!(bench.link.cut(), Some(End::Close));
    let id = bench.rules.open_link(bench.now);
    assert_eq!(Link::new(id, &mut bench.rules, bench.now).cut(), None);
}

#[test]
fn chance_follows_from_the_seed_and_not_from_how_bytes_come() {
    let run = |seed: u64, step: usize| {
        let mut bench = Bench::new([]);
        bench.rules.set_seed(seed);
        bench.add(Rule::new(Fault::Swallow).requests().api(0).chance(0.3));
        let sent: Vec<u8> = (0..1000).flat_map(|n| request(0, n, b"")).collect();
        for bytes in sent.chunks(step) {
            bench.put(Requests, bytes);
        }
        bench.bytes(Requests)
    };
    let some = run(7, 1 << 20);
    assert_eq!(some, run(7, 5));
    assert_ne!(some, run(8, 5));
    assert!((600..800).contains(&(some.len() / 12)), "{} of 1000 passed", some.len() / 12);
}

#[test]
fn rules_are_bounded() {
    let mut table = Rules::new(0);
    let now = Instant::now();
    let many = vec![Rule::new(Fault::Hold).api(0); 1025];
    assert!(table.add_all(&many, now).is_err());
    assert_eq!(table.add_all(&many[..1024], now).map(|ids| ids.len()), Ok(1024));
    assert!(table.add(many[0].clone(), now).is_err());
    table.clear();
    assert!(table.add(many[0].clone(), now).is_ok());
}
