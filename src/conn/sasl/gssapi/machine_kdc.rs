//! What is said to a KDC and read from it (RFC 4120): first a ticket for tickets, then one for the service.
//!
//! Time and chance are arguments. Every answer must be encrypted by a key that only we and the KDC know, carry the
//! nonce of its request and name what was asked for; nothing else of it is believed.

use zeroize::Zeroizing;

use super::crypto::{Enctype, Key, Usage};
use super::der::{self, Der};
use super::principal::Principal;
use super::time;
use crate::{Error, Result, Secret};

/// What a client proves itself with.
#[derive(Clone)]
pub(super) enum Credential {
    /// Keys out of a keytab, at least one.
    Keys(Vec<Key>),
    Password(Secret),
}

/// A ticket, the key that goes with it, and when it ends, in seconds since 1970.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    pub(super) bytes: Vec<u8>,
    pub(super) key: Key,
    pub(super) end: u64,
}

/// Fresh random bytes for one message.
pub(super) struct Chance {
    pub(super) nonce: u32,
    pub(super) confounder: [u8; 16],
}

/// Now, in microseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now(pub(super) u64);

impl Now {
    pub(super) fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    fn micros(self) -> i64 {
        (self.0 % 1_000_000) as i64
    }

    /// The two fields that tell it, with their numbers.
    pub(super) fn fields(self, seconds: u8, micros: u8) -> [Vec<u8>; 2] {
        let seconds = der::time(seconds, &time::format(self.seconds()));
        [seconds, der::integer(micros, self.micros())]
    }
}

// Messages and what goes with a request, by number.
const AS_REQUEST: u8 = 10;
const AS_REPLY: u8 = 11;
const TGS_REQUEST: u8 = 12;
const TGS_REPLY: u8 = 13;
const AP_REQUEST: u8 = 14;
const ERROR: u8 = 30;
const PA_TGS_REQUEST: i64 = 1;
const PA_TIMESTAMP: i64 = 2;
const PA_ETYPE_INFO2: i64 = 19;
const PA_COOKIE: i64 = 133;
const PREAUTH_REQUIRED: i64 = 25;

/// How long a ticket we ask for; the KDC gives less if it likes.
const LIFETIME_SECONDS: u64 = 24 * 3600;

/// The way to a ticket for tickets.
pub(super) struct AsExchange<'a> {
    pub(super) client: &'a Principal,
    pub(super) credential: &'a Credential,
    /// The nonce of the request last sent.
    pub(super) nonce: u32,
}

/// What an answer leads to.
pub(super) enum AsStep {
    /// We are to prove ourselves: say this, which has the nonce of the chance that was given.
    Prove(Vec<u8>),
    Done(Ticket),
}

