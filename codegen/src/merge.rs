//! One spec out of several releases: the newest release says what is, older ones add the versions
//! that it no longer has.
//!
//! Releases are compared version by version in what they share; a difference there is an error
//! that names both, unless it is a change of name that [`RENAMED`] or [`REPLACED`] lists. `ignorable`
//! (what a sender may leave out), map keys and entity types are no difference on the wire: there the
//! newest release is followed.

use std::collections::BTreeMap;

use crate::Result;
use crate::model::{Field, Kind, Message, Struct};
use crate::versions::Versions;

/// The specs of one jar.
#[derive(Debug)]
pub struct Release {
    pub name: String,
    pub messages: Vec<Message>,
}

/// A message of an older release that a newer one replaced under another name. Its versions are
/// all in the newer one, with the same bytes.
struct Replaced {
    older: &'static str,
    newer: &'static str,
}

/// KIP-1142 made the list of client metrics resources a list of any config resources.
const REPLACED: &[Replaced] = &[
    Replaced { older: "ListClientMetricsResourcesRequest", newer: "ListConfigResourcesRequest" },
    Replaced { older: "ListClientMetricsResourcesResponse", newer: "ListConfigResourcesResponse" },
];

/// A field with another name in an older release and the same bytes.
struct Renamed {
    message: &'static str,
    older: &'static str,
    newer: &'static str,
}

const RENAMED: &[Renamed] = &[
    Renamed { message: "TxnOffsetCommitRequest", older: "GenerationId", newer: "GenerationIdOrMemberEpoch" },
    Renamed { message: "VoteRequest", older: "CandidateEpoch", newer: "ReplicaEpoch" },
    Renamed { message: "VoteRequest", older: "CandidateId", newer: "ReplicaId" },
    Renamed { message: "VoteRequest", older: "CandidateDirectoryId", newer: "ReplicaDirectoryId" },
];

fn apply_renames(message: &mut Message) {
    let name = message.name.clone();
    for renamed in RENAMED.iter().filter(|renamed| renamed.message == name) {
        for field in message.bodies_mut().flatten().filter(|field| field.name == renamed.older) {
            renamed.newer.clone_into(&mut field.name);
        }
    }
}

fn is_replaced(message: &Message, newer: &BTreeMap<(Kind, String), Message>) -> bool {
    let replaced = REPLACED.iter().find(|replaced| replaced.older == message.name);
    replaced.is_some_and(|replaced| newer.contains_key(&(message.kind, replaced.newer.to_owned())))
}

/// Merges releases, newest first. Only the newest keeps versions that are marked unstable.
pub fn merge(releases: Vec<Release>) -> Result<Vec<Message>> {
    let mut newest_first = releases.into_iter();
    let newest = newest_first.next().ok_or("no release to merge")?;
    let mut name = newest.name;
    let mut merged: BTreeMap<(Kind, String), Message> =
        newest.messages.into_iter().map(|m| ((m.kind, m.name.clone()), m)).collect();
    let mut contradictions = Vec::new();
    for mut older in newest_first {
        drop_unstable(&mut older.messages);
        let pair = format!("{name} and {}", older.name);
        for mut message in older.messages {
            apply_renames(&mut message);
            if message.versions.is_none() || is_replaced(&message, &merged) {
                continue;
            }
            let key = (message.kind, message.name.clone());
            let whole = match merged.remove(&key) {
                Some(newer) if newer.versions.is_some() => match merge_message(newer, message) {
                    Ok(whole) => whole,
                    Err(e) => {
                        contradictions.push(format!("{pair} disagree: {}: {e}", key.1));
                        continue;
                    }
                },
                Some(newer) => Message { api_key: newer.api_key, ..message },
                None => message,
            };
            merged.insert(key, whole);
        }
        name = older.name;
    }
    if !contradictions.is_empty() {
        return Err(contradictions.join("\n"));
    }
    merged.retain(|_, message| message.versions.is_some());
    Ok(merged.into_values().collect())
}

