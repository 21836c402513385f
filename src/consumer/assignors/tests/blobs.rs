//! What members send each other, to the byte, and what is refused.

use super::*;

/// As Kafka's specs say it, byte by byte.
const SUBSCRIPTION: &[u8] = b"\0\x03\
    \0\0\0\x02\0\x01a\0\x01b\
    \0\0\0\x02hi\
    \0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x07\0\x01b\0\0\0\x01\0\0\0\x01\
    \0\0\0\x05\
    \0\x04rack";

fn subscription() -> Subscription {
    Subscription {
        topics: vec!["a".into(), "b".into()],
        user_data: Some(Bytes::from_static(b"hi")),
        owned: vec![TopicPartitions::new("a", [0, 7]), TopicPartitions::new("b", [1])],
        generation: Some(5),
        rack: Some("rack".into()),
    }
}

#[test]
fn a_subscription_is_written_sorted_and_in_the_newest_version() {
    let mixed = Subscription {
        topics: vec!["b".into(), "a".into()],
        owned: vec![
            TopicPartitions::new("a", [7]),
            TopicPartitions::new("b", [1]),
            TopicPartitions::new("a", [0]),
        ],
        ..subscription()
    };
    assert_eq!(mixed.to_bytes().unwrap(), SUBSCRIPTION);
    assert_eq!(Subscription::from_bytes(&Bytes::from_static(SUBSCRIPTION)).unwrap(), subscription());
}

#[test]
fn older_and_newer_versions_are_read_as_far_as_they_go() {
    let of = |version: i16, more: &[u8]| {
        let bytes = [&version.to_be_bytes(), &SUBSCRIPTION[2..], more].concat();
        Subscription::from_bytes(&bytes.into())
    };
    let v2 = Subscription { rack: None, ..subscription() };
    let v1 = Subscription { generation: None, ..v2.clone() };
    let v0 = Subscription { owned: Vec::new(), ..v1.clone() };
    for (version, expected) in [(0, v0), (1, v1), (2, v2), (3, subscription()), (4, subscription())] {
        assert_eq!(of(version, b"").unwrap(), expected, "version {version}");
    }
    assert_eq!(of(99, b"something new").unwrap(), subscription());
    let error = of(-1, b"").unwrap_err();
    assert!(error.is_malformed(), "{error}");
}

#[test]
fn what_is_cut_short_is_refused() {
    let whole = Bytes::from_static(SUBSCRIPTION);
    for end in 0..SUBSCRIPTION.len() {
        let error = Subscription::from_bytes(&whole.slice(..end)).unwrap_err();
        assert!(error.is_malformed(), "{end}: {error}");
    }
    let whole = Assignment::of(subscription().owned).to_bytes().unwrap();
    for end in 1..whole.len() {
        let error = Assignment::from_bytes(&whole.slice(..end)).unwrap_err();
        assert!(error.is_malformed(), "{end}: {error}");
    }
}

#[test]
fn negative_partitions_and_lengths_that_cannot_be_are_refused() {
    let negative = vec![TopicPartitions::new("a", [0, -2])];
    let blob = Subscription { owned: negative.clone(), ..subscription() }.to_bytes().unwrap();
    let error = Subscription::from_bytes(&blob).unwrap_err();
    assert!(error.is_malformed() && error.to_string().contains("partition -2"), "{error}");
    let blob = Assignment::of(negative).to_bytes().unwrap();
    assert!(Assignment::from_bytes(&blob).unwrap_err().is_malformed());
    for count in [i32::MAX, -1, -5] {
        let blob = [&b"\0\x03"[..], &count.to_be_bytes(), &[0; 20]].concat();
        assert!(Subscription::from_bytes(&blob.clone().into()).unwrap_err().is_malformed());
        assert!(Assignment::from_bytes(&blob.into()).unwrap_err().is_malformed());
    }
}

#[test]
fn an_assignment_has_each_topic_once_where_it_first_stands() {
    let assignment = Assignment::of(vec![
        TopicPartitions::new("b", [3]),
        TopicPartitions::new("c", []),
        TopicPartitions::new("a", [1]),
        TopicPartitions::new("b", [2]),
    ]);
    let bytes = assignment.to_bytes().unwrap();
    assert_eq!(
        bytes,
        &b"\0\x03\0\0\0\x02\0\x01b\0\0\0\x02\0\0\0\x03\0\0\0\x02\0\x01a\0\0\0\x01\0\0\0\x01\xff\xff\xff\xff"
            [..]
    );
    let read = Assignment::from_bytes(&bytes).unwrap();
    assert_eq!(read.partitions, [TopicPartitions::new("b", [3, 2]), TopicPartitions::new("a", [1])]);
    // What a coordinator gives who was left out.
    assert_eq!(Assignment::from_bytes(&Bytes::new()).unwrap(), Assignment::default());
}

#[test]
fn names_that_are_too_long_are_an_error() {
    let long = "x".repeat(40_000);
    assert!(Subscription::to([long.as_str()]).to_bytes().unwrap_err().is_invalid());
    let assignment = Assignment::of(vec![TopicPartitions::new(long.as_str(), [0])]);
    assert!(assignment.to_bytes().unwrap_err().is_invalid());
}

#[test]
fn user_data_of_the_sticky_assignors_is_javas() {
    let had = [TopicPartitions::new("t", [3, 1])];
    let received = Some(Received::new(&had, 7));
    assert_eq!(Sticky.user_data(&[], None), None);
    assert_eq!(
        Sticky.user_data(&[], received).unwrap(),
        &b"\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\x03\0\0\0\x01\0\0\0\x07"[..]
    );
    assert_eq!(CooperativeSticky.user_data(&[], None).unwrap(), &b"\xff\xff\xff\xff"[..]);
    assert_eq!(CooperativeSticky.user_data(&[], received).unwrap(), &b"\0\0\0\x07"[..]);
    assert_eq!((Range.user_data(&[], received), RoundRobin.user_data(&[], received)), (None, None));
}

/// Cut short or changed, it counts as nothing, and never stops the group.
#[test]
fn user_data_that_cannot_be_read_is_no_error() {
    let cluster = cluster(&[("t", 6)]);
    let whole = had(member("a", &["t"]), &[("t", 5), ("t", 4)], 3, false).subscription.user_data.unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.to_vec();
        changed[at] = 0xff;
        for data in [whole.slice(..at), changed.into()] {
            for assignor in all() {
                let mut first = member("a", &["t"]);
                first.subscription.user_data = Some(data.clone());
                let answer = assignor.assign(&cluster, &[first, member("b", &["t"])]).unwrap();
                assert_eq!(owners(&answer).len(), 6);
            }
        }
    }
}