impl AsExchange<'_> {
    /// The first request, without a proof: the answer says which proof is wanted.
    pub(super) fn request(&self, now: Now) -> Vec<u8> {
        let body = self.body(now, self.nonce);
        request(AS_REQUEST, &[], &body)
    }

    /// Reads the answer to what was last said.
    pub(super) fn answer(&mut self, bytes: &[u8], now: Now, chance: &Chance) -> Result<AsStep> {
        if let Some(refusal) = Refusal::read(bytes)? {
            if refusal.code != PREAUTH_REQUIRED {
                return Err(refusal.error("the KDC"));
            }
            let hints = Hints::read(&refusal.data)?;
            let key = self.key(&hints)?;
            self.nonce = chance.nonce;
            return Ok(AsStep::Prove(self.proof(&key, &hints, now, chance)));
        }
        let reply = Reply::read(bytes, AS_REPLY)?;
        let hints = match reply.padata {
            Some(padata) => Hints::read(padata.0)?,
            None => Hints::default(),
        };
        let key = self.key_for(reply.enctype, &hints)?;
        let own = reply.client_is(self.client)?;
        let service = Principal::tickets(&self.client.realm);
        reply.ticket(&key, Usage::AsReply, self.nonce, &service, own).map(AsStep::Done)
    }

    fn body(&self, now: Now, nonce: u32) -> Vec<u8> {
        let service = Principal::tickets(&self.client.realm);
        let enctypes: Vec<Enctype> = match self.credential {
            Credential::Password(_) => Enctype::ALL.to_vec(),
            // The KDC encrypts its answer by the first of these, so there must be a key.
            Credential::Keys(keys) => {
                let have = |enctype: &Enctype| keys.iter().any(|key| key.enctype == *enctype);
                Enctype::ALL.into_iter().filter(have).collect()
            }
        };
        body(Some(self.client), &service, now, nonce, &enctypes)
    }

    fn proof(&self, key: &Key, hints: &Hints, now: Now, chance: &Chance) -> Vec<u8> {
        let stamp = der::element(der::SEQUENCE, &now.fields(0, 1).each_ref().map(Vec::as_slice));
        let stamp = encrypted(key, Usage::Timestamp, &chance.confounder, &stamp);
        let mut padata = vec![padata(PA_TIMESTAMP, &stamp)];
        padata.extend(hints.cookie.as_ref().map(|cookie| self::padata(PA_COOKIE, cookie)));
        request(AS_REQUEST, &padata, &self.body(now, chance.nonce))
    }

    /// The key for the first enctype of the KDC's that we know.
    fn key(&self, hints: &Hints) -> Result<Key> {
        if let Some(hint) = hints.enctypes.iter().find(|hint| self.has(hint.enctype)) {
            return self.key_for(hint.enctype, hints);
        }
        match self.credential {
            // A KDC that says nothing takes any.
            Credential::Keys(keys) if !hints.told => keys.first().cloned().ok_or_else(no_key),
            Credential::Password(_) if !hints.told => self.key_for(Enctype::Aes256Sha1, hints),
            _ => Err(no_key()),
        }
    }

    fn has(&self, enctype: Enctype) -> bool {
        match self.credential {
            Credential::Keys(keys) => keys.iter().any(|key| key.enctype == enctype),
            Credential::Password(_) => true,
        }
    }

    fn key_for(&self, enctype: Enctype, hints: &Hints) -> Result<Key> {
        match self.credential {
            Credential::Keys(keys) => {
                keys.iter().find(|key| key.enctype == enctype).cloned().ok_or_else(no_key)
            }
            Credential::Password(password) => {
                let hint = hints.enctypes.iter().find(|hint| hint.enctype == enctype);
                let salt = hint.and_then(|hint| hint.salt.clone()).unwrap_or_else(|| self.client.salt());
                let rounds = hint.and_then(|hint| hint.rounds);
                Key::of_password(enctype, password.expose(), &salt, rounds)
            }
        }
    }
}

fn no_key() -> Error {
    Error::auth("the KDC wants an encryption for which we have no key of AES")
}

/// The request for a service's ticket, by a ticket for tickets.
pub(super) fn tgs_request(
    client: &Principal,
    service: &Principal,
    tickets: &Ticket,
    now: Now,
    chance: &Chance,
) -> Vec<u8> {
    let body = body(None, service, now, chance.nonce, &Enctype::ALL);
    let key = &tickets.key;
    let checksum = key.checksum(Usage::TgsChecksum, &[&body]);
    let checksum = (key.enctype.checksum_type(), &checksum[..]);
    let authenticator = authenticator(client, checksum, now, &[]);
    let authenticator = encrypted(key, Usage::TgsAuthenticator, &chance.confounder, &authenticator);
    request(TGS_REQUEST, &[padata(PA_TGS_REQUEST, &ap_request(0, &tickets.bytes, &authenticator))], &body)
}

/// Reads the answer to [`tgs_request`].
pub(super) fn tgs_answer(
    bytes: &[u8],
    client: &Principal,
    service: &Principal,
    tickets: &Ticket,
    nonce: u32,
) -> Result<Ticket> {
    if let Some(refusal) = Refusal::read(bytes)? {
        return Err(refusal.error("the KDC").within(format!("a ticket for {service}")));
    }
    let reply = Reply::read(bytes, TGS_REPLY)?;
    let own = reply.client_is(client)?;
    reply.ticket(&tickets.key, Usage::TgsReply, nonce, service, own)
}

/// A ticket and who shows it.
pub(super) fn ap_request(options: u32, ticket: &[u8], authenticator: &[u8]) -> Vec<u8> {
    let fields = [
        der::integer(0, 5),
        der::integer(1, i64::from(AP_REQUEST)),
        der::flags(2, options),
        der::field(3, ticket),
        der::field(4, authenticator),
    ]
    .concat();
    der::element(der::application(AP_REQUEST), &[&der::element(der::SEQUENCE, &[&fields])])
}

