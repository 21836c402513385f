//! Keytabs: files with the keys of principals (MIT's format, version 2).

use super::crypto::{Enctype, Key};
use super::principal::Principal;
use crate::{Error, Result};

/// The keys of one principal, the newest first.
pub(super) fn keys(file: &[u8], principal: &Principal) -> Result<Vec<Key>> {
    let Some(mut rest) = file.strip_prefix(&[5, 2]) else {
        return Err(Error::invalid("no keytab of version 2"));
    };
    let mut found = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk() {
        let len = i32::from_be_bytes(*len);
        // A negative length is a hole that a deleted entry left.
        let size = len.unsigned_abs() as usize;
        // Zeros may follow the last entry.
        if size == 0 {
            break;
        }
        let (entry, after) =
            after.split_at_checked(size).ok_or_else(|| Error::invalid("a keytab that ends too early"))?;
        rest = after;
        if len > 0 {
            let broken = || Error::invalid("a broken entry in a keytab");
            let entry = Entry::read(entry, principal).ok_or_else(broken)?;
            if let Some(enctype) = entry.enctype.filter(|_| entry.is_ours) {
                found.push((entry.version, Key::new(enctype, entry.key).map_err(|_| broken())?));
            }
        }
    }
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    Ok(found.into_iter().map(|(_, key)| key).collect())
}

struct Entry<'a> {
    is_ours: bool,
    version: u32,
    /// None if it is of a kind that we do not know.
    enctype: Option<Enctype>,
    key: &'a [u8],
}

impl<'a> Entry<'a> {
    /// `None` if it is broken.
    fn read(entry: &'a [u8], principal: &Principal) -> Option<Self> {
        let mut rest = entry;
        let mut take = |len: usize| -> Option<&'a [u8]> {
            let (taken, after) = rest.split_at_checked(len)?;
            rest = after;
            Some(taken)
        };
        let parts = number(take(2)?);
        let realm_len = number(take(2)?);
        let mut same = take(realm_len as usize)? == principal.realm.as_bytes();
        same &= parts as usize == principal.parts.len();
        for at in 0..parts as usize {
            let len = number(take(2)?);
            let part = take(len as usize)?;
            same &= principal.parts.get(at).is_some_and(|own| own.as_bytes() == part);
        }
        // The kind of name and the time of writing say nothing that we need.
        take(8)?;
        let short_version = number(take(1)?);
        let enctype = number(take(2)?);
        let key_len = number(take(2)?);
        let key = take(key_len as usize)?;
        // Newer files repeat the version with more room.
        let version = match take(4).map(number) {
            Some(version) if version != 0 => version,
            _ => short_version,
        };
        Some(Self { is_ours: same, version, enctype: Enctype::from_number(i64::from(enctype)), key })
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(principal: &Principal, version: u32, enctype: u16, key: &[u8]) -> Vec<u8> {
        let mut entry = (principal.parts.len() as u16).to_be_bytes().to_vec();
        for text in std::iter::once(&principal.realm).chain(&principal.parts) {
            entry.extend((text.len() as u16).to_be_bytes());
            entry.extend(text.as_bytes());
        }
        entry.extend([0, 0, 0, 1, 1, 2, 3, 4, version as u8]);
        entry.extend(enctype.to_be_bytes());
        entry.extend((key.len() as u16).to_be_bytes());
        entry.extend(key);
        entry.extend(version.to_be_bytes());
        [&(entry.len() as i32).to_be_bytes()[..], &entry].concat()
    }

    #[test]
    fn the_newest_keys_of_the_principal_are_found() {
        let me = Principal::parse("kafka/host@R", None).unwrap();
        let other = Principal::parse("kafka/host@S", None).unwrap();
        let hole = [&(-5i32).to_be_bytes()[..], &[1; 5]].concat();
        let file = [
            vec![5, 2],
            entry(&me, 1, 17, &[1; 16]),
            hole,
            entry(&other, 9, 17, &[9; 16]),
            entry(&me, 300, 18, &[2; 32]),
            entry(&me, 2, 23, &[3; 16]),
            vec![0; 8],
        ]
        .concat();
        let found: Vec<_> =
            keys(&file, &me).unwrap().iter().map(|key| (key.enctype, key.bytes()[0])).collect();
        assert_eq!(found, [(Enctype::Aes256Sha1, 2), (Enctype::Aes128Sha1, 1)]);
        assert!(keys(&file[..file.len() - 8], &Principal::parse("x@R", None).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn broken_files_are_refused() {
        let me = Principal::parse("me@R", None).unwrap();
        let file = [vec![5, 2], entry(&me, 1, 17, &[1; 16])].concat();
        assert_eq!(keys(&file, &me).unwrap().len(), 1);
        for cut in 7..file.len() {
            assert!(keys(&file[..cut], &me).unwrap_err().is_invalid(), "{cut}");
        }
        for at in 6..file.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut broken = file.clone();
                broken[at] = value;
                // No panic; whether it is an error depends on the byte.
                drop(keys(&broken, &me));
            }
        }
        for wrong in [&[][..], &[5], &[5, 1, 0, 0, 0, 1, 1], b"text"] {
            assert!(keys(wrong, &me).is_err());
        }
        let short_key = [vec![5, 2], entry(&me, 1, 18, &[1; 16])].concat();
        assert!(keys(&short_key, &me).unwrap_err().is_invalid());
    }
}
