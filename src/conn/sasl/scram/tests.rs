//! Whole exchanges that are known (RFC 7677, and others by Python's `hashlib`), every way in which a broker can
//! cheat, and what sessions share.

use super::*;
use crate::conn::sasl::tests::{peer, run};

/// The client's nonce of RFC 7677's example.
const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

/// One exchange: what goes in, and what must be said.
struct Known {
    algorithm: Algorithm,
    user: &'static str,
    password: &'static str,
    delegation_token: bool,
    client_first: &'static str,
    server_first: &'static str,
    client_final: &'static str,
    server_final: &'static str,
}

fn check(known: &Known) {
    let first = ClientFirst::new(known.user, NONCE.to_owned(), known.delegation_token);
    assert_eq!(first.message().expose(), known.client_first.as_bytes());
    let challenge = first.server_first(known.server_first.as_bytes(), &ITERATIONS).unwrap();
    let password = known.password.as_bytes();
    let keys = Keys::derive(known.algorithm, password, &challenge.salt, challenge.iterations).unwrap();
    let (message, verify) = challenge.prove(&keys).unwrap();
    assert_eq!(message.expose(), known.client_final.as_bytes());
    verify.server_final(known.server_final.as_bytes()).unwrap();
}

#[test]
fn the_example_of_rfc_7677_is_said_word_for_word() {
    check(&Known {
        algorithm: Algorithm::Sha256,
        user: "user",
        password: "pencil",
        delegation_token: false,
        client_first: "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        server_first: SERVER_FIRST,
        client_final: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        server_final: "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    });
}

#[test]
fn sha_512_says_what_hashlib_computes() {
    check(&Known {
        algorithm: Algorithm::Sha512,
        user: "user",
        password: "pencil",
        delegation_token: false,
        client_first: "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        server_first: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=8192",
        client_final: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=6HZ5rUA3PgkE/X3DbWzXrokJFsM9zr9o7\
            EgisWdnKczXrIzjgD4BKpBTn7XAOVwLeZUg1pFRTcesJnSwFTQsIw==",
        server_final: "v=RqO11yK/xS8vUqXJmCYvXcKjTIkTicWzQEDh94upkSMgEZfW9mqg9ws9DPT5rQ74uE1weAEpGS1Y6Q6l6KVKXw==",
    });
}

/// The password has what `SASLprep` would change; Kafka's classes leave it, and so must we.
#[test]
fn names_are_escaped_tokens_announced_and_passwords_left_alone() {
    check(&Known {
        algorithm: Algorithm::Sha512,
        user: "a=b,c",
        password: "pÄss\u{a0}word",
        delegation_token: true,
        client_first: "n,,n=a=3Db=2Cc,r=rOprNGfwEbeRWgbNEkqO,tokenauth=true",
        server_first: "r=rOprNGfwEbeRWgbNEkqOxyz,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        client_final: "c=biws,r=rOprNGfwEbeRWgbNEkqOxyz,p=L2VF27chr2REZdz1Dh0MxiAM0uN/zrGF1evYX29c9XLtZbbwVU3D4Q87IqZN8\
            mrXVMqVJx990KKoVKX0/yBBAA==",
        server_final: "v=j/Fvw12mwITikdDCEBlwZCWfq72Fk2TiNZw9qaTNLv3SGdiPS3eT0zXsrwJqK5yTRsAwyCstjDbg9Ci6X/5zGA==",
    });
}

#[test]
fn b39_a_first_message_that_cheats_is_refused() {
    let salt = "s=W22ZaJ0SNY7soEsUEjb6gQ==";
    let long = format!("r={NONCE}x,{salt},i=4096,{}", "a=b,".repeat(2000));
    for (message, why) in [
        ("", "lacks r="),
        (&format!("r={NONCE},{salt},i=4096"), "added nothing"),
        (&format!("r=x{NONCE},{salt},i=4096"), "does not begin with ours"),
        (&format!("r=rOpr,{salt},i=4096"), "does not begin with ours"),
        (&format!("r={NONCE}\u{7f},{salt},i=4096"), "characters"),
        (&format!("r={NONCE} x,{salt},i=4096"), "characters"),
        (&format!("r={NONCE}x,s=,i=4096"), "salt is empty"),
        (&format!("r={NONCE}x,s=W22Z*,i=4096"), "not base64"),
        (&format!("r={NONCE}x,i=4096"), "lacks s="),
        (&format!("{salt},r={NONCE}x,i=4096"), "lacks r="),
        (&format!("r={NONCE}x,{salt}"), "lacks i="),
        (&format!("r={NONCE}x,{salt},i="), "\"\" SCRAM iterations"),
        (&format!("r={NONCE}x,{salt},i=4095"), "\"4095\" SCRAM iterations, where 4096 to 1000000"),
        (&format!("r={NONCE}x,{salt},i=1000001"), "\"1000001\" SCRAM iterations"),
        (&format!("r={NONCE}x,{salt},i=99999999999999999999"), "iterations"),
        (&format!("r={NONCE}x,{salt},i=+5000"), "iterations"),
        (&format!("r={NONCE}x,{salt},i=-5000"), "iterations"),
        (&format!("m=new,r={NONCE}x,{salt},i=4096"), "extension (m=)"),
        ("e=other-error\n\u{1b}[31m", r#""other-error\n\u{1b}[31m""#),
        (&long, "at most 4096"),
    ] {
        let first = ClientFirst::new("user", NONCE.to_owned(), false);
        let error = first.server_first(message.as_bytes(), &ITERATIONS).err().expect(message);
        assert!(error.to_string().contains(why), "{message:?}: {error}");
        assert!(error.is_auth() || error.is_limit(), "{error}");
    }
    let first = ClientFirst::new("user", NONCE.to_owned(), false);
    assert!(first.server_first(b"r=\xff", &ITERATIONS).err().unwrap().to_string().contains("UTF-8"));
}

#[test]
fn b39_a_last_message_that_proves_nothing_is_refused() {
    for (message, why) in [
        ("", "lacks v="),
        ("v=", "signature is wrong"),
        ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G8=", "signature is wrong"),
        ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl9", "signature is wrong"),
        ("v=***", "not base64"),
        ("x=1,v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "lacks v="),
        ("e=invalid-proof", "\"invalid-proof\""),
        ("m=1,v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "extension (m=)"),
    ] {
        let first = ClientFirst::new("user", NONCE.to_owned(), false);
        let challenge = first.server_first(SERVER_FIRST.as_bytes(), &ITERATIONS).unwrap();
        let keys = Keys::derive(Algorithm::Sha256, b"pencil", &challenge.salt, 4096).unwrap();
        let (_, verify) = challenge.prove(&keys).unwrap();
        let error = verify.server_final(message.as_bytes()).unwrap_err();
        assert!(error.is_auth() && error.to_string().contains(why), "{message:?}: {error}");
    }
}

#[test]
fn what_follows_the_known_fields_is_passed_over() {
    let first = ClientFirst::new("user", NONCE.to_owned(), false);
    let challenge = first.server_first(format!("{SERVER_FIRST},x=later").as_bytes(), &ITERATIONS).unwrap();
    assert_eq!(challenge.iterations, 4096);
}

/// Every message that differs in one byte, and every one that is cut short, gives a value or an error; and none
/// of those that pass has another nonce, salt or count than the one that was sent.
#[test]
fn a_message_broken_anywhere_is_refused_or_read_as_it_is() {
    let good = SERVER_FIRST.as_bytes();
    let broken = (0..good.len()).flat_map(|at| {
        let cut = std::iter::once(good[..at].to_vec());
        cut.chain((0..=255).map(move |byte| [&good[..at], &[byte], &good[at + 1..]].concat()))
    });
    let mut passed = 0;
    for message in broken {
        let first = ClientFirst::new("user", NONCE.to_owned(), false);
        if let Ok(challenge) = first.server_first(&message, &ITERATIONS) {
            passed += 1;
            let text = String::from_utf8(message).unwrap();
            assert!(text.starts_with(&format!("r={NONCE}")), "{text}");
            assert!(!challenge.salt.is_empty(), "{text}");
            assert!(
                text.split(",i=").nth(1).unwrap().starts_with(&challenge.iterations.to_string()),
                "{text}"
            );
        }
    }
    assert!(passed > 0 && passed < good.len() * 255, "{passed}");
}

/// Speaks with a new session of `scram` as its broker would, who knows the password `pencil`.
async fn authenticate(scram: &Scram, salt: &str) -> Result<()> {
    let mut session = scram.begin(&peer()).await?;
    let first = session.respond(None).await?.expect("a first message");
    let bare = std::str::from_utf8(first.expose()).unwrap().strip_prefix("n,,").unwrap().to_owned();
    let nonce = bare.split(",r=").nth(1).unwrap();
    assert_eq!(nonce.len(), 32, "24 random bytes");
    let server_first = format!("r={nonce}more,s={salt},i=4096");
    let last = session.respond(Some(server_first.as_bytes())).await?.expect("a last message");
    let last = std::str::from_utf8(last.expose()).unwrap();
    let auth_message = format!("{bare},{server_first},{}", last.split(",p=").next().unwrap());
    let salt = base64::engine::general_purpose::STANDARD.decode(salt).unwrap();
    let keys = Keys::derive(scram.algorithm, b"pencil", &salt, 4096).unwrap();
    let signature = keys.server_signature(auth_message.as_bytes()).unwrap();
    let server_final = format!("v={}", base64::engine::general_purpose::STANDARD.encode(&signature));
    assert!(session.respond(Some(server_final.as_bytes())).await?.is_none());
    session.respond(Some(b"")).await.expect_err("it is over");
    Ok(())
}

fn derived(scram: &Scram) -> Derived {
    scram.shared.derived.lock().unwrap().clone().expect("derived keys")
}

#[test]
fn keys_are_derived_once_for_a_salt_and_again_for_another() {
    run(async {
        let scram = Scram::sha256("user", "pencil").unwrap();
        authenticate(&scram, "AAAA").await.unwrap();
        let before = derived(&scram);
        authenticate(&scram.clone(), "AAAA").await.unwrap();
        assert!(Arc::ptr_eq(&before.keys, &derived(&scram).keys), "a clone has the same keys");
        authenticate(&scram, "BBBB").await.unwrap();
        assert_eq!(derived(&scram).salt, [4, 16, 65]);
        assert!(!Arc::ptr_eq(&before.keys, &derived(&scram).keys));
    });
}

/// A broker that asks for many iterations holds up nothing but its own connection: there is one thread here for
/// all else, and it goes on while the keys are derived.
#[test]
fn b39_keys_are_derived_off_the_reactor() {
    run(async {
        let scram = Scram::sha512("user", "pencil").unwrap();
        let mut session = scram.begin(&peer()).await.unwrap();
        let first = session.respond(None).await.unwrap().expect("a first message");
        let nonce = std::str::from_utf8(first.expose()).unwrap().split(",r=").nth(1).unwrap().to_owned();
        let server_first = format!("r={nonce}more,s=AAAA,i=100000");
        tokio::select! {
            biased;
            _ = session.respond(Some(server_first.as_bytes())) => panic!("derived on this thread"),
            () = tokio::task::yield_now() => {}
        }
    });
}

#[test]
fn b39_a_broker_that_does_not_know_the_password_is_told_from_one_that_does() {
    run(async {
        let scram = Scram::sha512("user", "another").unwrap();
        let error = authenticate(&scram, "AAAA").await.unwrap_err();
        assert!(error.to_string().contains("signature is wrong"), "{error}");
    });
}

#[test]
fn nonces_never_repeat() {
    let drawn: std::collections::BTreeSet<_> = (0..100).map(|_| nonce().unwrap()).collect();
    assert_eq!(drawn.len(), 100);
    assert!(drawn.iter().all(|nonce| nonce.len() == 32 && !nonce.contains(',')));
}

#[test]
fn what_cannot_be_right_is_refused_when_it_is_made() {
    for (user, password) in [("", "x"), ("a\0b", "x"), ("user", "")] {
        assert!(Scram::sha256(user, password).unwrap_err().is_invalid(), "{user:?} {password:?}");
    }
    assert!(Scram::sha256("u".repeat(1025), "x").unwrap_err().is_invalid());
    let scram = Scram::sha256("user", "x").unwrap();
    let backwards = RangeInclusive::new(9, 8);
    for range in [0..=4096, backwards] {
        assert!(scram.clone().iterations(range).unwrap_err().is_invalid());
    }
    let first = ClientFirst::new("user", NONCE.to_owned(), false);
    let narrow = scram.iterations(8192..=8192).unwrap();
    assert!(first.server_first(SERVER_FIRST.as_bytes(), &narrow.iterations).is_err());
}
