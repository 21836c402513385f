//! The machines against a KDC and an acceptor that are written here from the RFCs, so that they can lie.

use super::crypto::{Enctype, Key, Usage};
use super::der::{self, Der};
use super::machine_gss::{self as gss, Context};
use super::machine_kdc::{
    self as kdc, AsExchange, AsStep, Chance, Credential, Now, Ticket, encrypted, tgs_answer, tgs_request,
};
use super::principal::Principal;
use crate::Result;

const NOW: Now = Now(1_800_000_000_123_456);
const NONCE: u32 = 77;
const CHANCE: Chance = Chance { nonce: NONCE, confounder: [3; 16] };

fn me() -> Principal {
    Principal::parse("me@R", None).unwrap()
}

fn broker() -> Principal {
    Principal::service("kafka", "host", "R")
}

fn key(seed: u8) -> Key {
    Key::random(Enctype::Aes256Sha1, &[seed; 32])
}

fn sequence(fields: &[Vec<u8>]) -> Vec<u8> {
    der::element(der::SEQUENCE, &[&fields.concat()])
}

fn message(n: u8, fields: &[Vec<u8>]) -> Vec<u8> {
    der::element(der::application(n), &[&sequence(fields)])
}

fn key_field(n: u8, key: &Key) -> Vec<u8> {
    der::field(n, &sequence(&[der::integer(0, key.enctype as i64), der::octets(1, key.bytes())]))
}

/// What a KDC says; each field can be made wrong.
struct Reply {
    kind: u8,
    sealed_by: Key,
    usage: Usage,
    nonce: i64,
    client: Principal,
    service: Principal,
}

impl Reply {
    fn first() -> Self {
        let service = Principal::tickets("R");
        Self {
            kind: 11,
            sealed_by: key(1),
            usage: Usage::AsReply,
            nonce: NONCE.into(),
            client: me(),
            service,
        }
    }

    fn second() -> Self {
        Self { kind: 13, sealed_by: key(2), usage: Usage::TgsReply, service: broker(), ..Self::first() }
    }

    fn bytes(&self) -> Vec<u8> {
        let inside = message(
            25,
            &[
                key_field(0, &key(2)),
                der::field(1, &sequence(&[])),
                der::integer(2, self.nonce),
                der::flags(4, 0),
                der::time(5, "20270115080000Z"),
                der::time(7, "20270115180000Z"),
                der::string(9, &self.service.realm),
                der::field(10, &self.service.encode(true)),
            ],
        );
        message(
            self.kind,
            &[
                der::integer(0, 5),
                der::integer(1, self.kind.into()),
                der::string(3, &self.client.realm),
                der::field(4, &self.client.encode(false)),
                der::field(5, b"a ticket"),
                der::field(6, &encrypted(&self.sealed_by, self.usage, &[9; 16], &inside)),
            ],
        )
    }

    fn read_first(bytes: &[u8]) -> Result<AsStep> {
        let credential = Credential::Keys(vec![key(1)]);
        AsExchange { client: &me(), credential: &credential, nonce: NONCE }.answer(bytes, NOW, &CHANCE)
    }

    fn read_second(bytes: &[u8]) -> Result<Ticket> {
        let tickets = Ticket { bytes: b"t".to_vec(), key: key(2), end: 0 };
        tgs_answer(bytes, &me(), &broker(), &tickets, NONCE)
    }
}

fn refusal(code: i64, data: &[u8]) -> Vec<u8> {
    let data = if data.is_empty() { Vec::new() } else { der::octets(12, data) };
    message(30, &[der::integer(0, 5), der::integer(1, 30), der::integer(6, code), der::string(9, "R"), data])
}

