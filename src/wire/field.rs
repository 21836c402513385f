//! How each of Kafka's types lies on the wire, in the plain form and the compact one of KIP-482.
//!
//! `flex` says which form: it is the same for a whole message, decided by its version, and handed
//! down. Decoding is in place, into a value that holds the defaults.

use crate::wire::{Ints, Reader, Str, Uuid, Writer};
use crate::{Error, Result};
use bytes::Bytes;

/// What is known of a type without a value of it. Only types of this crate and those of the wire are
/// fields: what the three traits ask for may grow with any release.
pub trait Field: sealed::Sealed {
    /// The fewest bytes that a value takes. An array that claims more elements than there are bytes
    /// for is refused by this, so it bounds the memory that a claim can take.
    fn min_len(version: i16, flex: bool) -> usize;

    /// The fewest bytes that a value or null takes.
    fn min_nullable_len(version: i16, flex: bool) -> usize {
        Self::min_len(version, flex)
    }

    /// Whether this is null.
    fn is_null(&self) -> bool {
        false
    }
}

/// A value that can be written. The methods for null and not null are for `Option`, whose form
/// depends on what is in it.
pub trait Encode: Field {
    fn write(&self, w: &mut Writer, version: i16, flex: bool) -> Result<()>;

    /// Writes null. The form of a struct: one byte before it (KIP-893).
    fn write_null(w: &mut Writer, _flex: bool) {
        w.put_array((-1_i8).to_be_bytes());
    }

    /// Writes a value where null could be.
    fn write_some(&self, w: &mut Writer, version: i16, flex: bool) -> Result<()> {
        w.put_array(1_i8.to_be_bytes());
        self.write(w, version, flex)
    }
}

/// A value that can be read, over one that holds the defaults.
pub trait Decode: Field + Default {
    fn read(&mut self, r: &mut Reader<'_>, version: i16, flex: bool) -> Result<()>;

    /// Reads a value or null.
    fn read_nullable(r: &mut Reader<'_>, version: i16, flex: bool) -> Result<Option<Self>> {
        if i8::from_be_bytes(r.array()?) < 0 {
            return Ok(None);
        }
        let mut value = Self::default();
        value.read(r, version, flex)?;
        Ok(Some(value))
    }
}

macro_rules! numbers {
    ($($ty:ty: $size:literal)*) => {$(
        impl Field for $ty {
            fn min_len(_: i16, _: bool) -> usize {
                $size
            }
        }
        impl Encode for $ty {
            #[inline]
            fn write(&self, w: &mut Writer, _: i16, _: bool) -> Result<()> {
                w.put_array(self.to_be_bytes());
                Ok(())
            }
        }
        impl Decode for $ty {
            #[inline]
            fn read(&mut self, r: &mut Reader<'_>, _: i16, _: bool) -> Result<()> {
                *self = <$ty>::from_be_bytes(r.array()?);
                Ok(())
            }
        }
    )*};
}

numbers! { i8: 1 i16: 2 i32: 4 i64: 8 u16: 2 u32: 4 f64: 8 }

impl Field for bool {
    fn min_len(_: i16, _: bool) -> usize {
        1
    }
}

impl Encode for bool {
    #[inline]
    fn write(&self, w: &mut Writer, _: i16, _: bool) -> Result<()> {
        w.put_array([u8::from(*self)]);
        Ok(())
    }
}

impl Decode for bool {
    #[inline]
    fn read(&mut self, r: &mut Reader<'_>, _: i16, _: bool) -> Result<()> {
        let [byte] = r.array()?;
        *self = byte != 0;
        Ok(())
    }
}

impl Field for Uuid {
    fn min_len(_: i16, _: bool) -> usize {
        16
    }
}

impl Encode for Uuid {
    #[inline]
    fn write(&self, w: &mut Writer, _: i16, _: bool) -> Result<()> {
        w.put_array(self.to_bytes());
        Ok(())
    }
}

impl Decode for Uuid {
    #[inline]
    fn read(&mut self, r: &mut Reader<'_>, _: i16, _: bool) -> Result<()> {
        *self = Self::from_bytes(r.array()?);
        Ok(())
    }
}

impl Field for Str {
    #[inline]
    fn min_len(_: i16, flex: bool) -> usize {
        if flex { 1 } else { 2 }
    }
}

impl Encode for Str {
    #[inline]
    fn write(&self, w: &mut Writer, _: i16, flex: bool) -> Result<()> {
        let len = i16::try_from(self.len()).map_err(|_| too_long("a string", self.len()))?;
        if flex {
            w.uvarint(len as u32 + 1);
        } else {
            w.put_array(len.to_be_bytes());
        }
        w.put(self.as_bytes());
        Ok(())
    }

