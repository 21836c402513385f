//! Certificates and keys out of their text.

use pkcs8::der::Decode;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::Kdf;
use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::error::{Error, Result};
use crate::secret::Secret;

/// Rounds of hashing that an encrypted key may ask for; OpenSSL writes 2048, careful people some millions.
const ITERATIONS_MAX: u32 = 10_000_000;
/// Memory that an encrypted key may ask for when it uses scrypt; OpenSSL writes 16 MiB.
const SCRYPT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Times that scrypt may be run over that memory.
const SCRYPT_PARALLEL_MAX: u16 = 16;

const ENCRYPTED_BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const ENCRYPTED_END: &str = "-----END ENCRYPTED PRIVATE KEY-----";

/// All certificates in a text, in their order; at least one. Other things in it are passed over.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(Error::invalid("there is no certificate in it")),
        Ok(found) => Ok(found),
        Err(error) => Err(Error::invalid(format!("a certificate cannot be read: {error}"))),
    }
}

/// The first key in a text, decrypted if it is encrypted. Other things in it are passed over.
pub(crate) fn private_key(text: &[u8], password: Option<&Secret>) -> Result<PrivateKeyDer<'static>> {
    let words = str::from_utf8(text).map_err(|_| Error::invalid("it is not text in PEM form"))?;
    if words.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(Error::invalid(
            "the key is encrypted in OpenSSL's old way, whose protection is weak: \
             'openssl pkcs8 -topk8' makes a PKCS#8 key of it",
        ));
    }
    let encrypted = words.split_once(ENCRYPTED_BEGIN).and_then(|(_, rest)| rest.split_once(ENCRYPTED_END));
    match (encrypted, password) {
        (Some((body, _)), Some(password)) => decrypt(body, password),
        (Some(_), None) => Err(Error::invalid("the key is encrypted, and no password is set")),
        (None, _) => PrivateKeyDer::from_pem_slice(text).map_err(|error| {
            Error::invalid(format!("there is no private key in it that can be read: {error}"))
        }),
    }
}

fn decrypt(body: &str, password: &Secret) -> Result<PrivateKeyDer<'static>> {
    let unreadable = |error| Error::invalid(format!("the encrypted key cannot be read: {error}"));
    // The reader of PEM knows no encrypted keys, so it is shown another label. What is inside is no secret yet.
    let relabelled = format!("-----BEGIN PRIVATE KEY-----{body}-----END PRIVATE KEY-----\n");
    let der = PrivatePkcs8KeyDer::from_pem_slice(relabelled.as_bytes())
        .map_err(|error| Error::invalid(format!("the encrypted key cannot be read: {error}")))?;
    let info = EncryptedPrivateKeyInfoRef::from_der(der.secret_pkcs8_der()).map_err(unreadable)?;
    check_cost(&info.encryption_algorithm)?;
    let key: SecretDocument = info.decrypt(password.expose()).map_err(|_| {
        Error::invalid("the key cannot be decrypted: the password is wrong, or the key is damaged")
    })?;
    Ok(PrivateKeyDer::Pkcs8(key.as_bytes().to_vec().into()))
}

/// The file says how much work decrypting is. It must not be able to say "forever".
pub(super) fn check_cost(scheme: &EncryptionScheme) -> Result<()> {
    let EncryptionScheme::Pbes2(parameters) = scheme else {
        return Err(Error::invalid(
            "the key is encrypted by PKCS#5 version 1, whose ciphers are broken: \
             'openssl pkcs8 -topk8 -v2 aes-256-cbc' makes another one of it",
        ));
    };
    let fair = match &parameters.kdf {
        Kdf::Pbkdf2(pbkdf2) => (1..=ITERATIONS_MAX).contains(&pbkdf2.iteration_count),
        Kdf::Scrypt(scrypt) => {
            let bytes = scrypt.cost_parameter.saturating_mul(128 * u64::from(scrypt.block_size));
            // A cost that is no power of two is not scrypt's, and the library panics at 0.
            scrypt.cost_parameter.is_power_of_two()
                && bytes <= SCRYPT_BYTES_MAX
                && (1..=SCRYPT_PARALLEL_MAX).contains(&scrypt.parallelization)
        }
        _ => false,
    };
    if fair {
        Ok(())
    } else {
        Err(Error::invalid("the encrypted key asks for more work or memory than is reasonable"))
    }
}
