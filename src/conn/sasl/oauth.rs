//! OAUTHBEARER: a token of an identity provider's, shown to the broker (KIP-255, RFC 7628).
//!
//! A [`TokenProvider`] gives a [`Token`] for each authentication; where it comes from is the provider's affair.
//! [`OAuthBearer`] says it to the broker, and passes on what the broker has against it.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::conn::sasl::{Mechanism, Peer, Session, check_token_len, out_of_turn, quoted};
use crate::net::BoxFuture;
use crate::{Error, Result, Secret};

/// The mechanism `OAUTHBEARER`, with tokens from a provider. They cross the connection readably, so it is
/// for encrypted connections, and refused on others unless the client was told that it may.
///
/// ```
/// use weir::conn::sasl::{OAuthBearer, Peer, Token, TokenProvider};
/// use weir::net::BoxFuture;
///
/// /// A file that something else keeps fresh, such as a sidecar.
/// #[derive(Debug)]
/// struct FromFile(std::path::PathBuf);
///
/// impl TokenProvider for FromFile {
///     fn token<'a>(&'a self, _: &'a Peer) -> BoxFuture<'a, weir::Result<Token>> {
///         Box::pin(async { Token::new(std::fs::read_to_string(&self.0)?.trim_end()) })
///     }
/// }
///
/// let mechanism = OAuthBearer::new(FromFile("token".into()));
/// ```
#[derive(Debug, Clone)]
pub struct OAuthBearer {
    provider: Arc<dyn TokenProvider>,
}

impl OAuthBearer {
    /// With that provider. A [`Token`] is one, too: it gives itself, for as long as it is good.
    pub fn new(provider: impl TokenProvider) -> Self {
        Self { provider: Arc::new(provider) }
    }
}

impl Mechanism for OAuthBearer {
    fn name(&self) -> &'static str {
        "OAUTHBEARER"
    }

    fn wants_encryption(&self) -> bool {
        true
    }

    fn begin<'a>(&'a self, peer: &'a Peer) -> BoxFuture<'a, Result<Box<dyn Session>>> {
        Box::pin(async {
            let token = self.provider.token(peer).await?;
            check_token_len("our", token.message().expose().len())?;
            Ok(Box::new(BearerSession::Begun(token)) as _)
        })
    }
}

/// Where the exchange is. A broker that does not like the token says why, is told that this was understood, and
/// then fails (RFC 7628, section 3.2.3).
enum BearerSession {
    Begun(Token),
    Sent(Token),
    Refused(String),
    Over,
}

impl BearerSession {
    fn step(&mut self, challenge: Option<&[u8]>) -> Result<Option<Secret>> {
        match (std::mem::replace(self, Self::Over), challenge) {
            (Self::Begun(token), None) => {
                let message = token.message();
                *self = Self::Sent(token);
                Ok(Some(message))
            }
            (Self::Sent(_), Some([])) => Ok(None),
            (Self::Sent(token), Some(words)) => {
                check_token_len("the broker's", words.len())?;
                *self = Self::Refused(token.refusal(words));
                Ok(Some(Secret::from("\x01")))
            }
            (Self::Refused(words), Some(_)) => {
                Err(Error::auth(format!("the broker refuses the OAUTHBEARER token: {words}")))
            }
            _ => Err(out_of_turn("OAUTHBEARER")),
        }
    }
}

impl Session for BearerSession {
    fn respond<'a>(&'a mut self, challenge: Option<&'a [u8]>) -> BoxFuture<'a, Result<Option<Secret>>> {
        let answer = self.step(challenge);
        Box::pin(async { answer })
    }
}

/// Gives the token for each authentication. Implement it for your own source of tokens.
///
/// It is asked at the start of each authentication of each connection, the first and those that renew it, so
/// a provider that goes over the network keeps its token while it is good. Its `Debug` must not show secrets.
pub trait TokenProvider: fmt::Debug + Send + Sync + 'static {
    /// A token that is good now, for that broker. The connection's setup timeout bounds it, and dropping the
    /// future must be safe. An error ends the attempt to connect; a retriable one is tried again.
    fn token<'a>(&'a self, peer: &'a Peer) -> BoxFuture<'a, Result<Token>>;
}

