//! Amazon MSK: showing a broker that we hold credentials of AWS, by a presigned request that only they could sign.
//!
//! The same signature goes two ways: as JSON in MSK's own mechanism ([`MskIam`]), and as a URL in a token for
//! OAUTHBEARER ([`MskToken`]). Both ask an [`AwsCredentialsProvider`] for each authentication and sign at
//! once, here, with no call to AWS. The broker refuses a signature that is more than 15 minutes old, so the
//! machine's clock must be about right.

mod sigv4;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::conn::sasl::{
    Mechanism, Peer, Session, Token, TokenProvider, check_token_len, out_of_turn, quoted,
};
use crate::net::{BoxFuture, clock};
use crate::{Error, Result, Secret};
use sigv4::{ALGORITHM, Request, Signed, encoded, sign};

const SERVICE: &str = "kafka-cluster";
const ACTION: &str = "kafka-cluster:Connect";
const EXPIRES: Duration = Duration::from_mins(15);
const USER_AGENT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"));

/// Credentials of AWS: the id of an access key, its secret, and for those that end, a session token.
///
/// They are their own [`AwsCredentialsProvider`], which is right as long as they are good. `Debug` shows the
/// id alone.
#[derive(Clone)]
pub struct AwsCredentials {
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Option<Secret>,
}

impl AwsCredentials {
    /// Credentials that do not end. Both parts are printable ASCII.
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<Secret>) -> Result<Self> {
        let (access_key_id, secret_access_key) = (access_key_id.into(), secret_access_key.into());
        check_part("an AWS access key id", access_key_id.as_bytes())?;
        check_part("an AWS secret access key", secret_access_key.expose())?;
        Ok(Self { access_key_id, secret_access_key, session_token: None })
    }

    /// Adds the token of a session, as credentials of a role have it.
    pub fn session_token(mut self, token: impl Into<Secret>) -> Result<Self> {
        let token = token.into();
        check_part("an AWS session token", token.expose())?;
        self.session_token = Some(token);
        Ok(self)
    }

    /// Those in `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, unless it is empty or not there,
    /// `AWS_SESSION_TOKEN`.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let given = |name| variable(name).filter(|value| !value.is_empty());
        let wanted = |name| {
            given(name).ok_or_else(|| {
                Error::invalid(format!("no credentials of AWS: {name} is not in the environment"))
            })
        };
        let credentials = Self::new(wanted("AWS_ACCESS_KEY_ID")?, wanted("AWS_SECRET_ACCESS_KEY")?)?;
        match given("AWS_SESSION_TOKEN") {
            Some(token) => credentials.session_token(token),
            None => Ok(credentials),
        }
    }

    fn session_token_str(&self) -> Option<&str> {
        self.session_token.as_ref().and_then(|token| std::str::from_utf8(token.expose()).ok())
    }
}

/// Nothing that would need escaping in JSON, a header or a scope.
fn check_part(what: &str, value: &[u8]) -> Result<()> {
    if value.is_empty() || !value.iter().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(byte)) {
        return Err(Error::invalid(format!("{what} that is empty, or has characters that it cannot have")));
    }
    check_token_len("our", value.len())
}

impl fmt::Debug for AwsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsCredentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// Gives the credentials for each authentication. Implement it over whatever renews yours, such as AWS's own
/// libraries. Its `Debug` must not show secrets.
pub trait AwsCredentialsProvider: fmt::Debug + Send + Sync + 'static {
    /// Credentials that are good now. The connection's setup timeout bounds it, and dropping the future must be
    /// safe. An error ends the attempt to connect; a retriable one is tried again.
    fn credentials(&self) -> BoxFuture<'_, Result<AwsCredentials>>;
}

impl AwsCredentialsProvider for AwsCredentials {
    fn credentials(&self) -> BoxFuture<'_, Result<AwsCredentials>> {
        Box::pin(async { Ok(self.clone()) })
    }
}