/// Takes the versions marked unstable out of a release that is not the newest. Only requests carry
/// the mark; it counts for the response too.
fn drop_unstable(messages: &mut Vec<Message>) {
    let unstable: Vec<i16> =
        messages.iter().filter(|m| m.latest_unstable).filter_map(|m| m.api_key).collect();
    for message in messages.iter_mut() {
        if message.api_key.is_some_and(|key| unstable.contains(&key)) {
            message.latest_unstable = false;
            message.versions = message.versions.and_then(|v| {
                let last = v.last.checked_sub(1).filter(|last| *last >= v.first)?;
                Some(Versions { last, ..v })
            });
            message.clip();
        }
    }
    messages.retain(|m| m.versions.is_some());
}

fn merge_message(newer: Message, older: Message) -> Result<Message> {
    let (Some(new), Some(old)) = (newer.versions, older.versions) else { return Ok(newer) };
    let versions = new.union(old).ok_or_else(|| format!("versions {new} and {old} leave a hole"))?;
    let shared = new.intersect(old);
    if newer.api_key != older.api_key {
        return Err("the API key changed".to_owned());
    }
    let flexible =
        join(newer.flexible, older.flexible, shared).map_err(|e| format!("flexible versions: {e}"))?;
    let context = Context { shared };
    let fields = context.fields("", &newer.fields, &older.fields)?;
    let structs = context.structs(&newer.structs, &older.structs)?;
    // What the newer release no longer says of a version that it has, it has corrected.
    let dropped = older.kips.into_iter().filter(|(version, _)| !new.contains(*version));
    let mut kips: Vec<_> = newer.kips.iter().copied().chain(dropped).collect();
    kips.sort_unstable();
    Ok(Message { versions: Some(versions), flexible, kips, fields, structs, ..newer })
}

struct Context {
    shared: Option<Versions>,
}

impl Context {
    fn structs(&self, newer: &[Struct], older: &[Struct]) -> Result<Vec<Struct>> {
        let mut merged = Vec::new();
        for new in newer {
            let fields = match older.iter().find(|old| old.name == new.name) {
                Some(old) => self.fields(&new.name, &new.fields, &old.fields)?,
                None => new.fields.clone(),
            };
            merged.push(Struct { name: new.name.clone(), fields });
        }
        merged.extend(older.iter().filter(|old| newer.iter().all(|new| new.name != old.name)).cloned());
        Ok(merged)
    }

    /// Merges two field lists. A field that only the older release has keeps its place after the
    /// field that it followed there; it shares no version with fields that only the newer has.
    fn fields(&self, parent: &str, newer: &[Field], older: &[Field]) -> Result<Vec<Field>> {
        let mut merged: Vec<Field> = Vec::new();
        for new in newer {
            let field = if let Some(old) = older.iter().find(|old| old.name == new.name) {
                self.field(new, old).map_err(|e| format!("{parent}.{}: {e}", new.name))?
            } else {
                self.only_one(parent, new, "newer")?;
                new.clone()
            };
            merged.push(field);
        }
        let mut at = 0;
        for old in older {
            if let Some(found) = merged.iter().position(|field| field.name == old.name) {
                if found < at {
                    return Err(format!("{parent}.{}: the order of fields changed", old.name));
                }
                at = found + 1;
            } else {
                self.only_one(parent, old, "older")?;
                merged.insert(at, old.clone());
                at += 1;
            }
        }
        Ok(merged)
    }

    /// A field that one release lacks may be in no version that both have.
    fn only_one(&self, parent: &str, field: &Field, which: &str) -> Result<()> {
        let both = field.versions.zip(self.shared).and_then(|(versions, shared)| versions.intersect(shared));
        match both {
            Some(both) => {
                Err(format!("{parent}.{} is in versions {both} of the {which} one only", field.name))
            }
            None => Ok(()),
        }
    }

