//! Kafka's names as Rust writes them.

use std::collections::BTreeSet;

use crate::model::{Kind, Message};

/// Which struct names the request and the response of an API both use, for different things.
#[derive(Debug)]
pub struct Names {
    shared: BTreeSet<String>,
}

impl Names {
    pub fn of(group: &[&Message]) -> Self {
        let mut seen = BTreeSet::new();
        let mut shared = BTreeSet::new();
        for nested in group.iter().flat_map(|message| &message.structs) {
            if !seen.insert(nested.name.clone()) {
                shared.insert(nested.name.clone());
            }
        }
        Self { shared }
    }

    /// The Rust name of a nested struct: Kafka's own, with the kind before it if two would collide.
    pub fn nested(&self, message: &Message, name: &str) -> String {
        if !self.shared.contains(name) {
            return name.to_owned();
        }
        match message.kind {
            Kind::Request => format!("Request{name}"),
            _ => format!("Response{name}"),
        }
    }
}

/// `FetchOffset` to `fetch_offset`.
pub fn snake(name: &str) -> String {
    let chars: Vec<char> = name.replace("KRaft", "Kraft").chars().collect();
    let mut out = String::new();
    for (i, &c) in chars.iter().enumerate() {
        if c.is_uppercase() && i > 0 {
            let after_lower = chars.get(i - 1).is_some_and(|before| !before.is_uppercase());
            let before_lower = chars.get(i + 1).is_some_and(|next| next.is_lowercase());
            if after_lower || before_lower {
                out.push('_');
            }
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// A field's name; raw where Rust has the word for itself.
pub fn field(name: &str) -> String {
    let name = snake(name);
    match name.as_str() {
        "type" | "match" => format!("r#{name}"),
        _ => name,
    }
}

/// A number with an underscore between thousands.
pub fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && digits.len() > 4 {
            out.push('_');
        }
        out.push(digit);
    }
    if number < 0 { format!("-{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_rust_names() {
        assert_eq!(snake("ISRNodes"), "isr_nodes");
        assert_eq!(snake("KRaftVersionRecord"), "kraft_version_record");
        assert_eq!(snake("OffsetForLeaderEpoch"), "offset_for_leader_epoch");
        assert_eq!(field("Type"), "r#type");
        assert_eq!(
            (grouped(60000), grouped(-1), grouped(2000)),
            ("60_000".into(), "-1".into(), "2000".into())
        );
    }
}