/// What a [`TokenProvider`] gives: a token, SASL extensions that go with it (KIP-342), and when it ends.
///
/// Its `Debug` shows neither the token nor what the extensions say, only their names.
#[derive(Clone)]
pub struct Token {
    value: Secret,
    extensions: Vec<(String, String)>,
    expires: Option<SystemTime>,
}

impl Token {
    /// A token as `Authorization: Bearer` takes it: letters, digits and `-._~+/`, then any number of `=`
    /// (RFC 6750). Anything else is refused, so that it cannot break out of its field.
    pub fn new(value: impl Into<Secret>) -> Result<Self> {
        let value = value.into();
        check_token_len("our", value.expose().len())?;
        let end = value.expose().iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
        let body = value.expose().get(..end).unwrap_or_default();
        if body.is_empty() || !body.iter().all(fits) {
            return Err(Error::invalid(
                "an OAUTHBEARER token of nothing, or with characters that it cannot have",
            ));
        }
        Ok(Self { value, extensions: Vec::new(), expires: None })
    }

    /// Adds an extension, which the broker's own code may look at (KIP-342): a name of letters, though not
    /// `auth`, and a value of printable ASCII, space, tab, CR and LF.
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        let (name, value) = (name.into(), value.into());
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphabetic()) || name == "auth" {
            let name = name.escape_debug();
            return Err(Error::invalid(format!(
                "the SASL extension {name}: a name has letters only, and is not auth"
            )));
        }
        if self.extensions.iter().any(|(taken, _)| *taken == name) {
            return Err(Error::invalid(format!("the SASL extension {name} comes twice")));
        }
        let fits = |byte: u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
        if value.is_empty() || !value.bytes().all(fits) {
            return Err(Error::invalid(format!(
                "the SASL extension {name} is empty, or not printable ASCII"
            )));
        }
        self.extensions.push((name, value));
        Ok(self)
    }

    /// Says when it ends, by which whoever keeps tokens may go.
    #[must_use]
    pub fn expiring(mut self, at: SystemTime) -> Self {
        self.expires = Some(at);
        self
    }

    /// The token itself.
    pub fn value(&self) -> &Secret {
        &self.value
    }

    /// The extensions, in the order that they were added in.
    pub fn extensions(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.extensions.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// When it ends, if that is known.
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    /// The client's initial response (RFC 7628, section 3.1), its fields each ended by `\x01`.
    fn message(&self) -> Secret {
        let extensions: usize = self.extensions().map(|(name, value)| name.len() + value.len() + 2).sum();
        // Room for all of it, so that growing leaves no copy behind.
        let mut message = Zeroizing::new(Vec::with_capacity(self.value.expose().len() + extensions + 32));
        message.extend_from_slice(b"n,,\x01auth=Bearer ");
        message.extend_from_slice(self.value.expose());
        message.push(1);
        for (name, value) in self.extensions() {
            for part in [name, "=", value, "\x01"] {
                message.extend_from_slice(part.as_bytes());
            }
        }
        message.push(1);
        message.into()
    }

    /// A broker's words against the token, unless they repeat it.
    fn refusal(&self, words: &[u8]) -> String {
        if words.windows(self.value.expose().len()).any(|part| part == self.value.expose()) {
            return "in words that repeat it, and are not shown".to_owned();
        }
        quoted(words)
    }
}

