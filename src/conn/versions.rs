//! What a broker can do: the versions of its APIs (KIP-35, KIP-511) and the features of its cluster
//! (KIP-584), as its answer to `ApiVersions` says, and which version of an API is used between us.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::messages::api_versions::ApiVersionsResponse;
use crate::wire::{ApiKey, Str};
use crate::{Error, Result};

/// APIs beyond this number are no API of Kafka's for years to come.
const KEYS: usize = 256;

/// Names of features that are kept; a broker has a handful.
const FEATURES_MAX: usize = 256;

/// Versions of APIs to which a client is held, whatever more both sides could.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pins(BTreeMap<ApiKey, RangeInclusive<i16>>);

impl Pins {
    /// Holds an API to these versions.
    pub(crate) fn set(&mut self, key: ApiKey, versions: RangeInclusive<i16>) {
        self.0.insert(key, versions);
    }

    /// Refuses ranges of which nothing is left, and those that would have no effect.
    pub(crate) fn check(&self) -> Result<()> {
        for (key, pinned) in &self.0 {
            let all = key.versions().ok_or_else(|| Error::invalid(format!("weir does not have {key}")))?;
            let (from, to) = (pinned.start(), pinned.end());
            if *key == ApiKey::API_VERSIONS {
                return Err(Error::invalid("ApiVersions is how versions are found out, and is held to none"));
            }
            if common(&all, pinned).is_empty() {
                let (first, last) = all.into_inner();
                return Err(Error::invalid(format!(
                    "{key} held to versions {from} to {to}; there are {first} to {last}"
                )));
            }
        }
        Ok(())
    }

    /// The versions of an API that we are ready to use: the stable ones, unless others were asked for.
    pub(super) fn ours(&self, key: ApiKey) -> Option<RangeInclusive<i16>> {
        match self.0.get(&key) {
            Some(pinned) => key.versions().map(|all| common(&all, pinned)),
            None => key.stable_versions(),
        }
    }
}

fn common(a: &RangeInclusive<i16>, b: &RangeInclusive<i16>) -> RangeInclusive<i16> {
    *a.start().max(b.start())..=*a.end().min(b.end())
}

/// What a broker can do.
#[derive(Debug, Clone, Default)]
pub struct Versions {
    /// By API key; empty ranges are APIs that the broker does not have.
    apis: Vec<Option<(i16, i16)>>,
    features: BTreeMap<Str, i16>,
    features_epoch: i64,
    pins: Pins,
}

impl Versions {
    /// From the broker's answer. Entries that cannot be right, such as a lowest version above the
    /// highest, are left out: the API is then unsupported. Of an API that is named twice the first counts.
    pub(crate) fn new(answer: &ApiVersionsResponse, pins: Pins) -> Self {
        let mut apis = Vec::new();
        for api in &answer.api_keys {
            let (min, max) = (api.min_version, api.max_version);
            let Ok(key) = usize::try_from(api.api_key) else { continue };
            if key >= KEYS || min < 0 || min > max {
                continue;
            }
            if apis.len() <= key {
                apis.resize(key + 1, None);
            }
            if let Some(slot) = apis.get_mut(key) {
                slot.get_or_insert((min, max));
            }
        }
        let features = answer.finalized_features.iter().take(FEATURES_MAX);
        let features = features.map(|feature| (feature.name.clone(), feature.max_version_level)).collect();
        Self { apis, features, features_epoch: answer.finalized_features_epoch, pins }
    }

    /// The versions of an API that the broker says it has.
    pub fn theirs(&self, key: ApiKey) -> Option<RangeInclusive<i16>> {
        let index = usize::try_from(key.0).ok()?;
        self.apis.get(index).copied().flatten().map(|(min, max)| min..=max)
    }

    /// The versions of an API that both sides have and no setting excludes. Fails if there is none,
    /// saying what each side has.
    pub fn usable(&self, key: ApiKey) -> Result<RangeInclusive<i16>> {
        let Some(theirs) = self.theirs(key) else {
            return Err(Error::unsupported(format!("the broker does not have {key}")));
        };
        let Some(ours) = self.pins.ours(key) else {
            return Err(Error::unsupported(format!("weir does not have {key}")));
        };
        let both = common(&ours, &theirs);
        if both.is_empty() {
            let words = |range: &RangeInclusive<i16>| format!("{} to {}", range.start(), range.end());
            let (ours, theirs) = (words(&ours), words(&theirs));
            return Err(Error::unsupported(format!(
                "no common version of {key}: the broker has {theirs}, this client uses {ours}"
            )));
        }
        Ok(both)
    }

    /// The version of an API to use: the highest of those that are [`usable`](Self::usable).
    pub fn version_of(&self, key: ApiKey) -> Result<i16> {
        self.usable(key).map(|versions| *versions.end())
    }

