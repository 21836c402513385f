//! What went wrong in TLS, said so that people know what to mend.

use std::io;

use rustls::{AlertDescription, CertificateError, PeerIncompatible};

use super::super::hint;
use crate::error::Error;

/// Names of a certificate that an error repeats.
const NAMES_SHOWN_MAX: usize = 5;
/// As much of a name, or of a library's words, as an error repeats.
const SHOWN_CHARS_MAX: usize = 200;

/// Why a handshake failed, whose peer began with the bytes in `head`.
#[cold]
pub(super) fn handshake(error: io::Error, head: &[u8]) -> Error {
    if let Some(hint) = hint::not_tls(head) {
        return Error::malformed(hint).because(error);
    }
    match refusal(&error) {
        Some(refusal) => refusal,
        None if head.is_empty() && closed(&error) => Error::io(
            "the peer closed the connection instead of a TLS handshake: is its listener a plaintext one?",
        )
        .because(error),
        None => Error::io(format!("lost in the TLS handshake: {error}")).because(error),
    }
}

fn closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// What TLS itself has against the connection, if it is that what an operation on a stream failed of.
#[cold]
pub(in crate::net) fn refusal(error: &io::Error) -> Option<Error> {
    let tls = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let said = match tls {
        rustls::Error::InvalidCertificate(fault) => Error::auth(certificate(fault)),
        rustls::Error::NoCertificatesPresented => Error::auth("the broker shows no certificate"),
        rustls::Error::AlertReceived(alert) => return Some(received(*alert).because(tls.clone())),
        rustls::Error::PeerIncompatible(why) => Error::auth(incompatible(why)),
        rustls::Error::InvalidMessage(why) => Error::malformed(format!("TLS that cannot be read: {why:?}")),
        other => Error::auth(format!("TLS: {}", shown(&other.to_string()))),
    };
    Some(said.because(tls.clone()))
}

fn certificate(fault: &CertificateError) -> String {
    use CertificateError as Fault;
    let what = match fault {
        Fault::Expired | Fault::ExpiredContext { .. } => {
            "the broker's certificate, or one above it, has expired"
        }
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => {
            "the broker's certificate is not valid yet: are the clocks right?"
        }
        Fault::Revoked => "the broker's certificate was revoked",
        Fault::UnknownIssuer => {
            "the broker's certificate is not issued by anyone trusted here (self-signed, or an authority of its own?)"
        }
        Fault::BadSignature => "the broker's certificate was not signed by whom it says",
        Fault::NotValidForName => "the broker's certificate is for another host name",
        Fault::NotValidForNameContext { expected, presented } => {
            let mut names: Vec<_> = presented.iter().take(NAMES_SHOWN_MAX).map(|name| shown(name)).collect();
            if presented.len() > NAMES_SHOWN_MAX {
                names.push(format!("and {} more", presented.len() - NAMES_SHOWN_MAX));
            }
            let names = if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
            return format!("the broker's certificate is not for '{}' but for {names}", expected.to_str());
        }
        Fault::InvalidPurpose | Fault::InvalidPurposeContext { .. } => {
            "the broker's certificate is not meant for servers"
        }
        Fault::BadEncoding => "the broker's certificate cannot be read",
        other => return format!("the broker's certificate is not good: {}", shown(&other.to_string())),
    };
    what.to_owned()
}

fn received(alert: AlertDescription) -> Error {
    use AlertDescription as Alert;
    let what = match alert {
        Alert::CertificateRequired => "the broker wants a certificate of ours, and none is set",
        // Java says this, too, to who shows none.
        Alert::BadCertificate => {
            "the broker does not accept our certificate, or wants one of ours and none is set"
        }
        Alert::UnsupportedCertificate | Alert::CertificateUnknown => {
            "the broker does not accept our certificate"
        }
        Alert::UnknownCA => "the broker does not know who issued our certificate",
        Alert::CertificateExpired => "the broker says that our certificate has expired",
        Alert::CertificateRevoked => "the broker says that our certificate was revoked",
        Alert::AccessDenied => "the broker denies access to our certificate",
        Alert::ProtocolVersion => {
            "the broker does not speak the versions of TLS that are allowed here (1.2, 1.3)"
        }
        Alert::HandshakeFailure => {
            "the broker found no way to agree in the TLS handshake: no cipher in common, or it wants a certificate of ours"
        }
        Alert::UnrecognisedName => "the broker does not know the host name that it was asked for",
        // The broker has a fault of its own, which may pass.
        Alert::InternalError => return Error::io("the broker ended TLS with an internal error"),
        other => return Error::auth(format!("the broker refused TLS with {other:?}")),
    };
    Error::auth(what)
}

fn incompatible(why: &PeerIncompatible) -> String {
    match why {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            "the broker does not speak the versions of TLS that are allowed here (1.2, 1.3)".to_owned()
        }
        other => format!("the broker's TLS does not go with ours: {other:?}"),
    }
}

/// Words from outside, escaped and cut.
fn shown(text: &str) -> String {
    crate::net::shown(text, SHOWN_CHARS_MAX)
}