#[test]
fn a_kdc_is_believed_only_for_what_was_asked() {
    assert!(
        matches!(Reply::read_first(&Reply::first().bytes()), Ok(AsStep::Done(ticket)) if ticket.end == 1_800_036_000)
    );
    assert_eq!(Reply::read_second(&Reply::second().bytes()).unwrap().bytes, b"a ticket");
    let other = || Principal::parse("other@R", None).unwrap();
    for lie in [
        Reply { nonce: 78, ..Reply::first() },
        Reply { sealed_by: key(7), ..Reply::first() },
        Reply { usage: Usage::TgsReply, ..Reply::first() },
        Reply { client: other(), ..Reply::first() },
        Reply { service: broker(), ..Reply::first() },
        Reply { service: Principal::tickets("S"), ..Reply::first() },
    ] {
        assert!(Reply::read_first(&lie.bytes()).is_err_and(|error| error.is_auth()));
    }
    for lie in [
        Reply { nonce: 78, ..Reply::second() },
        Reply { client: other(), ..Reply::second() },
        Reply { service: Principal::service("kafka", "other", "R"), ..Reply::second() },
        Reply { service: Principal::tickets("S"), ..Reply::second() },
    ] {
        assert!(Reply::read_second(&lie.bytes()).is_err_and(|error| error.is_auth()));
    }
    assert!(Reply::read_first(&Reply::second().bytes()).is_err_and(|error| error.is_malformed()));
}

#[test]
fn broken_answers_of_a_kdc_are_errors() {
    let hint = sequence(&[der::integer(0, 18), der::string(1, "salt"), der::octets(2, &[0, 0, 0, 1])]);
    let hints = sequence(&[sequence(&[der::integer(1, 19), der::octets(2, &sequence(&[hint]))])]);
    for whole in [Reply::first().bytes(), refusal(25, &hints)] {
        assert!(Reply::read_first(&whole).is_ok());
        for at in 0..whole.len() {
            assert!(Reply::read_first(&whole[..at]).is_err(), "{at}");
            for value in [0, 1, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                let mut broken = whole.clone();
                broken[at] = value;
                // No panic; some bytes have no meaning, so it need not be an error.
                drop(Reply::read_first(&broken));
            }
        }
    }
}

#[test]
fn a_kdc_that_wants_a_proof_gets_one_of_its_kind() {
    let hint = |number, rounds: u32| {
        sequence(&[der::integer(0, number), der::string(1, "pepper"), der::octets(2, &rounds.to_be_bytes())])
    };
    let hints = |hints: &[Vec<u8>]| {
        let types = sequence(&[der::integer(1, 19), der::octets(2, &sequence(hints))]);
        let cookie = sequence(&[der::integer(1, 133), der::octets(2, b"cookie")]);
        refusal(25, &sequence(&[types, cookie]))
    };
    let password = Credential::Password("hunter2".into());
    let answer = |bytes: &[u8]| {
        AsExchange { client: &me(), credential: &password, nonce: 5 }.answer(bytes, NOW, &CHANCE)
    };
    // The first is RC4, which we have not.
    let Ok(AsStep::Prove(proof)) = answer(&hints(&[hint(23, 1), hint(17, 3), hint(18, 1)])) else { panic!() };
    let mut fields = Der::message(&proof, 10).unwrap();
    let mut padata = fields.field(3).unwrap().expect(der::SEQUENCE).unwrap();
    let mut stamp = padata.expect(der::SEQUENCE).unwrap();
    assert_eq!(stamp.field(1).unwrap().integer().unwrap(), 2);
    let sealed = Der(stamp.field(2).unwrap().octets().unwrap());
    let derived = Key::of_password(Enctype::Aes128Sha1, b"hunter2", b"pepper", Some(3)).unwrap();
    let plain = kdc::decrypted(sealed, &derived, Usage::Timestamp).unwrap();
    assert_eq!(*plain, sequence(&NOW.fields(0, 1)));
    assert!(String::from_utf8_lossy(&proof).contains("cookie"));

    let error = answer(&hints(&[hint(17, u32::MAX)])).err().unwrap();
    assert!(error.to_string().contains("4294967295 rounds"), "{error}");
    assert!(answer(&hints(&[hint(23, 1)])).is_err_and(|error| error.is_auth()));
    assert!(matches!(answer(&refusal(25, b"")), Ok(AsStep::Prove(_))));
    let error = answer(&refusal(6, b"")).err().unwrap();
    assert!(error.to_string().ends_with("Kerberos error 6: it does not know the client"), "{error}");
}

