//! Assignors over small groups and large ones, blobs, and what a leader refuses.
//!
//! That the results are Java's is tested elsewhere, with Java (`tests/it/oracle`). Here is what must hold for them
//! whatever Java says, and what Java is not asked: hostile input, other people's assignors, time.

mod blobs;
mod leading;
mod rules;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;

/// All of ours.
fn all() -> [&'static dyn Assignor; 4] {
    [&Range, &RoundRobin, &Sticky, &CooperativeSticky]
}

/// Topics with so many partitions and no racks.
fn cluster(topics: &[(&str, usize)]) -> ClusterView {
    let mut cluster = ClusterView::new();
    for (topic, partitions) in topics {
        cluster.insert(*topic, vec![Vec::new(); *partitions]);
    }
    cluster
}

fn member(id: &str, topics: &[&str]) -> Member {
    Member::new(id, Subscription::to(topics.iter().copied()))
}

/// A member that had these partitions in a generation, as both sticky assignors are told it.
fn had(mut member: Member, partitions: &[(&str, i32)], generation: i32, cooperative: bool) -> Member {
    let had: Vec<TopicPartitions> =
        partitions.iter().map(|(topic, number)| TopicPartitions::new(*topic, [*number])).collect();
    let received = Received::new(&had, generation);
    let assignor: &dyn Assignor = if cooperative { &CooperativeSticky } else { &Sticky };
    member.subscription.user_data = assignor.user_data(&[], Some(received));
    member.subscription.generation = Some(generation);
    if cooperative {
        member.subscription.owned = had;
    }
    member
}

/// The assignments in words: `a: t-0 t-1`.
fn told(assignments: &Assignments) -> Vec<String> {
    let words = |(id, assignment): (&Arc<str>, &Assignment)| {
        let mut line = format!("{id}:");
        for of in &assignment.partitions {
            let words = of.partitions.iter().map(|number| format!(" {}-{number}", of.topic));
            line.extend(words);
        }
        line
    };
    assignments.iter().map(words).collect()
}

/// Who got each partition. None may be given twice.
fn owners(assignments: &Assignments) -> BTreeMap<(String, i32), String> {
    let mut owners = BTreeMap::new();
    for (id, assignment) in assignments {
        for of in &assignment.partitions {
            for number in &of.partitions {
                let before = owners.insert((of.topic.to_string(), *number), id.to_string());
                assert_eq!(before, None, "{}-{number} was given twice", of.topic);
            }
        }
    }
    owners
}
