//! The type of lists of 32-bit numbers: mostly the replicas of a partition, so a few are kept in place.

use std::fmt;
use std::ops::{Deref, DerefMut};

use smallvec::SmallVec;

/// A list of 32-bit numbers. Up to four take no memory of their own.
///
/// It is a slice to read, and is made from an array, a slice, a `Vec` or an iterator.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Ints(SmallVec<[i32; 4]>);

impl Ints {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a number at the end.
    pub fn push(&mut self, number: i32) {
        self.0.push(number);
    }

    /// The first `len` of four numbers; all of them if there are not that many.
    #[inline]
    pub(crate) fn from_parts(numbers: [i32; 4], len: usize) -> Self {
        Self(SmallVec::from_buf_and_len(numbers, len.min(4)))
    }
}

impl Deref for Ints {
    type Target = [i32];

    #[inline]
    fn deref(&self) -> &[i32] {
        &self.0
    }
}

impl DerefMut for Ints {
    fn deref_mut(&mut self) -> &mut [i32] {
        &mut self.0
    }
}

impl FromIterator<i32> for Ints {
    fn from_iter<I: IntoIterator<Item = i32>>(numbers: I) -> Self {
        Self(numbers.into_iter().collect())
    }
}

impl Extend<i32> for Ints {
    fn extend<I: IntoIterator<Item = i32>>(&mut self, numbers: I) {
        self.0.extend(numbers);
    }
}

impl From<&[i32]> for Ints {
    fn from(numbers: &[i32]) -> Self {
        Self(SmallVec::from_slice(numbers))
    }
}

impl<const N: usize> From<[i32; N]> for Ints {
    fn from(numbers: [i32; N]) -> Self {
        Self::from(&numbers[..])
    }
}

impl From<Vec<i32>> for Ints {
    fn from(numbers: Vec<i32>) -> Self {
        Self(numbers.into())
    }
}

impl<'a> IntoIterator for &'a Ints {
    type Item = &'a i32;
    type IntoIter = std::slice::Iter<'a, i32>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Ints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