    fn write_null(w: &mut Writer, flex: bool) {
        if flex { w.uvarint(0) } else { w.put_array((-1_i16).to_be_bytes()) }
    }

    #[inline]
    fn write_some(&self, w: &mut Writer, version: i16, flex: bool) -> Result<()> {
        self.write(w, version, flex)
    }
}

impl Decode for Str {
    #[inline]
    fn read(&mut self, r: &mut Reader<'_>, version: i16, flex: bool) -> Result<()> {
        *self = Self::read_nullable(r, version, flex)?.ok_or_else(|| null_refused(r))?;
        Ok(())
    }

    #[inline]
    fn read_nullable(r: &mut Reader<'_>, _: i16, flex: bool) -> Result<Option<Self>> {
        let Some(len) = r.string_length(flex)? else { return Ok(None) };
        match Self::from_utf8(r.take(len)?) {
            Ok(text) => Ok(Some(text)),
            Err(e) => Err(r.fail("a string is not UTF-8").because(e)),
        }
    }
}

impl Field for Bytes {
    #[inline]
    fn min_len(_: i16, flex: bool) -> usize {
        if flex { 1 } else { 4 }
    }
}

impl Encode for Bytes {
    fn write(&self, w: &mut Writer, _: i16, flex: bool) -> Result<()> {
        encode_length(w, self.len(), flex)?;
        w.put_shared(self);
        Ok(())
    }

    fn write_null(w: &mut Writer, flex: bool) {
        encode_null_length(w, flex);
    }

    fn write_some(&self, w: &mut Writer, version: i16, flex: bool) -> Result<()> {
        self.write(w, version, flex)
    }
}

impl Decode for Bytes {
    #[inline]
    fn read(&mut self, r: &mut Reader<'_>, version: i16, flex: bool) -> Result<()> {
        *self = Self::read_nullable(r, version, flex)?.ok_or_else(|| null_refused(r))?;
        Ok(())
    }

    #[inline]
    fn read_nullable(r: &mut Reader<'_>, _: i16, flex: bool) -> Result<Option<Self>> {
        match r.length(flex)? {
            Some(len) => r.take_shared(len).map(Some),
            None => Ok(None),
        }
    }
}

impl<T> Field for Vec<T> {
    #[inline]
    fn min_len(_: i16, flex: bool) -> usize {
        if flex { 1 } else { 4 }
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn write(&self, w: &mut Writer, version: i16, flex: bool) -> Result<()> {
        encode_length(w, self.len(), flex)?;
        self.iter().try_for_each(|item| item.write(w, version, flex))
    }

    fn write_null(w: &mut Writer, flex: bool) {
        encode_null_length(w, flex);
    }

    fn write_some(&self, w: &mut Writer, version: i16, flex: bool) -> Result<()> {
        self.write(w, version, flex)
    }
}

impl<T: Decode> Decode for Vec<T> {
    #[inline]
    fn read(&mut self, r: &mut Reader<'_>, version: i16, flex: bool) -> Result<()> {
        *self = Self::read_nullable(r, version, flex)?.ok_or_else(|| null_refused(r))?;
        Ok(())
    }

