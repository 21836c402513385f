//! TLS and SASL with real brokers as the judges: they let in whom they should, and say whom they see.
//!
//! [`Site`] is one broker of a version with every way in that it has, started once and shared by the tests that
//! look at it from different sides. Whom a broker takes a client for is what it writes into a delegation token.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use weir::conn::sasl::gssapi::Gssapi;
use weir::conn::sasl::oidc::Oidc;
use weir::conn::sasl::{OAuthBearer, Plain, Scram};
use weir::net::Config;
use weir::net::tls::{Pem, Tls};
use weir::protocol::create_delegation_token::CreateDelegationTokenRequest;
use weir::protocol::metadata::MetadataRequest;
use weir::{Builder, Client, Error, ErrorCode, Result};
use weir_kafka_harness::kdc::{self, Kdc};
use weir_kafka_harness::oidc::{CLIENT_ID, CLIENT_SECRET, Issuer};
use weir_kafka_harness::{
    Builder as ClusterBuilder, Cluster, Identity, Listener, Mechanism, PASSWORD, Transport, USER, skip,
    unless_skipped,
};

use crate::broker::VERSIONS;

/// Tokens of an identity provider.
mod bearer;
/// Delegation tokens.
mod delegation;
/// Brokers from before tokens travelled in requests.
mod old;
/// Mechanisms and providers of a user's own.
mod own;
/// A secret in every setting, looked for in all that is printed.
mod planted;
/// Authenticating again while requests are under way.
mod renewal;
/// Certificates that are replaced while requests are under way.
mod rotation;
/// Certificates and versions of TLS, good and bad.
mod tls;
/// Every way in, and who must stay out.
mod ways;

/// How long a session lasts at the newest version's broker. At the other it has no end.
const SESSION: Duration = Duration::from_secs(5);

const MECHANISMS: [Mechanism; 5] = Mechanism::ALL;

/// A broker with every way in. Tokens over TLS are those of the issuer, others are unsigned.
pub(crate) struct Site {
    version: String,
    cluster: Cluster,
    issuer: Issuer,
    kdc: Kdc,
}

/// The site of this version that all tests share. `None` is a skip, already printed.
fn site(version: &str) -> Option<&'static Site> {
    static ALL: Mutex<BTreeMap<String, &'static OnceLock<Option<Site>>>> = Mutex::new(BTreeMap::new());
    let slot = *ALL
        .lock()
        .expect("nothing in this lock panics")
        .entry(version.to_owned())
        .or_insert_with(|| Box::leak(Box::default()));
    let site = slot.get_or_init(|| Site::start(version)).as_ref();
    if site.is_none() {
        skip(&format!("security with {version}"), "its broker is not here");
    }
    site
}

/// The sites of both versions, as far as they can be had.
fn sites() -> impl Iterator<Item = &'static Site> {
    VERSIONS.into_iter().filter_map(site)
}

impl Site {
    fn start(version: &str) -> Option<Self> {
        let kdc = unless_skipped("a KDC", Kdc::start())?;
        let issuer = unless_skipped("an issuer", Issuer::start())?;
        let mut builder = Cluster::builder(version)
            .issuer(&issuer)
            .kdc(&kdc)
            .property("delegation.token.secret.key", "known-to-brokers-alone")
            .property(
                "listener.name.plaintext_oauthbearer.oauthbearer.sasl.server.callback.handler.class",
                "org.apache.kafka.common.security.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler",
            );
        if version == VERSIONS[0] {
            builder = builder.property("connections.max.reauth.ms", SESSION.as_millis().to_string());
        }
        let listeners = [Listener::tls(), Listener::mtls()].into_iter().chain(ways());
        builder = listeners.fold(builder, ClusterBuilder::listener);
        let cluster = unless_skipped(&format!("secured {version}"), builder.start())?;
        Some(Self { version: version.to_owned(), cluster, issuer, kdc })
    }

    /// Settings for a listener: its address, and TLS if it has that, but nobody's name.
    fn nobody(&self, listener: Listener) -> Builder {
        let builder = Client::builder(&self.cluster.bootstrap_text(listener));
        let builder = builder.api_timeout(Duration::from_secs(20));
        if listener.transport() == Transport::Plain { builder } else { builder.tls(self.trust()) }
    }