/// Who signs, and for which region.
#[derive(Debug, Clone)]
struct Signer {
    credentials: Arc<dyn AwsCredentialsProvider>,
    region: Option<String>,
}

impl Signer {
    fn new(credentials: impl AwsCredentialsProvider) -> Self {
        Self { credentials: Arc::new(credentials), region: None }
    }

    fn set_region(&mut self, region: String) -> Result<()> {
        if region.is_empty() || !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(Error::invalid(format!("no region of AWS: {}", quoted(region.as_bytes()))));
        }
        self.region = Some(region);
        Ok(())
    }

    fn region<'a>(&'a self, host: &'a str) -> Result<&'a str> {
        self.region.as_deref().or_else(|| region_of(host)).ok_or_else(|| {
            let host = quoted(host.as_bytes());
            Error::invalid(format!("the host {host} does not tell its AWS region, and none was given"))
        })
    }
}

/// The host of a peer as it is signed: as the broker knows itself.
fn host_of(peer: &Peer) -> Result<String> {
    let host = peer.host.strip_suffix('.').unwrap_or(&peer.host).to_ascii_lowercase();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if host.is_empty() || !host.bytes().all(fits) {
        let host = quoted(peer.host.as_bytes());
        return Err(Error::invalid(format!("the host {host} has characters that cannot be signed")));
    }
    Ok(host)
}

/// The region in `b-1.name.id.c2.kafka.REGION.amazonaws.com`, or `kafka-serverless` in its place.
fn region_of(host: &str) -> Option<&str> {
    let head = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let (head, region) = head.rsplit_once('.')?;
    let service = head.rsplit('.').next()?;
    (service == "kafka" || service == "kafka-serverless")
        .then_some(region)
        .filter(|region| !region.is_empty())
}

/// Amazon MSK's own mechanism, `AWS_MSK_IAM`, by which a broker knows who we are in AWS and what we may do.
///
/// What is sent would let a listener connect in our place for 15 minutes, so it is for encrypted connections,
/// and refused on others unless the client was told that it may.
///
/// ```no_run
/// use weir::conn::sasl::{AwsCredentials, MskIam};
///
/// let mechanism = MskIam::new(AwsCredentials::from_env()?);
/// # Ok::<(), weir::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MskIam(Signer);

impl MskIam {
    /// With the credentials of that provider, and the region that is part of the broker's host name.
    pub fn new(credentials: impl AwsCredentialsProvider) -> Self {
        Self(Signer::new(credentials))
    }

    /// The region, such as `eu-west-1`, for brokers whose host name is not one of AWS's.
    pub fn region(mut self, region: impl Into<String>) -> Result<Self> {
        self.0.set_region(region.into())?;
        Ok(self)
    }