    fn read_nullable(r: &mut Reader<'_>, version: i16, flex: bool) -> Result<Option<Self>> {
        let min = T::min_len(version, flex);
        let Some(count) = r.count(flex, min)? else { return Ok(None) };
        let mut items = Self::with_capacity(count);
        r.owe(count * min);
        for _ in 0..count {
            r.pay(min);
            items.push(T::default());
            if let Some(item) = items.last_mut() {
                item.read(r, version, flex)?;
            }
        }
        Ok(Some(items))
    }
}

impl Field for Ints {
    #[inline]
    fn min_len(_: i16, flex: bool) -> usize {
        if flex { 1 } else { 4 }
    }
}

impl Encode for Ints {
    #[inline]
    fn write(&self, w: &mut Writer, _: i16, flex: bool) -> Result<()> {
        if !flex {
            return encode_numbers(self, w, flex);
        }
        // A few, with their length before them, fit a register of 16 bytes: one check for room and
        // one step forward. A metadata response takes a third less time for it.
        let at = |n: i32| u128::from(n as u32);
        match self[..] {
            [] => w.put_array([1]),
            [a] => w.put_array(front::<5>(2 << 120 | at(a) << 88)),
            [a, b] => w.put_array(front::<9>(3 << 120 | at(a) << 88 | at(b) << 56)),
            [a, b, c] => w.put_array(front::<13>(4 << 120 | at(a) << 88 | at(b) << 56 | at(c) << 24)),
            _ => return encode_numbers(self, w, flex),
        }
        Ok(())
    }

    fn write_null(w: &mut Writer, flex: bool) {
        encode_null_length(w, flex);
    }

    fn write_some(&self, w: &mut Writer, version: i16, flex: bool) -> Result<()> {
        self.write(w, version, flex)
    }
}

/// The first bytes of a number, most significant first.
#[inline]
fn front<const N: usize>(bits: u128) -> [u8; N] {
    bits.to_be_bytes().first_chunk().copied().unwrap_or([0; N])
}

#[inline(never)]
fn encode_numbers(numbers: &[i32], w: &mut Writer, flex: bool) -> Result<()> {
    encode_length(w, numbers.len(), flex)?;
    w.reserve(numbers.len() * 4);
    for number in numbers {
        w.put_array(number.to_be_bytes());
    }
    Ok(())
}

impl Decode for Ints {
    #[inline]
    fn read(&mut self, r: &mut Reader<'_>, version: i16, flex: bool) -> Result<()> {
        *self = Self::read_nullable(r, version, flex)?.ok_or_else(|| null_refused(r))?;
        Ok(())
    }

    #[inline]
    fn read_nullable(r: &mut Reader<'_>, _: i16, flex: bool) -> Result<Option<Self>> {
        let Some(count) = r.count(flex, 4)? else { return Ok(None) };
        let (wire, _) = r.take(count * 4)?.as_chunks();
        if wire.len() > 4 {
            return Ok(Some(decode_numbers(wire)));
        }
        let at = |i: usize| wire.get(i).map_or(0, |bytes| i32::from_be_bytes(*bytes));
        Ok(Some(Self::from_parts([at(0), at(1), at(2), at(3)], wire.len())))
    }
}

#[inline(never)]
fn decode_numbers(wire: &[[u8; 4]]) -> Ints {
    wire.iter().map(|bytes| i32::from_be_bytes(*bytes)).collect()
}

impl<T: Field> Field for Option<T> {
    #[inline]
    fn min_len(version: i16, flex: bool) -> usize {
        T::min_nullable_len(version, flex)
    }

    #[inline]
    fn is_null(&self) -> bool {
        self.is_none()
    }
}

impl<T: Encode> Encode for Option<T> {
    #[inline]
    fn write(&self, w: &mut Writer, version: i16, flex: bool) -> Result<()> {
        if let Some(value) = self {
            return value.write_some(w, version, flex);
        }
        T::write_null(w, flex);
        Ok(())
    }
}

impl<T: Decode> Decode for Option<T> {
    #[inline]
    fn read(&mut self, r: &mut Reader<'_>, version: i16, flex: bool) -> Result<()> {
        *self = T::read_nullable(r, version, flex)?;
        Ok(())
    }
}

/// A field that keeps the plain form in a flexible message: the client id of a request header, so
/// that a broker can read it before it knows the version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Legacy<T>(pub T);

impl<T: Field> Field for Legacy<T> {
    #[inline]
    fn min_len(version: i16, _: bool) -> usize {
        T::min_len(version, false)
    }

