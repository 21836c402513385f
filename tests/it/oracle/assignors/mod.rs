//! Assignors before Kafka's own: thousands of groups, each through several generations, with members that come, go,
//! come back late, change their minds and are of any age; and the bytes that they send each other.
//!
//! Java's answer is to be ours, to the byte. It is looked at whether ours is right besides, since where Java's is
//! wrong (a partition for a member that does not want it, an exception, or a search without end) ours need not be the same.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::process::ChildStdin;

use bytes::Bytes;
use weir::consumer::assignors::{
    Assignment, Assignor, Member, Rebalance, Received, Subscription, TopicPartitions,
};

use super::draw::Random;
use super::java::{Java, Program, java};
use super::stream::{read_array, read_blob, write_blob, write_text};
use super::{VERSIONS, count, say, seed};
use group::{ASSIGNORS, Group, Round, assigned};

/// Draws groups and leads them through their generations.
mod group;

/// A running `Assignors.java`.
struct Judge {
    program: Program,
    to: io::BufWriter<ChildStdin>,
}

type Answer = Result<Vec<Bytes>, String>;

impl Judge {
    fn new(java: &Java) -> Self {
        let mut program = java.start("Assignors", &[]);
        let to = program.input();
        Self { program, to }
    }

    fn ask(&mut self, write: impl FnOnce(&mut io::BufWriter<ChildStdin>) -> io::Result<()>) -> Answer {
        write(&mut self.to).and_then(|()| self.to.flush()).expect("Java reads");
        let from = &mut self.program.from;
        let mut read = || -> io::Result<Answer> {
            let [ok] = read_array(from)?;
            let count = u32::from_be_bytes(read_array(from)?);
            let blobs: Vec<Bytes> =
                (0..count).map(|_| Ok(read_blob(from)?.into())).collect::<io::Result<_>>()?;
            Ok(if ok == 1 { Ok(blobs) } else { Err(String::from_utf8_lossy(&blobs[0]).into_owned()) })
        };
        read().expect("Java answers")
    }

    fn assign(&mut self, assignor: &str, round: &Round) -> Answer {
        self.ask(|to| {
            to.write_all(b"A")?;
            write_text(to, assignor)?;
            let topics: Vec<_> = round.cluster.topics().collect();
            to.write_all(&(topics.len() as u32).to_be_bytes())?;
            for (topic, partitions) in topics {
                write_text(to, topic)?;
                to.write_all(&(partitions as u32).to_be_bytes())?;
                for partition in 0..partitions {
                    let racks = round.cluster.racks(topic, partition);
                    // A replica whose rack is not known besides.
                    to.write_all(&(racks.len() as u32 + 1).to_be_bytes())?;
                    racks.iter().try_for_each(|rack| write_text(to, rack))?;
                    write_text(to, "")?;
                }
            }
            to.write_all(&(round.members.len() as u32).to_be_bytes())?;
            for (member, blob) in &round.members {
                write_text(to, &member.id)?;
                to.write_all(&[u8::from(member.instance_id.is_some())])?;
                write_text(to, member.instance_id.as_deref().unwrap_or(""))?;
                write_blob(to, blob)?;
            }
            Ok(())
        })
    }

    fn user_data(&mut self, assignor: &str, received: Option<(&Bytes, i32)>) -> Answer {
        self.ask(|to| {
            to.write_all(b"U")?;
            write_text(to, assignor)?;
            to.write_all(&[u8::from(received.is_some())])?;
            let (blob, generation) = received.map_or((&[][..], 0), |(blob, generation)| (blob, generation));
            write_blob(to, blob)?;
            to.write_all(&generation.to_be_bytes())
        })
    }

    fn recode(&mut self, kind: u8, blob: &Bytes) -> Answer {
        self.ask(|to| {
            to.write_all(&[kind])?;
            write_blob(to, blob)
        })
    }

    fn end(self) {
        drop(self.to);
        self.program.end();
    }
}

#[derive(Debug, Default)]
struct Report {
    groups: usize,
    rounds: usize,
    moved: usize,
    /// Where Java's answer was wrong, so that ours could not be compared.
    java_wrong: usize,
    failures: Vec<String>,
}

/// What weir would send to each member.
type Assign<'a> = &'a dyn Fn(&dyn Assignor, &Round) -> Result<Vec<Bytes>, String>;

fn ours(assignor: &dyn Assignor, round: &Round) -> Result<Vec<Bytes>, String> {
    let members: Vec<Member> = round.members.iter().map(|(member, _)| member.clone()).collect();
    let answer = assignor.assign(&round.cluster, &members).map_err(|error| error.to_string())?;
    members.iter().map(|member| answer[&member.id].to_bytes().map_err(|error| error.to_string())).collect()
}

