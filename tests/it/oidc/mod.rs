//! Tokens from an identity provider: over real sockets, against a provider that behaves well and badly.

use std::time::{Duration, Instant};

use weir::conn::sasl::oidc::{Oidc, OidcBuilder};
use weir::conn::sasl::{Peer, TokenProvider as _};

use self::idp::{Answer, Idp, http, token};

/// Assertions that are signed here.
mod assertion;
/// The provider behind TLS.
mod https;
/// The provider.
mod idp;

const SECRET: &str = "s3cr3t-of-ours";

fn builder(idp: &Idp) -> OidcBuilder {
    Oidc::client_credentials(idp.url(), "billing", SECRET).danger_allow_plain_http()
}

/// The token as text, or the error as text.
async fn ask(oidc: &Oidc) -> Result<String, weir::Error> {
    let peer = Peer { host: "broker".into(), port: 9092, encrypted: true };
    let token = oidc.token(&peer).await?;
    Ok(String::from_utf8(token.value().expose().to_vec()).unwrap())
}

/// One try at this answer fails so, and nothing of it shows a secret.
async fn fails(answer: Answer, says: &str) -> weir::Error {
    let idp = Idp::start(vec![answer]).await;
    let oidc = builder(&idp).tries_max(1).timeout(Duration::from_secs(3)).build().unwrap();
    let began = Instant::now();
    let error = ask(&oidc).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(8), "{error} after {:?}", began.elapsed());
    let mut shown = format!("{error} {error:?} {oidc:?}");
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        shown = format!("{shown} {inner} {inner:?}");
        source = inner.source();
    }
    assert!(error.to_string().contains(says), "{error:?} should say {says}");
    assert!(!shown.contains(SECRET) && !shown.contains("YmlsbGluZzpz"), "{shown}");
    assert_eq!(idp.asked().len(), 1, "{error}");
    error
}