/// Proves that who shows a ticket has its key. `more` are the fields after the time.
pub(super) fn authenticator(client: &Principal, checksum: (i64, &[u8]), now: Now, more: &[u8]) -> Vec<u8> {
    let [time, micros] = now.fields(5, 4);
    let (kind, checksum) = checksum;
    let checksum = der::element(der::SEQUENCE, &[&der::integer(0, kind), &der::octets(1, checksum)]);
    let fields = [
        &der::integer(0, 5)[..],
        &der::string(1, &client.realm),
        &der::field(2, &client.encode(false)),
        &der::field(3, &checksum),
        &micros,
        &time,
        more,
    ];
    der::element(der::application(2), &[&der::element(der::SEQUENCE, &fields)])
}

/// `EncryptedData`.
pub(super) fn encrypted(key: &Key, usage: Usage, confounder: &[u8; 16], plain: &[u8]) -> Vec<u8> {
    let cipher = key.encrypt(usage, confounder, plain);
    der::element(der::SEQUENCE, &[&der::integer(0, key.enctype as i64), &der::octets(2, &cipher)])
}

/// Opens `EncryptedData` of this key.
pub(super) fn decrypted(mut data: Der<'_>, key: &Key, usage: Usage) -> Result<Zeroizing<Vec<u8>>> {
    key.decrypt(usage, data.expect(der::SEQUENCE)?.field(2)?.octets()?)
}

/// `EncryptionKey`.
pub(super) fn read_key(mut key: Der<'_>) -> Result<Key> {
    let mut fields = key.expect(der::SEQUENCE)?;
    let enctype = fields.field(0)?.integer()?;
    let known = Enctype::from_number(enctype)
        .ok_or_else(|| Error::auth(format!("a Kerberos key of enctype {enctype}, which is not AES")))?;
    Key::new(known, fields.field(1)?.octets()?)
}

fn padata(kind: i64, value: &[u8]) -> Vec<u8> {
    der::element(der::SEQUENCE, &[&der::integer(1, kind), &der::octets(2, value)])
}

fn request(kind: u8, padata: &[Vec<u8>], body: &[u8]) -> Vec<u8> {
    let mut fields = [der::integer(1, 5), der::integer(2, i64::from(kind))].concat();
    if !padata.is_empty() {
        fields.extend(der::field(3, &der::element(der::SEQUENCE, &[&padata.concat()])));
    }
    fields.extend(der::field(4, body));
    der::element(der::application(kind), &[&der::element(der::SEQUENCE, &[&fields])])
}

fn body(
    client: Option<&Principal>,
    service: &Principal,
    now: Now,
    nonce: u32,
    enctypes: &[Enctype],
) -> Vec<u8> {
    let enctypes: Vec<u8> = enctypes.iter().flat_map(|enctype| der::number(*enctype as i64)).collect();
    let fields = [
        der::flags(0, 0),
        client.map(|client| der::field(1, &client.encode(false))).unwrap_or_default(),
        der::string(2, &service.realm),
        der::field(3, &service.encode(true)),
        der::time(5, &time::format(now.seconds() + LIFETIME_SECONDS)),
        der::integer(7, i64::from(nonce)),
        der::field(8, &der::element(der::SEQUENCE, &[&enctypes])),
    ]
    .concat();
    der::element(der::SEQUENCE, &[&fields])
}

/// What both kinds of good answers have, as far as it can be read without a key.
struct Reply<'a> {
    padata: Option<Der<'a>>,
    realm: &'a [u8],
    client: Der<'a>,
    ticket: &'a [u8],
    enctype: Enctype,
    sealed: Der<'a>,
}

impl<'a> Reply<'a> {
    fn read(bytes: &'a [u8], kind: u8) -> Result<Self> {
        let mut fields = Der::message(bytes, kind)?;
        let padata = fields.optional(2)?;
        let realm = fields.field(3)?.string()?;
        let client = fields.field(4)?;
        let ticket = fields.field(5)?.0;
        let sealed = fields.field(6)?;
        let mut inside = sealed;
        let enctype = inside.expect(der::SEQUENCE)?.field(0)?.integer()?;
        let enctype = Enctype::from_number(enctype).ok_or_else(|| {
            Error::auth(format!("the KDC answers with enctype {enctype}, which is not AES"))
        })?;
        Ok(Self { padata, realm, client, ticket, enctype, sealed })
    }

    fn client_is(&self, client: &Principal) -> Result<bool> {
        client.is(self.client, self.realm)
    }

