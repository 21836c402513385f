//! A secret is planted in everything that takes one, and looked for in everything that prints: `Debug` of
//! configurations and messages, errors with their sources, and what is told to `tracing`.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tracing::field::{Field, Visit};
use tracing::span;

use super::tests::{peer, run};
use super::*;
use crate::messages::alter_user_scram_credentials::ScramCredentialUpsertion;
use crate::messages::create_delegation_token::CreateDelegationTokenResponse;
use crate::messages::describe_delegation_token::{DescribeDelegationTokenResponse, DescribedDelegationToken};
use crate::messages::expire_delegation_token::ExpireDelegationTokenRequest;
use crate::messages::renew_delegation_token::RenewDelegationTokenRequest;
use crate::messages::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use crate::wire::{ApiKey, HiddenBytes, Message, Segments, Writer};

const PLANTED: &str = "sw0rdfish";

/// Fails if the planted secret is there to be read: as text, as Rust prints bytes, in base64 or in hex.
fn assert_hidden(printed: &str) {
    let as_list = format!("{:?}", PLANTED.as_bytes());
    let hex: String = PLANTED.bytes().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    for form in [PLANTED, as_list.trim_matches(['[', ']']), STANDARD.encode(PLANTED).as_str(), &hex] {
        assert!(!printed.contains(form), "{printed}");
    }
}

fn assert_debug_hides(value: &dyn fmt::Debug) {
    assert_hidden(&format!("{value:?}"));
    // Laid out over many lines, bytes would stand apart.
    assert_hidden(&format!("{value:#?}").split_whitespace().collect::<Vec<_>>().join(" "));
}

fn assert_error_hides(error: &Error) {
    assert_debug_hides(error);
    assert_hidden(&error.to_string());
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        assert_debug_hides(&error);
        assert_hidden(&error.to_string());
        source = error.source();
    }
}

fn aws() -> AwsCredentials {
    AwsCredentials::new("AKIDEXAMPLE", PLANTED).unwrap().session_token(PLANTED).unwrap()
}

fn mechanisms() -> Vec<Box<dyn Mechanism>> {
    let token = Token::new(PLANTED).unwrap().extension("trace", PLANTED).unwrap();
    vec![
        Box::new(Plain::new("alice", PLANTED).unwrap()),
        Box::new(Scram::sha256("alice", PLANTED).unwrap()),
        Box::new(Scram::sha512("alice", PLANTED).unwrap().delegation_token()),
        Box::new(OAuthBearer::new(token)),
        Box::new(OAuthBearer::new(MskToken::new(aws()).region("eu-west-1").unwrap())),
        Box::new(MskIam::new(aws()).region("eu-west-1").unwrap()),
    ]
}

#[test]
fn the_search_finds_what_is_shown() {
    for shown in [
        format!("{:?}", PLANTED.as_bytes()),
        format!("{:?}", Bytes::from(PLANTED)),
        format!("Basic {}", STANDARD.encode(PLANTED)),
    ] {
        std::panic::catch_unwind(|| assert_hidden(&shown)).expect_err(&shown);
    }
}

#[test]
fn no_configuration_shows_it() {
    assert_debug_hides(&Secret::from(PLANTED));
    assert_debug_hides(&Token::new(PLANTED).unwrap().extension("a", PLANTED).unwrap());
    assert_debug_hides(&aws());
    assert_debug_hides(&MskToken::new(aws()));
    for mechanism in mechanisms() {
        assert_debug_hides(&mechanism);
    }
}

#[test]
fn no_error_of_a_constructor_shows_it() {
    let bad = || format!("{PLANTED}\0");
    let token = || Token::new("x").unwrap();
    for error in [
        Plain::new("alice", bad()).err(),
        Plain::new("", PLANTED).err(),
        Plain::new("alice", [PLANTED.as_bytes(), b"\xff"].concat()).err(),
        Plain::new("alice", PLANTED.repeat(10_000)).err(),
        Scram::sha256("", PLANTED).err(),
        Token::new(bad()).err(),
        Token::new(PLANTED.repeat(10_000)).err(),
        token().extension("a", bad()).err(),
        token().extension("auth", PLANTED).err(),
        AwsCredentials::new("id", bad()).err(),
        AwsCredentials::new("", PLANTED).err(),
        aws().session_token(bad()).err(),
    ] {
        assert_error_hides(&error.expect("an error"));
    }
}