fn compare(
    java: &Java,
    assignor: &'static dyn Assignor,
    groups: usize,
    seed: u64,
    assign: Assign<'_>,
) -> Report {
    let mut judge = Judge::new(java);
    let mut report = Report::default();
    for number in 0..groups {
        let mut random = Random::new(seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        random.next();
        let mut group = Group::draw(&mut random, assignor);
        report.groups += 1;
        for generation in 0..=random.below(6) {
            let round = group.join(&mut random);
            let theirs = judge.assign(assignor.name(), &round);
            let ours = assign(assignor, &round);
            report.rounds += 1;
            let place = format!("{} group {number} generation {generation}", assignor.name());
            if let Some(why) = wrong(assignor, &round, &ours) {
                report.failures.push(format!("{place}: {why}"));
                break;
            }
            // Where all but some want the same, and those nothing, Java may mean to give them something all the same;
            // in the first generation that shows only in what is taken from others.
            let idle = |(member, _): &(Member, Bytes)| member.subscription.topics.is_empty();
            let some_idle = assignor.rebalance() == Rebalance::Cooperative && round.members.iter().any(idle);
            if wrong(assignor, &round, &theirs).is_some() || some_idle && ours != theirs {
                report.java_wrong += 1;
            } else if ours != theirs {
                let told = |answer: &Answer| {
                    answer.clone().map(|blobs| blobs.iter().map(assigned).collect::<Vec<_>>())
                };
                report.failures.push(format!(
                    "{place}: {round:#?}\nours   {:?}\ntheirs {:?}",
                    told(&ours),
                    told(&theirs)
                ));
                break;
            }
            let ids = round.members.iter().map(|(member, _)| member.id.to_string());
            let blobs = ids.zip(ours.expect("it was looked at")).collect();
            report.moved += group.receive(blobs, &mut random);
        }
    }
    judge.end();
    report
}

/// Why this cannot be the answer: somebody got what he does not want or another has too, or something is left over
/// that nobody has to give up first.
fn wrong(assignor: &dyn Assignor, round: &Round, answer: &Answer) -> Option<String> {
    let blobs = match answer {
        Ok(blobs) => blobs,
        Err(why) => return Some(why.clone()),
    };
    let mut given: BTreeSet<(String, i32)> = BTreeSet::new();
    let (mut wanted, mut owned) = (BTreeSet::new(), BTreeSet::new());
    for ((member, _), blob) in round.members.iter().zip(blobs) {
        let subscription = &member.subscription;
        for (topic, partition) in assigned(blob) {
            if !subscription.topics.iter().any(|wanted| **wanted == *topic) {
                return Some(format!("{} got {topic}-{partition}, which it does not want", member.id));
            }
            if !given.insert((topic.clone(), partition)) {
                return Some(format!("{topic}-{partition} was given twice"));
            }
        }
        for topic in &subscription.topics {
            wanted.extend((0..round.cluster.partition_count(topic) as i32).map(|at| (topic.to_string(), at)));
        }
        owned.extend(flat(&subscription.owned));
    }
    if let Some(more) = given.difference(&wanted).next() {
        return Some(format!("{more:?} was given, and is not there"));
    }
    let missing =
        wanted.difference(&given).find(|it| assignor.name() != "cooperative-sticky" || !owned.contains(*it));
    missing.map(|it| format!("{it:?} was given to nobody"))
}

fn flat(partitions: &[TopicPartitions]) -> impl Iterator<Item = (String, i32)> {
    partitions.iter().flat_map(|of| of.partitions.iter().map(|at| (of.topic.to_string(), *at)))
}

fn test_assignor(index: usize) {
    for version in VERSIONS {
        let Some(java) = java(version, "assignors") else { continue };
        let report = compare(java, ASSIGNORS[index], count() * 8, seed(), &ours);
        let Report { groups, rounds, moved, java_wrong, failures } = report;
        let name = ASSIGNORS[index].name();
        say(&format!(
            "{name} as {version}: {groups} groups, {rounds} generations, {moved} partitions moved, {java_wrong} where Java is wrong"
        ));
        assert!(failures.is_empty(), "{} of {groups} groups, such as\n{}", failures.len(), failures[0]);
        assert!(rounds > groups && moved > groups, "too little happened");
        assert!(java_wrong * 20 < rounds, "too few were compared");
    }
}

#[test]
fn range() {
    test_assignor(0);
}

#[test]
fn round_robin() {
    test_assignor(1);
}

#[test]
fn sticky() {
    test_assignor(2);
}

#[test]
fn cooperative_sticky() {
    test_assignor(3);
}

#[test]
fn what_members_and_leaders_write_and_read_is_javas() {
    for version in VERSIONS {
        let Some(java) = java(version, "group blobs") else { continue };
        let mut judge = Judge::new(java);
        let (mut read, mut refused) = (0, 0);
        for number in 0..count() as u64 * 8 {
            let mut random = Random::new(seed() ^ number);
            let assignor = ASSIGNORS[random.below(4) as usize];
            let mut group = Group::draw(&mut random, assignor);
            let round = group.join(&mut random);
            let blobs = ours(assignor, &round).expect("an answer");
            for ((member, blob), given) in round.members.iter().zip(&blobs) {
                let again = member.subscription.to_bytes().expect("short names");
                assert_eq!(judge.recode(b'S', blob), Ok(vec![again.clone()]), "{member:?}");
                assert_eq!(judge.recode(b'S', &again), Ok(vec![again]), "{member:?}");
                assert_eq!(judge.recode(b'T', given), Ok(vec![given.clone()]));
                let assignment = Assignment::from_bytes(given).expect("we wrote it");
                let generation = random.below(100) as i32;
                let received = Received::new(&assignment.partitions, generation);
                let data = assignor.user_data(&member.subscription.topics, Some(received));
                let theirs = judge.user_data(assignor.name(), Some((given, generation)));
                assert_eq!(theirs, Ok(data.into_iter().collect()), "{assignment:?}");
                // What is cut short or has a wrong byte is refused by both, or is the same to both.
                for (kind, bytes) in [(b'S', blob), (b'T', given)] {
                    let broken = group::broken(&mut random, bytes);
                    let theirs = judge.recode(kind, &broken);
                    let ours = if kind == b'S' {
                        Subscription::from_bytes(&broken).and_then(|read| read.to_bytes())
                    } else {
                        Assignment::from_bytes(&broken).and_then(|read| read.to_bytes())
                    };
                    match (ours, theirs) {
                        (Ok(ours), theirs) => {
                            read += 1;
                            // Nothing at all is nothing: so Java's consumer too, but not this class of it.
                            assert!(theirs == Ok(vec![ours]) || broken.is_empty(), "{broken:?}: {theirs:?}");
                        }
                        (Err(error), theirs) => {
                            refused += 1;
                            // We refuse negative partitions, bad UTF-8 and odd lengths for null besides.
                            assert!(error.is_malformed(), "{error}: {theirs:?}");
                        }
                    }
                }
            }
        }
        for assignor in ASSIGNORS {
            let data: Vec<Bytes> = assignor.user_data(&[], None).into_iter().collect();
            assert_eq!(judge.user_data(assignor.name(), None), Ok(data));
        }
        judge.end();
        assert!(read > 50 && refused > 50, "{read} read, {refused} refused");
    }
}

/// A single pair of partitions that change places.
#[test]
fn a_planted_swap_is_seen() {
    let Some(java) = java(VERSIONS[0], "planted swap") else { return };
    let swap = |assignor: &dyn Assignor, round: &Round| {
        let mut blobs = ours(assignor, round)?;
        let mut read: Vec<Assignment> =
            blobs.iter().map(|blob| Assignment::from_bytes(blob).expect("we wrote it")).collect();
        let mut first =
            read.iter_mut().filter_map(|it| it.partitions.iter_mut().find(|of| *of.topic == *"t0"));
        if let (Some(a), Some(b)) = (first.next(), first.next()) {
            std::mem::swap(&mut a.partitions[0], &mut b.partitions[0]);
        }
        for (blob, read) in blobs.iter_mut().zip(&read) {
            *blob = read.to_bytes().expect("short names");
        }
        Ok(blobs)
    };
    for assignor in ASSIGNORS {
        let report = compare(java, assignor, 60, seed(), &swap);
        assert!(report.failures.len() > 20, "{}: {} of 60 seen", assignor.name(), report.failures.len());
    }
}

/// One that forgets who had what, and one that gives partitions away before they are given up.
#[test]
fn planted_forgetting_is_seen() {
    let Some(java) = java(VERSIONS[0], "planted forgetting") else { return };
    let forget = |assignor: &dyn Assignor, round: &Round| {
        let mut round = round.clone();
        for (member, _) in &mut round.members {
            member.subscription.user_data = None;
            member.subscription.owned.clear();
        }
        ours(assignor, &round)
    };
    for assignor in &ASSIGNORS[2..] {
        let report = compare(java, *assignor, 60, seed(), &forget);
        assert!(report.failures.len() > 10, "{}: {} of 60 seen", assignor.name(), report.failures.len());
    }
}