    fn is_null(&self) -> bool {
        self.0.is_null()
    }
}

impl<T: Encode> Encode for Legacy<T> {
    fn write(&self, w: &mut Writer, version: i16, _: bool) -> Result<()> {
        self.0.write(w, version, false)
    }
}

impl<T: Decode> Decode for Legacy<T> {
    fn read(&mut self, r: &mut Reader<'_>, version: i16, _: bool) -> Result<()> {
        self.0.read(r, version, false)
    }
}

#[inline]
pub(super) fn encode_length(w: &mut Writer, len: usize, flex: bool) -> Result<()> {
    let Ok(len) = i32::try_from(len) else { return Err(too_long("an array or bytes", len)) };
    if flex {
        w.uvarint(len as u32 + 1);
    } else {
        w.put_array(len.to_be_bytes());
    }
    Ok(())
}

fn encode_null_length(w: &mut Writer, flex: bool) {
    if flex { w.uvarint(0) } else { w.put_array((-1_i32).to_be_bytes()) }
}

pub(crate) mod sealed {
    use bytes::Bytes;

    use crate::wire::{Ints, Legacy, Str, Uuid};

    /// Cannot be named outside of this crate.
    pub trait Sealed {}

    macro_rules! seal {
        ($($ty:ty)*) => { $( impl Sealed for $ty {} )* };
    }

    seal! { i8 i16 i32 i64 u16 u32 f64 bool Uuid Str Bytes Ints }

    impl<T> Sealed for Vec<T> {}
    impl<T> Sealed for Option<T> {}
    impl<T> Sealed for Legacy<T> {}
}

#[cold]
fn too_long(what: &str, len: usize) -> Error {
    Error::invalid(format!("{what} of {len} is longer than the protocol can say"))
}

#[cold]
#[inline(never)]
pub(crate) fn null_refused(r: &Reader<'_>) -> Error {
    r.fail("null where the protocol has none")
}

#[cold]
#[inline(never)]
pub(crate) fn null_given(field: &'static str) -> Error {
    Error::invalid(format!("{field} may not be null in this version"))
}

#[cold]
#[inline(never)]
pub(crate) fn absent(field: &'static str) -> Error {
    Error::invalid(format!("{field} is set, and this version cannot carry it"))
}

/// Whether a field is set, that is, is not its default.
#[inline]
#[allow(clippy::needless_pass_by_value, reason = "the default is made for this call")]
pub(crate) fn differs<T: PartialEq>(value: &T, default: T) -> bool {
    *value != default
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers_go_both_ways_in_both_forms_at_every_length() {
        let numbers = [1, -1, i32::MIN, i32::MAX, 0x0102_0304, 0, 7];
        for (len, flex) in (0..=numbers.len()).flat_map(|len| [(len, false), (len, true)]) {
            let list: Ints = Ints::from(&numbers[..len]);
            let mut expected = if flex { vec![len as u8 + 1] } else { vec![0, 0, 0, len as u8] };
            expected.extend(list.iter().flat_map(|number| number.to_be_bytes()));

            let mut writer = Writer::default();
            list.write(&mut writer, 0, flex).unwrap();
            let wire = writer.finish().into_bytes();
            assert_eq!(wire, expected, "{len} {flex}");

            let mut read: Ints = Ints::from([9; 5]);
            let mut reader = Reader::new(&wire);
            read.read(&mut reader, 0, flex).unwrap();
            reader.finish().unwrap();
            assert_eq!(read, list);
            let short = wire.slice(..wire.len() - 1);
            assert!(read.read(&mut Reader::new(&short), 0, flex).unwrap_err().is_malformed());
        }
    }
}