#[tokio::test]
async fn one_request_gives_a_token_to_all() {
    let idp = Idp::start(vec![token("first", 3600), token("second", 3600)]).await;
    let oidc = builder(&idp)
        .scope("kafka read")
        .parameter("audience", "x")
        .extension("tenant", "7")
        .build()
        .unwrap();
    assert_eq!(ask(&oidc).await.unwrap(), "first");
    assert_eq!(ask(&oidc.clone()).await.unwrap(), "first");
    let asked = idp.asked();
    assert_eq!(asked.len(), 1);
    let (head, body) = asked[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /token?p=x HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: 127.0.0.1:{}", idp.port)), "{head}");
    assert!(head.contains("content-type: application/x-www-form-urlencoded"), "{head}");
    // `printf billing:s3cr3t-of-ours | base64`
    assert!(head.contains("authorization: Basic YmlsbGluZzpzM2NyM3Qtb2Ytb3Vycw=="), "{head}");
    assert_eq!(body, "grant_type=client_credentials&scope=kafka+read&audience=x");
    let peer = Peer { host: "broker".into(), port: 9092, encrypted: true };
    let token = oidc.token(&peer).await.unwrap();
    assert_eq!(token.extensions().collect::<Vec<_>>(), [("tenant", "7")]);
    assert!(token.expires().is_some());
    assert!(!format!("{:?}", builder(&idp)).contains(SECRET));
}

#[tokio::test]
async fn a_fetch_is_shared_and_outlives_who_began_it() {
    let good = http("200 OK", r#"{"access_token":"shared","expires_in":60}"#);
    let idp = Idp::start(vec![Answer::Late(Duration::from_millis(200), good)]).await;
    let oidc = builder(&idp).build().unwrap();
    let first = tokio::time::timeout(Duration::from_millis(20), ask(&oidc)).await;
    assert!(first.is_err(), "the first gives up");
    let others: Vec<_> = (0..50)
        .map(|_| {
            let oidc = oidc.clone();
            tokio::spawn(async move { ask(&oidc).await })
        })
        .collect();
    for other in others {
        assert_eq!(other.await.unwrap().unwrap(), "shared");
    }
    assert_eq!(idp.asked().len(), 1);
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_and_kept_if_that_fails() {
    let refused = Answer::Bytes(http("401 Unauthorized", r#"{"error":"invalid_client"}"#));
    let idp = Idp::start(vec![token("old", 3), refused]).await;
    let oidc = builder(&idp).build().unwrap();
    assert_eq!(ask(&oidc).await.unwrap(), "old");
    // Half of its life is over: the provider is asked anew, and says no.
    tokio::time::sleep(Duration::from_millis(1600)).await;
    for _ in 0..5 {
        assert_eq!(ask(&oidc).await.unwrap(), "old");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(idp.asked().len(), 2);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(ask(&oidc).await.unwrap_err().is_auth());
    assert_eq!(idp.asked().len(), 3);
}

#[tokio::test]
async fn a_provider_out_of_order_is_asked_again_and_one_that_refuses_is_not() {
    let busy = Answer::Bytes(http("503 Service Unavailable", "<html>"));
    let idp = Idp::start(vec![busy.clone(), Answer::Hangup, token("third", 60)]).await;
    assert_eq!(ask(&builder(&idp).build().unwrap()).await.unwrap(), "third");
    assert_eq!(idp.asked().len(), 3);

    let idp = Idp::start(vec![busy]).await;
    let error = ask(&builder(&idp).tries_max(2).build().unwrap()).await.unwrap_err();
    assert!(error.is_retriable() && error.to_string().contains("answers 503"), "{error}");
    assert_eq!(idp.asked().len(), 2);

    let idp = Idp::start(vec![Answer::Bytes(http("401 Unauthorized", r#"{"error":"no"}"#))]).await;
    let oidc = builder(&idp).build().unwrap();
    for _ in 0..20 {
        assert!(ask(&oidc).await.unwrap_err().is_auth());
    }
    assert_eq!(idp.asked().len(), 1, "a refusal answers for a second");
}

#[tokio::test]
async fn b41_redirects_are_not_followed() {
    let target = Idp::start(vec![token("stolen", 60)]).await;
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", target.url());
    let error = fails(Answer::Bytes(redirect), "redirects are not followed").await;
    assert!(error.is_auth() && !error.is_retriable());
    assert!(target.asked().is_empty());
}

#[tokio::test]
async fn b41_hostile_answers_are_bounded() {
    let head = "HTTP/1.1 200 OK\r\n";
    let filler = "x".repeat(64 * 1024);
    let gigabyte = format!("{head}Content-Length: 1073741824\r\n\r\n");
    fails(Answer::Endless(gigabyte, filler.clone()), "more than 1048576 bytes").await;
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    fails(Answer::Endless(chunked, format!("10000\r\n{filler}\r\n")), "more than 1048576 bytes").await;
    fails(Answer::Endless(head.to_owned(), format!("X: {filler}\r\n")), "no HTTP").await;
    fails(Answer::Endless(format!("{head}X: "), filler), "no HTTP").await;
    let error = fails(Answer::Drip, "did not answer within 3s").await;
    assert!(error.is_timeout() && error.is_retriable());
}

#[tokio::test]
async fn answers_that_are_none_are_told() {
    let html = format!("<html>{SECRET}</html>");
    fails(Answer::Bytes(http("200 OK", &html)), "no JSON object").await;
    let words = format!(r#"{{"error":"bad","error_description":"{SECRET} is wrong"}}"#);
    fails(Answer::Bytes(http("400 Bad Request", &words)), "words that hold a secret of ours").await;
    let echo = r#"{"error":"Basic YmlsbGluZzpzM2NyM3Qtb2Ytb3Vycw== was sent"}"#;
    fails(Answer::Bytes(http("400 Bad Request", echo)), "words that hold a secret of ours").await;
    fails(Answer::Bytes("SSH-2.0-OpenSSH_9.2\r\n".to_owned()), "no HTTP").await;
    fails(Answer::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{".to_owned()), "broke").await;
    let error = fails(Answer::Hangup, "broke").await;
    assert!(error.is_io() && error.is_retriable());
}

#[tokio::test]
async fn nobody_there_is_an_error_that_may_pass() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let oidc =
        Oidc::client_credentials(url, "a", "b").danger_allow_plain_http().tries_max(1).build().unwrap();
    let error = ask(&oidc).await.unwrap_err();
    assert!(error.is_io() && error.is_retriable(), "{error}");
}

#[test]
fn settings_are_checked_when_it_is_built() {
    let url = "https://login.example.com/token";
    let fine = || Oidc::client_credentials(url, "a", "b");
    assert!(fine().build().is_ok());
    for wrong in [
        Oidc::client_credentials("http://login.example.com/token", "a", "b"),
        Oidc::client_credentials("file:///etc/passwd", "a", "b"),
        fine().allowed_hosts(["example.com"]),
        fine().parameter("grant_type", "password"),
        fine().parameter("", "x"),
        fine().extension("auth", "x"),
        fine().extension("two", "x").extension("two", "y"),
    ] {
        let shown = format!("{wrong:?}");
        let error = wrong.build().unwrap_err();
        assert!(error.is_invalid(), "{error} of {shown}");
    }
}