    fn ticket(self, key: &Key, usage: Usage, nonce: u32, service: &Principal, own: bool) -> Result<Ticket> {
        let plain = decrypted(self.sealed, key, usage)
            .map_err(|error| error.within("the KDC's answer (a wrong password or an old keytab?)"))?;
        // Some KDCs mark the one as the other.
        let mut fields = Der::message(&plain, 25).or_else(|_| Der::message(&plain, 26))?;
        let key = read_key(fields.field(0)?)?;
        let same_nonce = fields.field(2)?.integer()? == i64::from(nonce);
        let end = time::parse(fields.field(7)?.time()?)
            .ok_or_else(|| Error::malformed("a Kerberos ticket whose end is no time"))?;
        let realm = fields.field(9)?.string()?;
        if !same_nonce || !own || !service.is(fields.field(10)?, realm)? {
            return Err(Error::auth("the KDC's answer is for another question than ours"));
        }
        Ok(Ticket { bytes: self.ticket.to_vec(), key, end })
    }
}

/// A KDC's or a service's no.
pub(super) struct Refusal {
    pub(super) code: i64,
    data: Vec<u8>,
}

impl Refusal {
    /// Reads one; `None` if it is another message.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>> {
        if bytes.first() != Some(&der::application(ERROR)) {
            return Ok(None);
        }
        let mut fields = Der::message(bytes, ERROR)?;
        let code = fields.field(6)?.integer()?;
        let data = match fields.optional(12)? {
            Some(data) => data.octets()?.to_vec(),
            None => Vec::new(),
        };
        Ok(Some(Self { code, data }))
    }

    /// Its text is by others and not signed, so it is left out; the number says enough.
    pub(super) fn error(&self, who: &str) -> Error {
        let meaning = match self.code {
            6 => "it does not know the client",
            7 => "it does not know the service",
            12 => "it does not allow that",
            14 => "it has no common encryption with us",
            18 => "the client is locked or revoked",
            23 => "the password has expired",
            24 => "the password or key is wrong",
            31 => "what was encrypted is not of its key",
            32 => "the ticket has expired",
            33 => "the ticket is not yet valid",
            34 => "it has seen this before",
            36 => "ticket and client are not the same",
            37 => "its clock and ours are too far apart",
            41 => "the message was changed, or its key is another",
            44 => "it has no key of that version",
            52 => "the answer is too long for it",
            60 => "it failed",
            68 => "it is not the KDC of that realm",
            _ => "see RFC 4120, section 7.5.9",
        };
        Error::auth(format!("{who} answers with Kerberos error {}: {meaning}", self.code))
    }
}

/// What a KDC wants of a proof.
#[derive(Default)]
struct Hints {
    /// Whether it said anything about enctypes.
    told: bool,
    /// In the KDC's order, those that we know.
    enctypes: Vec<KeyHint>,
    /// To be shown again.
    cookie: Option<Vec<u8>>,
}

/// How a password's key of an enctype is made.
struct KeyHint {
    enctype: Enctype,
    salt: Option<Vec<u8>>,
    rounds: Option<u32>,
}

impl Hints {
    /// Reads a sequence of `PA-DATA`; nothing hints at nothing.
    fn read(list: &[u8]) -> Result<Self> {
        let mut hints = Self::default();
        if list.is_empty() {
            return Ok(hints);
        }
        let mut list = Der(list).expect(der::SEQUENCE)?;
        while !list.0.is_empty() {
            let mut entry = list.expect(der::SEQUENCE)?;
            let kind = entry.field(1)?.integer()?;
            let value = entry.field(2)?.octets()?;
            match kind {
                PA_ETYPE_INFO2 => {
                    hints.told = true;
                    hints.enctypes = enctypes(value)?;
                }
                PA_COOKIE => hints.cookie = Some(value.to_vec()),
                _ => {}
            }
        }
        Ok(hints)
    }
}

fn enctypes(value: &[u8]) -> Result<Vec<KeyHint>> {
    let mut list = Der(value).expect(der::SEQUENCE)?;
    let mut known = Vec::new();
    while !list.0.is_empty() {
        let mut entry = list.expect(der::SEQUENCE)?;
        let enctype = Enctype::from_number(entry.field(0)?.integer()?);
        let salt = entry.optional(1)?.map(Der::string).transpose()?.map(<[u8]>::to_vec);
        let rounds = entry.optional(2)?.map(Der::octets).transpose()?;
        // Four bytes, or it is none of ours.
        let rounds = rounds.and_then(|rounds| rounds.try_into().ok()).map(u32::from_be_bytes);
        known.extend(enctype.map(|enctype| KeyHint { enctype, salt, rounds }));
    }
    Ok(known)
}