#[test]
fn a_request_for_a_service_is_proved_and_bound() {
    let tickets = Ticket { bytes: der::element(0x61, &[b"ticket"]), key: key(2), end: 0 };
    let request = tgs_request(&me(), &broker(), &tickets, NOW, &CHANCE);
    let mut fields = Der::message(&request, 12).unwrap();
    let mut padata = fields.field(3).unwrap().expect(der::SEQUENCE).unwrap().expect(der::SEQUENCE).unwrap();
    let body = fields.field(4).unwrap().0;
    let shown = padata.field(2).unwrap().octets().unwrap();
    let mut shown = Der::message(shown, 14).unwrap();
    assert_eq!(shown.field(3).unwrap().0, tickets.bytes);
    let plain = kdc::decrypted(shown.field(4).unwrap(), &key(2), Usage::TgsAuthenticator).unwrap();
    let mut proof = Der::message(&plain, 2).unwrap();
    assert!(me().is(proof.field(2).unwrap(), b"R").unwrap());
    let mut checksum = proof.field(3).unwrap().expect(der::SEQUENCE).unwrap();
    assert_eq!(checksum.field(0).unwrap().integer().unwrap(), 16);
    assert_eq!(checksum.field(1).unwrap().octets().unwrap(), key(2).checksum(Usage::TgsChecksum, &[body]));
}

/// What an acceptor says; each field can be made wrong.
struct Acceptor {
    ticket: Key,
    time: Now,
    subkey: Option<Key>,
    flags: u8,
    mac_len: u16,
    sequence: u64,
    offer: Vec<u8>,
    turned: u16,
}

impl Acceptor {
    fn honest(subkey: bool) -> Self {
        Self {
            ticket: key(2),
            time: NOW,
            subkey: subkey.then(|| Key::random(Enctype::Aes128Sha256, &[8; 32])),
            flags: if subkey { 5 } else { 1 },
            mac_len: if subkey { 16 } else { 12 },
            sequence: 0x8000_0001,
            offer: vec![7, 0, 0x10, 0],
            turned: 0,
        }
    }

    fn proof(&self) -> Vec<u8> {
        let mut fields = self.time.fields(0, 1).to_vec();
        fields.extend(self.subkey.as_ref().map(|subkey| key_field(2, subkey)));
        // As Java writes it, signed.
        fields.push(der::integer(3, i64::from(0x8000_0001_u32 as i32)));
        let sealed = encrypted(&self.ticket, Usage::ApReply, &[1; 16], &message(27, &fields));
        let reply = message(15, &[der::integer(0, 5), der::integer(1, 15), der::field(2, &sealed)]);
        let mech = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2, 2, 0];
        der::element(0x60, &[&mech, &reply])
    }

    fn layers(&self) -> Vec<u8> {
        let key = self.subkey.clone().unwrap_or_else(|| Key::random(Enctype::Aes256Sha1, &[6; 32]));
        let sequence = self.sequence.to_be_bytes();
        let summed = [&[5, 4, self.flags, 0xff, 0, 0, 0, 0][..], &sequence].concat();
        let mac = key.checksum(Usage::AcceptorSeal, &[&self.offer, &summed]);
        let mut body = [&self.offer[..], mac.get(..self.mac_len.into()).unwrap_or(&mac)].concat();
        let turn = usize::from(self.turned) % body.len().max(1);
        body.rotate_right(turn);
        let header = [&[5, 4, self.flags, 0xff][..], &self.mac_len.to_be_bytes(), &self.turned.to_be_bytes()];
        [&header.concat(), &sequence[..], &body].concat()
    }

    /// How far it comes with us: the last token, or the error.
    fn converse(proof: &[u8], layers: &[u8]) -> Result<Vec<u8>> {
        let ticket = Ticket { bytes: b"t".to_vec(), key: key(2), end: 0 };
        let chance = gss::Chance { confounder: [1; 16], key: [6; 32], sequence: u32::MAX };
        let (context, first) = Context::start(&me(), &ticket, NOW, &chance);
        assert_eq!(first[0], 0x60);
        let (context, empty) = context.respond(proof, "me@R")?;
        assert_eq!(empty.as_deref(), Some(&[][..]));
        let (context, last) = context.respond(layers, "me@R")?;
        let (context, end) = context.respond(b"", "me@R")?;
        assert!(end.is_none() && context.respond(b"", "me@R").is_err());
        Ok(last.unwrap())
    }

    fn result(&self) -> Result<Vec<u8>> {
        Self::converse(&self.proof(), &self.layers())
    }
}

