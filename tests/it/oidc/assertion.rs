//! Assertions as a provider gets them: signatures verified by the crypto library, claims compared.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use weir::conn::sasl::oidc::{Algorithm, Assertion, Oidc, OidcBuilder, PrivateKey, SignedAssertion};

use super::ask;
use super::idp::{Idp, token};

// Made for these tests by `openssl genpkey`, and used nowhere else.
const RSA: &str = include_str!("rsa-key.pem");
const EC: &str = include_str!("ec-key.pem");

/// The fields of the form that one fetch sends.
async fn sent(build: impl FnOnce(String) -> OidcBuilder) -> weir::Result<Vec<(String, String)>> {
    let idp = Idp::start(vec![token("granted", 60)]).await;
    let oidc = build(idp.url()).danger_allow_plain_http().build()?;
    assert_eq!(ask(&oidc).await?, "granted");
    let asked = idp.asked();
    let (head, body) = asked[0].split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("authorization"), "{head}");
    Ok(form_urlencoded::parse(body.as_bytes()).into_owned().collect())
}

fn part(jwt: &str, at: usize) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(jwt.split('.').nth(at).unwrap()).unwrap()
}

/// Verifies with the public half of the key, as the provider would.
fn verified(jwt: &str, pem: &str, scheme: SignatureScheme) -> (Value, Value) {
    let provider = rustls::crypto::ring::default_provider();
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let public = key.public_key().unwrap();
    let (message, _) = jwt.rsplit_once('.').unwrap();
    let mut signature = part(jwt, 2);
    // The key itself is what follows its description, which is as long for all keys of these two kinds.
    let (skip, wanted) = if scheme == SignatureScheme::RSA_PKCS1_SHA256 { (24, 256) } else { (26, 64) };
    assert_eq!(signature.len(), wanted);
    if wanted == 64 {
        signature = der(&signature);
    }
    let mapping = provider.signature_verification_algorithms.mapping;
    let (_, algorithms) = mapping.iter().find(|(known, _)| *known == scheme).unwrap();
    let good = |message: &[u8]| {
        algorithms
            .iter()
            .any(|algorithm| algorithm.verify_signature(&public[skip..], message, &signature).is_ok())
    };
    assert!(good(message.as_bytes()), "the signature is good");
    assert!(!good(b"another message"), "and for this message alone");
    (serde_json::from_slice(&part(jwt, 0)).unwrap(), serde_json::from_slice(&part(jwt, 1)).unwrap())
}

