//! What the mechanisms have in common, and PLAIN, which is little more.

use super::*;

/// A broker on an encrypted connection.
pub(super) fn peer() -> Peer {
    Peer { host: "broker.example".to_owned(), port: 9093, encrypted: true }
}

/// Runs a test's future.
pub(super) fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

#[test]
fn plain_says_all_at_once() {
    run(async {
        let plain = Plain::new("alice", "sword fish").unwrap();
        assert!(plain.name() == "PLAIN" && plain.wants_encryption());
        let mut session = plain.begin(&peer()).await.unwrap();
        let token = session.respond(None).await.unwrap().unwrap();
        assert_eq!(token.expose(), b"\0alice\0sword fish");
        assert!(session.respond(Some(b"")).await.unwrap().is_none());
        assert!(session.respond(Some(b"")).await.unwrap_err().is_auth());
    });
}

#[test]
fn plain_takes_no_challenge() {
    run(async {
        let plain = Plain::new("alice", "swordfish").unwrap();
        let mut session = plain.begin(&peer()).await.unwrap();
        session.respond(None).await.unwrap();
        let error = session.respond(Some(b"again?")).await.unwrap_err();
        assert!(error.to_string().contains("challenge"), "{error}");
    });
}

#[test]
fn plain_refuses_what_would_shift_its_fields() {
    for (user, password) in [("", "x"), ("a\0b", "x"), ("alice", ""), ("alice", "a\0b")] {
        assert!(Plain::new(user, password).unwrap_err().is_invalid(), "{user:?} {password:?}");
    }
    assert!(Plain::new("alice", b"\xff".to_vec()).unwrap_err().is_invalid());
    assert!(Plain::new("alice", "x".repeat(TOKEN_MAX)).unwrap_err().is_limit());
}

#[test]
fn words_of_a_peer_are_escaped_and_cut() {
    assert_eq!(quoted(b"no\n\x1b[31m\xff"), "\"no\\n\\u{1b}[31m\u{fffd}\"");
    assert_eq!(quoted(&[b'x'; 300]), format!("\"{}\"..", "x".repeat(256)));
}