    /// The JSON for that broker at that time. Nothing in it needs escaping, as each part was checked.
    fn payload(&self, peer: &Peer, credentials: &AwsCredentials, at: SystemTime) -> Result<Secret> {
        let host = &*host_of(peer)?;
        let query = &[("Action", ACTION)];
        let request =
            Request { host, region: self.0.region(host)?, service: SERVICE, at, expires: EXPIRES, query };
        let Signed { date, credential, signature, .. } = sign(&request, credentials)?;
        let token = credentials.session_token_str();
        let token = Zeroizing::new(
            token.map(|token| format!(r#""x-amz-security-token":"{token}","#)).unwrap_or_default(),
        );
        let expires = EXPIRES.as_secs();
        let payload = format!(
            r#"{{"version":"2020_10_22","host":"{host}","user-agent":"{USER_AGENT}","action":"{ACTION}","#
        ) + &format!(
            r#""x-amz-algorithm":"{ALGORITHM}","x-amz-credential":"{credential}","x-amz-date":"{date}","#
        );
        let end = format!(
            r#""x-amz-signedheaders":"host","x-amz-expires":"{expires}","x-amz-signature":"{signature}"}}"#
        );
        let payload = Zeroizing::new([payload.as_bytes(), token.as_bytes(), end.as_bytes()].concat());
        check_token_len("our", payload.len())?;
        Ok(payload.into())
    }
}

impl Mechanism for MskIam {
    fn name(&self) -> &'static str {
        "AWS_MSK_IAM"
    }

    fn wants_encryption(&self) -> bool {
        true
    }

    fn begin<'a>(&'a self, peer: &'a Peer) -> BoxFuture<'a, Result<Box<dyn Session>>> {
        Box::pin(async move {
            let credentials = self.0.credentials.credentials().await?;
            let payload = self.payload(peer, &credentials, clock::time_of_day())?;
            Ok(Box::new(MskSession::Begun(payload)) as _)
        })
    }
}

/// One message, which the broker answers with JSON when it takes it.
enum MskSession {
    Begun(Secret),
    Sent,
    Over,
}

impl MskSession {
    fn step(&mut self, challenge: Option<&[u8]>) -> Result<Option<Secret>> {
        match (std::mem::replace(self, Self::Over), challenge) {
            (Self::Begun(payload), None) => {
                *self = Self::Sent;
                Ok(Some(payload))
            }
            (Self::Sent, Some([])) => Err(Error::auth("the broker gave AWS_MSK_IAM an empty answer")),
            (Self::Sent, Some(answer)) => check_token_len("the broker's", answer.len()).map(|()| None),
            _ => Err(out_of_turn("AWS_MSK_IAM")),
        }
    }
}

impl Session for MskSession {
    fn respond<'a>(&'a mut self, challenge: Option<&'a [u8]>) -> BoxFuture<'a, Result<Option<Secret>>> {
        let answer = self.step(challenge);
        Box::pin(async { answer })
    }
}

/// Tokens for Amazon MSK, to be used with [`OAuthBearer`](super::OAuthBearer).
///
/// ```no_run
/// use weir::conn::sasl::{AwsCredentials, MskToken, OAuthBearer};
///
/// let mechanism = OAuthBearer::new(MskToken::new(AwsCredentials::from_env()?));
/// # Ok::<(), weir::Error>(())
/// ```
#[derive(Clone)]
pub struct MskToken(Signer);

impl MskToken {
    /// With the credentials of that provider, and the region that is part of the broker's host name.
    pub fn new(credentials: impl AwsCredentialsProvider) -> Self {
        Self(Signer::new(credentials))
    }

    /// The region, such as `eu-west-1`, for brokers whose host name is not one of AWS's.
    pub fn region(mut self, region: impl Into<String>) -> Result<Self> {
        self.0.set_region(region.into())?;
        Ok(self)
    }

    /// A URL of the region's endpoint, presigned, in base64.
    fn sign(&self, peer: &Peer, credentials: &AwsCredentials, at: SystemTime) -> Result<Token> {
        let broker = host_of(peer)?;
        let region = self.0.region(&broker)?;
        let host = &*format!("kafka.{region}.amazonaws.com");
        let query = &[("Action", ACTION)];
        let Signed { query, signature, .. } =
            sign(&Request { host, region, service: SERVICE, at, expires: EXPIRES, query }, credentials)?;
        let agent = encoded(USER_AGENT);
        let url = Zeroizing::new(format!(
            "https://{host}/?{}&X-Amz-Signature={signature}&User-Agent={agent}",
            *query
        ));
        Ok(Token::new(URL_SAFE_NO_PAD.encode(url.as_bytes()))?.expiring(at + EXPIRES))
    }
}

impl fmt::Debug for MskToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MskToken").field(&self.0).finish()
    }
}

impl TokenProvider for MskToken {
    fn token<'a>(&'a self, peer: &'a Peer) -> BoxFuture<'a, Result<Token>> {
        Box::pin(async move {
            let credentials = self.0.credentials.credentials().await?;
            self.sign(peer, &credentials, clock::time_of_day())
        })
    }
}

#[cfg(test)]
mod tests;