/// Two numbers of 32 bytes as DER has them.
fn der(fixed: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let mut number = bytes[zeros..].to_vec();
        if number[0] >= 0x80 {
            number.insert(0, 0);
        }
        [&[2, number.len() as u8][..], &number].concat()
    };
    let both = [number(&fixed[..32]), number(&fixed[32..])].concat();
    [&[0x30, both.len() as u8][..], &both].concat()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn a_signed_assertion_is_exchanged() {
    let assertion = SignedAssertion::new(Algorithm::Rs256, PrivateKey::pem(RSA))
        .template(r#"{"header":{"kid":"k1","alg":"none"},"payload":{"sub":"template","groups":[1,2]}}"#)
        .unwrap()
        .issuer("billing")
        .subject("me")
        .audience("https://idp.example");
    let fields = sent(|url| Oidc::jwt_bearer(url, assertion).scope("s")).await.unwrap();
    assert_eq!(fields[0], ("grant_type".into(), "urn:ietf:params:oauth:grant-type:jwt-bearer".into()));
    assert_eq!(fields[2], ("scope".into(), "s".into()));
    assert_eq!((fields.len(), fields[1].0.as_str()), (3, "assertion"));
    let (header, claims) = verified(&fields[1].1, RSA, SignatureScheme::RSA_PKCS1_SHA256);
    assert_eq!(header, json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
    let issued = claims["iat"].as_u64().unwrap();
    assert!(issued <= now() && issued + 30 > now());
    assert_eq!(
        claims,
        json!({
            "iss": "billing", "sub": "me", "aud": "https://idp.example", "groups": [1, 2],
            "iat": issued, "exp": issued + 300, "nbf": issued - 60,
        })
    );
}

#[tokio::test]
async fn a_signed_assertion_stands_for_the_client() {
    let assertion = SignedAssertion::new(Algorithm::Es256, PrivateKey::pem(EC))
        .lifetime(Duration::from_secs(20))
        .not_before(Duration::ZERO)
        .with_id(true)
        .claim("sub", "me");
    let fields = sent(|url| Oidc::client_assertion(url, assertion).client_id("me")).await.unwrap();
    let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["grant_type", "client_id", "client_assertion_type", "client_assertion"]);
    assert_eq!(fields[0].1, "client_credentials");
    assert_eq!(fields[2].1, "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let (header, claims) = verified(&fields[3].1, EC, SignatureScheme::ECDSA_NISTP256_SHA256);
    assert_eq!(header, json!({"alg": "ES256", "typ": "JWT"}));
    assert_eq!(claims["exp"].as_u64(), claims["nbf"].as_u64().map(|nbf| nbf + 20));
    assert_eq!(claims["jti"].as_str().unwrap().len(), 32);
}

/// A folder of the test's own, gone when this is dropped.
pub(super) struct Folder(pub(super) std::path::PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("weir-oidc-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[tokio::test]
async fn files_are_read_for_each_request() {
    let folder = Folder::new("files");
    let file = folder.0.join("assertion");
    for jwt in ["a.b.c", "d.e.f"] {
        std::fs::write(&file, format!(" {jwt}\n")).unwrap();
        let fields = sent(|url| Oidc::jwt_bearer(url, Assertion::file(&file))).await.unwrap();
        assert_eq!(fields[1], ("assertion".into(), jwt.into()));
    }
    let (key, template) = (folder.0.join("key"), folder.0.join("template"));
    std::fs::write(&key, EC).unwrap();
    std::fs::write(&template, r#"{"payload":{"iss":"file"}}"#).unwrap();
    let assertion =
        || SignedAssertion::new(Algorithm::Es256, PrivateKey::file(&key)).template_file(&template);
    let fields = sent(|url| Oidc::jwt_bearer(url, assertion())).await.unwrap();
    let (_, claims) = verified(&fields[1].1, EC, SignatureScheme::ECDSA_NISTP256_SHA256);
    assert_eq!(claims["iss"], "file");

    for (at, content, says) in [
        (&template, r#"{"claims":{}}"#, "an assertion's template is"),
        (&template, "[]", "an assertion's template is"),
        (&file, "not a JWT, hush", "no JWT in the assertion file"),
        (&file, "", "no JWT in the assertion file"),
        (&file, &"x".repeat(70_000), "more than 65536 bytes"),
    ] {
        std::fs::write(at, content).unwrap();
        let made = if at == &file { Assertion::file(at) } else { assertion().into() };
        let error = sent(|url| Oidc::jwt_bearer(url, made)).await.unwrap_err();
        assert!(error.to_string().contains(says) && !error.to_string().contains("hush"), "{error}");
    }
    let error = sent(|url| Oidc::jwt_bearer(url, Assertion::file("no/such/file"))).await.unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("no/such/file"), "{error}");
}

#[tokio::test]
async fn keys_that_do_not_fit_are_told_and_not_shown() {
    for (algorithm, pem, says) in [
        (Algorithm::Es256, RSA, "none for ES256"),
        (Algorithm::Rs256, EC, "none for RS256"),
        (Algorithm::Rs256, "hush", "no private key in it"),
        (
            Algorithm::Rs256,
            "-----BEGIN PRIVATE KEY-----\naHVzaA==\n-----END PRIVATE KEY-----\n",
            "none for RS256",
        ),
    ] {
        let assertion = SignedAssertion::new(algorithm, PrivateKey::pem(pem));
        assert!(!format!("{assertion:?}").contains("hush"));
        let error = sent(|url| Oidc::jwt_bearer(url, assertion)).await.unwrap_err();
        assert!(error.is_invalid() && error.to_string().contains(says), "{error}");
        assert!(
            !format!("{error:?}").contains("hush") && !format!("{error:?}").contains("aHVzaA"),
            "{error:?}"
        );
    }
}
