//! A secret in every setting, and whole sessions with a real broker: what is printed of them shows none.
//!
//! Looked through are `Debug` of settings, clients and events, errors with their sources, and all that `tracing`
//! is told, on every thread of the runtime.

use std::fmt::{self, Write as _};
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tracing::field::{Field, Visit};
use tracing::span;
use weir::conn::sasl::gssapi::Gssapi;
use weir::conn::sasl::{OAuthBearer, Plain, Scram, Token};
use weir::net::tls::Pem;
use weir::net::{Config, Proxy};
use weir::protocol::create_delegation_token::CreateDelegationTokenRequest;
use weir::{Builder, Error};
use weir_kafka_harness::kdc;
use weir_kafka_harness::oidc::CLIENT_SECRET;
use weir_kafka_harness::{Identity, KEY_PASSWORD, Listener, Mechanism, PASSWORD, USER};

use super::own::unsigned;
use super::{Site, metadata, site, ways, who};
use crate::broker::VERSIONS;

const GUESS: &str = "a-guess-of-ours";
const PROXY_PASSWORD: &str = "weir-proxy-secret";

/// All that was printed.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<String>>);

impl Heard {
    fn add(&self, text: fmt::Arguments<'_>) {
        let _ = writeln!(self.0.lock().unwrap_or_else(PoisonError::into_inner), "{text}");
    }

    /// `Debug` as it is and laid out, where bytes would stand apart without the joining.
    fn debug(&self, value: &dyn fmt::Debug) {
        self.add(format_args!("{value:?}"));
        self.add(format_args!("{}", format!("{value:#?}").split_whitespace().collect::<Vec<_>>().join(" ")));
    }

    fn error(&self, error: &Error) {
        self.debug(error);
        self.add(format_args!("{error}"));
        let mut source = std::error::Error::source(error);
        while let Some(error) = source {
            self.debug(&error);
            self.add(format_args!("{error}"));
            source = error.source();
        }
    }

    /// A whole session: settings, client, events, and what became of it.
    async fn session(&self, builder: Builder) {
        let own = self.clone();
        let builder = builder.on_event(move |event| own.debug(event));
        self.debug(&builder);
        match builder.connect().await {
            Ok(client) => {
                for outcome in [metadata(&client).await, who(&client).await.map(drop)] {
                    outcome.unwrap_or_else(|error| self.error(&error));
                }
                self.debug(&client);
                client.close().await;
            }
            Err(error) => self.error(&error),
        }
    }
}

impl Visit for Heard {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(format_args!("{field}={value:?}"));
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

/// The forms in which a secret may be seen: text, bytes as Rust prints them, base64, hex.
fn forms(secret: &str) -> [String; 4] {
    let bytes = format!("{:?}", secret.as_bytes());
    let hex = secret.bytes().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    // The last characters of base64 depend on what follows.
    let base64 = STANDARD.encode(&secret.as_bytes()[..secret.len() / 3 * 3]);
    [secret.to_owned(), bytes.trim_matches(['[', ']']).to_owned(), base64, hex]
}

/// A proxy that takes one password, for `CONNECT` (RFC 9110): where it listens.
async fn http_proxy() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(carry(stream));
        }
    });
    port
}

async fn carry(mut client: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let wanted = STANDARD.encode(format!("{USER}:{PROXY_PASSWORD}"));
    if !head.contains(&wanted) {
        return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
    }
    let to = head.split(' ').nth(1).unwrap_or_default();
    let mut broker = TcpStream::connect(to).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut broker).await.map(drop)
}

/// Sessions that work, one for each way and each place of a secret.
async fn those_who_get_in(site: &Site, heard: &Heard) {
    for listener in ways().chain([Listener::mtls()]) {
        heard.session(site.builder(listener)).await;
    }
    let certificates = site.cluster.certificates().unwrap();
    let memory = |path| Pem::memory(fs::read(path).unwrap());
    let (chain, sealed) =
        (memory(certificates.certificate(Identity::Client)), memory(certificates.encrypted_client_key()));
    let tls = site.trust().identity(chain, sealed).key_password(KEY_PASSWORD);
    heard.session(site.nobody(Listener::mtls()).tls(tls)).await;
    let me = format!("{}@{}", kdc::CLIENT, kdc::REALM);
    let kerberos = Gssapi::password(me, kdc::CLIENT_PASSWORD).kdc(site.kdc.address().to_string());
    let kerberos = kerberos.build().unwrap();
    heard.session(site.nobody(Listener::sasl(Mechanism::Gssapi)).sasl(kerberos)).await;
    let port = http_proxy().await;
    for password in [PROXY_PASSWORD, GUESS] {
        let way = Proxy::http(format!("127.0.0.1:{port}").parse().unwrap()).credentials(USER, password);
        let listener = Listener::sasl(Mechanism::Plain).over_tls();
        let network = Config::new().proxy(way).tls(site.trust());
        heard
            .session(site.builder(listener).net(network).api_timeout(std::time::Duration::from_secs(3)))
            .await;
    }
}

