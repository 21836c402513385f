//! A range of versions as the specs write it: `none`, `3`, `3-7`, `3+`.

use std::fmt;

use crate::Result;

/// An inclusive range of versions. The upper end of `3+` is [`i16::MAX`] until it is clipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Versions {
    pub first: i16,
    pub last: i16,
}

impl Versions {
    /// Parses one range; `none` is `None`.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let number = |s: &str| s.parse::<i16>().map_err(|_| format!("not a version range: {text:?}"));
        if text == "none" {
            return Ok(None);
        }
        let (first, last) = if let Some(first) = text.strip_suffix('+') {
            (number(first)?, i16::MAX)
        } else if let Some((first, last)) = text.split_once('-') {
            (number(first)?, number(last)?)
        } else {
            (number(text)?, number(text)?)
        };
        if first < 0 || first > last {
            return Err(format!("not a version range: {text:?}"));
        }
        Ok(Some(Self { first, last }))
    }

    pub fn contains(self, version: i16) -> bool {
        (self.first..=self.last).contains(&version)
    }

    /// The versions in both.
    pub fn intersect(self, other: Self) -> Option<Self> {
        let both = Self { first: self.first.max(other.first), last: self.last.min(other.last) };
        (both.first <= both.last).then_some(both)
    }

    /// The versions in either, if no version lies between them.
    pub fn union(self, other: Self) -> Option<Self> {
        let apart = self.first > other.last.saturating_add(1) || other.first > self.last.saturating_add(1);
        (!apart).then(|| Self { first: self.first.min(other.first), last: self.last.max(other.last) })
    }

    /// As the specs write it, within a message that goes up to `last`.
    pub fn within(self, last: i16) -> String {
        if self.last >= last { format!("{}+", self.first) } else { self.to_string() }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (first, i16::MAX) => write!(f, "{first}+"),
            (first, last) if first == last => write!(f, "{first}"),
            (first, last) => write!(f, "{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_parse_and_print() {
        for text in ["0", "3-7", "12+"] {
            assert_eq!(Versions::parse(text).unwrap().unwrap().to_string(), text);
        }
        assert_eq!(Versions::parse("none").unwrap(), None);
        for bad in ["", "7-3", "-1", "a", "3+4"] {
            assert!(Versions::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hole_has_no_union() {
        let range = |text| Versions::parse(text).unwrap().unwrap();
        assert_eq!(range("0-3").union(range("4-9")), Some(range("0-9")));
        assert_eq!(range("0-3").union(range("5-9")), None);
        assert_eq!(range("0-3").intersect(range("4+")), None);
    }
}
