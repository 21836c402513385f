//! What a user brings along by the traits: a mechanism, and a source of tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use weir::conn::sasl::{Mechanism, OAuthBearer, Peer, Session, Token, TokenProvider};
use weir::net::BoxFuture;
use weir::{Error, Result, Secret};
use weir_kafka_harness::{Listener, Mechanism as Kind, PASSWORD, USER};

use super::{sites, stays_out};

/// Whose the unsigned tokens are.
pub(super) const ROBOT: &str = "robot";

/// How long an unsigned token is good.
const LIFETIME: Duration = Duration::from_mins(10);

/// Makes tokens that nobody signed, as test brokers take them, and counts them.
#[derive(Debug, Clone, Default)]
pub(super) struct Unsigned {
    pub(super) asked: Arc<AtomicUsize>,
}

impl TokenProvider for Unsigned {
    fn token<'a>(&'a self, _: &'a Peer) -> BoxFuture<'a, Result<Token>> {
        self.asked.fetch_add(1, Relaxed);
        Box::pin(async { Ok(Token::new(unsigned(ROBOT))?.expiring(SystemTime::now() + LIFETIME)) })
    }
}

/// A token of this subject without a signature (RFC 7519, section 6).
pub(super) fn unsigned(subject: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let until = now + LIFETIME.as_secs();
    let claims = format!(r#"{{"sub":"{subject}","iat":{now},"exp":{until}}}"#);
    format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims))
}

/// A mechanism that is not weir's own: it goes by a broker's name, so that there is a broker who knows it.
#[derive(Debug, Clone)]
struct InHouse {
    message: Secret,
}

impl Mechanism for InHouse {
    fn name(&self) -> &'static str {
        "PLAIN"
    }

    fn wants_encryption(&self) -> bool {
        true
    }

    fn begin<'a>(&'a self, peer: &'a Peer) -> BoxFuture<'a, Result<Box<dyn Session>>> {
        assert!(peer.encrypted && peer.host == "127.0.0.1" && peer.port != 0, "{peer:?}");
        Box::pin(async { Ok(Box::new(self.clone()) as _) })
    }
}

impl Session for InHouse {
    fn respond<'a>(&'a mut self, challenge: Option<&'a [u8]>) -> BoxFuture<'a, Result<Option<Secret>>> {
        let answer = match challenge {
            None => Ok(Some(self.message.clone())),
            Some([]) => Ok(None),
            Some(_) => Err(Error::authentication("a challenge where none is due")),
        };
        Box::pin(async { answer })
    }
}

#[tokio::test]
async fn a_users_own_mechanism_lets_in() {
    let listener = Listener::sasl(Kind::Plain).over_tls();
    for site in sites() {
        let in_house =
            |password: &str| InHouse { message: Secret::from(format!("\0{USER}\0{password}").as_str()) };
        let builder = site.nobody(listener).sasl(in_house(PASSWORD));
        assert_eq!(site.sees(builder).await.unwrap(), USER, "{}", site.version);
        let wrong = site.nobody(listener).sasl(in_house("guess"));
        stays_out("a wrong password", wrong, &["SASL_AUTHENTICATION_FAILED"]).await;
        // Over TCP as it is, it is told from a client that may.
        let clear = site.nobody(Listener::sasl(Kind::Plain)).sasl(in_house(PASSWORD));
        stays_out("without TLS", clear, &["would show a secret without TLS"]).await;
    }
}

#[tokio::test]
async fn a_users_own_tokens_let_in() {
    let listener = Listener::sasl(Kind::OauthBearer);
    for site in sites() {
        let tokens = Unsigned::default();
        let builder = site.nobody(listener).sasl(OAuthBearer::new(tokens.clone())).allow_sasl_without_tls();
        assert_eq!(site.sees(builder).await.unwrap(), ROBOT, "{}", site.version);
        assert!(tokens.asked.load(Relaxed) >= 1);
        // One token, and extensions that go with it (KIP-342).
        let token = Token::new(unsigned("someone")).unwrap().extension("traceId", "7").unwrap();
        let builder = site.nobody(listener).sasl(OAuthBearer::new(token)).allow_sasl_without_tls();
        assert_eq!(site.sees(builder).await.unwrap(), "someone", "{}", site.version);
    }
}

/// A provider that fails for good.
#[derive(Debug)]
struct Empty;

impl TokenProvider for Empty {
    fn token<'a>(&'a self, peer: &'a Peer) -> BoxFuture<'a, Result<Token>> {
        Box::pin(async move { Err(Error::authentication(format!("no token for {}", peer.host))) })
    }
}

#[tokio::test]
async fn the_error_of_a_users_provider_is_told() {
    for site in sites() {
        let listener = Listener::sasl(Kind::OauthBearer).over_tls();
        let builder = site.nobody(listener).sasl(OAuthBearer::new(Empty));
        stays_out("no token", builder, &["no token for 127.0.0.1"]).await;
    }
}
