//! What is said to a broker and read from it: the GSS-API of Kerberos (RFC 4121) inside SASL (RFC 4752).
//!
//! ```text
//! Start --ticket and proof--> Proving --the broker's proof--> Proved --its offer of layers--> Chosen --> done
//! ```
//!
//! Both sides prove that they have the ticket's key; then the broker offers security layers, of which Kafka has
//! none: we choose none and say as whom we act. Chance and time are arguments.

use subtle::ConstantTimeEq as _;

use super::crypto::{Key, Usage};
use super::der::{self, Der};
use super::machine_kdc::{Now, Refusal, Ticket, ap_request, authenticator, decrypted, encrypted, read_key};
use super::principal::Principal;
use crate::{Error, Result};

/// The mechanism's object identifier, 1.2.840.113554.1.2.2, with tag and length.
const KERBEROS: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02];
/// What is in a token, as its first two bytes say.
const AP_REQUEST: [u8; 2] = [1, 0];
const AP_REPLY: [u8; 2] = [2, 0];
const ERROR: [u8; 2] = [3, 0];
/// The broker shall prove itself too (RFC 4120 section 5.5.1).
const MUTUAL_REQUIRED: u32 = 0x2000_0000;
/// What we want of the context: mutual proof, no replays, order, integrity (RFC 4121 section 4.1.1.1).
const CONTEXT_FLAGS: u32 = 2 | 4 | 8 | 32;
/// The number of the checksum that carries them.
const CONTEXT_CHECKSUM: i64 = 0x8003;

/// Fresh random bytes for one context.
pub(super) struct Chance {
    pub(super) confounder: [u8; 16],
    pub(super) key: [u8; 32],
    pub(super) sequence: u32,
}

/// The states; each holds what the next needs.
pub(super) enum Context {
    Proving { ticket: Key, own: Key, sent: Now, sequence: u32 },
    Proved { keys: Keys, sequence: u32, theirs: u32 },
    Chosen,
    Done,
}

/// The key of what follows the proofs.
pub(super) struct Keys {
    key: Key,
    /// Whether the broker made it; each token says so.
    theirs: bool,
}

impl Context {
    /// Begins: the context, and the first token.
    pub(super) fn start(client: &Principal, ticket: &Ticket, now: Now, chance: &Chance) -> (Self, Vec<u8>) {
        // The number stays positive for implementations that take it as signed.
        let sequence = chance.sequence >> 2;
        let own = Key::random(ticket.key.enctype, &chance.key);
        // The length of the channel's binding, its hash, which is zeros without one, and the flags.
        let checksum = [&16u32.to_le_bytes()[..], &[0; 16], &CONTEXT_FLAGS.to_le_bytes()].concat();
        let subkey = der::element(
            der::SEQUENCE,
            &[&der::integer(0, own.enctype as i64), &der::octets(1, own.bytes())],
        );
        let more = [der::field(6, &subkey), der::integer(7, i64::from(sequence))].concat();
        let proof = authenticator(client, (CONTEXT_CHECKSUM, &checksum), now, &more);
        let proof = encrypted(&ticket.key, Usage::ApAuthenticator, &chance.confounder, &proof);
        let request = ap_request(MUTUAL_REQUIRED, &ticket.bytes, &proof);
        let token = der::element(der::application(0), &[&KERBEROS, &AP_REQUEST, &request]);
        (Self::Proving { ticket: ticket.key.clone(), own, sent: now, sequence }, token)
    }

    /// Whether the broker has nothing to say any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Chosen | Self::Done)
    }

    /// Takes what the broker said and gives what to say; `None` when nothing is left to say. `client` is
    /// as whom we act. After an error the context is of no use.
    pub(super) fn respond(self, challenge: &[u8], client: &str) -> Result<(Self, Option<Vec<u8>>)> {
        match self {
            Self::Proving { ticket, own, sent, sequence } => {
                let (keys, theirs) = proved(challenge, &ticket, own, sent)?;
                Ok((Self::Proved { keys, sequence, theirs }, Some(Vec::new())))
            }
            Self::Proved { keys, sequence, theirs } => {
                let offer = keys.unwrap(challenge, u64::from(theirs))?;
                let [layers, ..] = offer[..] else {
                    return Err(Error::auth("the broker offers no security layers, not even none"));
                };
                if offer.len() != 4 || layers & 1 == 0 {
                    return Err(Error::auth("the broker wants a security layer, which Kafka has not"));
                }
                // No layer, so no size, and who we are.
                let choice = [&[1, 0, 0, 0], client.as_bytes()].concat();
                Ok((Self::Chosen, Some(keys.wrap(&choice, u64::from(sequence)))))
            }
            Self::Chosen if challenge.is_empty() => Ok((Self::Done, None)),
            Self::Chosen | Self::Done => {
                Err(Error::auth("the broker went on with GSSAPI where it was at its end"))
            }
        }
    }
}

