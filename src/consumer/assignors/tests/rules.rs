//! What holds for every result, and the known cases.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::*;

fn lines(assignor: &dyn Assignor, cluster: &ClusterView, members: &[Member]) -> Vec<String> {
    told(&assignor.assign(cluster, members).unwrap())
}

/// The examples that Kafka's documentation gives.
#[test]
fn the_known_examples() {
    let cluster = cluster(&[("t0", 3), ("t1", 3)]);
    let members = [member("c0", &["t0", "t1"]), member("c1", &["t0", "t1"])];
    assert_eq!(lines(&Range, &cluster, &members), ["c0: t0-0 t0-1 t1-0 t1-1", "c1: t0-2 t1-2"]);
    assert_eq!(lines(&RoundRobin, &cluster, &members), ["c0: t0-0 t0-2 t1-1", "c1: t0-1 t1-0 t1-2"]);
    assert_eq!(lines(&Sticky, &cluster, &members), ["c0: t0-0 t0-2 t1-1", "c1: t0-1 t1-0 t1-2"]);
}

#[test]
fn differing_subscriptions_are_kept_to() {
    let cluster = cluster(&[("t0", 1), ("t1", 2), ("t2", 3)]);
    let members = [member("c0", &["t0"]), member("c1", &["t0", "t1"]), member("c2", &["t0", "t1", "t2"])];
    let round_robin = ["c0: t0-0", "c1: t1-0", "c2: t1-1 t2-0 t2-1 t2-2"];
    assert_eq!(lines(&RoundRobin, &cluster, &members), round_robin);
    assert_eq!(lines(&Sticky, &cluster, &members), ["c0: t0-0", "c1: t1-0 t1-1", "c2: t2-0 t2-1 t2-2"]);
}

/// KIP-345: the same member under a new id gets the same.
#[test]
fn static_members_stand_by_their_instance_id() {
    let cluster = cluster(&[("t", 3)]);
    for assignor in [&Range as &dyn Assignor, &RoundRobin] {
        let of = |ids: [&str; 3]| {
            let members = [
                member(ids[0], &["t"]).with_instance_id("i1"),
                member(ids[1], &["t"]).with_instance_id("i0"),
                member(ids[2], &["t"]),
            ];
            let answer = assignor.assign(&cluster, &members).unwrap();
            ids.map(|id| answer[id].partitions[0].partitions.clone())
        };
        assert_eq!(of(["a", "b", "c"]), [vec![1], vec![0], vec![2]]);
        assert_eq!(of(["z", "y", "a"]), [vec![1], vec![0], vec![2]]);
    }
}

/// KIP-881, over partitions that are in one rack each.
#[test]
fn partitions_go_to_members_that_are_near() {
    let mut cluster = ClusterView::new();
    let racks = |order: &[&str]| order.iter().map(|rack| vec![Arc::from(*rack)]).collect::<Vec<_>>();
    cluster.insert("t", racks(&["y", "x", "y", "x"]));
    let near = |id: &str, rack: &str| {
        let mut member = member(id, &["t"]);
        member.subscription.rack = Some(rack.into());
        member
    };
    let members = [near("a", "x"), near("b", "y")];
    for assignor in [&Range as &dyn Assignor, &Sticky, &CooperativeSticky] {
        assert_eq!(lines(assignor, &cluster, &members), ["a: t-1 t-3", "b: t-0 t-2"], "{}", assignor.name());
    }
    // Where every partition is everywhere, it does not matter.
    let everywhere = [near("a", "y"), near("b", "y")];
    assert_eq!(lines(&Range, &cluster, &everywhere).len(), 2);
    // Two topics are cut alike, though t alone could be cut better.
    cluster.insert("u", racks(&["x", "x", "x", "x"]));
    let members = members.map(|mut member| {
        member.subscription.topics.push("u".into());
        member
    });
    let answer = Range.assign(&cluster, &members).unwrap();
    for (id, assignment) in &answer {
        let of = |topic: &str| {
            let of = assignment.partitions.iter().find(|of| *of.topic == *topic);
            of.map(|of| of.partitions.clone())
        };
        assert_eq!(of("t"), of("u"), "{id}: {answer:?}");
    }
}

#[test]
fn the_sticky_ones_keep_what_members_had() {
    let cluster = cluster(&[("t", 4)]);
    for (assignor, cooperative) in [(&Sticky as &dyn Assignor, false), (&CooperativeSticky, true)] {
        let a = had(member("a", &["t"]), &[("t", 3), ("t", 1)], 2, cooperative);
        let b = had(member("b", &["t"]), &[("t", 2), ("t", 0)], 2, cooperative);
        assert_eq!(lines(assignor, &cluster, &[a.clone(), b.clone()]), ["a: t-1 t-3", "b: t-0 t-2"]);
        // When one leaves, the other keeps its own.
        assert_eq!(lines(assignor, &cluster, &[b]), ["b: t-0 t-2 t-1 t-3"]);
    }
}

