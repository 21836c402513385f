//! Keys in every form that people have them in. The files are as OpenSSL 3 wrote them.

use pkcs8::der::Decode;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::Kdf;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use super::super::config::Tls;
use super::super::{keys, provider};
use super::pki::{Authority, Key, certificate_pem, request};
use crate::error::{Error, Result};
use crate::secret::Secret;

const SEC1: &str = include_str!("keys/ec-sec1.pem");
const PKCS8: &str = include_str!("keys/ec-pkcs8.pem");
const PBKDF2: &str = include_str!("keys/ec-pbkdf2.pem");
const DES3: &str = include_str!("keys/ec-des3.pem");
const SCRYPT: &str = include_str!("keys/ec-scrypt.pem");
const COSTLY: &str = include_str!("keys/ec-costly.pem");
const PBES1: &str = include_str!("keys/ec-pbes1.pem");
const OLD: &str = include_str!("keys/ec-old.pem");
const PKCS1: &str = include_str!("keys/rsa-pkcs1.pem");

/// The public half of the key in a text, as the provider reads it.
fn public(text: &str, password: Option<&str>) -> Result<Vec<u8>> {
    let key = keys::private_key(text.as_bytes(), password.map(Secret::from).as_ref())?;
    let signer = provider::of(&Tls::new())?.key_provider.load_private_key(key);
    let signer = signer.map_err(|error| Error::invalid(error.to_string()))?;
    Ok(signer.public_key().unwrap().to_vec())
}

#[test]
fn one_key_in_all_forms_is_one_key() {
    let plain = public(PKCS8, None).unwrap();
    assert_eq!(public(SEC1, None).unwrap(), plain);
    // A password that is not needed does no harm.
    assert_eq!(public(PKCS8, Some("swordfish")).unwrap(), plain);
    for encrypted in [PBKDF2, DES3, SCRYPT] {
        assert_eq!(public(encrypted, Some("swordfish")).unwrap(), plain);
    }
    assert!(public(PKCS1, None).unwrap().len() > 256);
}

#[test]
fn a_key_is_found_beside_its_certificate() {
    let key = Key::new(5);
    let leaf = Authority::new(1).issue(&request(&["client"]), &key);
    let both = format!("{}{PBKDF2}", certificate_pem(&leaf));
    assert_eq!(public(&both, Some("swordfish")).unwrap(), public(PKCS8, None).unwrap());
    assert_eq!(keys::certificates(both.as_bytes()).unwrap(), [leaf]);
}

#[test]
fn what_cannot_be_read_says_why_and_shows_nothing() {
    let cut = &PBKDF2.replace("MI", "MJ");
    for (text, password, why) in [
        ("", None, "no private key"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA", None, "no private key"),
        ("-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n", None, "no private key"),
        (PBKDF2, None, "no password"),
        (PBKDF2, Some("Swordfish"), "password is wrong"),
        (PBKDF2, Some(""), "password is wrong"),
        (cut, Some("swordfish"), "cannot be read"),
        (PBES1, Some("swordfish"), "version 1"),
        (OLD, Some("swordfish"), "openssl pkcs8 -topk8"),
        (COSTLY, Some("swordfish"), "more work or memory"),
    ] {
        let error = public(text, password).unwrap_err();
        assert!(error.to_string().contains(why), "{error:?}");
        assert!(!format!("{error:?}").to_lowercase().contains("swordfish"), "{error:?}");
    }
    assert!(keys::private_key(&[0xff, 0xfe], None).unwrap_err().is_invalid());
    assert!(keys::certificates(PKCS8.as_bytes()).unwrap_err().to_string().contains("no certificate"));
}

#[test]
fn the_work_that_a_key_asks_for_is_bounded() {
    let relabelled = SCRYPT.replace("ENCRYPTED ", "");
    let der = PrivatePkcs8KeyDer::from_pem_slice(relabelled.as_bytes()).unwrap();
    let info = pkcs8::EncryptedPrivateKeyInfoRef::from_der(der.secret_pkcs8_der()).unwrap();
    let cost = |cost_parameter, block_size, parallelization| {
        let EncryptionScheme::Pbes2(mut parameters) = info.encryption_algorithm.clone() else {
            panic!("PBES2")
        };
        let Kdf::Scrypt(scrypt) = &mut parameters.kdf else { panic!("scrypt") };
        (scrypt.cost_parameter, scrypt.block_size, scrypt.parallelization) =
            (cost_parameter, block_size, parallelization);
        keys::check_cost(&EncryptionScheme::Pbes2(parameters))
    };
    cost(16384, 8, 1).unwrap();
    for (n, r, p) in
        [(0, 8, 1), (16383, 8, 1), (1 << 40, 8, 1), (16384, u16::MAX, 1), (16384, 8, 99), (2, 1, 0)]
    {
        assert!(cost(n, r, p).unwrap_err().is_invalid(), "{n} {r} {p}");
    }
}