/// Reads the broker's proof: the key to go on with, and the number that its next token has.
fn proved(token: &[u8], ticket: &Key, own: Key, sent: Now) -> Result<(Keys, u32)> {
    let inside = Der(token).expect(der::application(0))?.0;
    let inside = inside
        .strip_prefix(&KERBEROS)
        .ok_or_else(|| Error::auth("the broker goes on with another mechanism than Kerberos"))?;
    let (kind, message) =
        inside.split_first_chunk().ok_or_else(|| Error::malformed("a GSS-API token that ends too early"))?;
    if *kind == ERROR
        && let Some(refusal) = Refusal::read(message)?
    {
        return Err(refusal.error("the broker"));
    }
    if *kind != AP_REPLY {
        return Err(Error::auth("the broker did not prove that it has the ticket's key"));
    }
    let plain = decrypted(Der::message(message, 15)?.field(2)?, ticket, Usage::ApReply)
        .map_err(|error| error.within("the broker's proof"))?;
    let mut fields = Der::message(&plain, 27)?;
    let [time, micros] = sent.fields(0, 1);
    // It repeats our time as we wrote it, which it can only have from what we encrypted for it.
    let same = fields.field(0)?.0 == Der(&time).field(0)?.0 && fields.field(1)?.0 == Der(&micros).field(1)?.0;
    if !same {
        return Err(Error::auth("the broker's proof answers another message than ours"));
    }
    let keys = match fields.optional(2)? {
        Some(theirs) => Keys { key: read_key(theirs)?, theirs: true },
        None => Keys { key: own, theirs: false },
    };
    let sequence = match fields.optional(3)? {
        // Some write it as a signed number.
        Some(sequence) => sequence.integer()? as u32,
        None => 0,
    };
    Ok((keys, sequence))
}

const WRAP: [u8; 2] = [5, 4];
const SENT_BY_ACCEPTOR: u8 = 1;
const SEALED: u8 = 2;
const ACCEPTOR_KEY: u8 = 4;

impl Keys {
    fn key_flag(&self) -> u8 {
        if self.theirs { ACCEPTOR_KEY } else { 0 }
    }

    /// Opens a token that is not encrypted, only sealed by a checksum (RFC 4121 section 4.2.6.2).
    fn unwrap(&self, token: &[u8], sequence: u64) -> Result<Vec<u8>> {
        let wrong = |what: &str| Error::auth(format!("the broker's offer of security layers {what}"));
        let (header, body) = token.split_first_chunk::<16>().ok_or_else(|| wrong("ends too early"))?;
        let [a, b, flags, filler, extra @ .., _, _, _, _, _, _, _, _] = header;
        let (extra, turned) = match extra {
            [a, b, c, d] => (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
        };
        if [*a, *b] != WRAP || *filler != 0xff {
            return Err(wrong("is no such token"));
        }
        if flags & SEALED != 0 {
            return Err(wrong("is encrypted, which it must not be"));
        }
        if flags & SENT_BY_ACCEPTOR == 0 || flags & ACCEPTOR_KEY != self.key_flag() {
            return Err(wrong("is not the broker's, or not of this exchange"));
        }
        let mac_len = self.key.enctype.mac_len();
        // A shorter checksum would be easier to guess; none at all is none.
        let plain_len = body.len().checked_sub(mac_len).filter(|_| usize::from(extra) == mac_len);
        let plain_len = plain_len.ok_or_else(|| wrong("has no checksum of our kind"))?;
        let mut body = body.to_vec();
        // There is a checksum, so it is not empty.
        let turned = usize::from(turned) % body.len();
        body.rotate_left(turned);
        let (plain, mac) = body.split_at_checked(plain_len).ok_or_else(|| wrong("ends too early"))?;
        let expected = self.key.checksum(Usage::AcceptorSeal, &[plain, &summed(header)]);
        if !bool::from(expected.ct_eq(mac)) {
            return Err(wrong("has a wrong checksum"));
        }
        if header.last_chunk().copied().map(u64::from_be_bytes) != Some(sequence) {
            return Err(wrong("comes out of turn"));
        }
        Ok(plain.to_vec())
    }

    /// Seals by a checksum.
    fn wrap(&self, plain: &[u8], sequence: u64) -> Vec<u8> {
        let mac_len = (self.key.enctype.mac_len() as u16).to_be_bytes();
        let start = [&WRAP[..], &[self.key_flag(), 0xff]].concat();
        let sequence = sequence.to_be_bytes();
        let mac = self.key.checksum(Usage::InitiatorSeal, &[plain, &start, &[0; 4], &sequence]);
        [&start, &mac_len[..], &[0, 0], &sequence, plain, &mac].concat()
    }
}

/// A token's header as it is under the checksum: without the lengths that come of it.
fn summed(header: &[u8; 16]) -> [u8; 16] {
    let mut summed = *header;
    let [_, _, _, _, a, b, c, d, ..] = &mut summed;
    [*a, *b, *c, *d] = [0; 4];
    summed
}