/// A token that never changes: for short jobs and tests.
impl TokenProvider for Token {
    fn token<'a>(&'a self, _: &'a Peer) -> BoxFuture<'a, Result<Token>> {
        Box::pin(async { Ok(self.clone()) })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.extensions().map(|(name, _)| name).collect();
        f.debug_struct("Token")
            .field("extensions", &names)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::sasl::TOKEN_MAX;
    use crate::conn::sasl::tests::{peer, run};

    async fn session(token: &Token) -> Result<Box<dyn Session>> {
        OAuthBearer::new(token.clone()).begin(&peer()).await
    }

    #[test]
    fn the_token_is_said_with_its_extensions() {
        run(async {
            let token = Token::new("abc.DEF-123_~+/==").unwrap();
            let mut begun = session(&token).await.unwrap();
            let said = begun.respond(None).await.unwrap().unwrap();
            assert_eq!(said.expose(), b"n,,\x01auth=Bearer abc.DEF-123_~+/==\x01\x01");
            assert!(begun.respond(Some(b"")).await.unwrap().is_none());
            assert!(begun.respond(Some(b"")).await.unwrap_err().is_auth());

            let token =
                token.extension("logicalCluster", "lkc-1").unwrap().extension("traceId", "a b=c,d").unwrap();
            let said = session(&token).await.unwrap().respond(None).await.unwrap().unwrap();
            let expected =
                b"n,,\x01auth=Bearer abc.DEF-123_~+/==\x01logicalCluster=lkc-1\x01traceId=a b=c,d\x01\x01";
            assert_eq!(said.expose(), expected);
        });
    }

    #[test]
    fn b41_a_refusal_is_acknowledged_and_told() {
        run(async {
            let token = Token::new("abc").unwrap();
            let mut begun = session(&token).await.unwrap();
            begun.respond(None).await.unwrap();
            let answer =
                begun.respond(Some(b"{\"status\":\"invalid_token\"}\x1b[2J")).await.unwrap().unwrap();
            assert_eq!(answer.expose(), b"\x01");
            let error = begun.respond(Some(b"")).await.unwrap_err();
            assert!(error.is_auth() && !error.is_retriable(), "{error}");
            let text = error.to_string();
            assert!(text.contains(r#"{\"status\":\"invalid_token\"}\u{1b}[2J"#), "{text}");
        });
    }

    #[test]
    fn a_refusal_that_repeats_the_token_is_not_repeated() {
        run(async {
            let token = Token::new("swordfish").unwrap();
            let mut begun = session(&token).await.unwrap();
            begun.respond(None).await.unwrap();
            begun.respond(Some(b"{\"error\":\"bad Bearer swordfish\"}")).await.unwrap();
            let error = begun.respond(Some(b"")).await.unwrap_err();
            assert!(!format!("{error} {error:?}").contains("swordfish"), "{error}");
        });
    }

    #[test]
    fn a_refusal_without_end_is_cut_off() {
        run(async {
            let mut begun = session(&Token::new("abc").unwrap()).await.unwrap();
            begun.respond(None).await.unwrap();
            assert!(begun.respond(Some(&vec![b'x'; TOKEN_MAX + 1])).await.unwrap_err().is_limit());
        });
    }

    #[test]
    fn tokens_and_extensions_stay_in_their_fields() {
        for value in ["", "=", "a b", "a\x01auth=x", "a\n", "ä", "a=b"] {
            assert!(Token::new(value).unwrap_err().is_invalid(), "{value:?}");
        }
        assert!(Token::new("x".repeat(TOKEN_MAX + 1)).unwrap_err().is_limit());
        let token = || Token::new("abc").unwrap();
        for (name, value) in
            [("", "x"), ("auth", "x"), ("a1", "x"), ("a", ""), ("a", "x\x01b"), ("a", "ä"), ("a\x1b", "x")]
        {
            let error = token().extension(name, value).unwrap_err();
            assert!(error.is_invalid() && !error.to_string().contains('\x1b'), "{name:?} {value:?}: {error}");
        }
        assert!(token().extension("a", "x").unwrap().extension("a", "y").unwrap_err().is_invalid());
    }

    #[test]
    fn a_token_that_is_too_long_with_its_extensions_is_not_sent() {
        run(async {
            let token = Token::new("x".repeat(TOKEN_MAX - 10)).unwrap();
            assert!(session(&token).await.err().unwrap().is_limit());
        });
    }

    #[derive(Debug)]
    struct Fails;

    impl TokenProvider for Fails {
        fn token<'a>(&'a self, peer: &'a Peer) -> BoxFuture<'a, Result<Token>> {
            Box::pin(async move { Err(Error::authentication(format!("no token for {}", peer.host))) })
        }
    }

    #[test]
    fn the_error_of_a_provider_comes_through() {
        run(async {
            let error = OAuthBearer::new(Fails).begin(&peer()).await.err().unwrap();
            assert!(error.is_auth() && error.to_string().contains("no token for broker.example"), "{error}");
        });
    }
}