/// Sessions that fail, each after its secret was used.
async fn those_who_stay_out(site: &Site, heard: &Heard, token: &str) {
    let way = |kind| Listener::sasl(kind).over_tls();
    for kind in [Mechanism::Plain, Mechanism::ScramSha512] {
        let clear = site.nobody(Listener::sasl(kind));
        heard.session(clear.sasl(Plain::new(USER, GUESS).unwrap())).await;
    }
    let builder = site.nobody(way(Mechanism::Plain));
    heard.session(builder.sasl(Plain::new(USER, GUESS).unwrap())).await;
    let builder = site.nobody(way(Mechanism::ScramSha256));
    heard.session(builder.sasl(Scram::sha256(USER, GUESS).unwrap())).await;
    let bearer = OAuthBearer::new(Token::new(token).unwrap().extension("trace", GUESS).unwrap());
    heard.session(site.nobody(way(Mechanism::OauthBearer)).sasl(bearer)).await;
    let kerberos = Gssapi::password(format!("{}@{}", kdc::CLIENT, kdc::REALM), GUESS);
    let kerberos = kerberos.kdc(site.kdc.address().to_string()).build().unwrap();
    heard.session(site.nobody(Listener::sasl(Mechanism::Gssapi)).sasl(kerberos)).await;
}

/// A delegation token in the answer to a request, and as a login. It gives the token's password.
async fn delegated(site: &Site, heard: &Heard) -> String {
    let listener = Listener::sasl(Mechanism::ScramSha512).over_tls();
    let client = site.builder(listener).connect().await.unwrap();
    let made = client.request(CreateDelegationTokenRequest::default()).await.unwrap();
    heard.debug(&made);
    let password = STANDARD.encode(&made.hmac);
    let login = Scram::sha512(made.token_id.to_string(), password.as_str()).unwrap().delegation_token();
    heard.session(site.nobody(listener).sasl(login)).await;
    client.close().await;
    password
}

#[test]
fn no_session_with_a_broker_shows_a_secret() {
    let Some(site) = site(VERSIONS[0]) else { return };
    let heard = Heard::default();
    let here = tracing::Dispatch::new(heard.clone());
    let there = here.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        // Where secrets are turned into keys, files read and tokens signed is a thread for what blocks.
        .on_thread_start(move || std::mem::forget(tracing::dispatcher::set_default(&there)))
        .build()
        .unwrap();
    let token = unsigned("mallory");
    let hmac = tracing::dispatcher::with_default(&here, || {
        runtime.block_on(async {
            those_who_get_in(site, &heard).await;
            those_who_stay_out(site, &heard, &token).await;
            delegated(site, &heard).await
        })
    });
    drop(runtime);
    let heard = heard.0.lock().unwrap();
    let key = fs::read_to_string(site.cluster.certificates().unwrap().encrypted_client_key()).unwrap();
    let key = key.lines().nth(1).unwrap();
    for (what, secret) in [
        ("a password", PASSWORD),
        ("a wrong password", GUESS),
        ("a key's password", KEY_PASSWORD),
        ("a key", key),
        ("a client's secret", CLIENT_SECRET),
        ("a password for Kerberos", kdc::CLIENT_PASSWORD),
        ("a proxy's password", PROXY_PASSWORD),
        ("a token", &token),
        ("a delegation token", &hmac),
    ] {
        for form in forms(secret) {
            assert!(!heard.contains(&form), "{what} is shown as {form}");
        }
    }
    // Something was heard, of those who got in and of those who did not.
    for said in ["Authenticated {", "SASL_AUTHENTICATION_FAILED", "invalid_token", "authenticated", "407"] {
        assert!(heard.contains(said), "nothing was heard of {said}");
    }
    assert!(heard.matches("Authenticated {").count() >= 14, "{}", heard.len());
}

#[test]
fn what_is_looked_for_would_be_found() {
    for shown in [
        format!("{:?}", bytes::Bytes::from(format!("\0x\0{PASSWORD}"))),
        format!("{:?}", [b"x", PASSWORD.as_bytes(), b"y"].concat()),
        format!("Basic {}", STANDARD.encode(format!("abc{PASSWORD}"))),
        forms(PASSWORD)[3].clone(),
    ] {
        assert!(forms(PASSWORD).iter().any(|form| shown.contains(form)), "{shown}");
    }
}
