//! What Amazon's own libraries sign is what we sign, and what hosts tell of their region.

use std::time::UNIX_EPOCH;

use super::*;
use crate::conn::sasl::OAuthBearer;
use crate::conn::sasl::tests::run;

/// 2026-01-02T03:04:05Z.
const AT: Duration = Duration::from_secs(1_767_323_045);
const SESSION_TOKEN: &str = "FwoGZX+/==token";

fn credentials() -> AwsCredentials {
    AwsCredentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY").unwrap()
}

fn with_session() -> AwsCredentials {
    credentials().session_token(SESSION_TOKEN).unwrap()
}

fn peer() -> Peer {
    let host = "B-3.unit-test.abcdef.kafka.us-west-2.amazonaws.com.".to_owned();
    Peer { host, port: 9098, encrypted: true }
}

/// The signatures are those of `Aws4Signer.presign` of the SDK for Java 2.30.23, which `aws-msk-iam-auth` 2.3.2
/// makes its payload with; so are the keys.
#[test]
fn the_payload_is_that_of_amazons_library() {
    for (credentials, token, signature) in [
        (credentials(), None, "ef96884d17647dc91a4e8aca2fe01936f4ceb7acd890d996b98f4c02a40010ab"),
        (
            with_session(),
            Some(SESSION_TOKEN),
            "4973db86e59737c9fff5d3c3f31d5552142fc39a72a15cdb02a692eaa9412984",
        ),
    ] {
        let payload =
            MskIam::new(credentials.clone()).payload(&peer(), &credentials, UNIX_EPOCH + AT).unwrap();
        let payload: serde_json::Value = serde_json::from_slice(payload.expose()).unwrap();
        let mut expected = serde_json::json!({
            "version": "2020_10_22",
            "host": "b-3.unit-test.abcdef.kafka.us-west-2.amazonaws.com",
            "user-agent": USER_AGENT,
            "action": "kafka-cluster:Connect",
            "x-amz-algorithm": "AWS4-HMAC-SHA256",
            "x-amz-credential": "AKIDEXAMPLE/20260102/us-west-2/kafka-cluster/aws4_request",
            "x-amz-date": "20260102T030405Z",
            "x-amz-signedheaders": "host",
            "x-amz-expires": "900",
            "x-amz-signature": signature,
        });
        if let Some(token) = token {
            expected["x-amz-security-token"] = token.into();
        }
        assert_eq!(payload, expected);
    }
}

/// The URLs are those of `aws-msk-iam-sasl-signer-python` 1.0.2, but for the name at the end, which is not signed.
#[test]
fn the_token_is_that_of_amazons_library() {
    let head = "https://kafka.us-west-2.amazonaws.com/?Action=kafka-cluster%3AConnect\
        &X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIDEXAMPLE%2F20260102%2Fus-west-2%2Fkafka-cluster%2Faws4_request\
        &X-Amz-Date=20260102T030405Z&X-Amz-Expires=900";
    for (credentials, signature) in [
        (
            credentials(),
            "&X-Amz-SignedHeaders=host\
            &X-Amz-Signature=a849e3047a394346a9d022cdc5878ecc38b1b9119a6d3b4d033d6e881848e02a",
        ),
        (
            with_session(),
            "&X-Amz-Security-Token=FwoGZX%2B%2F%3D%3Dtoken&X-Amz-SignedHeaders=host\
            &X-Amz-Signature=d750871b2684c14b86dbacc25fc6abfa464be5a5078e3515dede99bc7c4fe2a8",
        ),
    ] {
        let token = MskToken::new(credentials.clone()).sign(&peer(), &credentials, UNIX_EPOCH + AT).unwrap();
        let url = URL_SAFE_NO_PAD.decode(token.value().expose()).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(String::from_utf8(url).unwrap(), format!("{head}{signature}&User-Agent=weir%2F{version}"));
        assert_eq!(token.expires(), Some(UNIX_EPOCH + AT + EXPIRES));
    }
}