/// G03: a partition is taken in one generation, and given in the next.
#[test]
fn cooperative_members_get_nothing_that_another_still_has() {
    for more in [&["t"][..], &["t", "u"]] {
        let cluster = cluster(&[("t", 4), ("u", 1)]);
        let all = [("t", 0), ("t", 1), ("t", 2), ("t", 3)];
        let a = had(member("a", &["t"]), &all, 1, true);
        let first = CooperativeSticky.assign(&cluster, &[a.clone(), member("b", more)]).unwrap();
        let got = owners(&first);
        let kept = all.iter().filter(|(t, n)| got.get(&((*t).to_owned(), *n)).is_some_and(|id| id == "a"));
        let kept: Vec<(&str, i32)> = kept.copied().collect();
        let given = got.iter().filter(|((topic, _), id)| topic == "t" && *id == "b").count();
        assert_eq!((kept.len() < 4, given), (true, 0), "{first:?}");
        // The next generation.
        let a = had(member("a", &["t"]), &kept, 2, true);
        let b = had(member("b", more), &[], 2, true);
        let second = owners(&CooperativeSticky.assign(&cluster, &[a, b]).unwrap());
        assert!(all.iter().all(|(t, n)| second.contains_key(&((*t).to_owned(), *n))), "{second:?}");
        assert!(kept.iter().all(|(t, n)| second[&((*t).to_owned(), *n)] == "a"), "{second:?}");
    }
}

/// KIP-792: whoever was away does not take what others were given since.
#[test]
fn the_later_generation_has_it() {
    let cluster = cluster(&[("t", 2)]);
    for (assignor, cooperative) in [(&Sticky as &dyn Assignor, false), (&CooperativeSticky, true)] {
        let late = had(member("a", &["t"]), &[("t", 0), ("t", 1)], 3, cooperative);
        let b = had(member("b", &["t"]), &[("t", 1)], 4, cooperative);
        assert_eq!(lines(assignor, &cluster, &[late, b]), ["a: t-0", "b: t-1"], "{}", assignor.name());
    }
}

#[test]
fn members_that_want_nothing_get_nothing() {
    let cluster = cluster(&[("t", 4)]);
    for assignor in all() {
        let members = [member("a", &[]), member("b", &["t"]), member("c", &["t"]), member("d", &["gone"])];
        let answer = assignor.assign(&cluster, &members).unwrap();
        assert_eq!(owners(&answer).len(), 4);
        assert!(answer["a"].partitions.is_empty() && answer["d"].partitions.is_empty(), "{answer:?}");
        assert!(assignor.assign(&cluster, &[]).unwrap().is_empty());
        let nobody = assignor.assign(&ClusterView::new(), &members).unwrap();
        assert!(nobody.len() == 4 && owners(&nobody).is_empty());
    }
}

/// What members say of partitions that there are not, or of a topic that they have left, leads nobody astray.
#[test]
fn members_that_claim_what_is_not_there() {
    let cluster = cluster(&[("t", 2), ("u", 2)]);
    let wild = [("t", 99), ("t", -1), ("t", i32::MAX), ("u", i32::MIN), ("x", 0), ("t", 1), ("t", 1)];
    for (assignor, cooperative) in [(&Sticky as &dyn Assignor, false), (&CooperativeSticky, true)] {
        for topics in [&["t", "u"][..], &["t"], &[]] {
            for generation in [i32::MIN, -1, 0, 7, i32::MAX] {
                let a = had(member("a", topics), &wild, generation, cooperative);
                let b = had(member("b", &["t", "u"]), &wild, 3, cooperative);
                let answer = assignor.assign(&cluster, &[a, b]).unwrap();
                let withheld = usize::from(cooperative);
                assert!(owners(&answer).len() >= 4 - withheld, "{answer:?}");
                let topics: BTreeSet<&str> = topics.iter().copied().collect();
                assert!(answer["a"].partitions.iter().all(|of| topics.contains(&*of.topic)), "{answer:?}");
            }
        }
    }
}

/// Of two results, the same inputs in the same order: no chance, no hash map of ours.
#[test]
fn the_same_group_gets_the_same_answer() {
    let (cluster, members) = large(30, 200, false);
    for assignor in all() {
        assert_eq!(lines(assignor, &cluster, &members), lines(assignor, &cluster, &members));
    }
}

