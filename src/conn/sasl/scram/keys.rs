//! What SCRAM computes (RFC 5802, section 3): keys out of a password, and what is proved with them.

use sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

use crate::Result;
use crate::conn::sasl::hash::{hmac_sha256, hmac_sha512};

/// The hash that a mechanism of the SCRAM family is named after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    fn hash(self, bytes: &[u8]) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        })
    }

    fn hmac(self, key: &[u8], message: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        match self {
            Self::Sha256 => hmac_sha256(key, message),
            Self::Sha512 => hmac_sha512(key, message),
        }
    }

    /// `Hi`: the password, made expensive to guess.
    fn salted(self, password: &[u8], salt: &[u8], iterations: u32) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Sha256 => {
                let mut out = Zeroizing::new(vec![0; 32]);
                pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut out);
                out
            }
            Self::Sha512 => {
                let mut out = Zeroizing::new(vec![0; 64]);
                pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut out);
                out
            }
        }
    }
}

/// What a password comes to with one salt and one number of iterations: as good as the password, for that user.
pub(super) struct Keys {
    algorithm: Algorithm,
    client: Zeroizing<Vec<u8>>,
    server: Zeroizing<Vec<u8>>,
}

impl Keys {
    /// Takes the processor for as long as the iterations ask: not for a thread that others wait for.
    pub(super) fn derive(
        algorithm: Algorithm,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> Result<Self> {
        let salted = algorithm.salted(password, salt, iterations);
        let client = algorithm.hmac(&salted, b"Client Key")?;
        let server = algorithm.hmac(&salted, b"Server Key")?;
        Ok(Self { algorithm, client, server })
    }

    /// `ClientProof`: shows that we know the password, to who knows its stored key.
    pub(super) fn proof(&self, auth_message: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let mut proof = self.algorithm.hmac(&self.algorithm.hash(&self.client), auth_message)?;
        for (byte, key) in proof.iter_mut().zip(self.client.iter()) {
            *byte ^= key;
        }
        Ok(proof)
    }

    /// `ServerSignature`: what only a broker can say that has the user's stored keys.
    pub(super) fn server_signature(&self, auth_message: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        self.algorithm.hmac(&self.server, auth_message)
    }
}