#[test]
fn an_acceptor_is_answered_with_no_layer_and_our_name() {
    for (subkey, flags, mac_len) in [(true, 4, 16), (false, 0, 12)] {
        for turned in [0, 1, 12, 28, u16::MAX] {
            let last = Acceptor { turned, ..Acceptor::honest(subkey) }.result().unwrap();
            assert_eq!(last[..4], [5, 4, flags, 0xff]);
            assert_eq!(last[4..16], [0, mac_len, 0, 0, 0, 0, 0, 0, 0x3f, 0xff, 0xff, 0xff]);
            assert_eq!(&last[16..24], b"\x01\0\0\0me@R");
            assert_eq!(last.len(), 24 + usize::from(mac_len));
        }
    }
}

#[test]
fn an_acceptor_that_lies_is_refused() {
    for (says, lie) in [
        ("is not of our key", Acceptor { ticket: key(5), ..Acceptor::honest(true) }),
        ("another message than ours", Acceptor { time: Now(NOW.0 + 1), ..Acceptor::honest(true) }),
        ("another message than ours", Acceptor { time: Now(NOW.0 + 1_000_000), ..Acceptor::honest(true) }),
        ("not the broker's", Acceptor { flags: 4, ..Acceptor::honest(true) }),
        ("not the broker's", Acceptor { flags: 1, ..Acceptor::honest(true) }),
        ("is encrypted", Acceptor { flags: 7, ..Acceptor::honest(true) }),
        ("no checksum of our kind", Acceptor { mac_len: 0, ..Acceptor::honest(true) }),
        ("no checksum of our kind", Acceptor { mac_len: 1, ..Acceptor::honest(true) }),
        ("no checksum of our kind", Acceptor { mac_len: u16::MAX, ..Acceptor::honest(true) }),
        ("out of turn", Acceptor { sequence: 1, ..Acceptor::honest(true) }),
        ("wants a security layer", Acceptor { offer: vec![6, 0, 0, 0], ..Acceptor::honest(true) }),
        ("wants a security layer", Acceptor { offer: vec![1, 0, 0], ..Acceptor::honest(true) }),
        ("not even none", Acceptor { offer: vec![], ..Acceptor::honest(true) }),
    ] {
        let error = lie.result().unwrap_err();
        assert!(error.is_auth() && error.to_string().contains(says), "{error} should say {says}");
    }
    let honest = Acceptor::honest(true);
    let mech = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2, 3, 0];
    let refused = der::element(0x60, &[&mech, &refusal(37, b"")]);
    let error = Acceptor::converse(&refused, b"").unwrap_err();
    assert!(error.to_string().contains("the broker answers with Kerberos error 37: its clock"), "{error}");
    assert!(Acceptor::converse(b"", &honest.layers()).is_err());
}

#[test]
fn broken_tokens_of_an_acceptor_are_errors() {
    let honest = Acceptor::honest(true);
    let (proof, layers) = (honest.proof(), honest.layers());
    for at in 0..proof.len() {
        assert!(Acceptor::converse(&proof[..at], &layers).is_err(), "{at}");
        for value in [0, 1, 0x30, 0x7f, 0x80, 0x84, 0xff] {
            let mut broken = proof.clone();
            broken[at] = value;
            // No panic; the version numbers have no meaning, so it need not be an error.
            drop(Acceptor::converse(&broken, &layers));
        }
    }
    for at in 0..layers.len() {
        assert!(Acceptor::converse(&proof, &layers[..at]).is_err(), "{at}");
        let mut broken = layers.clone();
        broken[at] ^= 0x80;
        // The turn is not under the checksum, but then the checksum is not where it was.
        assert!(Acceptor::converse(&proof, &broken).is_err(), "{at}");
    }
}
