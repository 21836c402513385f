//! Messages by name and by API key, as proxies and fuzzers ask for them.

use bytes::Bytes;
use weir::protocol::metadata::MetadataRequest;
use weir::protocol::{
    ApiKey, Kind, Message, decode, decode_request, decode_response, draw, message_type, messages, recode,
};

#[test]
fn a_message_is_found_by_name_and_by_key_and_comes_back_as_its_type() {
    let request = MetadataRequest { topics: None, allow_auto_topic_creation: false, ..Default::default() };
    let bytes = request.to_bytes(12).unwrap();
    let by_key = decode_request(ApiKey::METADATA, 12, &bytes).unwrap();
    let by_name = decode("request", "MetadataRequest", 12, &bytes).unwrap();
    assert_eq!(by_name.as_any().downcast_ref(), Some(&request));
    assert_eq!(by_key.into_any().downcast::<MetadataRequest>().unwrap(), Box::new(request));
    assert_eq!(recode("request", "MetadataRequest", 12, bytes.clone()).unwrap(), bytes);
}

#[test]
fn what_does_not_exist_is_unsupported_and_names_itself() {
    let nothing = Bytes::new();
    let error = recode("Request", "Metadata\u{1b}", 0, nothing.clone()).unwrap_err();
    assert!(error.is_unsupported());
    assert!(error.to_string().contains("no Request named Metadata\\u{1b};"), "escaped: {error}");
    assert!(decode_request(ApiKey(-1), 0, &nothing).unwrap_err().is_unsupported());
    assert!(decode_response(ApiKey(999), 0, &nothing).unwrap_err().is_unsupported());
    for version in [-1, 14, i16::MAX] {
        assert!(recode("request", "MetadataRequest", version, nothing.clone()).unwrap_err().is_unsupported());
        assert!(draw("request", "MetadataRequest", version, 1).unwrap_err().is_unsupported());
    }
}

#[test]
fn every_request_has_an_answer_with_the_same_versions() {
    let requests: Vec<_> = messages().iter().filter(|found| found.kind() == Kind::Request).collect();
    assert!(requests.len() >= 94, "{} requests", requests.len());
    for request in requests {
        let key = request.api_key().unwrap();
        let response = message_type(Kind::Response, key).unwrap();
        assert_eq!(response.versions(), request.versions(), "{key}");
        assert_eq!(key.versions(), Some(request.versions()), "{key}");
        assert_eq!(request.name().strip_suffix("Request"), key.name());
        assert_eq!(response.name().strip_suffix("Response"), key.name());
        assert_eq!(
            response.is_flexible(*response.versions().end()),
            request.is_flexible(*request.versions().end())
        );
    }
}

#[test]
fn an_unstable_version_is_there_and_is_not_negotiated() {
    let unstable = |key: ApiKey| key.versions() != key.stable_versions();
    let found: Vec<_> = (0..200).map(ApiKey).filter(|key| unstable(*key)).collect();
    assert_eq!(found, [ApiKey::INIT_PRODUCER_ID]);
    assert_eq!(ApiKey::INIT_PRODUCER_ID.versions(), Some(0..=6));
    assert_eq!(ApiKey::INIT_PRODUCER_ID.stable_versions(), Some(0..=5));
    assert_eq!(ApiKey(200).stable_versions(), None);
}

#[test]
fn old_versions_that_newer_kafkas_dropped_are_there() {
    for (key, versions) in [
        (ApiKey::PRODUCE, 0..=13),
        (ApiKey::FETCH, 0..=18),
        (ApiKey::METADATA, 0..=13),
        (ApiKey::LEADER_AND_ISR, 0..=7),
        (ApiKey::CONTROLLED_SHUTDOWN, 0..=3),
    ] {
        assert_eq!(key.versions(), Some(versions), "{key}");
    }
}

#[test]
fn the_same_seed_draws_the_same_message() {
    let drawn = |seed| draw("response", "FetchResponse", 18, seed).unwrap();
    assert_eq!(drawn(7), drawn(7));
    assert!((0..10).map(drawn).any(|bytes| bytes != drawn(7)));
}