#[test]
fn a_host_of_msk_tells_its_region() {
    for (host, region) in [
        ("b-1.name.id.c2.kafka.eu-west-1.amazonaws.com", Some("eu-west-1")),
        ("boot-x.c1.kafka-serverless.us-east-1.amazonaws.com", Some("us-east-1")),
        ("b-1.name.id.c2.kafka.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
        ("b-1-public.name.id.c2.kafka.eu-west-1.amazonaws.com", Some("eu-west-1")),
        ("kafka.eu-west-1.amazonaws.com", Some("eu-west-1")),
        ("kafka.eu-west-1.amazonaws.com.example", None),
        ("s3.eu-west-1.amazonaws.com", None),
        ("eu-west-1.amazonaws.com", None),
        ("amazonaws.com", None),
        ("kafka..amazonaws.com", None),
        ("localhost", None),
        ("", None),
    ] {
        assert_eq!(region_of(host), region, "{host}");
    }
}

#[test]
fn a_host_that_tells_no_region_needs_one() {
    run(async {
        let peer = Peer { host: "localhost".to_owned(), port: 9098, encrypted: true };
        let error = MskIam::new(credentials()).begin(&peer).await.err().unwrap();
        assert!(error.is_invalid() && error.to_string().contains("region"), "{error}");
        let given = MskIam::new(credentials()).region("eu-west-1").unwrap();
        let payload = given.payload(&peer, &credentials(), UNIX_EPOCH + AT).unwrap();
        assert!(String::from_utf8_lossy(payload.expose()).contains("/eu-west-1/kafka-cluster/"));
        let peer = Peer { host: "a\"b".to_owned(), ..peer };
        assert!(given.begin(&peer).await.err().unwrap().is_invalid());
    });
}

#[test]
fn parts_that_would_break_out_are_refused() {
    for part in ["", "a b", "a\"b", "a\\b", "a\nb", "ä"] {
        assert!(AwsCredentials::new(part, "x").unwrap_err().is_invalid(), "{part:?}");
        assert!(AwsCredentials::new("x", part).unwrap_err().is_invalid(), "{part:?}");
        assert!(credentials().session_token(part).unwrap_err().is_invalid(), "{part:?}");
        assert!(MskToken::new(credentials()).region(part).unwrap_err().is_invalid(), "{part:?}");
    }
    assert!(credentials().session_token("x".repeat(70_000)).unwrap_err().is_limit());
}

#[test]
fn the_environment_gives_credentials_or_says_what_lacks() {
    let both = |name: &str| match name {
        "AWS_ACCESS_KEY_ID" => Some("id".to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some("secret".to_owned()),
        "AWS_SESSION_TOKEN" => Some(String::new()),
        _ => None,
    };
    let found = AwsCredentials::from_variables(both).unwrap();
    assert!(found.access_key_id == "id" && found.session_token.is_none());
    assert_eq!(found.secret_access_key.expose(), b"secret");
    let all = |name: &str| both(name).map(|value| format!("{value}x"));
    assert_eq!(AwsCredentials::from_variables(all).unwrap().session_token_str(), Some("x"));
    let error =
        AwsCredentials::from_variables(|name| both(name).filter(|value| value != "secret")).unwrap_err();
    assert!(error.to_string().contains("AWS_SECRET_ACCESS_KEY"), "{error}");
}

#[test]
fn an_exchange_ends_with_the_brokers_answer() {
    run(async {
        let mechanism = MskIam::new(with_session());
        assert!(mechanism.name() == "AWS_MSK_IAM" && mechanism.wants_encryption());
        let mut session = mechanism.begin(&peer()).await.unwrap();
        assert!(session.respond(None).await.unwrap().is_some());
        let answer = br#"{"version":"2020_10_22","request-id":"1"}"#;
        assert!(session.respond(Some(answer)).await.unwrap().is_none());
        assert!(session.respond(Some(answer)).await.unwrap_err().is_auth());

        let mut session = mechanism.begin(&peer()).await.unwrap();
        session.respond(None).await.unwrap();
        assert!(session.respond(Some(b"")).await.unwrap_err().is_auth());

        let mut session = OAuthBearer::new(MskToken::new(with_session())).begin(&peer()).await.unwrap();
        let said = session.respond(None).await.unwrap().unwrap();
        assert!(said.expose().starts_with(b"n,,\x01auth=Bearer aHR0cHM6Ly9rYWZrYS51cy13ZXN0LTIu"));
    });
}
