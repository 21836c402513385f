//! The request for metadata, as each version says it: before version 1 there is no way to ask for no
//! topic, before 4 none to forbid that topics are created, and before 12 none to ask by id. In a request
//! with ids, brokers do not look at names; so a topic is asked for by its name wherever that is known.

use super::index::Scope;
use super::snapshot::{Snapshot, TopicKey};
use crate::messages::metadata::{MetadataRequest, MetadataRequestTopic};

/// The first version in which a topic may be asked for by its id alone (KIP-516).
const BY_ID: i16 = 12;

/// What to send for that scope, in which names and ids without a name do not stand together. A topic of which
/// only the id is known is left out where the version cannot say it.
pub(crate) fn request(scope: &Scope, base: &Snapshot, auto_create: bool, version: i16) -> MetadataRequest {
    let topics = match scope {
        Scope::All => None,
        Scope::Wanted(topics) | Scope::Added(topics) => Some(topics),
    };
    let topics = topics.map(|topics| topics.iter().filter_map(|key| topic(key, base, version)).collect());
    MetadataRequest {
        // In version 0 an empty list means all topics, and there is no null.
        topics: if version == 0 { Some(topics.unwrap_or_default()) } else { topics },
        // Older brokers create what they are set to create; that cannot be said otherwise.
        allow_auto_topic_creation: auto_create || version < 4,
        ..MetadataRequest::default()
    }
}

fn topic(key: &TopicKey, base: &Snapshot, version: i16) -> Option<MetadataRequestTopic> {
    let topic = MetadataRequestTopic::default();
    match key {
        TopicKey::Name(name) => Some(MetadataRequestTopic { name: Some(name.clone()), ..topic }),
        TopicKey::Id(id) => match base.topic_by_id(*id) {
            Some(known) => Some(MetadataRequestTopic { name: Some(known.name.clone()), ..topic }),
            None if version >= BY_ID => Some(MetadataRequestTopic { topic_id: *id, name: None, ..topic }),
            None => None,
        },
    }
}
