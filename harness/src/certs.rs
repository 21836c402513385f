//! Certificates for tests: an authority, who is in order under it, and several who are not.
//!
//! All are written as PEM files into one folder; a test may read, replace or point to them. Keys are ECDSA P-256.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pkcs8::pkcs5::pbes2;
use pkcs8::{LineEnding, PrivateKeyInfoRef};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::failure::{Result, broken};
use crate::jars::need;
use crate::process::run;

/// The password of [`Certificates::encrypted_client_key`], and of the key stores for Java.
pub const KEY_PASSWORD: &str = "weir-key-password";

/// Rounds of the encrypted key: few, since the password is public.
const ROUNDS: u32 = 2048;

/// Whose certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    /// A broker in order: `localhost`, `127.0.0.1` and `::1`.
    Server,
    /// The same, but its time was over in 2001.
    ExpiredServer,
    /// In order, but for `elsewhere.example` only.
    ServerOfAnotherHost,
    /// For the right hosts, but of an authority that nobody trusts.
    ServerOfAnotherAuthority,
    /// A client in order: `CN=weir-client`.
    Client,
    /// A second one in order, as its successor has it: `CN=weir-client-renewed`.
    RenewedClient,
    /// As [`Client`](Self::Client), but its time was over in 2001.
    ExpiredClient,
    /// A client of an authority that no broker trusts.
    ClientOfAnotherAuthority,
}

impl Identity {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Server,
        Self::ExpiredServer,
        Self::ServerOfAnotherHost,
        Self::ServerOfAnotherAuthority,
        Self::Client,
        Self::RenewedClient,
        Self::ExpiredClient,
        Self::ClientOfAnotherAuthority,
    ];

    fn file(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::ExpiredServer => "server-expired",
            Self::ServerOfAnotherHost => "server-of-another-host",
            Self::ServerOfAnotherAuthority => "server-of-another-authority",
            Self::Client => "client",
            Self::RenewedClient => "client-renewed",
            Self::ExpiredClient => "client-expired",
            Self::ClientOfAnotherAuthority => "client-of-another-authority",
        }
    }

    fn is_client(self) -> bool {
        matches!(
            self,
            Self::Client | Self::RenewedClient | Self::ExpiredClient | Self::ClientOfAnotherAuthority
        )
    }

    fn has_expired(self) -> bool {
        matches!(self, Self::ExpiredServer | Self::ExpiredClient)
    }

    fn is_of_another_authority(self) -> bool {
        matches!(self, Self::ServerOfAnotherAuthority | Self::ClientOfAnotherAuthority)
    }
}

/// A folder of certificates and keys.
#[derive(Debug, Clone)]
pub struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    /// Makes them all, fresh, in a folder that is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`Failure::Broken`](crate::Failure::Broken) if they cannot be made or written.
    pub fn generate(dir: impl Into<PathBuf>) -> Result<Self> {
        let all = Self { dir: dir.into() };
        fs::create_dir_all(&all.dir).map_err(broken(all.dir.display()))?;
        let own = authority("weir test authority")?;
        let other = authority("an authority that nobody trusts")?;
        write(&all.authority(), &own.pem())?;
        write(&all.other_authority(), &other.pem())?;
        for identity in Identity::ALL {
            let authority = if identity.is_of_another_authority() { &other } else { &own };
            let key = KeyPair::generate().map_err(broken("a key"))?;
            let certificate =
                params(identity)?.signed_by(&key, authority).map_err(broken("a certificate"))?;
            write(&all.certificate(identity), &certificate.pem())?;
            write(&all.key(identity), &key.serialize_pem())?;
            if identity == Identity::Client {
                write(&all.encrypted_client_key(), &encrypted(&key)?)?;
            }
        }
        Ok(all)
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The certificate of the authority that nobody trusts.
    pub fn other_authority(&self) -> PathBuf {
        self.dir.join("other-ca.pem")
    }

    /// Somebody's certificate.
    pub fn certificate(&self, whose: Identity) -> PathBuf {
        self.dir.join(format!("{}.pem", whose.file()))
    }

    /// Somebody's private key: PKCS#8, not encrypted.
    pub fn key(&self, whose: Identity) -> PathBuf {
        self.dir.join(format!("{}-key.pem", whose.file()))
    }

    /// The key of [`Identity::Client`], as encrypted PKCS#8 with [`KEY_PASSWORD`] (PBKDF2 with SHA-256, AES-256).
    pub fn encrypted_client_key(&self) -> PathBuf {
        self.dir.join("client-key-encrypted.pem")
    }

    /// Key and certificate in one file, as brokers from 3.5 on take them.
    pub(crate) fn pem_store(&self, whose: Identity) -> Result<PathBuf> {
        let path = self.dir.join(format!("{}-store.pem", whose.file()));
        let read = |path: PathBuf| fs::read_to_string(&path).map_err(broken(path.display()));
        write(&path, &(read(self.key(whose))? + &read(self.certificate(whose))?))?;
        Ok(path)
    }

    /// Key store and trust store for older brokers, both PKCS#12 with [`KEY_PASSWORD`].
    pub(crate) fn java_stores(&self, whose: Identity, run_dir: &Path) -> Result<(PathBuf, PathBuf)> {
        let (keys, trust) = (
            self.dir.join(format!("{}.p12", whose.file())),
            self.dir.join(format!("{}-trust.p12", whose.file())),
        );
        let mut openssl = Command::new(need("openssl")?);
        openssl.args(["pkcs12", "-export", "-name", "weir", "-passout"]).arg(format!("pass:{KEY_PASSWORD}"));
        openssl
            .arg("-in")
            .arg(self.certificate(whose))
            .arg("-inkey")
            .arg(self.key(whose))
            .arg("-out")
            .arg(&keys);
        run(run_dir, "openssl", &openssl)?;
        let mut keytool = Command::new(need("keytool")?);
        keytool.args(["-importcert", "-noprompt", "-alias", "ca", "-storetype", "PKCS12", "-storepass"]);
        keytool.arg(KEY_PASSWORD).arg("-file").arg(self.authority()).arg("-keystore").arg(&trust);
        run(run_dir, "keytool", &keytool)?;
        Ok((keys, trust))
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(broken(path.display()))
}

type Authority = rcgen::CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Result<Authority> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(broken("a key"))?;
    Authority::self_signed(params, key).map_err(broken("an authority"))
}

