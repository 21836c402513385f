//! What a leader reads, refuses and sends.

use super::*;
use crate::consumer::assignors::{Joined, lead, read_members, shared_protocol, topics_of};

/// An assignor that always says the same, right or wrong.
struct Says(Rebalance, Assignments);

impl Assignor for Says {
    fn name(&self) -> &'static str {
        "says"
    }

    fn rebalance(&self) -> Rebalance {
        self.0
    }

    fn assign(&self, _: &ClusterView, _: &[Member]) -> Result<Assignments, AssignError> {
        Ok(self.1.clone())
    }
}

/// A member, a topic, and partitions of it.
type Line<'a> = (&'a str, &'a str, &'a [i32]);

fn says(lines: &[Line<'_>]) -> Says {
    let one = |(id, topic, partitions): &Line<'_>| {
        let partitions = TopicPartitions::new(*topic, partitions.iter().copied());
        (Arc::from(*id), Assignment::of(vec![partitions]))
    };
    Says(Rebalance::Cooperative, lines.iter().map(one).collect())
}

#[test]
fn each_member_is_sent_its_part_and_who_was_left_out_nothing() {
    let cluster = cluster(&[("t", 2)]);
    let members = [member("b", &["t"]), member("a", &["t"])];
    let sent = lead(&says(&[("a", "t", &[1, 0])]), Rebalance::Eager, &cluster, &members).unwrap();
    assert_eq!((&*sent[0].0, &*sent[1].0), ("b", "a"));
    assert_eq!(Assignment::from_bytes(&sent[0].1).unwrap(), Assignment::default());
    assert_eq!(Assignment::from_bytes(&sent[1].1).unwrap().partitions, [TopicPartitions::new("t", [1, 0])]);
}

#[test]
fn assignors_that_break_the_rules_are_caught() {
    let cluster = cluster(&[("t", 2), ("u", 1)]);
    let keeps = had(member("a", &["t"]), &[("t", 0)], 1, true);
    let members = [keeps, member("b", &["t", "u"])];
    let cases: [(&[Line<'_>], &str); 7] = [
        (&[("c", "t", &[0])], "no member has the id \"c\""),
        (&[("a", "t", &[2])], "which is not there"),
        (&[("a", "t", &[-1])], "which is not there"),
        (&[("a", "x", &[0])], "which is not there"),
        (&[("a", "u", &[0])], "to which it did not subscribe"),
        (&[("a", "t", &[0]), ("b", "t", &[1, 0])], "which member \"a\" got too"),
        (&[("b", "t", &[0])], "before member \"a\" gave it up"),
    ];
    for (wrong, why) in cases {
        let error = lead(&says(wrong), Rebalance::Cooperative, &cluster, &members).unwrap_err();
        assert!(error.is_invalid() && error.to_string().contains(why), "{error}");
        assert!(error.to_string().contains("assignor \"says\""), "{error}");
    }
    // Eager members have given up everything before.
    lead(&says(&[("b", "t", &[0])]), Rebalance::Eager, &cluster, &members).unwrap();
    lead(&says(&[("a", "t", &[0]), ("b", "t", &[1])]), Rebalance::Cooperative, &cluster, &members).unwrap();
}

#[test]
fn assignors_that_fail_or_panic_are_errors() {
    struct Fails(bool);
    impl Assignor for Fails {
        fn name(&self) -> &'static str {
            "fails"
        }

        fn assign(&self, _: &ClusterView, _: &[Member]) -> Result<Assignments, AssignError> {
            assert!(!self.0, "as planned");
            Err("no licence".into())
        }
    }
    for (panics, why) in [(false, "no licence"), (true, "it panicked")] {
        let error = lead(&Fails(panics), Rebalance::Eager, &ClusterView::new(), &[]).unwrap_err();
        assert!(error.is_invalid() && error.to_string().contains(why), "{error}");
    }
    // What ours say keeps its kind.
    let twice = [member("a", &["t"]), member("a", &["t"])];
    for assignor in all() {
        let error = lead(assignor, Rebalance::Eager, &ClusterView::new(), &twice).unwrap_err();
        assert!(error.is_malformed() && error.to_string().contains("two members have the id"), "{error}");
    }
}

#[test]
fn members_are_read_and_one_that_cannot_be_is_named() {
    let joined =
        |id: &str, metadata: Bytes| Joined { id: id.into(), instance_id: Some("i".into()), metadata };
    let good = Subscription::to(["t", "u"]).to_bytes().unwrap();
    let members = read_members(&[joined("a", good.clone())]).unwrap();
    assert_eq!(members, [member("a", &["t", "u"]).with_instance_id("i")]);
    assert_eq!(topics_of(&members).iter().map(|topic| &**topic).collect::<Vec<_>>(), ["t", "u"]);
    for bad in [good.slice(..7), Bytes::new(), Bytes::from_static(b"\x80\0")] {
        let error = read_members(&[joined("a", good.clone()), joined("b", bad)]).unwrap_err();
        assert!(error.is_malformed() && error.to_string().contains("member \"b\""), "{error}");
    }
}

#[test]
fn a_group_rebalances_as_all_of_its_assignors_can() {
    assert_eq!(shared_protocol([]), Rebalance::Eager);
    assert_eq!(shared_protocol([&CooperativeSticky as &dyn Assignor]), Rebalance::Cooperative);
    assert_eq!(shared_protocol([&CooperativeSticky as &dyn Assignor, &Range]), Rebalance::Eager);
}