/// Members and partitions in racks; all alike, or each with topics of its own choice.
fn large(members: usize, partitions: usize, alike: bool) -> (ClusterView, Vec<Member>) {
    let mut cluster = ClusterView::new();
    let names: Vec<String> = (0..20).map(|topic| format!("topic-{topic}")).collect();
    for name in &names {
        let racks =
            |at: usize| vec![Arc::from(format!("rack-{}", at % 5)), Arc::from(format!("rack-{}", at % 3))];
        cluster.insert(name.as_str(), (0..partitions / 20).map(racks).collect());
    }
    let one = |at: usize| {
        let wants = |topic: &&String| {
            alike || !(at * 7 + topic.len() + topic.as_bytes()[6] as usize).is_multiple_of(3)
        };
        let topics: Vec<&str> = names.iter().filter(wants).map(String::as_str).collect();
        let mut member = member(&format!("member-{:08x}", at * 0x9e37_79b9), &topics);
        member.subscription.rack = Some(format!("rack-{}", at % 4).into());
        member
    };
    (cluster, (0..members).map(one).collect())
}

/// No member has two more than another that wants one of its partitions.
fn assert_balanced(cluster: &ClusterView, members: &[Member], answer: &Assignments) {
    let size = |id: &str| answer[id].partitions.iter().map(|of| of.partitions.len()).sum::<usize>();
    for (topic, _) in cluster.topics() {
        let wants = members.iter().filter(|member| member.subscription.topics.contains(topic));
        let least = wants.map(|member| size(&member.id)).min().unwrap_or(usize::MAX - 1);
        for (id, assignment) in
            answer.iter().filter(|(_, it)| it.partitions.iter().any(|of| of.topic == *topic))
        {
            assert!(size(id) <= least + 1, "{id} has {} partitions: {assignment:?}", size(id));
        }
    }
}

#[test]
fn sticky_assignments_are_balanced_and_then_stay() {
    for alike in [true, false] {
        let (cluster, members) = large(30, 200, alike);
        let first = Sticky.assign(&cluster, &members).unwrap();
        assert_eq!(owners(&first).len(), 200);
        if alike {
            assert_balanced(&cluster, &members, &first);
        }
        let again: Vec<Member> = members
            .iter()
            .map(|member| {
                let mut member = member.clone();
                let received = Received::new(&first[&member.id].partitions, 1);
                member.subscription.user_data = Sticky.user_data(&[], Some(received));
                member
            })
            .collect();
        let second = Sticky.assign(&cluster, &again).unwrap();
        let kept = |(it, id): &(&(String, i32), &String)| owners(&second).get(*it) == Some(*id);
        let first = owners(&first);
        let kept = first.iter().filter(kept).count();
        assert!(kept >= 180, "alike {alike}: {kept} of 200 stayed");
    }
}

/// Without racks, the general algorithm is as even as one partition at a time can make it.
#[test]
fn balanced_where_members_want_different_topics() {
    let (cluster, mut members) = large(40, 400, false);
    for member in &mut members {
        member.subscription.rack = None;
    }
    for assignor in [&Sticky as &dyn Assignor, &CooperativeSticky] {
        let answer = assignor.assign(&cluster, &members).unwrap();
        assert_eq!(owners(&answer).len(), 400);
        assert_balanced(&cluster, &members, &answer);
    }
}

/// A thousand members and ten thousand partitions, new, and with half of the members gone. The bound is
/// for an unoptimized build on a busy machine.
#[test]
fn large_groups_take_little_time() {
    for assignor in all() {
        for alike in [true, false] {
            let (cluster, members) = large(1000, 10_000, alike);
            let begun = Instant::now();
            let first = assignor.assign(&cluster, &members).unwrap();
            assert_eq!(owners(&first).len(), 10_000);
            let new = begun.elapsed();
            let left: Vec<Member> = members
                .into_iter()
                .step_by(2)
                .map(|mut member| {
                    let received = Received::new(&first[&member.id].partitions, 1);
                    member.subscription.user_data = assignor.user_data(&[], Some(received));
                    if assignor.rebalance() == Rebalance::Cooperative {
                        member.subscription.owned.clone_from(&first[&member.id].partitions);
                        member.subscription.generation = Some(1);
                    }
                    member
                })
                .collect();
            let begun = Instant::now();
            assert_eq!(assignor.assign(&cluster, &left).unwrap().len(), 500);
            println!("{} alike {alike}: {new:?}, then {:?}", assignor.name(), begun.elapsed());
            assert!(new < Duration::from_secs(20) && begun.elapsed() < Duration::from_secs(20));
        }
    }
}