fn params(identity: Identity) -> Result<CertificateParams> {
    let hosts: &[&str] = match identity {
        Identity::ServerOfAnotherHost => &["elsewhere.example"],
        _ if identity.is_client() => &[],
        _ => &["localhost", "127.0.0.1", "::1"],
    };
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).map_err(broken("a host name"))?;
    let (name, usage) = match identity {
        Identity::RenewedClient => ("weir-client-renewed", ExtendedKeyUsagePurpose::ClientAuth),
        _ if identity.is_client() => ("weir-client", ExtendedKeyUsagePurpose::ClientAuth),
        _ => ("weir-broker", ExtendedKeyUsagePurpose::ServerAuth),
    };
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![usage];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    if identity.has_expired() {
        params.not_after = date_time_ymd(2001, 1, 1);
    }
    Ok(params)
}

fn encrypted(key: &KeyPair) -> Result<String> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    let random = SystemRandom::new();
    random.fill(&mut salt).and_then(|()| random.fill(&mut iv)).map_err(broken("chance"))?;
    let scheme =
        pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(ROUNDS, &salt, iv).map_err(broken("PBES2"))?;
    let plain = PrivateKeyInfoRef::try_from(key.serialized_der()).map_err(broken("a key"))?;
    let sealed = plain.encrypt_with_params(scheme, KEY_PASSWORD).map_err(broken("encryption"))?;
    let pem = sealed.to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF).map_err(broken("PEM"))?;
    Ok(pem.to_string())
}

#[cfg(test)]
mod tests {
    use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};

    use super::*;

    #[test]
    fn the_encrypted_key_is_the_clients_key() {
        let dir = crate::run_dir::new_dir("certificates").unwrap();
        let all = Certificates::generate(&dir).unwrap();
        let read = |path| fs::read_to_string(path).unwrap();
        let pem = read(all.encrypted_client_key());
        let (label, sealed) = SecretDocument::from_pem(&pem).unwrap();
        assert_eq!(label, "ENCRYPTED PRIVATE KEY");
        let sealed = EncryptedPrivateKeyInfoRef::try_from(sealed.as_bytes()).unwrap();
        let pem = read(all.key(Identity::Client));
        let (_, plain) = SecretDocument::from_pem(&pem).unwrap();
        assert_eq!(sealed.decrypt(KEY_PASSWORD).unwrap().as_bytes(), plain.as_bytes());
        assert!(sealed.decrypt("another").is_err());
        for identity in Identity::ALL {
            assert!(read(all.certificate(identity)).starts_with("-----BEGIN CERTIFICATE-----"));
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