    /// The level at which a feature of the cluster is switched on (KIP-584), such as 2 for
    /// `transaction.version`; 0 if it is not.
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// All features that are switched on, with their levels.
    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features.iter().map(|(name, level)| (name.as_str(), *level))
    }

    /// Grows with every change of a feature; -1 if the broker does not say.
    pub fn features_epoch(&self) -> i64 {
        self.features_epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::api_versions::{ApiVersion, FinalizedFeatureKey};

    fn answer(apis: &[(i16, i16, i16)]) -> ApiVersionsResponse {
        let api = |&(api_key, min_version, max_version): &(i16, i16, i16)| ApiVersion {
            api_key,
            min_version,
            max_version,
            ..ApiVersion::default()
        };
        ApiVersionsResponse { api_keys: apis.iter().map(api).collect(), ..ApiVersionsResponse::default() }
    }

    #[test]
    fn the_highest_common_version_is_used() {
        let versions = Versions::new(&answer(&[(3, 0, 9), (1, 4, 99)]), Pins::default());
        assert_eq!(versions.version_of(ApiKey::METADATA).unwrap(), 9);
        assert_eq!(versions.usable(ApiKey::FETCH).unwrap(), 4..=18);
        let missing = versions.version_of(ApiKey::PRODUCE).unwrap_err();
        assert!(missing.is_unsupported() && missing.to_string().contains("Produce"), "{missing}");
    }

    #[test]
    fn a_pin_lowers_raises_and_may_leave_nothing() {
        let mut pins = Pins::default();
        pins.set(ApiKey::METADATA, 0..=7);
        pins.set(ApiKey::FETCH, 12..=100);
        pins.set(ApiKey::INIT_PRODUCER_ID, 0..=6);
        let versions = Versions::new(&answer(&[(3, 0, 9), (1, 4, 11), (22, 0, 6)]), pins);
        assert_eq!(versions.version_of(ApiKey::METADATA).unwrap(), 7);
        let nothing = versions.version_of(ApiKey::FETCH).unwrap_err().to_string();
        assert!(nothing.contains("4 to 11") && nothing.contains("12 to 18"), "{nothing}");
        // Version 6 is unstable: used only because it was asked for.
        assert_eq!(versions.version_of(ApiKey::INIT_PRODUCER_ID).unwrap(), 6);
        let unpinned = Versions::new(&answer(&[(22, 0, 6)]), Pins::default());
        assert_eq!(unpinned.version_of(ApiKey::INIT_PRODUCER_ID).unwrap(), 5);
    }

    #[test]
    fn a_pin_that_leaves_nothing_is_refused() {
        #[allow(clippy::reversed_empty_ranges, reason = "that is what is refused")]
        for (key, versions) in [
            (ApiKey::METADATA, 5..=4),
            (ApiKey::METADATA, 90..=91),
            (ApiKey(999), 0..=1),
            (ApiKey::API_VERSIONS, 0..=3),
        ] {
            let mut pins = Pins::default();
            pins.set(key, versions.clone());
            assert!(pins.check().unwrap_err().is_invalid(), "{key} {versions:?}");
        }
        let mut pins = Pins::default();
        pins.set(ApiKey::METADATA, 0..=100);
        pins.check().unwrap();
    }

    #[test]
    fn b13_impossible_entries_are_unsupported_apis() {
        let hostile = answer(&[(3, 5, 4), (1, -3, 4), (-7, 0, 1), (i16::MAX, 0, 1), (0, 3, 9), (0, 0, 1)]);
        let versions = Versions::new(&hostile, Pins::default());
        for key in [ApiKey::METADATA, ApiKey::FETCH, ApiKey(-7), ApiKey(i16::MAX), ApiKey(99)] {
            assert!(versions.version_of(key).unwrap_err().is_unsupported(), "{key}");
        }
        assert_eq!(versions.theirs(ApiKey::PRODUCE), Some(3..=9), "the first of two counts");
        assert!(versions.apis.len() <= KEYS);
    }

    #[test]
    fn features_are_kept() {
        let mut answer = answer(&[]);
        answer.finalized_features.push(FinalizedFeatureKey {
            name: "transaction.version".into(),
            max_version_level: 2,
            ..FinalizedFeatureKey::default()
        });
        answer.finalized_features_epoch = 7;
        let versions = Versions::new(&answer, Pins::default());
        assert_eq!((versions.feature("transaction.version"), versions.feature("other")), (2, 0));
        assert_eq!(versions.features_epoch(), 7);
        assert_eq!(versions.features().collect::<Vec<_>>(), [("transaction.version", 2)]);
    }
}