    fn field(&self, newer: &Field, older: &Field) -> Result<Field> {
        let differs = |what: &str, new: &dyn std::fmt::Debug, old: &dyn std::fmt::Debug| {
            Err(format!("{what} is {new:?} in the newer and {old:?} in the older"))
        };
        if newer.ty != older.ty {
            return differs("type", &newer.ty, &older.ty);
        }
        if newer.tag != older.tag {
            return differs("tag", &newer.tag, &older.tag);
        }
        if newer.default != older.default {
            return differs("default", &newer.default, &older.default);
        }
        if newer.never_flexible != older.never_flexible {
            return differs("never flexible", &newer.never_flexible, &older.never_flexible);
        }
        let mut kips = [newer.kips.clone(), older.kips.clone()].concat();
        kips.sort_unstable();
        kips.dedup();
        Ok(Field {
            versions: join(newer.versions, older.versions, self.shared)?,
            nullable: join(newer.nullable, older.nullable, self.shared)
                .map_err(|e| format!("nullable: {e}"))?,
            kips,
            ..newer.clone()
        })
    }
}

/// The union of two ranges that must agree in the versions that both releases have.
fn join(
    newer: Option<Versions>,
    older: Option<Versions>,
    shared: Option<Versions>,
) -> Result<Option<Versions>> {
    if let Some(shared) = shared {
        let within = |range: Option<Versions>| range.and_then(|r| r.intersect(shared));
        if within(newer) != within(older) {
            return Err(format!("versions {newer:?} in the newer and {older:?} in the older"));
        }
    }
    match (newer, older) {
        (Some(new), Some(old)) => {
            new.union(old).map(Some).ok_or_else(|| format!("versions {new} and {old} leave a hole"))
        }
        (one, other) => Ok(one.or(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::parse;

    fn release(name: &str, versions: &str, fields: &str) -> Release {
        let text = format!(
            r#"{{ "apiKey": 5, "type": "request", "name": "TryRequest", "validVersions": "{versions}",
                 "flexibleVersions": "4+", "fields": [{fields}] }}"#
        );
        Release { name: name.to_owned(), messages: vec![parse(&text).unwrap()] }
    }

    fn field(name: &str, versions: &str) -> String {
        format!(r#"{{ "name": "{name}", "type": "int32", "versions": "{versions}" }}"#)
    }

    #[test]
    fn old_versions_come_back_with_their_fields_in_place() {
        let new = release("new", "3-6", &[field("A", "3+"), field("C", "3+"), field("D", "6+")].join(","));
        let old = release("old", "0-5", &[field("A", "0+"), field("B", "0-2"), field("C", "1+")].join(","));
        let merged = merge(vec![new, old]).unwrap().remove(0);
        assert_eq!(merged.versions.unwrap().to_string(), "0-6");
        assert_eq!(merged.flexible.unwrap().to_string(), "4-6");
        let fields: Vec<String> =
            merged.fields.iter().map(|f| format!("{} {}", f.name, f.versions.unwrap())).collect();
        assert_eq!(fields, ["A 0-6", "B 0-2", "C 1-6", "D 6"]);
    }

    #[test]
    fn a_contradiction_names_both_releases() {
        let new = release("kafka-clients-9", "0-3", &[field("A", "0+"), field("B", "2+")].join(","));
        let old = release("kafka-clients-8", "0-3", &field("A", "0+"));
        let error = merge(vec![new, old]).unwrap_err();
        assert!(error.contains("kafka-clients-9 and kafka-clients-8"), "{error}");
        assert!(error.contains("B is in versions 2-3 of the newer one only"), "{error}");
    }

    #[test]
    fn a_changed_range_is_a_contradiction() {
        let new = release("new", "0-3", &field("A", "1+"));
        let old = release("old", "0-3", &field("A", "2+"));
        assert!(merge(vec![new, old]).unwrap_err().contains("A: versions"));
    }

    #[test]
    fn unstable_versions_of_an_older_release_are_left_out() {
        let mut old = release("old", "0-3", &field("A", "0+"));
        old.messages[0].latest_unstable = true;
        let merged = merge(vec![release("new", "1-2", &field("A", "1+")), old]).unwrap().remove(0);
        assert_eq!(merged.versions.unwrap().to_string(), "0-2");
        assert!(!merged.latest_unstable);
    }
}