/// What a broker makes of what it was told.
type Answer = fn(&[u8]) -> Vec<u8>;

/// A first message of SCRAM that is as it should be.
fn server_first(said: &[u8]) -> Vec<u8> {
    let said = String::from_utf8_lossy(said);
    let nonce = said.split("r=").nth(1).unwrap_or_default().split(',').next().unwrap_or_default();
    format!("r={nonce}x,s=AAAA,i=4096").into_bytes()
}

/// Whatever a broker answers, even what we sent it.
#[test]
fn no_exchange_that_fails_shows_it() {
    run(async {
        let mut failures = 0;
        let answers: [Answer; 3] = [server_first, |_| b"\xff\0,=".to_vec(), <[u8]>::to_vec];
        for mechanism in mechanisms() {
            for (first, then) in
                answers.iter().flat_map(|first| answers.iter().map(move |then| (first, then)))
            {
                let mut session = mechanism.begin(&peer()).await.unwrap();
                let mut said = session.respond(None).await.unwrap().expect("a first token");
                for answer in [first, then, then] {
                    match session.respond(Some(&answer(said.expose()))).await {
                        Ok(Some(next)) => said = next,
                        Ok(None) => break,
                        Err(error) => {
                            assert_error_hides(&error);
                            failures += 1;
                            break;
                        }
                    }
                }
                if let Err(error) = session.respond(None).await {
                    assert_error_hides(&error);
                }
            }
        }
        assert!(failures >= 40, "{failures}");
    });
}

#[test]
fn no_message_shows_it() {
    let hidden = || HiddenBytes::from(Secret::from(PLANTED));
    let described = DescribedDelegationToken { hmac: hidden(), ..Default::default() };
    let request = SaslAuthenticateRequest { auth_bytes: hidden(), ..Default::default() };
    let messages: [&dyn fmt::Debug; 7] = [
        &request,
        &SaslAuthenticateResponse { auth_bytes: hidden(), ..Default::default() },
        &ScramCredentialUpsertion { salt: hidden(), salted_password: hidden(), ..Default::default() },
        &CreateDelegationTokenResponse { hmac: hidden(), ..Default::default() },
        &DescribeDelegationTokenResponse { tokens: vec![described], ..Default::default() },
        &RenewDelegationTokenRequest { hmac: hidden(), ..Default::default() },
        &ExpireDelegationTokenRequest { hmac: hidden(), ..Default::default() },
    ];
    for message in messages {
        assert_debug_hides(message);
    }

    let mut writer = Writer::default();
    request.encode(&mut writer, 2).unwrap();
    assert_debug_hides(&writer);
    let segments: Segments = writer.finish();
    assert_debug_hides(&segments);
    let body = segments.into_bytes();
    assert_debug_hides(&crate::frame::Answer {
        key: ApiKey::SASL_AUTHENTICATE,
        version: 2,
        body: body.clone(),
    });
    let mut frames = crate::frame::Frames::new(1000);
    frames.space().extend_from_slice(&body);
    assert_debug_hides(&frames);

    // As an answer it is malformed, and the error tells where, not what.
    assert_error_hides(&SaslAuthenticateResponse::from_bytes(&body, 1).unwrap_err());
}

/// Keeps all that is told to `tracing`, spans and events alike.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<String>>);

impl Visit for Heard {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = writeln!(self.0.lock().unwrap(), "{field}={value:?}");
    }
}

impl tracing::Subscriber for Heard {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        span.record(&mut self.clone());
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn no_event_shows_it_and_scram_without_tls_is_warned_of_once() {
    let heard = Heard::default();
    tracing::subscriber::with_default(heard.clone(), || {
        run(async {
            let clear = Peer { encrypted: false, ..peer() };
            for mechanism in mechanisms() {
                for peer in [&clear, &clear, &peer()] {
                    let mut session = mechanism.begin(peer).await.unwrap();
                    session.respond(None).await.unwrap();
                    // What comes of it is looked at in another test.
                    drop(session.respond(Some(b"e=no")).await);
                }
            }
        });
    });
    let heard = heard.0.lock().unwrap();
    assert_hidden(&heard);
    assert_eq!(heard.matches("SCRAM on a connection without TLS").count(), 2, "one for each: {heard}");
}