    /// Trust in the broker's certificates.
    fn trust(&self) -> Tls {
        let certificates = self.cluster.certificates().expect("a listener has TLS");
        Tls::new().roots(Pem::file(certificates.authority()))
    }

    /// The same, with a certificate of our own.
    fn identity(&self, whose: Identity) -> Tls {
        let certificates = self.cluster.certificates().expect("a listener has TLS");
        let (chain, key) = (certificates.certificate(whose), certificates.key(whose));
        self.trust().identity(Pem::file(chain), Pem::file(key))
    }

    /// Settings that let in by a listener: whoever asks is that listener's [`user`].
    fn builder(&self, listener: Listener) -> Builder {
        let builder = self.nobody(listener);
        let Some(mechanism) = listener.mechanism() else {
            return builder.tls(self.identity(Identity::Client));
        };
        let encrypted = listener.transport() != Transport::Plain;
        let builder = if encrypted { builder } else { builder.allow_sasl_without_tls() };
        match mechanism {
            Mechanism::Plain => builder.sasl(Plain::new(USER, PASSWORD).unwrap()),
            Mechanism::ScramSha256 => builder.sasl(Scram::sha256(USER, PASSWORD).unwrap()),
            Mechanism::ScramSha512 => builder.sasl(Scram::sha512(USER, PASSWORD).unwrap()),
            Mechanism::OauthBearer if encrypted => builder.sasl(OAuthBearer::new(self.oidc())),
            Mechanism::OauthBearer => builder.sasl(OAuthBearer::new(own::Unsigned::default())),
            Mechanism::Gssapi => builder.sasl(self.kerberos()),
        }
    }

    fn kerberos(&self) -> Gssapi {
        let me = format!("{}@{}", kdc::CLIENT, kdc::REALM);
        Gssapi::keytab(me, self.kdc.client_keytab()).krb5_conf(self.kdc.config()).build().unwrap()
    }

    fn oidc(&self) -> Oidc {
        let url = self.issuer.token_url(true);
        // The broker's validator refuses a token without a scope.
        let builder = Oidc::client_credentials(url, CLIENT_ID, CLIENT_SECRET).scope("weir");
        builder.network(self.to_issuer()).build().unwrap()
    }

    fn to_issuer(&self) -> Config {
        Config::new().tls(Tls::new().roots(Pem::file(self.issuer.certificates().authority())))
    }

    /// Connects with these settings, and gives the name that the broker knows us by.
    async fn sees(&self, builder: Builder) -> Result<String> {
        let client = builder.connect().await?;
        let name = who(&client).await;
        client.close().await;
        name
    }
}

/// Every mechanism over TCP as it is and over TLS.
fn ways() -> impl Iterator<Item = Listener> {
    MECHANISMS.into_iter().map(Listener::sasl).flat_map(|listener| [listener, listener.over_tls()])
}

/// Whose settings [`Site::builder`] gives.
fn user(listener: Listener) -> &'static str {
    match (listener.mechanism(), listener.transport()) {
        (None, _) => "CN=weir-client",
        (Some(Mechanism::OauthBearer), Transport::Plain) => own::ROBOT,
        (Some(Mechanism::OauthBearer), _) => CLIENT_ID,
        (Some(Mechanism::Gssapi), _) => kdc::CLIENT,
        (Some(_), _) => USER,
    }
}

/// The name that the broker knows a client by: whose the delegation token is that it makes.
async fn who(client: &Client) -> Result<String> {
    let request = CreateDelegationTokenRequest { max_lifetime_ms: 60_000, ..Default::default() };
    let made = client.request(request).await?;
    match ErrorCode(made.error_code) {
        ErrorCode::NONE => Ok(made.principal_name.to_string()),
        code => Err(Error::authentication(code.to_string())),
    }
}

/// A request that only who is let in gets an answer to.
async fn metadata(client: &Client) -> Result<()> {
    let cluster = client.request(MetadataRequest::default()).await?;
    assert_eq!(cluster.brokers.len(), 1);
    Ok(())
}

/// Stays out for good, for one of these reasons: an authentication that failed, and nothing to be tried again.
async fn stays_out(what: &str, builder: Builder, why: &[&str]) -> Error {
    let error = builder.connect().await.map(|_| ()).expect_err(what);
    let said = error.to_string();
    assert!(why.iter().any(|why| said.contains(why)), "{what}: {said}");
    assert!(error.is_auth() && !error.is_retriable(), "{what}: {said}");
    error
}
